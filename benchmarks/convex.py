"""Gradient calls that a smooth convex problem takes, by rules of the literature and by L-BFGS.

    python benchmarks/convex.py

Logistic regression on breast cancer (scikit-learn's 569 examples, standardised, L2 of 1e-3), whole
batches in float64. For each optimizer it prints how many gradients it takes until the gradient's
norm is below 1e-3 and 1e-5, from its best settings, and how many settings were tried. The step
sizes are those of the problem: 1/L, the largest curvature's inverse, is known to all.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.nn import functional

from hypergradient import SGDHD

DECAY, LIMIT = 1e-3, 3000
TOLERANCES = (1e-3, 1e-5)
Counts = dict[float, int]


class Problem:
    """The loss of the weights, and its largest curvature L."""

    def __init__(self) -> None:
        data: Any = load_breast_cancer()
        x = torch.tensor(data.data)
        self.x = (x - x.mean(0)) / x.std(0)
        self.y = torch.tensor(data.target) * 2.0 - 1
        hessian = self.x.T @ self.x / (4 * len(x))
        self.curvature = float(torch.linalg.eigvalsh(hessian).max() + DECAY)

    def loss(self, w: Tensor) -> Tensor:
        """Return the mean loss at w."""
        return functional.softplus(-self.y * (self.x @ w)).mean() + DECAY / 2 * w @ w

    def count(self, make: Callable[[list[Tensor]], Any]) -> Counts:
        """Count the gradients until each tolerance is reached; what is not reached is left out."""
        w = torch.zeros(self.x.shape[1], requires_grad=True)
        optimizer, counts, calls = make([w]), Counts(), 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = self.loss(w)
            torch.autograd.backward(loss)
            for tolerance in TOLERANCES:
                if w.grad is not None and w.grad.norm() < tolerance:
                    counts.setdefault(tolerance, calls)
            return loss

        while calls < LIMIT and len(counts) < len(TOLERANCES):
            optimizer.step(closure)
        return counts


def contenders(unit: float) -> dict[str, list[Callable[[list[Tensor]], Any]]]:
    """Return each optimizer with all settings that it is tried at; `unit` is 1/L."""
    factors, betas, kappas = (1, 1.9, 4, 8, 16), (0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03)
    steps = (0.3, 1, 3, 10, 30)

    def sgd(factor: float, momentum: float) -> Callable[[list[Tensor]], Any]:
        return lambda p: torch.optim.SGD(p, factor * unit, momentum=momentum)

    def hd(lr: float = unit, **options: Any) -> Callable[[list[Tensor]], Any]:
        return lambda p: SGDHD(p, lr, **options)

    cosine: dict[str, Any] = {"rule": "multiplicative", "momentum": 0.9}
    return {
        "gradient descent": [sgd(f, 0.0) for f in factors],
        "heavy ball": [sgd(f, mu) for f, mu in product(factors, (0.8, 0.9, 0.95, 0.98))],
        "additive": [hd(hypergrad_lr=b * unit) for b in steps],
        "adam": [hd(hypergrad_lr=b * unit, rule="adam") for b in steps],
        "hdm": [hd(hypergrad_lr=b * unit, rule="hdm") for b in steps],
        "hdm, a rate an element": [
            hd(hypergrad_lr=b * unit, rule="hdm", granularity="element") for b in steps
        ],
        "multiplicative, momentum 0.9": [hd(hypergrad_lr=b, **cosine) for b in betas],
        "the same, and momentum learns": [
            hd(hypergrad_lr=b, learn={"momentum": k}, **cosine) for b, k in product(betas, kappas)
        ],
        "L-BFGS, memory 10": [
            lambda p: torch.optim.LBFGS(
                p,
                max_iter=1000,
                history_size=10,
                tolerance_grad=0,
                tolerance_change=0,
                line_search_fn="strong_wolfe",
            )
        ],
    }


def main() -> None:
    """Print the table."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    problem = Problem()
    print("| | settings | calls to 1e-3 | calls to 1e-5 |\n| --- | --- | --- | --- |")
    for name, settings in contenders(1 / problem.curvature).items():
        counts = [problem.count(make) for make in settings]
        best = [min((c[t] for c in counts if t in c), default=None) for t in TOLERANCES]
        words = " | ".join(f"> {LIMIT}" if number is None else str(number) for number in best)
        print(f"| {name} | {len(settings)} | {words} |", flush=True)


if __name__ == "__main__":
    main()
