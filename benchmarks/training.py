"""Whole training steps, where users feel it: forward, backward and step at a batch of 32."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned
from hypergradient.study.tasks.models.published import resnet18

BATCH, LENGTH, WORDS, WIDTH = 32, 32, 1000, 256
STILL = {"hypergrad_lr": 1e-12}
PAIRS: dict[str, tuple[Callable[..., Optimizer], Callable[..., Optimizer]]] = {
    "SGDHD, momentum": (
        partial(SGDHD, momentum=0.9, **STILL),
        partial(torch.optim.SGD, momentum=0.9, fused=True),
    ),
    "AdamHD": (partial(AdamHD, **STILL), partial(torch.optim.Adam, fused=True)),
    "AdamWHD": (partial(AdamWHD, **STILL), partial(torch.optim.AdamW, fused=True)),
    "Untuned": (Untuned, partial(torch.optim.Adam, fused=True)),
}


class Transformer(nn.Module):
    """A small language model: 4 layers of width 256, 3.7 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embedding(words))).flatten(0, 1)  # type: ignore[no-any-return]


def problems(device: str) -> Iterator[tuple[str, nn.Module, torch.Tensor, torch.Tensor]]:
    images = torch.randn(BATCH, 3, 32, 32, device=device)
    classes = torch.randint(10, (BATCH,), device=device)
    yield "ResNet18, 32x32 images", resnet18().to(device), images, classes
    words = torch.randint(WORDS, (BATCH, LENGTH + 1), device=device)
    yield "transformer", Transformer().to(device), words[:, :-1], words[:, 1:].flatten()


def report(device: str, rounds: int) -> None:
    from step import Clock  # noqa: PLC0415 - it imports this file

    threads = torch.get_num_threads()
    clock = Clock(device, threads)
    print(f"\nWhole training steps, batch {BATCH}, {threads} threads: forward and backward, and")
    print("each optimizer's step after it, interleaved.\n")
    print("| model | ours | forward, backward, ms | fused step, ms | ours, ms | overhead |")
    print("|---|---|---|---|---|---|")
    for name, model, inputs, targets in problems(device):
        for which, (ours, theirs) in PAIRS.items():
            steps = [make(model.parameters(), lr=1e-6).step for make in (theirs, ours)]
            backward = backward_of(model, inputs, targets)
            samples: list[list[float]] = [[], [], []]
            for _ in range(rounds + 1):
                for i, step in enumerate(steps):
                    samples[2].append(clock.time(backward))
                    samples[i].append(clock.time(step))
            plain, hyper = (statistics.median(sample[1:]) for sample in samples[:2])
            rest = statistics.median(samples[2][2:])
            overhead = (hyper - plain) / (rest + plain)
            cells = f"{rest * 1e3:.1f} | {plain * 1e3:.2f} | {hyper * 1e3:.2f} | {overhead:+.1%}"
            print(f"| {name} | {which} | {cells} |", flush=True)


def backward_of(
    model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor
) -> Callable[[], None]:
    def backward() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()

    return backward
