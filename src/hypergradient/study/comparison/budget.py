"""What fits into a time budget: how many rates, seeds and epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypergradient.study.errors import StudyError
from hypergradient.study.run.plan import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypergradient.study.run.plan import Cost

STARTING_SECONDS = 5.0
"""What the worker processes take to import torch, and the report to be drawn."""

SHARE = 0.85
"""The share of a budget that is planned: runs beside each other are slower than one alone."""

FEWEST_STEPS = 20

SMALLER = ((3, 5), (2, 5), (2, 3), (1, 3))
"""Seeds and rates, in the order in which they are given up so that more epochs fit."""

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Size:
    """How large a comparison is.

    Attributes:
        rates: The rates of the rival.
        seeds: The number of repetitions.
        epochs: Passes over the training data.
        steps: Updates of each run, where they are less than an epoch; None is all.
    """

    rates: tuple[float, ...]
    seeds: int
    epochs: int
    steps: int | None = None

    def text(self) -> str:
        """Return the size in words."""
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        length = f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
        if self.steps is not None:
            length = f"{self.steps} steps"
        return f"{len(self.rates)} rates x {seeds} x {length}"


def seconds_of(text: str) -> float:
    """Return the seconds of a budget such as "90s", "10m" or "1.5h".

    Raises:
        StudyError: It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(s|m|min|h)\s*", text)
    if not found or float(found[1]) == 0:
        raise StudyError(f"--budget {text!r} is no time: write it as 90s, 10m or 1.5h")
    return float(found[1]) * UNITS[found[2]]


def fit(
    budget: float,
    asked: Size,
    costs: Mapping[str, Cost],
    counts: Mapping[str, int | None],
    workers: int,
) -> Size:
    """Return the largest comparison that takes no longer than a budget.

    All of what was asked for is taken if it fits. Else epochs are given up down to half of those
    asked for, then seeds and rates, and then the rest of the epochs; at last a run is less than an
    epoch.

    Args:
        budget: Seconds.
        asked: What is wanted.
        costs: What a step and an evaluation cost, by method.
        counts: The settings of each method; None is that of the rival, one for each rate.
        workers: How many processes train at once.

    Raises:
        StudyError: Not even a few steps fit.
    """
    left = (SHARE * budget - STARTING_SECONDS) * workers

    def total(size: Size) -> float:
        evaluations = size.epochs + 1
        return size.seeds * sum(
            (len(size.rates) if counts[method] is None else counts[method] or 0)
            * (
                (size.steps or size.epochs * cost.epoch_steps) * cost.step_seconds
                + evaluations * cost.valid_seconds
            )
            for method, cost in costs.items()
        )

    def most_epochs(size: Size) -> int:
        one, two = total(replace(size, epochs=1)), total(replace(size, epochs=2))
        return min(asked.epochs, int(1 + (left - one) / max(two - one, 1e-9)))

    sizes = [asked, *(_at_most(asked, seeds, rates) for seeds, rates in SMALLER)]
    for size in sizes:
        if (epochs := most_epochs(size)) >= max(1, asked.epochs // 2):
            return replace(size, epochs=epochs)
    smallest = sizes[-1]
    if (epochs := most_epochs(smallest)) >= 1:
        return replace(smallest, epochs=epochs)
    few, more = (total(replace(smallest, epochs=1, steps=steps)) for steps in (1, 2))
    steps = int(1 + (left - few) / max(more - few, 1e-9))
    if steps < FEWEST_STEPS:
        needed = total(replace(smallest, epochs=1, steps=FEWEST_STEPS)) / workers
        raise StudyError(
            f"--budget {in_words(budget)} is too little: {FEWEST_STEPS} steps of each optimizer "
            f"and their evaluation take {in_words(needed + STARTING_SECONDS)}"
        )
    return replace(smallest, epochs=1, steps=steps)


def _at_most(size: Size, seeds: int, rates: int) -> Size:
    """Return a size with no more seeds and rates than these; the middle rates are kept."""
    return replace(size, seeds=min(size.seeds, seeds), rates=_middle(size.rates, rates))


def _middle(rates: Sequence[float], count: int) -> tuple[float, ...]:
    cut = max(0, len(rates) - count)
    return tuple(rates[cut // 2 : len(rates) - (cut - cut // 2)])
