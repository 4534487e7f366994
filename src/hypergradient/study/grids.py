"""Methods and their grids, as a study declares them: checked values, then every combination."""

from __future__ import annotations

import math
from difflib import get_close_matches
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

from hypergradient.study import methods, references, tasks
from hypergradient.study.methods import METHODS
from hypergradient.study.schedules import SCHEDULES
from hypergradient.study.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable


MOST_RUNS = 100_000
"""Of a study: more are a slip of the pen, and would have to be expanded before that is seen."""


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def nowhere(name: str) -> object:
    """Find nothing."""
    raise ValueError(name)


def known_in(
    kind: str, names: dict[str, Any], otherwise: Callable[[str], object] = nowhere
) -> AfterValidator:
    """Return a validator that a name is a key of ``names``, suggesting close ones.

    Args:
        kind: What it names.
        names: The table.
        otherwise: Finds what is not in the table but may exist, or raises a ``ValueError``.
    """

    def check(name: str) -> str:
        if name in names:
            return name
        try:
            otherwise(name)
        except ValueError as error:
            if references.is_reference(name):
                raise
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
            raise ValueError(f"{kind} {name!r} is not known; {hint}") from error
        return name

    return AfterValidator(check)


def find_task(name: str) -> object:
    """Find a person's own task, or raise a ``ValueError``."""
    if not references.is_reference(name):
        raise ValueError(name)
    found = tasks.find(name)
    tasks.identity(name)
    return found


def find_method(name: str) -> object:
    """Find an optimizer that is not in ``METHODS``, or raise a ``ValueError``."""
    found = methods.find(name)
    methods.identity(name)
    return found


def refuse_many(count: int) -> None:
    """Raise a ``ValueError`` where so many runs are too many."""
    if count > MOST_RUNS:
        raise ValueError(
            f"{count:,} runs are more than {MOST_RUNS:,}: shorten the lists, or split the study"
        )


def number_text_or_truth(value: object) -> bool | float | str:
    """Check one value of a hyperparameter; integers become floats, so 1 and 1.0 are one run."""
    if isinstance(value, bool | str):
        return value
    try:
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{value!r} is not a finite number, a text, true or false")


def not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list; unlike ``min_length`` it is silent where the list's items are wrong."""
    if not values:
        raise ValueError("is empty")
    return values


def as_list(value: object) -> object:
    """Let a single value stand for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


TaskName = Annotated[str, known_in("task", TASKS, find_task)]
MethodName = Annotated[str, known_in("method", METHODS, find_method)]
ScheduleName = Annotated[str, known_in("schedule", SCHEDULES)]
Value = Annotated[bool | float | str, PlainValidator(number_text_or_truth)]
Values = Annotated[tuple[Value, ...], BeforeValidator(as_list), AfterValidator(not_empty)]


class MethodEntry(Frozen):
    """Methods that share schedules and a grid.

    Attributes:
        names: Names in ``METHODS``, of classes of ``torch.optim``, or references to classes.
        schedule: Of the learning rate; by default constant, and its own for hypergradient descent.
        grid: The values of each hyperparameter, of which every combination is run.
        zip: The values of hyperparameters that change together, in lists of one length.
    """

    names: Annotated[tuple[MethodName, ...], BeforeValidator(as_list), AfterValidator(not_empty)]
    schedule: Annotated[
        tuple[ScheduleName, ...], BeforeValidator(as_list), AfterValidator(not_empty)
    ] = ()
    grid: dict[str, Values] = Field(default={})
    zip: dict[str, Values] = Field(default={})

    def schedules_of(self, name: str) -> tuple[str, ...]:
        """Return the schedules that a method is run with."""
        return self.schedule or methods.find(name).schedules[:1]

    def count(self) -> int:
        """Return how many settings there are, without expanding them."""
        rows = max([1, *map(len, self.zip.values())])
        return math.prod(map(len, self.grid.values())) * rows

    def settings(self) -> list[dict[str, Value]]:
        """Return every combination of the grid and the zip's rows, the latter changing fastest."""
        rows = [
            dict(zip(self.zip, row, strict=True)) for row in zip(*self.zip.values(), strict=True)
        ] or [{}]
        return [
            dict(zip(self.grid, values, strict=True)) | row
            for values in product(*self.grid.values())
            for row in rows
        ]

    @model_validator(mode="after")
    def lists_fit(self) -> MethodEntry:
        """Check the zip, then build each optimizer with each setting: they know best."""
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{key} {len(values)}" for key, values in self.zip.items())
            raise ValueError(f"zip: lists of one length are needed, not {lengths}")
        if both := self.grid.keys() & self.zip.keys():
            raise ValueError(f"{', '.join(sorted(both))} is in both grid and zip")
        refuse_many(self.count() * len(self.names) * max(1, len(self.schedule)))
        problems = {
            f"{name}: {problem}": None
            for name in self.names
            for setting in self.settings()
            if (problem := methods.find(name).problem(setting))
        }
        for name in self.names:
            fitting = methods.find(name).schedules
            problems |= {
                f"{name}: schedule {schedule!r} does not go with it; use {', '.join(fitting)}": None
                for schedule in self.schedules_of(name)
                if schedule not in fitting
            }
        if problems:
            raise ValueError("; ".join(problems))
        return self
