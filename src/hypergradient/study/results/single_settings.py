"""One learning rate for all tasks: what a method without a rate really competes with.

A base optimizer whose rate is tuned anew on every task is the best that tuning can do. Few people
do that: they take one rate for all that they train. Here the rate with the least geometric mean
loss on the selection tasks is used on all tasks. Functions here only compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME: Final = ", one rate"
"""What the name of a line gets, to tell it from the line whose rate is tuned."""


def single_settings(
    table: pl.DataFrame, selection: Sequence[str], measures: Sequence[str]
) -> pl.DataFrame:
    """Choose for each base optimizer and schedule the one rate that is best on the selection tasks.

    Args:
        table: From `results.untuned.losses`.
        selection: The tasks on which something may be chosen.
        measures: The columns of losses, as log10. Each has a rate of its own.

    Returns:
        A row a line of fixed rates and measure, `base`, `line`, `measure` and `start`, the rate.
        Rates at which runs are missing are not chosen; of equal ones the smaller is.
    """
    wide = table.filter("tuned", pl.col("task").is_in(list(selection))).unpivot(
        measures, index=["base", "line", "start"], variable_name="measure", value_name="log_loss"
    )
    keys = ["base", "line", "measure"]
    means = wide.group_by(*keys, "start").agg(mean=pl.col("log_loss").mean(), runs=pl.len())
    complete = pl.col("runs") == pl.col("runs").max().over(keys)
    return (
        means.filter(complete)
        .sort(*keys, "mean", "start")
        .unique(keys, keep="first", maintain_order=True)
        .select(*keys, "start")
    )


def with_single_settings(
    table: pl.DataFrame, chosen: pl.DataFrame, measures: Sequence[str]
) -> pl.DataFrame:
    """Add the runs of each single setting as a line of its own, which takes no rate.

    Args:
        table: From `results.untuned.losses`.
        chosen: From `single_settings`.
        measures: The columns of losses. The first one also decides which runs are dead.

    Returns:
        `table` with `single`, and with rows more, in which `single` is true, `tuned` is false and
        `start` is null.
    """
    keys = ["base", "line"]
    table = table.with_columns(single=pl.lit(value=False))
    parts = {
        measure: table.filter("tuned").join(
            chosen.filter(measure=measure).drop("measure"), on=[*keys, "start"]
        )
        for measure in measures
    }
    rows, runs = parts[measures[0]], ["task", "seed", *keys]
    for measure in measures[1:]:
        other = parts[measure].select(*runs, measure)
        rows = rows.drop(measure).join(other, on=runs, how="left")
    alone = rows.with_columns(
        line=pl.col("line") + NAME,
        start=pl.lit(None, pl.Float64),
        tuned=pl.lit(value=False),
        single=pl.lit(value=True),
    )
    return pl.concat([table, alone.select(table.columns).sort(*keys, "task", "seed")])
