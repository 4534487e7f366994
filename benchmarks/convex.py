"""Gradient calls that smooth convex problems take, by rules of the literature and by L-BFGS.

    python benchmarks/convex.py [--data-dir DIR] [--only a1a] [--null-steps]

Whole batches in float64. For each optimizer it prints how many gradients it takes until no
component of the gradient is larger than 1e-2 and 1e-4, from its best settings, and how many of its
settings reach the second within 1,000. The step sizes are those of the problem: 1/L, the largest
curvature's inverse, is known to all.

- a1a of LIBSVM by the squared hinge loss, summed over 1,605 examples, without a penalty: the
  problem of which the authors of HDM publish numbers (github.com/udellgroup/osgm-best-hypergrad,
  whose grids of settings these are); then by the logistic loss, with a penalty of 0.1. DIR holds
  the file `a1a` from https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary.html. Without
  it random data of its shape stand in: 1,605 x 123, 14 ones a row.
With --null-steps it prints another table, of a loop as in the paper of HDM: a step that would raise
the loss is taken or not, and the step size of the rates falls by a fifth every 50 steps or stays.

- breast cancer (scikit-learn's 569 examples, standardised) by the mean logistic loss, with 1e-3.
"""

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_svmlight_file
from torch import Tensor
from torch.nn import functional

from hypergradient import SGDHD

LIMIT = 1000
TOLERANCES = (1e-2, 1e-4)
EXAMPLES, FEATURES, ONES = 1605, 123, 14  # of a1a
STEP_SIZES = (
    (0.1, 1, 10, 100),
    (1, 3, 5, 10, 100),
)  # the authors', of rates and momentum
SEED = 20250128  # of the authors' first point
Counts = dict[float, int]
Make = Callable[[list[Tensor]], Any]


class Problem(NamedTuple):
    """A loss of weights.

    Attributes:
        rows: y_i x_i for each example, with a constant input.
        start: the first weights.
        hinge: whether the loss is the squared hinge, halved, and not the logistic.
        penalty: lambda of lambda / 2 |w|^2.
        mean: whether the loss is the mean over examples, and not the sum.
    """

    rows: Tensor
    start: Tensor
    hinge: bool = False
    penalty: float = 0.0
    mean: bool = False

    def loss(self, w: Tensor) -> Tensor:
        """Return the loss at w."""
        margins = self.rows @ w
        losses = (1 - margins).relu().square() / 2 if self.hinge else functional.softplus(-margins)
        return (losses.mean() if self.mean else losses.sum()) + self.penalty / 2 * w @ w

    def curvature(self) -> float:
        """Return a bound L of the curvature, as the authors of HDM take it for both losses."""
        own = float(torch.linalg.matrix_norm(self.rows, 2).square())
        return own / (4 * len(self.rows)) if self.mean else own + self.penalty

    def gradient(self, w: Tensor) -> tuple[float, Tensor]:
        """Return the loss and its gradient at w."""
        w = w.detach().clone().requires_grad_()
        loss = self.loss(w)
        (g,) = torch.autograd.grad(loss, w)
        return float(loss.detach()), g

    def count(self, make: Make) -> Counts:
        """Count the gradients until each tolerance is reached; what is not reached is left out."""
        w, counts = self.start.clone().requires_grad_(), Counts()
        optimizer = make([w])
        for calls in range(1, LIMIT + 1):
            _, w.grad = self.gradient(w)
            note(counts, calls, w.grad)
            if len(counts) == len(TOLERANCES) or not w.grad.isfinite().all():
                break
            optimizer.step()
        return counts

    def count_of_lbfgs(self, memory: int) -> Counts:
        """Count the gradients of SciPy's L-BFGS-B."""
        counts, calls = Counts(), 0

        def loss_and_gradient(w: Any) -> tuple[float, Any]:
            nonlocal calls
            calls += 1
            loss, g = self.gradient(torch.from_numpy(w))
            note(counts, calls, g)
            return loss, g.numpy()

        options: Any = {"maxcor": memory, "ftol": 0, "gtol": TOLERANCES[-1], "maxfun": LIMIT}
        minimize(
            loss_and_gradient, self.start.numpy(), jac=True, method="L-BFGS-B", options=options
        )
        return counts

    def count_by_the_paper(
        self, beta: float, kappa: float, *, null_steps: bool, falls: bool
    ) -> Counts:
        """Count the gradients of HDM with a rate an element and a momentum that learns.

        Args:
            beta: the step size of the rates.
            kappa: that of the momentum.
            null_steps: whether a step that would raise the loss is not taken.
            falls: whether beta falls by a fifth every 50 steps.
        """
        x, counts, calls = self.start, Counts(), 1
        loss, g = self.gradient(x)
        rates, squares, momentum, of_momentum = torch.zeros_like(x), torch.zeros_like(x), 0.95, 0.0
        displacement = torch.zeros_like(x)
        note(counts, calls, g)
        while calls < LIMIT and len(counts) < len(TOLERANCES) and g.isfinite().all():
            ahead = x - rates * g + momentum * displacement
            new_loss, new = self.gradient(ahead)
            calls += 1
            h = new * g / (g @ g)
            squares += h * h
            rates = (rates + beta * h / (squares.sqrt() + 1e-12)).clamp(min=0)
            h_momentum = -float(new @ displacement / (g @ g))
            of_momentum += h_momentum**2
            momentum += kappa * h_momentum / (of_momentum**0.5 + 1e-12)
            momentum = min(max(momentum, 0.0), 0.9995)
            if falls and calls % 50 == 0:
                beta *= 0.8
            if null_steps and new_loss >= loss:
                displacement = torch.zeros_like(x)
                continue
            displacement, x, g, loss = ahead - x, ahead, new, new_loss
            note(counts, calls, g)
        return counts


