"""Whole training steps on a GPU: what an optimizer adds to forward and backward, as JSON.

    python benchmarks/gpu_training.py [--device cuda] [--folder DIR] [--tiny]

GPT-2-small's shape (124 million parameters, 8 sequences of 1024 tokens, bfloat16 autocast) and
ResNet-50 (64 images of 224 x 224, channels_last, bfloat16 autocast). The optimizers take turns. The
numbers are the median times of a whole training step, and of the optimizer's step alone.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_models import GPT, GPT2_SMALL, TINY, ResNet, loss_of
from gpu_step import Clock, tried
from recording import FOLDER, Recording
from torch import Tensor, nn

from hypergradient import SGDHD, AdamWHD, Untuned

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "torch AdamW, fused": lambda params: torch.optim.AdamW(params, lr=1e-5, fused=True),
    "torch AdamW, foreach": lambda params: torch.optim.AdamW(params, lr=1e-5, foreach=True),
    "AdamWHD": lambda params: AdamWHD(params, lr=1e-5, hypergrad_lr=1e-12),
    "Untuned": lambda params: Untuned(params, lr=1e-5),
    "torch SGD momentum, fused": lambda p: torch.optim.SGD(p, lr=1e-6, momentum=0.9, fused=True),
    "SGDHD momentum": lambda p: SGDHD(p, lr=1e-6, momentum=0.9, hypergrad_lr=1e-12),
}


def problem(name: str, device: str, *, tiny: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a model, and a function that computes its loss on one batch."""
    torch.manual_seed(0)
    if name == "GPT-2 small":
        size = TINY if tiny else GPT2_SMALL
        model: nn.Module = GPT(size).to(device)
        batch = 2 if tiny else 8
        tokens = torch.randint(size.vocabulary, (batch, size.context + 1), device=device)
        return model, lambda: loss_of(model, tokens)
    side, batch = (32, 2) if tiny else (224, 64)
    network = ResNet((1, 1), 4) if tiny else ResNet()
    network = network.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    classes = torch.randint(1000, (batch,), device=device)
    return network, lambda: nn.functional.cross_entropy(network(images), classes)


def measure(name: str, device: str, *, rounds: int, times: int, tiny: bool) -> dict[str, Any]:
    """Return the milliseconds of each optimizer's training step, and of its own step."""
    model, loss = problem(name, device, tiny=tiny)
    clock = Clock(device)

    def backward() -> None:
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            value = loss()
        value.backward()

    whole, alone = {}, {}
    for which, make in OPTIMIZERS.items():
        optimizer = make(model.parameters())

        def step(optimizer: torch.optim.Optimizer = optimizer) -> None:
            backward()
            optimizer.step()

        step()
        step()
        whole[which], alone[which] = step, optimizer.step
    row = {"elements": sum(p.numel() for p in model.parameters())}
    row["training step"] = clock.medians({"none": backward, **whole}, rounds, times)
    backward()
    row["optimizer step"] = clock.medians(alone, rounds, times)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--tiny", action="store_true", help="for a test of this program")
    arguments = parser.parse_args()
    device, tiny, began = arguments.device, arguments.tiny, time.perf_counter()
    card = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    recording = Recording("gpu_training", arguments.folder, card=card, tiny=tiny)
    rounds, times = (1, 1) if tiny else (9, 3)
    for name in ("GPT-2 small", "ResNet-50"):
        row = recording.measure(
            name,
            lambda n=name: tried(lambda: measure(n, device, rounds=rounds, times=times, tiny=tiny)),
        )
        print(f"\n{name} on {card}, milliseconds (median)")
        if "failed" in row:
            print(row["failed"])
            continue
        print(f"{'forward and backward':28} {row['training step']['none']['ms']:8.2f}")
        for which, own in row["optimizer step"].items():
            whole = row["training step"][which]["ms"]
            print(f"{which:28} {whole:8.2f} {own['ms']:8.3f}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
