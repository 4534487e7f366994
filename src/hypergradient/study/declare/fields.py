"""The fields of a declared study: checked names, values, counts and seeds."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, overload

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
)

from hypergradient.study.import_by_name import is_reference
from hypergradient.study.methods.registry import METHODS, find_method, method_identity
from hypergradient.study.methods.schedules import SCHEDULES
from hypergradient.study.tasks.registry import TASKS, find_task, task_identity

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 1_000_000_000
"""Of a count, and of a seed: larger ones overflow the tables' integers sooner or later."""


def count_or_counts(value: object) -> int | dict[str, int]:
    """Check a count for all tasks, or one for each by its name."""
    counts = value if isinstance(value, dict) else {"": value}
    for task, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= LARGEST:
            place = f" for {task}" if task else ""
            raise ValueError(f"{count!r}{place} is not an integer from 1 to {LARGEST:,}")
    return value  # type: ignore[return-value]


PerTask = Annotated[int | dict[str, int], PlainValidator(count_or_counts)]

Loss = Annotated[float, Field(allow_inf_nan=False)]

Count = Annotated[int, Field(ge=1, le=LARGEST)]

Seed = Annotated[int, Field(ge=0, le=LARGEST)]


@overload
def of_task(counts: int | dict[str, int], task: str) -> int: ...


@overload
def of_task(counts: int | dict[str, int] | None, task: str) -> int | None: ...


def of_task(counts: int | dict[str, int] | None, task: str) -> int | None:
    """Return a task's own count."""
    return counts[task] if isinstance(counts, dict) else counts


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
            if is_reference(name):
                raise
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
            raise ValueError(f"{kind} {name!r} is not known; {hint}") from error
        return name

    return AfterValidator(check)


def find_own_task(name: str) -> object:
    """Find a person's own task, or raise a ``ValueError``."""
    if not is_reference(name):
        raise ValueError(name)
    found = find_task(name)
    task_identity(name)
    return found


def find_unlisted_method(name: str) -> object:
    """Find an optimizer that is not in ``METHODS``, or raise a ``ValueError``."""
    found = find_method(name)
    method_identity(name)
    return found


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


FigureName = Literal[
    "summary",
    "untuned",
    "heatmap",
    "iterations",
    "best",
    "tuning",
    "relative",
    "sensitivity",
    "grid",
    "curves",
    "rate",
    "published",
]
"""The figures that a study can ask for. A test checks that they are those of ``report.gallery``,
which is not imported here: declaring a study must not wait for what draws it."""

FIGURES: tuple[FigureName, ...] = get_args(FigureName)


TaskName = Annotated[str, known_in("task", TASKS, find_own_task)]

MethodName = Annotated[str, known_in("method", METHODS, find_unlisted_method)]

ScheduleName = Annotated[str, known_in("schedule", SCHEDULES)]

Value = Annotated[bool | float | str, PlainValidator(number_text_or_truth)]

Values = Annotated[tuple[Value, ...], BeforeValidator(as_list), AfterValidator(not_empty)]
