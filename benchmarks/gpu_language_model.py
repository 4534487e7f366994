"""A language model of 11 million parameters on a GPU: AdamW at three rates beside `Untuned`.

    python benchmarks/gpu_language_model.py [--device cuda] [--folder DIR] [--tiny] [--steps N]

The text is the source of Python's standard library, read as bytes; every machine has it. A tenth of
the files is for validation. Each step takes fresh random windows, the same for all optimizers, and
all start from the same weights. AdamW has betas (0.9, 0.95), a warm-up of 5% and a cosine to zero.
`Untuned` is at its defaults. Validation losses are of the average where an optimizer keeps one.
"""

import argparse
import math
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_models import BYTES, GPT, TINY, Size, loss_of
from gpu_step import tried
from recording import FOLDER, Recording
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from hypergradient import AdamWHD, Untuned
from hypergradient.engine.learning_rate import alpha_of

RATES = (3e-4, 1e-3, 3e-3)
EVALUATIONS = 12
HELD_BACK = 10  # one file in so many


def text() -> tuple[Tensor, Tensor]:
    """Return the bytes to train on, and those to validate on, as 1-D int64 tensors."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for i, path in enumerate(files):
        parts[i % HELD_BACK == 0].append(path.read_bytes())
    train, held = (torch.frombuffer(bytearray(b"\n".join(p)), dtype=torch.uint8) for p in parts)
    return train.long(), held.long()


def windows(data: Tensor, size: Size, batch: int, seed: int) -> Tensor:
    """Return random windows of the text, (batch, context + 1), the same for each seed."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(len(data) - size.context - 1, (batch, 1), generator=generator)
    return data[(at + torch.arange(size.context + 1)).to(data.device)]


def warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    """Return the factor of the rate at each step: up over 5% of the steps, then down to zero."""
    warm = max(steps // 20, 1)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        turned = torch.tensor((step - warm) / max(steps - warm, 1) * torch.pi)
        return 0.5 * (1 + turned.cos().item())

    return factor


def contenders(steps: int) -> dict[str, Callable[[Any], tuple[torch.optim.Optimizer, Any]]]:
    """Return what makes each optimizer and its scheduler, by name."""

    def adamw(rate: float) -> Callable[[Any], tuple[torch.optim.Optimizer, Any]]:
        def make(params: Any) -> tuple[torch.optim.Optimizer, Any]:
            optimizer = torch.optim.AdamW(params, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
            return optimizer, LambdaLR(optimizer, warm_up_and_cosine(steps))

        return make

    made = {f"AdamW, cosine from {rate:g}": adamw(rate) for rate in RATES}
    made["Untuned"] = lambda params: (Untuned(params), None)
    made["AdamWHD from 3e-4"] = lambda params: (AdamWHD(params, lr=3e-4, weight_decay=0.0), None)
    return made


def train(make: Any, size: Size, steps: int, batch: int, device: str) -> dict[str, Any]:
    """Train one model, and return its validation losses and rates with their steps."""
    torch.manual_seed(0)
    model = GPT(size).to(device)
    forward = torch.compile(model) if device == "cuda" else model
    optimizer, scheduler = make(model.parameters())
    data, held = (part.to(device) for part in text())
    check = [windows(held, size, batch, seed=10**6 + i) for i in range(8)]
    row: dict[str, Any] = {"step": [], "validation loss": [], "rate": [], "seconds": []}
    began = time.perf_counter()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(forward, windows(data, size, batch, seed=step))
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if step % max(steps // EVALUATIONS, 1) == 0 or step == steps:
            row["step"].append(step)
            row["rate"].append(float(alpha_of(optimizer.param_groups[0])))
            loss = validation(forward, optimizer, check, device)
            row["validation loss"].append(loss if math.isfinite(loss) else None)
            row["seconds"].append(time.perf_counter() - began)
    return row


@torch.no_grad()
def validation(forward: Any, optimizer: Any, check: list[Tensor], device: str) -> float:
    """Return the loss on text held back, of the average where the optimizer keeps one."""
    averages = hasattr(optimizer, "eval")
    if averages:
        optimizer.eval()
    with torch.autocast(device, torch.bfloat16):
        losses = [loss_of(forward, each) for each in check]
    if averages:
        optimizer.train()
    return float(torch.stack(losses).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--tiny", action="store_true", help="for a test of this program")
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    device, tiny = arguments.device, arguments.tiny
    steps, batch, size = (3, 2, TINY) if tiny else (arguments.steps, 64, BYTES)
    card = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    recording = Recording("gpu_language_model", arguments.folder, card=card, tiny=tiny, steps=steps)
    for name, make in contenders(steps).items():
        row = recording.measure(
            name, lambda m=make: tried(lambda: train(m, size, steps, batch, device))
        )
        if "failed" in row:
            print(f"{name}: {row['failed']}", flush=True)
            continue
        losses = " ".join("nan" if x is None else f"{x:.3f}" for x in row["validation loss"])
        rates = " ".join(f"{rate:.1e}" for rate in row["rate"])
        print(f"{name} ({row['seconds'][-1]:.0f} s)\n  loss {losses}\n  rate {rates}", flush=True)


if __name__ == "__main__":
    main()
