"""The experiments of "Gradient Descent: The Ultimate Optimizer", by our optimizers.

    python benchmarks/gdtuo.py table --data-dir DIR
    python benchmarks/gdtuo.py towers --data-dir DIR [--picture docs/towers.png]
    python benchmarks/gdtuo.py cost --data-dir DIR

The task is that of version 1 of the paper (Chandra et al. 2022): MNIST, 784-128-10 with tanh after
both layers, negative
log-likelihood, batches of 300 in the order of the file, one epoch. `table` sets our test accuracies
beside the published ones, `towers` trains towers of all heights from all starts, and `cost` times a
training step. Where the authors' package gradient-descent-the-ultimate-optimizer is installed, it
runs beside ours from the same weights. docs/hyperparameters.md quotes what this prints.
"""

import argparse
import csv
import importlib
import importlib.resources
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from hypergradient import SGDHD, AdamHD
from hypergradient.study.tasks.data.load import load_data
from hypergradient.study.tasks.data.mnist import MNIST_MEAN, MNIST_STD

BATCH, SEED = 300, 0x42
FIRST_V = 1e-8  # at which their Adam starts v: its root has no derivative at 0
STARTS = [-7 + 10 * i / 19 for i in range(20)]  # powers of ten
HEIGHTS = range(4)
LAST = 10  # batches whose mean loss is the final one
GOOD = 1.2  # a final loss near the best, 0.9
UNBOUNDED: dict[str, Any] = {"lr_bounds": None}
FLOORS = (1e-3, 1e-4)
Make = Callable[[list[nn.Parameter]], Any]

ROWS: dict[str, Make] = {
    "SGD(0.01)": lambda p: torch.optim.SGD(p, 0.01),
    "SGD/SGD(0.01)": lambda p: SGDHD(p, 0.01, hypergrad_lr=0.01, **UNBOUNDED),
    "SGD at its last rate": lambda p: torch.optim.SGD(p, 0.01),
    "SGD/Adam": lambda p: SGDHD(p, 0.01, hypergrad_lr=1e-3, rule="adam", **UNBOUNDED),
    "Adam": lambda p: AdamHD(p, 1e-3, hypergrad_lr=0.0),
    "Adam/SGD(1e-3)/SGD(1e-4)": lambda p: AdamHD(
        p, 1e-3, hypergrad_lr=FLOORS, learn={"betas": FLOORS}, **UNBOUNDED
    ),
    "Adam/Adam": lambda p: AdamHD(
        p, 1e-3, hypergrad_lr=1e-3, rule="adam", learn={"betas": 1e-3}, **UNBOUNDED
    ),
    "Adam at its last values": lambda p: AdamHD(p, 1e-3),
    "Adam-alpha/SGD(1e-3)/SGD(1e-4)": lambda p: AdamHD(p, 1e-3, hypergrad_lr=FLOORS, **UNBOUNDED),
    "Adam-alpha/Adam": lambda p: AdamHD(p, 1e-3, hypergrad_lr=1e-3, rule="adam", **UNBOUNDED),
}
AFTER = {"SGD at its last rate": "SGD/SGD(0.01)", "Adam at its last values": "Adam/Adam"}
"""Rows that train anew, with what another row had at the end."""


def of_package(package: ModuleType) -> dict[str, Callable[[], Any]]:
    """Return the rows by the authors' package; it tells no step sizes apart by hyperparameter."""
    p = package
    floors = {"alpha": 1e-3, "beta1": 1e-3, "beta2": 1e-3}.items()
    return {
        "SGD(0.01)": lambda: p.SGD(0.01),
        "SGD/SGD(0.01)": lambda: p.SGD(0.01, optimizer=p.SGD(0.01)),
        "SGD/Adam": lambda: p.SGD(0.01, optimizer=p.Adam(1e-3)),
        "Adam": lambda: p.Adam(1e-3),
        "Adam/SGD(1e-3)/SGD(1e-4)": lambda: p.Adam(
            optimizer=p.SGDPerParam(floors, optimizer=p.SGD(1e-4))
        ),
        "Adam/Adam": lambda: p.Adam(optimizer=p.Adam()),
        "Adam-alpha/SGD(1e-3)/SGD(1e-4)": lambda: p.AdamBaydin(
            optimizer=p.SGDPerParam([("alpha", 1e-3)], optimizer=p.SGD(1e-4))
        ),
        "Adam-alpha/Adam": lambda: p.AdamBaydin(optimizer=p.Adam()),
    }


