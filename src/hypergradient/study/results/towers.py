"""From which starts towers of step sizes end well, by their height. Functions here only compute."""

from __future__ import annotations

from typing import Final

import polars as pl

from hypergradient.study.results.intervals import geometric_mean

NEAR: Final = 4 / 3
"""How many times the best loss of all counts as well."""


def towers(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the final validation loss by height and start.

    A tower of height 0 is a constant rate, one of height 1 a rate that moves by a constant step
    size. The start is that of the rate.

    Args:
        runs: One row a run.

    Returns:
        task, base, height, start and `loss` (geometric mean over seeds; null where one diverged).
        Empty unless some run has a tower.
    """
    if "tower" not in runs.columns or not runs["tower"].count():
        return pl.DataFrame()
    floors = pl.col("tower").str.count_matches("/", literal=True) + 1
    moves = pl.coalesce("adaptive", False) & (pl.col("hypergrad_lr") != 0)
    height = pl.coalesce(floors, pl.when(moves).then(1).otherwise(0))
    lost = (pl.col("status") != "done").any()
    return (
        runs.filter(pl.col("status") != "failed")
        .with_columns(height=height.cast(pl.Int64), start=pl.col("lr"))
        .group_by("task", "base", "height", "start")
        .agg(loss=pl.when(~lost).then(geometric_mean("valid_loss_final")))
        .sort("task", "base", "height", "start")
    )


def ranges(table: pl.DataFrame) -> pl.DataFrame:
    """Return from which starts each height ends within `NEAR` of the best loss.

    Args:
        table: From `towers`.

    Returns:
        task, base, height, `best` (its lowest loss), `low` and `high` (the lowest and the highest
        such start, null if there is none), and `decades` between them.
    """
    best = pl.col("loss").min().over("task", "base")
    good = pl.col("start").filter(pl.col("loss") <= NEAR * pl.col("best_of_all"))
    return (
        table.with_columns(best_of_all=best)
        .group_by("task", "base", "height", maintain_order=True)
        .agg(best=pl.col("loss").min(), low=good.min(), high=good.max())
        .with_columns(decades=(pl.col("high") / pl.col("low")).log10())
    )
