"""What a step costs beside torch's own, interleaved, as Markdown: time, memory, whole training.

    python benchmarks/step.py [--parameters 25.9e6] [--threads 2 1] [--device cpu]

Bytes bound a step on a large model: each float32 tensor that is read or written counts four a
parameter. The hypergradient needs all of g_t and u_{t-1} before theta can move, so what u_t follows
from is written before that, and read again.
On one thread the time is that thread's CPU time, which other processes do not lengthen; else it is
the time on the wall.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import memory
import torch
import training
from torch import nn
from torch.optim import Optimizer

from hypergradient import SGDHD, AdamHD, AdamWHD, native

NESTEROV = {"momentum": 0.9, "nesterov": True}
ELEMENT = {"granularity": "element"}
TENSORS = 62
MODELS = {
    "logistic regression 784-10": [(10, 784), (10,)],
    "MLP 64-100-100-10": [(100, 64), (100,), (100, 100), (100,), (10, 100), (10,)],
}
Shapes = list[tuple[int, ...]]


@dataclass
class Pair:
    """One of ours and what it stands in for; bytes a parameter that each must move."""

    name: str
    ours: type[Optimizer]
    theirs: type[Optimizer]
    bytes: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)


PAIRS = (
    Pair("SGD", SGDHD, torch.optim.SGD, (24, 12)),
    Pair("SGD, momentum", SGDHD, torch.optim.SGD, (24, 20), {"momentum": 0.9}),
    Pair("SGD, Nesterov", SGDHD, torch.optim.SGD, (32, 20), NESTEROV),
    Pair("Adam", AdamHD, torch.optim.Adam, (36, 28)),
    Pair("AdamW", AdamWHD, torch.optim.AdamW, (40, 28)),
    Pair("SGD, a rate an element", SGDHD, torch.optim.SGD, (28, 12), {}, ELEMENT),
    Pair("Adam, a rate an element", AdamHD, torch.optim.Adam, (36, 28), {}, ELEMENT),
)


class Clock:
    """Seconds of work on a device."""

    def __init__(self, device: str, threads: int) -> None:
        self.wait = (lambda: None) if device == "cpu" else torch.accelerator.synchronize
        alone = device == "cpu" and threads == 1
        self.now = time.thread_time if alone else time.perf_counter

    def time(self, step: Callable[[], Any], times: int = 1) -> float:
        self.wait()
        began = self.now()
        for _ in range(times):
            step()
        self.wait()
        return (self.now() - began) / times


def large(parameters: float) -> Shapes:
    width = round((parameters / (TENSORS / 2)) ** 0.5)
    return [(width, width), (width,)] * (TENSORS // 2)


def steps(pair: Pair, shapes: Shapes, device: str) -> list[Callable[[], Any]]:
    """Ours, torch's fused and torch's default step, on the same parameters and gradients."""
    params = [nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    theirs = [pair.theirs(params, lr=1e-6, fused=f, **pair.options) for f in (True, None)]  # type: ignore[call-arg]
    ours = pair.ours(params, lr=1e-6, hypergrad_lr=1e-12, **pair.options, **pair.own)  # type: ignore[call-arg]
    return [optimizer.step for optimizer in (ours, *theirs)]


def interleaved(steps: list[Callable[[], Any]], clock: Clock, rounds: int) -> list[list[float]]:
    """Seconds of each step in each round."""
    for step in steps:
        step()
    times = max(1, round(0.005 / clock.time(steps[0], 3)))
    samples = [[clock.time(step, times) for step in steps] for _ in range(rounds)]
    return [[sample[i] for sample in samples] for i in range(len(steps))]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The median of the rounds' ratios, and the middle half of them."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def bytes_a_second(count: int, device: str, clock: Clock, rounds: int) -> float:
    """What an in-place add moves."""
    numbers = torch.zeros(count, device=device)
    return (
        8 * count / statistics.median(clock.time(lambda: numbers.add_(1.0)) for _ in range(rounds))
    )


def table(arguments: argparse.Namespace, threads: int) -> None:
    torch.set_num_threads(threads)
    device, rounds = arguments.device, arguments.rounds
    clock = Clock(device, threads)
    speed = bytes_a_second(int(arguments.parameters), device, clock, 2 * rounds)
    noun = f"{threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else device
    print(f"\n**{noun}.** An in-place add moves {speed / 1e9:.1f} GB/s.\n")
    print("| model | optimizer | ours | / fused | / default | bytes, / fused | time of the bytes |")
    print("|---|---|---|---|---|---|---|")
    models = {
        **MODELS,
        f"{arguments.parameters / 1e6:.1f}M in {TENSORS}": large(arguments.parameters),
    }
    for model, shapes in models.items():
        for pair in PAIRS:
            if pair.own and model in MODELS:
                continue
            of_model = 4 * rounds if model in MODELS else rounds
            ours, fused, default = interleaved(steps(pair, shapes, device), clock, of_model)
            seconds, bound = statistics.median(ours), "- | -"
            if model not in MODELS:
                share = pair.bytes[0] * arguments.parameters / speed / seconds
                bound = f"{pair.bytes[0]}, {pair.bytes[0] / pair.bytes[1]:.2f} | {share:.0%}"
            shown = f"{seconds * 1e3:.2f} ms" if seconds > 1e-3 else f"{seconds * 1e6:.0f} us"
            cells = f"{shown} | {ratio(ours, fused)} | {ratio(ours, default)} | {bound}"
            print(f"| {model} | {pair.name} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=25.9e6)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({torch.get_num_threads(), 1})[::-1]
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["step", "memory", "training"])
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    if not on_cpu and not torch.accelerator.is_available():
        parser.exit(1, f"torch finds no {arguments.device} here: nothing was measured\n")
    way = "the C function" if on_cpu and native.function() else "the eager way"
    print(
        f"Float32, by {way}. Ratios are medians of interleaved rounds, the middle half of them in "
        "brackets; *bytes* are what the exact algorithm must move for each parameter, and their "
        "ratio to what torch's fused step moves; *time of the bytes* is what an in-place add takes "
        "for as many, as a share of our time."
    )
    if arguments.only in (None, "step"):
        for threads in arguments.threads if on_cpu else [1]:
            table(arguments, threads)
    if arguments.only in (None, "memory"):
        memory.report(arguments.device)
    if arguments.only in (None, "training"):
        training.report(arguments.device, rounds=max(3, arguments.rounds // 2))


if __name__ == "__main__":
    main()
