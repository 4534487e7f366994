"""The grid as a user writes it: a DataLoader and a loop, one setting after another.

    python benchmarks/by_hand.py [--runs 42] [--epochs 1] [--data-dir DIR] [--out FILE]

SGD at six rates and SGDHD at six initial rates times six hypergradient rates, on MNIST logistic
regression in minibatches of 128 with weight decay 1e-4: what `grid.toml` declares. `by_optuna.py`
and `by_ray.py` call `train` too.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from hypergradient import SGDHD
from hypergradient.study.tasks.data.load import load_data

RATES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
NONE = 0.0  # the hypergradient rate that stands for plain SGD

SETTINGS = [(rate, beta) for beta in [NONE, *RATES] for rate in RATES]


@dataclass
class Split:
    """MNIST as data sets of tensors, already normalised: much faster than torchvision's."""

    train: TensorDataset
    test: TensorDataset


def read(folder: Path | None) -> Split:
    data = load_data("mnist", folder)
    arrays = (data.train_x, data.train_y, data.valid_x, data.valid_y)
    train_x, train_y, test_x, test_y = map(torch.from_numpy, arrays)
    return Split(TensorDataset(train_x, train_y), TensorDataset(test_x, test_y))


def train(split: Split, lr: float, hypergrad_lr: float, epochs: int) -> tuple[float, float]:
    """Train one setting, and return its last epoch's training loss and its test loss."""
    torch.manual_seed(0)
    model = nn.Linear(784, 10)
    if hypergrad_lr == NONE:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=1e-4)
    else:
        optimizer = SGDHD(
            model.parameters(), lr=lr, weight_decay=1e-4, hypergrad_lr=hypergrad_lr, lr_bounds=None
        )
    batches = DataLoader(split.train, batch_size=128, shuffle=True)
    tests = DataLoader(split.test, batch_size=2000)
    train_loss = test_loss = float("nan")
    for _ in range(epochs):
        total = 0.0
        for x, y in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        train_loss = total / len(split.train)
        with torch.no_grad():
            losses = [cross_entropy(model(x), y, reduction="sum").item() for x, y in tests]
        test_loss = sum(losses) / len(split.test)
    return train_loss, test_loss


def options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=len(SETTINGS))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the results, as CSV")
    return parser.parse_args()


def write(path: Path, results: list[tuple[float, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["lr", "hypergrad_lr", "train_loss", "test_loss"])
        rows.writerows(results)


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    split = read(chosen.data_dir)
    settings = SETTINGS[: chosen.runs]
    write(chosen.out, [(*s, *train(split, *s, chosen.epochs)) for s in settings])


if __name__ == "__main__":
    main()
