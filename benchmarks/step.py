"""What a step costs: ours against torch's fused and default steps, interleaved, medians and ratios.

    python benchmarks/step.py [--parameters 25.9e6] [--threads 2]

Bytes a parameter bound a step on a large model: each float32 tensor that is read or written counts
four. The hypergradient needs a pass of its own over g and u before theta can move.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hypergradient import SGDHD, AdamHD, AdamWHD

NESTEROV = {"momentum": 0.9, "nesterov": True}


@dataclass
class Pair:
    name: str
    ours: type[Optimizer]
    theirs: type[Optimizer]
    floor: tuple[int, int]  # bytes a parameter that ours and torch's fused step must move
    options: dict[str, Any] = field(default_factory=dict)


PAIRS = (
    Pair("SGD", SGDHD, torch.optim.SGD, (24, 12)),
    Pair("SGD, momentum", SGDHD, torch.optim.SGD, (28, 20), {"momentum": 0.9}),
    Pair("SGD, Nesterov", SGDHD, torch.optim.SGD, (32, 20), NESTEROV),
    Pair("Adam", AdamHD, torch.optim.Adam, (40, 28)),
    Pair("AdamW", AdamWHD, torch.optim.AdamW, (40, 28)),
)


def models(parameters: int) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of three models: two where launching operations rules, one where bytes do."""
    width = round((parameters / 31) ** 0.5)
    return {
        "logistic regression": [(10, 784), (10,)],
        "MLP 64-100-100-10": [(100, 64), (100,), (100, 100), (100,), (10, 100), (10,)],
        f"{parameters / 1e6:.1f}M in 62 tensors": [(width, width), (width,)] * 31,
    }


def timed(step: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def measure(pair: Pair, shapes: list[tuple[int, ...]], rounds: int) -> list[float]:
    """Median seconds of ours, torch's fused and torch's default step."""

    def build(kind: type[Optimizer], **options: Any) -> Optimizer:
        parameters: list[Tensor] = [nn.Parameter(torch.randn(shape)) for shape in shapes]
        for p in parameters:
            p.grad = torch.randn_like(p)
        return kind(parameters, lr=1e-6, **pair.options, **options)  # type: ignore[call-arg]

    steps = [
        build(pair.ours, hypergrad_lr=1e-12).step,
        build(pair.theirs, fused=True).step,
        build(pair.theirs).step,
    ]
    times = max(1, round(0.02 / timed(steps[0], 3)))
    samples: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, sample in zip(steps, samples, strict=True):
            sample.append(timed(step, times))
    return [statistics.median(sample) for sample in samples]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=25.9e6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, float32, medians\n")
    print("| model | optimizer | ours | / fused | / default | floor / fused |")
    print("|---|---|---|---|---|---|")
    for model, shapes in models(int(arguments.parameters)).items():
        for pair in PAIRS:
            ours, fused, default = measure(pair, shapes, arguments.rounds)
            bound = f"{pair.floor[0] / pair.floor[1]:.2f}" if "tensors" in model else "-"
            cells = f"{ours * 1e6:.0f} us | {ours / fused:.2f} | {ours / default:.2f} | {bound}"
            print(f"| {model} | {pair.name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
