"""Counts and seeds as a study declares them: for all its tasks, or for each by its name."""

from __future__ import annotations

from typing import Annotated, overload

from pydantic import Field, PlainValidator

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
