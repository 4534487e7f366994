"""Does it pay to learn momentum and betas, alone and beside the rate?

    python benchmarks/learned.py [--epochs 30] [--seeds 3] [--only "MLP, adam"] [--out learned.csv]

SGD with momentum and Adam on three tasks with digits, from four learning rates and from a usual and
a bad momentum or beta1. For each choice of what learns, and of the rule, it prints the validation
loss that is the median over seeds: from the best start, from the usual one, and from the worst.
docs/hyperparameters.md quotes what this prints (some minutes of one core).
"""

import argparse
import csv
import math
import statistics
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergradient import SGDHD, AdamHD
from hypergradient.study.tasks.data.load import load_data

BATCH = 100
RATES = (1e-4, 1e-3, 1e-2, 1e-1)
USUAL = {"sgd": 1e-2, "adam": 1e-3}  # rates
SHARES = {"sgd": (0.9, 0.5), "adam": (0.9, 0.5)}  # momentum or beta1: usual, and low
RULES: dict[str, dict[str, tuple[float, float]]] = {  # the step sizes of the rate and of the share
    "additive": {"sgd": (1e-3, 1e-2), "adam": (1e-6, 1e-2)},
    "multiplicative": {"sgd": (0.02, 0.02), "adam": (0.02, 0.02)},
    "adam": {"sgd": (1e-3, 1e-2), "adam": (1e-4, 1e-2)},
}
LEARNS = ("nothing", "rate", "share", "both")
TASKS: dict[str, tuple[str, tuple[int, ...]]] = {
    "logistic regression": ("digits", (64, 10)),
    "MLP": ("digits", (64, 100, 100, 10)),
    "MLP, noisy labels": ("noisy-digits", (64, 100, 100, 10)),
}


class Choice(NamedTuple):
    """What a run does."""

    base: str
    rule: str
    learns: str
    lr: float
    share: float

    def make(self, params: list[nn.Parameter]) -> Any:
        """Return the optimizer."""
        beta, kappa = RULES[self.rule][self.base]
        beta = beta if self.learns in ("rate", "both") else 0.0
        name = "momentum" if self.base == "sgd" else "betas"
        learn = {name: kappa} if self.learns in ("share", "both") else {}
        options: dict[str, Any] = {"hypergrad_lr": beta, "learn": learn}
        rule: Any = self.rule
        if self.base == "sgd":
            return SGDHD(params, self.lr, momentum=self.share, rule=rule, **options)
        return AdamHD(params, self.lr, betas=(self.share, 0.999), rule=rule, **options)


class Task:
    """Data, a network and a loss."""

    def __init__(self, data: str, sizes: tuple[int, ...]) -> None:
        loaded = load_data(data)
        self.x, self.y = torch.from_numpy(loaded.train_x), torch.from_numpy(loaded.train_y)
        self.valid = torch.from_numpy(loaded.valid_x), torch.from_numpy(loaded.valid_y)
        self.sizes = sizes

    def loss(self, choice: Choice, seed: int, epochs: int) -> float:
        """Train; return the validation loss at the end, infinite where it diverged."""
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width, following in zip(self.sizes, self.sizes[1:], strict=False):
            layers += [nn.Linear(width, following), nn.ReLU()]
        network = nn.Sequential(*layers[:-1])
        optimizer = choice.make([*network.parameters()])
        for _ in range(epochs):
            order = torch.randperm(len(self.x))
            for at in order.split(BATCH):
                optimizer.zero_grad()
                self._mean(network, self.x[at], self.y[at]).backward()
                optimizer.step()
        with torch.no_grad():
            final = float(self._mean(network, *self.valid))
        return final if math.isfinite(final) else math.inf

    @staticmethod
    def _mean(network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(network(x), y)


def choices() -> list[tuple[str, str]]:
    """Return the rules and what learns, "nothing" once."""
    every = [*product(RULES, LEARNS[1:])]
    return [("additive", LEARNS[0]), *every]


def main() -> None:
    """Run all choices, and print a table a task and base."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="a part of a task's name and base")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for (name, (data, sizes)), base in product(TASKS.items(), USUAL):
        if arguments.only not in f"{name}, {base}":
            continue
        task = Task(data, sizes)
        print(f"\n{name}, {base}\n\n| learns | rule | best | usual | worst |\n|{' --- |' * 5}")
        for rule, learns in choices():
            losses = {}
            for lr, share in product(RATES, SHARES[base]):
                choice = Choice(base, rule, learns, lr, share)
                each = [task.loss(choice, s, arguments.epochs) for s in range(arguments.seeds)]
                losses[lr, share] = statistics.median(each)
                rows.append({"task": name, **choice._asdict(), "loss": losses[lr, share]})
            usual = losses[USUAL[base], SHARES[base][0]]
            numbers = min(losses.values()), usual, max(losses.values())
            words = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {learns} | {'' if learns == 'nothing' else rule} | {words} |", flush=True)
    if arguments.out is not None:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
