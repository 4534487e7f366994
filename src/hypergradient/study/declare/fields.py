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
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
)

from hypergradient.study.import_by_name import is_reference
from hypergradient.study.methods.registry import METHODS, Option, find_method, method_identity
from hypergradient.study.methods.schedules import SCHEDULES
from hypergradient.study.tasks.registry import IN_PROCESS, TASKS, find_task, task_identity

if TYPE_CHECKING:
    from collections.abc import Callable

TRUST_NAMES = "names were looked up when the study was first read"
"""The context of a validation that looks up no names, and so imports nothing."""

LARGEST = 1_000_000_000
"""The largest count or seed: a larger one overflows the integers of the tables at some point."""


def count_or_counts(value: object) -> int | dict[str, int]:
    """Check what is declared: one count for all tasks, or a table of counts by the tasks' names."""
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
    """Return the count that was declared for a task."""
    return counts[task] if isinstance(counts, dict) else counts


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def find_nothing(name: str) -> object:
    """Raise a ``ValueError``: only the names of the table exist."""
    raise ValueError(name)


def known_in(
    kind: str, names: dict[str, Any], otherwise: Callable[[str], object] = find_nothing
) -> AfterValidator:
    """Return a validator of names, which suggests a close name for one that does not exist.

    Args:
        kind: What is named: "task", say. The message says it.
        names: The table whose keys are known names.
        otherwise: Called with a name that is not in the table. It raises a ``ValueError`` if
            nothing else has that name either.
    """

    def check(name: str, info: ValidationInfo) -> str:
        trusted = info.context == TRUST_NAMES and otherwise is not find_nothing
        if name in names or trusted:
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
    """Return the task of a reference to a person's own, or raise a ``ValueError``."""
    if not is_reference(name) and name not in IN_PROCESS:
        raise ValueError(name)
    found = find_task(name)
    task_identity(name)
    return found


def find_unlisted_method(name: str) -> object:
    """Return a method that is not in ``METHODS``, or raise a ``ValueError``."""
    found = find_method(name)
    method_identity(name)
    return found


def value_of_option(value: object) -> Option:
    """Check one value of a hyperparameter. Integers become floats: 1 and 1.0 are one run.

    Several numbers are one value of an option that takes a tuple, such as a tower of step sizes.
    A table of numbers is one of an option that takes a mapping, such as ``learn``.
    """
    if isinstance(value, bool | str):
        return value
    if isinstance(value, dict) and value:
        return {str(name): _number_or_numbers(steps) for name, steps in value.items()}
    if isinstance(value, list | tuple) and value:
        return _number_or_numbers(value)
    return _number(value, "a text, true or false")


def _number_or_numbers(value: object) -> float | tuple[float, ...]:
    if isinstance(value, list | tuple):
        return tuple(_number(each, "which each of several must be") for each in value)
    return _number(value, "nor several")


def _number(value: object, otherwise: str) -> float:
    try:
        if isinstance(value, int | float) and type(value) is not bool and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{value!r} is not a finite number, {otherwise}")


def not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list.

    Unlike pydantic's ``min_length``, it says nothing where the list's items are wrong themselves.
    """
    if not values:
        raise ValueError("is empty")
    return values


def as_list(value: object) -> object:
    """Return a single value as a list of one, so that a study can leave out the brackets."""
    return value if isinstance(value, list | tuple) else [value]


FigureName = Literal[
    "beside",
    "compare",
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
    "accuracy",
    "towers",
    "published",
]
"""The figures that a study can ask for. A test checks that they are those of ``report.gallery``,
which is not imported here: declaring a study must not wait for what draws it."""

FIGURES: tuple[FigureName, ...] = get_args(FigureName)


DeviceName = Literal["cpu", "cuda", "mps"]
"""Where a run can be trained."""

Autocast = Literal["bfloat16"]
"""In what a model may compute where float32 is not needed, by ``torch.autocast``."""

TaskName = Annotated[str, known_in("task", TASKS, find_own_task)]

MethodName = Annotated[str, known_in("method", METHODS, find_unlisted_method)]

ScheduleName = Annotated[str, known_in("schedule", SCHEDULES)]

Value = Annotated[Option, PlainValidator(value_of_option), PlainSerializer(lambda value: value)]

Values = Annotated[tuple[Value, ...], BeforeValidator(as_list), AfterValidator(not_empty)]
