"""Methods and their grids, as a study declares them, and every combination of their values."""

from __future__ import annotations

import math
from itertools import product
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from hypergradient.study.declare.fields import (
    TRUST_NAMES,
    Frozen,
    MethodName,
    ScheduleName,
    Value,
    Values,
    as_list,
    not_empty,
)
from hypergradient.study.methods.registry import find_method

MOST_RUNS = 100_000
"""The most runs of a study. More are a mistake, and it would take long to expand them."""


def refuse_many(count: int) -> None:
    """Raise a ``ValueError`` if there are more runs than ``MOST_RUNS``."""
    if count > MOST_RUNS:
        raise ValueError(
            f"{count:,} runs are more than {MOST_RUNS:,}: shorten the lists, or split the study"
        )


class MethodEntry(Frozen):
    """Methods that share schedules and a grid.

    Attributes:
        names: Names in ``METHODS``, of classes of ``torch.optim``, or references to classes.
        schedule: The schedules of the learning rate. By default it is constant; hypergradient
            descent has its own.
        grid: The values of each hyperparameter. Every combination of them is run.
        zip: The values of hyperparameters that change together, in lists of the same length.
    """

    names: Annotated[tuple[MethodName, ...], BeforeValidator(as_list), AfterValidator(not_empty)]
    schedule: Annotated[
        tuple[ScheduleName, ...], BeforeValidator(as_list), AfterValidator(not_empty)
    ] = ()
    grid: dict[str, Values] = Field(default={})
    zip: dict[str, Values] = Field(default={})

    def schedules_of(self, name: str) -> tuple[str, ...]:
        """Return the schedules that a method is run with."""
        return self.schedule or find_method(name).schedules[:1]

    def count(self) -> int:
        """Return how many settings there are, without expanding them."""
        rows = max([1, *map(len, self.zip.values())])
        return math.prod(map(len, self.grid.values())) * rows

    def settings(self) -> list[dict[str, Value]]:
        """Return every combination of the grid with the rows of the zip, which change fastest."""
        rows = [
            dict(zip(self.zip, row, strict=True)) for row in zip(*self.zip.values(), strict=True)
        ] or [{}]
        return [
            dict(zip(self.grid, values, strict=True)) | row
            for values in product(*self.grid.values())
            for row in rows
        ]

    @model_validator(mode="after")
    def lists_fit(self, info: ValidationInfo) -> MethodEntry:
        """Check the zip's lengths, then build each optimizer with each setting to see if it can."""
        if info.context == TRUST_NAMES:
            return self
        problems: dict[str, None] = {}
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{key} {len(values)}" for key, values in self.zip.items())
            problems[f"zip: lists of one length are needed, not {lengths}"] = None
        if both := self.grid.keys() & self.zip.keys():
            problems[f"{', '.join(sorted(both))} is in both grid and zip"] = None
        refuse_many(self.count() * len(self.names) * max(1, len(self.schedule)))
        settings = [] if problems else self.settings()
        problems |= {
            f"{name}: {problem}": None
            for name in self.names
            for setting in settings
            for problem in find_method(name).problems(setting)
        }
        for name in self.names:
            fitting = find_method(name).schedules
            problems |= {
                f"{name}: schedule {schedule!r} does not go with it; use {', '.join(fitting)}": None
                for schedule in self.schedules_of(name)
                if schedule not in fitting
            }
        if problems:
            raise ValueError("\n".join(problems))
        return self
