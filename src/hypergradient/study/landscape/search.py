"""A grid search over (alpha, beta), with the same number of settings for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hypergradient.study.landscape.descend import descend
from hypergradient.study.landscape.methods import Setting

if TYPE_CHECKING:
    from hypergradient.functions import Function
    from hypergradient.study.landscape.methods import Method

TARGET = 1e-3
"""Steps are counted until a descent is this near to the minimum ..."""

STAY = 100
"""... and for this many more steps: flying past it is no arrival."""

STEPS = 2000

DECADES = 6
"""Of alpha and of beta; and so 36 settings a method, for a constant rate all of them of alpha."""

HIGHEST_LR = 1.0


@dataclass(frozen=True)
class Tried:
    """One setting of a search.

    Attributes:
        setting: What was tried.
        steps: To within ``TARGET`` of the minimum, to stay; None where ``STEPS`` were not enough.
        distance: At the end; not finite where it diverged.
    """

    setting: Setting
    steps: int | None
    distance: float


def grid(function: Function, method: Method) -> list[Setting]:
    """Return the settings to try: alpha from 1e-5 to 1, beta in decades about the function's own.

    The first update changes a rate by beta g^2, so the decades of beta are those at which it
    changes alpha = 0.01 by a factor of 1e-3 to 1e2, g being the gradient at the start. By "hdm" it
    changes by beta, from 1e-5 to 1.
    """
    if method.kind == "constant":
        count, span = DECADES**2, DECADES - 1
        alphas = [HIGHEST_LR * 10 ** (-span * (1 - i / (count - 1))) for i in range(count)]
        return [Setting(float(f"{alpha:.3g}")) for alpha in alphas]
    if method.options.get("rule") == "hdm":  # beta is the first move of the rate, and has its unit
        betas = [10.0**-j for j in range(DECADES)]
        return [Setting(HIGHEST_LR * 10.0**-i, b) for i in range(DECADES) for b in betas]
    start = torch.tensor([function.start], dtype=torch.float64)
    squared = function.gradient(start).square().mean().item()
    middle = math.floor(math.log10(0.01 / squared)) if squared > 0 else 0
    return [
        Setting(HIGHEST_LR * 10.0**-i, float(f"1e{middle + j}"))
        for i in range(DECADES)
        for j in range(-3, DECADES - 3)
    ]


def search(function: Function, method: Method) -> list[Tried]:
    """Try every setting of the grid for ``STEPS`` steps."""
    settings = grid(function, method)
    descents = descend(function, method, settings, STEPS)
    steps, distances = descents.settled(TARGET, STAY), descents.distances[-1].tolist()
    return [Tried(*row) for row in zip(settings, steps, distances, strict=True)]


def best(tried: list[Tried]) -> Tried:
    """Return the fastest to ``TARGET`` of those that did not diverge; if none is, the nearest."""
    finite = [one for one in tried if math.isfinite(one.distance)] or tried
    return min(finite, key=lambda one: (math.inf if one.steps is None else one.steps, one.distance))
