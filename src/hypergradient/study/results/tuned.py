"""The best values of a method's hyperparameters, chosen over all seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTING: Final = ("task", "base", "method", "schedule")
"""What the best hyperparameters are chosen for."""


def tuned(
    runs: pl.DataFrame, names: Sequence[str], metric: str = "train_loss_final"
) -> pl.DataFrame:
    """Choose the best values of hyperparameters for each setting.

    The best values have the best mean of ``metric`` over all seeds. Values at which some seed has
    no result, because it diverged, failed or is not trained yet, are chosen only where no others
    are left.

    Args:
        runs: One row a run, as `pairs.complete` returns them.
        names: The hyperparameters to choose, columns of ``runs``.
        metric: A column of ``runs``; the largest mean is best for accuracies, else the least.

    Returns:
        One row a setting (`SETTING`) of which something can be chosen, in the order of ``runs``:
        the chosen values, ``mean`` and ``seeds`` (how many it is over), ``complete`` (no seed is
        missing), and ``edge``, a list of the hyperparameters whose best value is the least or the
        largest of several numbers that were tried.
    """
    wanted = runs.group_by("task", maintain_order=True).agg(wanted=pl.col("seed").n_unique())
    value = pl.when(pl.col("status") == "done").then(pl.col(metric))
    settings = (
        runs.group_by(*SETTING, *names, maintain_order=True)
        .agg(mean=value.drop_nulls().mean(), seeds=value.count())
        .join(wanted, on="task", maintain_order="left")
        .with_columns(complete=pl.col("seeds") == pl.col("wanted"))
        .drop("wanted")
    )
    descending = "accuracy" in metric
    best = (
        settings.drop_nulls("mean")
        .sort("complete", "mean", descending=[True, descending], maintain_order=True)
        .group_by(SETTING, maintain_order=True)
        .first()
    )
    order = settings.select(SETTING).unique(maintain_order=True)
    best = order.join(best, on=SETTING, nulls_equal=True, maintain_order="left").drop_nulls("mean")
    numeric = [name for name in names if settings.schema[name].is_numeric()]
    ranges = settings.group_by(SETTING).agg(
        *(pl.col(name).min().alias(f"{name} least") for name in numeric),
        *(pl.col(name).max().alias(f"{name} largest") for name in numeric),
    )
    placed = best.join(ranges, on=SETTING, nulls_equal=True, maintain_order="left")
    edges = [
        pl.when(
            pl.col(f"{name} least") < pl.col(f"{name} largest"),
            (pl.col(name) == pl.col(f"{name} least")) | (pl.col(name) == pl.col(f"{name} largest")),
        ).then(pl.lit(name))
        for name in numeric
    ]
    edge = pl.concat_list(edges).list.drop_nulls() if edges else pl.lit([], pl.List(pl.String))
    return placed.with_columns(edge=edge).select(*best.columns, "edge")