def note(counts: Counts, calls: int, g: Tensor) -> None:
    """Note the tolerances that a gradient reaches first."""
    for tolerance in TOLERANCES:
        if g.abs().max() <= tolerance:
            counts.setdefault(tolerance, calls)


def a1a(folder: Path | None) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of a1a, or of random data of its shape."""
    if folder is not None:
        x, y = load_svmlight_file(str(folder / "a1a"), n_features=FEATURES)
        return torch.from_numpy(x.toarray()), torch.from_numpy(y)
    generator = torch.Generator().manual_seed(0)
    fields = torch.tensor_split(torch.arange(FEATURES), ONES)  # one of each field is 1
    x = torch.zeros(EXAMPLES, FEATURES)
    for field in fields:
        rare = 1 / torch.arange(1, len(field) + 1)  # some values are rare, as jobs and countries
        chosen = field[torch.multinomial(rare, EXAMPLES, replacement=True, generator=generator)]
        x[torch.arange(EXAMPLES), chosen] = 1.0
    logits = x @ torch.randn(FEATURES, generator=generator) - 2
    positive = torch.rand(EXAMPLES, generator=generator) < logits.sigmoid()
    return x, positive * 2.0 - 1


def problems(folder: Path | None) -> dict[str, Problem]:
    """Return the problems by name."""
    x, y = a1a(folder)
    of = "a1a" if folder else "random data like a1a"
    rows = torch.cat([x, torch.ones(len(x), 1)], 1) * y[:, None]
    start = torch.from_numpy(np.random.RandomState(SEED).randn(FEATURES + 1))
    start /= start.norm()
    data: Any = load_breast_cancer()
    cancer = torch.from_numpy(data.data)
    cancer = (cancer - cancer.mean(0)) / cancer.std(0)
    cancer *= torch.from_numpy(data.target)[:, None] * 2.0 - 1
    return {
        f"{of}, squared hinge": Problem(rows, start, hinge=True),
        f"{of}, logistic": Problem(rows, start, penalty=0.1),
        "breast cancer, logistic": Problem(
            cancer, torch.zeros(cancer.shape[1]), penalty=1e-3, mean=True
        ),
    }


def contenders(unit: float) -> dict[str, list[Make]]:
    """Return each optimizer with all settings that it is tried at; `unit` is 1/L."""
    factors, rates = (1, 1.9, 4, 8, 16), (1e-3, 1e-2, 0.1, 1.0, 10.0, unit)
    steps, kappas = STEP_SIZES
    betas, slow_kappas = (0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03)

    def sgd(factor: float, momentum: float) -> Make:
        return lambda p: torch.optim.SGD(p, factor * unit, momentum=momentum)

    def hd(lr: float = unit, **options: Any) -> Make:
        return lambda p: SGDHD(p, lr, **options)

    def hdm(granularity: str, beta: float, kappa: float) -> Make:
        options: Any = {"momentum": 0.95, "classical": True, "learn": {"momentum": kappa}}
        return hd(0.0, hypergrad_lr=beta * unit, rule="hdm", granularity=granularity, **options)

    cosine: dict[str, Any] = {"rule": "multiplicative", "momentum": 0.9}
    return {
        "gradient descent": [sgd(f, 0.0) for f in factors],
        "heavy ball": [sgd(f, mu) for f, mu in product(factors, (0.8, 0.9, 0.95, 0.98))],
        "Adam": [lambda p, lr=lr: torch.optim.Adam(p, lr) for lr in rates],  # type: ignore[misc]
        "additive": [hd(hypergrad_lr=b * unit) for b in (0.01, *steps)],
        "adam": [hd(hypergrad_lr=b * unit, rule="adam") for b in (0.01, *steps)],
        "multiplicative, momentum 0.9": [hd(hypergrad_lr=b, **cosine) for b in betas],
        "the same, and momentum learns": [
            hd(hypergrad_lr=b, learn={"momentum": k}, **cosine)
            for b, k in product(betas, slow_kappas)
        ],
        "hdm": [hd(0.0, hypergrad_lr=b * unit, rule="hdm") for b in (0.01, *steps)],
        "hdm, a rate an element": [
            hd(0.0, hypergrad_lr=b * unit, rule="hdm", granularity="element")
            for b in (0.01, *steps)
        ],
        "hdm, and momentum learns": [hdm("group", *each) for each in product(steps, kappas)],
        "hdm, both": [hdm("element", *each) for each in product(steps, kappas)],
    }


def main() -> None:
    """Print a table a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="with LIBSVM's file a1a")
    parser.add_argument("--only", default="", help="a part of a problem's name")
    parser.add_argument("--null-steps", action="store_true", help="whether these gain anything")
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for name, problem in problems(arguments.data_dir).items():
        if arguments.only not in name:
            continue
        print(f"\n| {name} | calls to 1e-2 | calls to 1e-4 | settings that get there |")
        print(f"|{' --- |' * 4}")
        if arguments.null_steps:
            null_steps(problem)
            continue
        for optimizer, settings in contenders(1 / problem.curvature()).items():
            print_row(optimizer, [problem.count(make) for make in settings])
        print_row("L-BFGS, memory 10", [problem.count_of_lbfgs(10)])


def null_steps(problem: Problem) -> None:
    """Print the rows of the loop of the paper."""
    unit = 1 / problem.curvature()
    for null, falls in product((True, False), repeat=2):
        name = f"null steps {'yes' if null else 'no'}, beta {'falls' if falls else 'stays'}"
        counts = [
            problem.count_by_the_paper(beta * unit, kappa, null_steps=null, falls=falls)
            for beta, kappa in product(*STEP_SIZES)
        ]
        print_row(name, counts)


def print_row(name: str, counts: list[Counts]) -> None:
    """Print the fewest calls to each tolerance."""
    best = [min((c[t] for c in counts if t in c), default=None) for t in TOLERANCES]
    words = " | ".join("" if number is None else str(number) for number in best)
    there = sum(TOLERANCES[-1] in c for c in counts)
    print(f"| {name} | {words} | {there} of {len(counts)} |", flush=True)


if __name__ == "__main__":
    main()