class Task:
    """MNIST, and the network at its start."""

    def __init__(self, data_dir: Path) -> None:
        data = load_data("mnist", data_dir)
        self.x, self.test_x = (  # from 0 to 1, as in the paper
            torch.from_numpy(x) * MNIST_STD + MNIST_MEAN for x in (data.train_x, data.valid_x)
        )
        self.y, self.test_y = torch.from_numpy(data.train_y), torch.from_numpy(data.valid_y)

    def network(self, seed: int) -> nn.Sequential:
        """Return the network with weights drawn as in the paper, and biases of 0."""
        torch.manual_seed(seed)
        layers = [nn.Linear(784, 128), nn.Linear(128, 10)]
        torch.manual_seed(seed)
        for layer in layers:
            nn.init.zeros_(layer.bias)
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
        return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), nn.LogSoftmax(dim=1))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch."""
        yield from zip(self.x.split(BATCH), self.y.split(BATCH), strict=True)

    def accuracy(self, network: Callable[[Tensor], Tensor]) -> float:
        """Return the share of the test images in percent that a network is right about."""
        with torch.no_grad():
            return 100 * float((network(self.test_x).argmax(1) == self.test_y).double().mean())

    def train(
        self, make: Make, seed: int = SEED, first_v: float = 0.0
    ) -> tuple[float, list[float], Any]:
        """Train for an epoch; return the test accuracy, the losses and the optimizer."""
        network = self.network(seed)
        optimizer, losses = make([*network.parameters()]), []
        if isinstance(optimizer, AdamHD) and first_v:
            (group,) = optimizer.param_groups
            for p in group["params"]:
                optimizer.state[p].update(optimizer.initial_state(group, p))
                optimizer.state[p]["exp_avg_sq"].fill_(first_v)
        for x, y in self.batches():
            optimizer.zero_grad()
            loss = functional.nll_loss(network(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return self.accuracy(network), losses, optimizer

    def train_by_package(
        self, package: ModuleType, make: Callable[[], Any], seed: int = SEED
    ) -> tuple[float, list[float]]:
        """Train by the authors' package."""
        network, losses = self.network(seed), []
        wrapped = package.ModuleWrapper(network, optimizer=make())
        wrapped.initialize()
        for x, y in self.batches():
            wrapped.begin()
            loss = functional.nll_loss(wrapped.forward(x), y)
            wrapped.zero_grad()
            loss.backward(create_graph=True)
            wrapped.step()
            losses.append(loss.item())
        return self.accuracy(wrapped.forward), losses


def authors_package() -> ModuleType | None:
    """Return the authors' package, if it is installed."""
    try:
        return importlib.import_module("gradient_descent_the_ultimate_optimizer.gdtuo")
    except ModuleNotFoundError:
        return None


