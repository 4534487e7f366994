"""Train a small network on images, with a learning rate that nobody chose.

python examples/mnist.py                          # scikit-learn's 8 x 8 digits, some seconds
python examples/mnist.py --data-dir ~/data/mnist  # MNIST, from its four .gz files in that folder
python examples/mnist.py --optimizer AdamW --lr 1e-3

It needs the extra `study`, for the data.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import hypergradient
from hypergradient.study.tasks.data.load import load_data


def network(x: torch.Tensor) -> nn.Module:
    """Make a network for inputs like x: convolutions for images, layers for flat digits."""
    if x.ndim == 2:
        return nn.Sequential(nn.Linear(x.shape[1], 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def optimizer_of(name: str, model: nn.Module, lr: float | None) -> torch.optim.Optimizer:
    """Make an optimizer of this package or of torch; without a rate it takes its own default."""
    home = hypergradient if name in hypergradient.__all__ else torch.optim
    options = {} if lr is None else {"lr": lr}
    made: torch.optim.Optimizer = getattr(home, name)(model.parameters(), **options)
    return made


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of images that the model classifies rightly."""
    return (model(x).argmax(1) == y).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print a line for each epoch, and return the last accuracy on unseen images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="a folder with MNIST's files")
    parser.add_argument("--optimizer", default="Untuned")
    parser.add_argument("--lr", type=float, help="Untuned needs none")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args(arguments)

    data = load_data("mnist" if options.data_dir else "digits", options.data_dir)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    unseen_x, unseen_y = torch.from_numpy(data.valid_x), torch.from_numpy(data.valid_y)
    if options.data_dir:
        x, unseen_x = x.view(-1, 1, 28, 28), unseen_x.view(-1, 1, 28, 28)

    torch.manual_seed(0)
    model = network(x)
    optimizer = optimizer_of(options.optimizer, model, options.lr)
    averages = isinstance(optimizer, hypergradient.Untuned)
    start, right = time.perf_counter(), 0.0
    for epoch in range(1, options.epochs + 1):
        for batch in torch.randperm(len(x)).split(options.batch_size):
            optimizer.zero_grad()
            loss = cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()

        if averages:
            optimizer.eval()  # the average of the iterates is what counts
        right = accuracy(model, unseen_x, unseen_y)
        if averages:
            optimizer.train()

        rate = float(optimizer.param_groups[0]["lr"])
        seconds = time.perf_counter() - start
        print(f"epoch {epoch:2}  accuracy {right:.2%}  learning rate {rate:.2e}  {seconds:.0f} s")
    return right


if __name__ == "__main__":
    main()
