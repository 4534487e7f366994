"""The best values of nuisance hyperparameters for each scientific setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping


def tuned(
    runs: pl.DataFrame, roles: Mapping[str, str], metric: str = "train_loss_final"
) -> pl.DataFrame:
    """Select the best values of the nuisance hyperparameters for each scientific setting.

    The best have the best mean of ``metric`` over all seeds. Values at which some seed has none,
    as it diverged, failed or is not trained yet, are not chosen while others have it.

    Args:
        runs: A row a run, of ``collect``.
        roles: Of each hyperparameter: "scientific", "nuisance" or "fixed"; ``Study.all_roles()``.
        metric: A column of ``runs``; the largest mean is best for accuracies, else the least.

    Returns:
        A row for each task, method, schedule and scientific setting of which something can be
        chosen, in the order of ``runs``: the columns of these and of the nuisance
        hyperparameters, ``mean`` and ``seeds`` (how many it is over), ``complete`` (no seed is
        missing), and ``edge``, a list of the nuisance hyperparameters whose best value is the
        least or the largest of several numbers that were tried.
    """
    named = [name for name in roles if name in runs.columns]
    nuisance = [name for name in named if roles[name] == "nuisance"]
    group = ["task", "method", "schedule", *(name for name in named if name not in nuisance)]
    wanted = runs.group_by("task", maintain_order=True).agg(wanted=pl.col("seed").n_unique())
    value = pl.when(pl.col("status") == "done").then(pl.col(metric))
    settings = (
        runs.group_by(*group, *nuisance, maintain_order=True)
        .agg(mean=value.drop_nulls().mean(), seeds=value.count())
        .join(wanted, on="task", maintain_order="left")
        .with_columns(complete=pl.col("seeds") == pl.col("wanted"))
        .drop("wanted")
    )
    descending = "accuracy" in metric
    best = (
        settings.drop_nulls("mean")
        .sort("complete", "mean", descending=[True, descending], maintain_order=True)
        .group_by(group, maintain_order=True)
        .first()
    )
    order = settings.select(group).unique(maintain_order=True)
    best = order.join(best, on=group, nulls_equal=True, maintain_order="left").drop_nulls("mean")
    numeric = [name for name in nuisance if settings.schema[name].is_numeric()]
    ranges = settings.group_by(group).agg(
        *(pl.col(name).min().alias(f"{name} least") for name in numeric),
        *(pl.col(name).max().alias(f"{name} largest") for name in numeric),
    )
    placed = best.join(ranges, on=group, nulls_equal=True, maintain_order="left")
    edges = [
        pl.when(
            pl.col(f"{name} least") < pl.col(f"{name} largest"),
            (pl.col(name) == pl.col(f"{name} least")) | (pl.col(name) == pl.col(f"{name} largest")),
        ).then(pl.lit(name))
        for name in numeric
    ]
    edge = pl.concat_list(edges).list.drop_nulls() if edges else pl.lit([], pl.List(pl.String))
    return placed.with_columns(edge=edge).select(*best.columns, "edge")
