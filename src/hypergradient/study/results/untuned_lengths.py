"""How near methods come to the best tuned rate in trainings of several lengths. Only computes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

from hypergradient.study.results.intervals import geometric_intervals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LENGTH: Final = r" x(\d+)$"
"""The end of a task's name in a study of several lengths, as `Study.task_name` says it."""


def at_all_lengths(selection: Sequence[str], tasks: Iterable[str]) -> tuple[str, ...]:
    """Return which tasks are of the selection, by the names that they have in tables.

    Args:
        selection: The names that the study declares.
        tasks: The names in tables, with their lengths if there are several.
    """
    return tuple(task for task in dict.fromkeys(tasks) if re.sub(LENGTH, "", task) in selection)


def by_length(ratios: pl.DataFrame) -> pl.DataFrame:
    """Average the ratios of each line over the tasks of a length.

    Args:
        ratios: From `results.untuned.ratios`. Lines are taken from their default starts. Tuned
            lines are left out, as the best of them is the unit.

    Returns:
        A row a base, line, `single`, measure and `length`: `mean` over tasks, and `worst`, the
        largest mean of a task over seeds, at `worst_task`, both with Student's interval over seeds
        (a seed's worst is its own), and `tasks`. Empty where the study has one length only.
    """
    keys = ["base", "line", "single", "measure", "length"]
    length = pl.col("task").str.extract(LENGTH).cast(pl.Int64)
    own = ratios.filter(~pl.col("tuned"), pl.col("start").is_null()).with_columns(length=length)
    own = own.drop_nulls("length")
    by_seed = own.group_by(*keys, "seed", maintain_order=True).agg(
        mean=pl.col("log_ratio").mean(), worst=pl.col("log_ratio").max()
    )
    bounds = geometric_intervals(by_seed, keys, mean="mean", worst="worst")
    return (
        own.group_by(*keys, "task", maintain_order=True)
        .agg(pl.col("log_ratio").mean())
        .group_by(keys, maintain_order=True)
        .agg(
            mean=10 ** pl.col("log_ratio").mean(),
            worst=10 ** pl.col("log_ratio").max(),
            worst_task=pl.col("task").get(pl.col("log_ratio").arg_max()),
            tasks=pl.len(),
        )
        .join(bounds, on=keys, how="left", maintain_order="left")
        .sort("measure", "base", "line", "length")
    )
