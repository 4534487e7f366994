"""What it costs to learn momentum, betas and step sizes, and a check against the authors' package.

    python benchmarks/gdtuo.py [--rounds 30]

A whole training step of the network of "Gradient Descent: The Ultimate Optimizer" (Chandra et al.
2022: 784-128-10, tanh), on one batch of 300 random images, on one thread, interleaved with torch's
optimizer of the same base. For each it prints the time over plain, the bytes of state a parameter,
and the loss after 50 steps. The package gradient-descent-the-ultimate-optimizer takes the same
steps from the same weights, if it is installed. `make bench` runs this.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hypergradient import SGDHD, AdamHD
from hypergradient.study.methods.published import AdamFromFirstSquare
from hypergradient.study.tasks.models.published import tanh_mlp

STEPS, BATCH = 50, 300
FLOORS = (1e-3, 1e-4)
FREE: dict[str, Any] = {"lr_bounds": None}
NESTED: dict[str, Any] = {"hypergrad_lr": 1e-3, "rule": "adam", **FREE}
HEAVY: dict[str, Any] = {"momentum": 0.9, "classical": True, "rule": "hdm"}
Make = Callable[[list[nn.Parameter]], Any]


class Contender(NamedTuple):
    """An optimizer, and what it is compared with.

    Attributes:
        plain: the name of torch's optimizer of the same base.
        make: the optimizer.
        theirs: the same in the authors' package, if it has it: a function of that.
    """

    plain: str
    make: Make
    theirs: Callable[[ModuleType], Any] | None = None


CONTENDERS: dict[str, Contender] = {
    "SGD": Contender("SGD", lambda p: torch.optim.SGD(p, 0.01)),
    "SGDHD": Contender(
        "SGD",
        lambda p: SGDHD(p, 0.01, hypergrad_lr=0.01, **FREE),
        lambda package: package.SGD(0.01, optimizer=package.SGD(0.01)),
    ),
    "SGDHD, a tower of two": Contender("SGD", lambda p: SGDHD(p, 0.01, hypergrad_lr=FLOORS)),
    "SGD, momentum": Contender("SGD, momentum", lambda p: torch.optim.SGD(p, 0.01, momentum=0.9)),
    "SGDHD, momentum": Contender("SGD, momentum", lambda p: SGDHD(p, 0.01, momentum=0.9)),
    "SGDHD, the momentum learns": Contender(
        "SGD, momentum", lambda p: SGDHD(p, 0.01, momentum=0.9, learn={"momentum": 1e-3})
    ),
    "SGDHD, hdm": Contender("SGD, momentum", lambda p: SGDHD(p, 0.01, **HEAVY)),
    "SGDHD, hdm, the momentum learns": Contender(
        "SGD, momentum", lambda p: SGDHD(p, 0.01, learn={"momentum": 1e-3}, **HEAVY)
    ),
    "Adam": Contender("Adam", lambda p: torch.optim.Adam(p, 1e-3)),
    "AdamHD": Contender("Adam", lambda p: AdamHD(p, 1e-3)),
    "AdamHD, a tower of two": Contender("Adam", lambda p: AdamHD(p, 1e-3, hypergrad_lr=FLOORS)),
    "AdamHD/Adam": Contender(
        "Adam",
        lambda p: AdamFromFirstSquare(p, 1e-3, **NESTED),
        lambda package: package.AdamBaydin(optimizer=package.Adam()),
    ),
    "AdamHD/Adam, both betas learn": Contender(
        "Adam",
        lambda p: AdamFromFirstSquare(p, 1e-3, learn={"betas": 1e-3}, **NESTED),
        lambda package: package.Adam(optimizer=package.Adam()),
    ),
}


class Training:
    """A network and its optimizer, which take steps on one batch."""

    def __init__(self, make: Make, x: Tensor, y: Tensor) -> None:
        self.network = tanh_mlp(784, 128, 10, seed=0)
        self.parameters = [*self.network.parameters()]
        self.optimizer, self.x, self.y = make(self.parameters), x, y

    def step(self) -> float:
        """Make a step, and return the loss before it."""
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.network(self.x), self.y)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.item()

    def bytes_of_state(self) -> float:
        """Return the bytes of the optimizer's tensors for each parameter."""
        held = [t for s in self.optimizer.state.values() for t in s.values()]
        size = sum(t.numel() * t.element_size() for t in held if isinstance(t, Tensor))
        return size / sum(p.numel() for p in self.parameters)


class PackageTraining(Training):
    """The same by the authors' package, which differentiates through the step."""

    def __init__(self, package: ModuleType, make: Callable[[], Any], x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.wrapped = package.ModuleWrapper(tanh_mlp(784, 128, 10, seed=0), optimizer=make())
        self.wrapped.initialize()

    def step(self) -> float:
        """Make a step, and return the loss before it."""
        self.wrapped.begin()
        loss = functional.cross_entropy(self.wrapped.forward(self.x), self.y)
        self.wrapped.zero_grad()
        torch.autograd.backward(loss, create_graph=True)
        self.wrapped.step()
        return loss.item()


def authors_package() -> ModuleType | None:
    """Return the authors' package, if it is installed."""
    try:
        return importlib.import_module("gradient_descent_the_ultimate_optimizer.gdtuo")
    except ModuleNotFoundError:
        return None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 784, generator=generator)
    y = torch.randint(10, (BATCH,), generator=generator)
    package = authors_package()
    trainings = {name: Training(of.make, x, y) for name, of in CONTENDERS.items()}
    theirs = {
        name: PackageTraining(package, lambda of=of: of.theirs(package), x, y)  # type: ignore[misc]
        for name, of in CONTENDERS.items()
        if package and of.theirs
    }
    losses = {name: [t.step() for _ in range(STEPS)][-1] for name, t in trainings.items()}
    their_losses = {name: [t.step() for _ in range(STEPS)][-1] for name, t in theirs.items()}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for whose, several in (("", trainings), ("theirs: ", theirs)):
            for name, training in several.items():
                began = time.perf_counter()
                for _ in range(10):
                    training.step()
                times.setdefault(whose + name, []).append(time.perf_counter() - began)
    head = "times plain", "bytes a parameter", f"loss after {STEPS} steps", "package: times", "loss"
    print(f"| | {' | '.join(head)} |\n|{' --- |' * (1 + len(head))}")
    for name, of in CONTENDERS.items():
        plain = times[of.plain]
        row = [f"{over(times[name], plain):.2f}", f"{trainings[name].bytes_of_state():.0f}"]
        row.append(f"{losses[name]:.5f}")
        if name in theirs:
            row += [f"{over(times['theirs: ' + name], plain):.2f}", f"{their_losses[name]:.5f}"]
        print(f"| {name} | {' | '.join([*row, '', ''][:5])} |")


def over(each: list[float], plain: list[float]) -> float:
    """Return the median ratio of times that were taken in turn."""
    return statistics.median(a / b for a, b in zip(each, plain, strict=True))


if __name__ == "__main__":
    main()
