"""Sensitivity around each line's own best learning rate. Functions here only compute."""

from __future__ import annotations

from typing import Final

import polars as pl

from hypergradient.study.results.pairs import lines
from hypergradient.study.results.sensitivity import by_rate, width

LINE: Final = ("task", "base", "schedule", "line")
"""What identifies a line: `line` is the schedule, and its settings if there are several."""

WITHIN: Final = 1.1
"""A loss is near the best where it is within this factor of it."""


def relative_sensitivity(runs: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Relate the best loss over training to the learning rate's ratio to the best one.

    Args:
        runs: One row a run.
        metric: One of `LOSS_LABELS`.

    Returns:
        What `sensitivity.by_rate` says of the best loss over training, a row a line (`LINE`) and
        positive learning rate, with `ratio`: the rate over the one with the lowest mean (of those
        at which no seed diverged), so that each line has its lowest point at 1. Lines without such
        a rate are left out.
    """
    series = [*LINE, *(["hypergrad_lr"] if "hypergrad_lr" in runs.columns else [])]
    table = by_rate(lines(runs), metric, which="best", series=series).filter(pl.col("lr") > 0)
    best = (
        table.filter(pl.col("diverged") == 0)
        .drop_nulls("mean")
        .sort("mean", maintain_order=True)
        .unique(LINE, keep="first", maintain_order=True)
        .select(*LINE, best_lr="lr")
    )
    return table.join(best, on=LINE, maintain_order="left").with_columns(
        ratio=pl.col("lr") / pl.col("best_lr")
    )


def widths(table: pl.DataFrame) -> pl.DataFrame:
    """Measure how wide the region of good learning rates is.

    Args:
        table: From `relative_sensitivity`.

    Returns:
        One row a line with several rates: its lowest mean `best` at `best_lr`, `width`, the decades
        of rates within a factor `WITHIN` of it, `tried`, the decades on the grid, and `at_edge`:
        whether that region may go on outside the grid.
    """
    rows = []
    for part in table.partition_by(LINE, maintain_order=True):
        if part.height < 2:  # noqa: PLR2004
            continue
        sound = part.select(pl.when(pl.col("diverged") == 0).then("mean")).to_series().to_list()
        best = min(loss for loss in sound if loss is not None)
        rates = part["lr"].to_list()
        near = [loss is not None and loss <= WITHIN * best for loss in sound]
        rows.append(
            {name: part[name][0] for name in LINE}
            | {
                "best": best,
                "best_lr": part["best_lr"][0],
                "width": width(rates, sound, WITHIN * best),
                "tried": pl.Series(rates).log10().max() - pl.Series(rates).log10().min(),  # type: ignore[operator]
                "at_edge": near[0] or near[-1],
            }
        )
    return pl.DataFrame(
        rows,
        dict.fromkeys(LINE, pl.String)
        | dict.fromkeys(("best", "best_lr", "width", "tried"), pl.Float64)
        | {"at_edge": pl.Boolean},
    )
