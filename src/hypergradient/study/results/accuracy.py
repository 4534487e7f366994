"""Our accuracies beside published ones, a row a setting. Functions here only compute."""

from __future__ import annotations

from typing import Final

import polars as pl

SETTING: Final = ("method", "lr", "hypergrad_lr", "tower", "rule", "learn", "betas")
"""What a published row can say of a setting; what it leaves out, a run must not have set."""

NUMBERS: Final = ("paper", "rerun")
"""The accuracies of a published table, in percent: of the paper, and of its code on a new torch."""


def beside_published_accuracies(runs: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Put our validation accuracies beside published ones of the same setting.

    Args:
        runs: One row a run.
        published: ``row`` (what it is called there), ``method``, ``lr0``, other columns of
            `SETTING`, and `NUMBERS`.

    Returns:
        One row a task and published row, in their order: task, row, `paper`, `rerun`, in percent
        `ours` (mean over seeds), `lowest`, `highest`, `values`, and `seeds`. Empty if no setting
        is the same.
    """
    theirs = published.rename({"lr0": "lr"}, strict=False)
    keys = [name for name in SETTING if name in theirs.columns and name in runs.columns]
    absent = [name for name in SETTING if name in theirs.columns and name not in runs.columns]
    for name in absent:
        theirs = theirs.filter(pl.col(name).is_null())
    theirs = theirs.with_columns(pl.col(name).cast(runs.schema[name]) for name in keys)
    ours = (
        runs.filter(pl.col("status") == "done")
        .group_by("task", *keys, maintain_order=True)
        .agg(
            ours=100 * pl.col("valid_accuracy_final").mean(),
            lowest=100 * pl.col("valid_accuracy_final").min(),
            highest=100 * pl.col("valid_accuracy_final").max(),
            values=100 * pl.col("valid_accuracy_final").sort(),
            seeds=pl.len(),
        )
    )
    both = theirs.join(ours, on=keys, nulls_equal=True, maintain_order="left")
    columns = ("ours", "lowest", "highest", "values", "seeds")
    return both.select("task", "row", *NUMBERS, *columns).sort("task", maintain_order=True)