def published() -> dict[str, tuple[float, float]]:
    """Return each row's accuracy in the paper, and of the authors' first code on torch 2.13."""
    folder = importlib.resources.files("hypergradient.studies") / "published"
    text = (folder / "gdtuo_accuracy.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["row"]: (float(row["paper"]), float(row["rerun"])) for row in rows}


def at_last_values(optimizer: Any) -> Make:
    """Return torch's own optimizer at what one of ours has learned."""
    (group,) = optimizer.param_groups
    lr = float(group["lr"])
    if "betas" in group:
        return lambda p: AdamHD(p, lr, betas=group["betas"], hypergrad_lr=0.0)
    return lambda p: torch.optim.SGD(p, lr)


def table(task: Task, seeds: int) -> None:
    """Print the accuracy of each row: published, ours, and the package's.

    Ours starts v where theirs does; "v from 0" is our Adam as it is.
    """
    package = authors_package()
    theirs = of_package(package) if package else {}
    head = "paper", "their code", "their package", "ours", f"{seeds} seeds", "v from 0", "learned"
    print(f"| | {' | '.join(head)} |")
    print(f"|{' --- |' * 8}")
    learned: dict[tuple[str, int], Any] = {}
    for name, (paper, rerun) in published().items():
        accuracies = []
        for seed in (SEED, *range(1, seeds)):
            before = learned.get((AFTER.get(name, ""), seed))
            make = ROWS[name] if before is None else at_last_values(before)
            accuracy, _, learned[name, seed] = task.train(make, seed, FIRST_V)
            accuracies.append(accuracy)
        without = "" if "SGD" in name.split("/")[0] else f"{task.train(ROWS[name])[0]:.2f}"
        spread = f"{statistics.mean(accuracies):.2f} ± {statistics.pstdev(accuracies):.2f}"
        other = ""
        if package and name in theirs:
            other = f"{task.train_by_package(package, theirs[name])[0]:.2f}"
        if name in AFTER:
            without = ""
        (group,) = learned[name, SEED].param_groups
        numbers = [float(group["lr"]), *map(float, group.get("betas", ()))]
        words = ", ".join(f"{number:.4g}" for number in numbers)
        row = [name, f"{paper:.2f}", f"{rerun:.2f}", other, f"{accuracies[0]:.2f}", spread]
        row += [without, words]
        print(f"| {' | '.join(row)} |", flush=True)


def tower(height: int, start: float) -> Make:
    """Return SGD with a tower on its rate, of which every floor starts at one number."""
    if height == 0:
        return lambda p: torch.optim.SGD(p, start)
    return lambda p: SGDHD(p, start, hypergrad_lr=(start,) * height, **UNBOUNDED)


def towers(task: Task, picture: Path | None) -> None:
    """Print and draw the final loss of towers by where they start, as the paper's figure does."""
    lines: dict[int, list[float]] = {}
    for height in HEIGHTS:
        finals = []
        for start in STARTS:
            _, losses, _ = task.train(tower(height, 10**start))
            final = statistics.mean(losses[-LAST:])
            finals.append(final if math.isfinite(final) else math.inf)
        lines[height] = finals
        good = [start for start, final in zip(STARTS, finals, strict=True) if final < GOOD]
        span = f"1e{good[0]:+.1f} to 1e{good[-1]:+.1f}, {good[-1] - good[0]:.1f} decades"
        words = " ".join(f"{final:.2f}" for final in finals)
        print(f"height {height}: below {GOOD} from {span}; {words}", flush=True)
    if picture is not None:
        draw(lines, picture)


def draw(lines: dict[int, list[float]], picture: Path) -> None:
    """Draw the final losses; what diverged is drawn at the top."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for height, finals in lines.items():
        shown = [min(final, 3.0) for final in finals]
        axes.plot([10**s for s in STARTS], shown, marker="o", ms=3, label=f"height {height}")
    axes.set(xscale="log", xlabel="start of all step sizes", ylabel="final training loss")
    axes.legend()
    figure.savefig(picture, dpi=150)


def cost(task: Task, rounds: int) -> None:
    """Print the time of a training step, each interleaved with plain Adam or SGD."""
    package = authors_package()
    contenders: dict[str, Make] = {
        "torch.optim.Adam": lambda p: torch.optim.Adam(p, 1e-3),
        "AdamHD": lambda p: AdamHD(p, 1e-3),
        "AdamHD, tower of 2": lambda p: AdamHD(p, 1e-3, hypergrad_lr=FLOORS),
        "AdamHD, betas": lambda p: AdamHD(p, 1e-3, learn={"betas": 1e-3}),
        "torch.optim.SGD, momentum": lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9),
        "SGDHD, momentum": lambda p: SGDHD(p, 1e-3, momentum=0.9),
        "SGDHD, momentum learns": lambda p: SGDHD(p, 1e-3, momentum=0.9, learn={"momentum": 1e-3}),
    }
    steps: dict[str, Callable[[], None]] = {}
    x, y = next(task.batches())
    for name, make in contenders.items():
        steps[name] = _step_of(task.network(SEED), make, x, y)
    if package:
        wrapped = package.ModuleWrapper(
            task.network(SEED), optimizer=package.Adam(optimizer=package.Adam())
        )
        wrapped.initialize()
        steps["their package, Adam/Adam"] = lambda: _step_by_package(wrapped, x, y)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            for _ in range(10):
                step()
            times[name].append((time.perf_counter() - begin) / 10)
    for name, each in times.items():
        plain = times["torch.optim.SGD, momentum" if "SGD" in name else "torch.optim.Adam"]
        ratio = statistics.median(a / b for a, b in zip(each, plain, strict=True))
        print(f"{name}: {1e3 * statistics.median(each):.2f} ms, {ratio:.2f} times plain")


def _step_of(network: nn.Module, make: Make, x: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = make([*network.parameters()])

    def step() -> None:
        optimizer.zero_grad()
        functional.nll_loss(network(x), y).backward()
        optimizer.step()

    return step


def _step_by_package(wrapped: Any, x: Tensor, y: Tensor) -> None:
    wrapped.begin()
    loss = functional.nll_loss(wrapped.forward(x), y)
    wrapped.zero_grad()
    loss.backward(create_graph=True)
    wrapped.step()


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["table", "towers", "cost"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = Task(arguments.data_dir)
    if arguments.part == "table":
        table(task, arguments.seeds)
    elif arguments.part == "towers":
        towers(task, arguments.picture)
    else:
        cost(task, arguments.rounds)


if __name__ == "__main__":
    main()
