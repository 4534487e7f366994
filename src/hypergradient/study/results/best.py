"""The best configuration of each schedule. Functions here only compute.

A configuration is a method with all its hyperparameters. It is chosen by the arithmetic mean of its
final training loss over all seeds, so its own luck is averaged; curves and tests are on log10 of
the loss, as everywhere.
"""

from __future__ import annotations

import polars as pl

from hypergradient.study.results.intervals import SMALLEST, half_width
from hypergradient.study.results.pairs import (
    complete,
    hyperparameters,
    lines,
    rank_of_base,
)
from hypergradient.study.results.schema import LOSS_LABELS
from hypergradient.study.results.tuned import SETTING, tuned

_CHOSEN_BY = "train_loss_final"


def best_configurations(runs: pl.DataFrame) -> pl.DataFrame:
    """Choose each schedule's hyperparameters, for each task and base optimizer.

    Configurations of which a seed diverged, or is still to be run, are not chosen.

    Args:
        runs: One row a run.

    Returns:
        One row a setting (`SETTING`) with the chosen value of each hyperparameter, `loss` (the mean
        final training loss), `seeds`, and `edge`: a list of the hyperparameters whose chosen value
        is the lowest or the highest of those tried.
    """
    runs = lines(runs).with_columns(pl.when(pl.col("status") == "done").then(_CHOSEN_BY))
    names = hyperparameters(runs)
    chosen = tuned(runs, names, _CHOSEN_BY).filter("complete")
    bases = runs.select(SETTING).unique(maintain_order=True)
    return bases.join(
        chosen.rename({"mean": "loss"}),
        on=SETTING,
        maintain_order="left",
    ).select(*SETTING, *names, "loss", "seeds", "edge")


def best_runs(runs: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """Return the runs of the configurations that `best_configurations` chose."""
    keys = [*SETTING, *hyperparameters(runs)]
    keys = [name for name in keys if name in chosen.columns]
    return lines(runs).join(
        chosen.select(keys), on=keys, how="semi", nulls_equal=True, maintain_order="left"
    )


def recommended_and_tuned(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the runs of each adaptive method as recommended, and as tuned on the grid.

    Args:
        runs: One row a run; a method's first configuration is the recommended one.

    Returns:
        Rows of `runs` as `complete` returns them, with a `schedule` of "recommended" or "tuned". A
        run is there twice if the recommended configuration is also the best.
    """
    runs = complete(runs).filter("adaptive")
    names = hyperparameters(runs)
    keys = ["task", "method"]
    first = runs.group_by(keys, maintain_order=True).agg(pl.col(names).first())
    recommended = runs.join(
        first, on=[*keys, *names], how="semi", nulls_equal=True, maintain_order="left"
    )
    tuned_runs = best_runs(runs, best_configurations(runs)).select(runs.columns)
    return pl.concat(
        [
            recommended.with_columns(schedule=pl.lit("recommended")),
            tuned_runs.with_columns(schedule=pl.lit("tuned")),
        ]
    ).sort("task", rank_of_base(), "base", maintain_order=True)


def best_curves(best: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Average the losses of the best configurations over seeds, for each epoch.

    Args:
        best: From `best_runs`.
        epochs: One row a run and epoch.

    Returns:
        One row a setting, metric and epoch: the geometric `mean` over `seeds` and its interval
        `low`, `high`, null for a single seed.
    """
    table = (
        seed_curves(best, epochs)
        .group_by(*SETTING, "metric", "epoch", maintain_order=True)
        .agg(
            seeds=pl.col("value").count(),
            center=pl.col("value").log10().mean(),
            spread=pl.col("value").log10().std(),
        )
    )
    half = half_width(table["seeds"], table["spread"])
    return table.select(
        *SETTING,
        "metric",
        "epoch",
        "seeds",
        mean=10 ** pl.col("center"),
        low=10 ** (pl.col("center") - half),
        high=10 ** (pl.col("center") + half),
    )


def seed_curves(best: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Return each seed's loss over the epochs: a row a run, metric and epoch, with `value`."""
    joined = best.select("run_id", *SETTING, "seed").join(
        epochs.select("run_id", "epoch", *LOSS_LABELS), on="run_id", maintain_order="left"
    )
    return (
        joined.unpivot(
            [*LOSS_LABELS],
            index=[*SETTING, "seed", "epoch"],
            variable_name="metric",
            value_name="value",
        )
        .drop_nulls("value")
        .with_columns(pl.col("value").clip(SMALLEST))
    )
