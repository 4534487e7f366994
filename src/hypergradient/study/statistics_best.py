"""The best configuration of each schedule, and which schedule wins. Functions here only compute.

A configuration is a method with all its hyperparameters. It is chosen by the arithmetic mean of its
final training loss over all seeds, so its own luck is averaged; curves and tests are on log10 of
the loss, as everywhere.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import polars as pl
from scipy.special import stdtr, stdtrit

from hypergradient.study.analyse import tuned
from hypergradient.study.statistics import CONFIDENCE, LOSSES, SMALLEST, half_width
from hypergradient.study.statistics_pairs import (
    HYPERGRADIENT,
    complete,
    hyperparameters,
    lines,
    rank_of_base,
)

SETTING: Final = ("task", "base", "method", "schedule")
"""What the best configuration is chosen for."""

LEVEL: Final = 0.05
"""A difference with a smaller p-value, ..."""

MARGIN: Final = 1.1
"""... and of more than this factor, is called better or worse, any other one comparable."""

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
    chosen = tuned(runs, dict.fromkeys(names, "nuisance"), _CHOSEN_BY).filter("complete")
    bases = runs.select(SETTING).unique(maintain_order=True)
    return bases.join(
        chosen.rename({"mean": "loss"}),
        on=["task", "method", "schedule"],
        maintain_order="left",
    ).select(*SETTING, *names, "loss", "seeds", "edge")


def best_runs(runs: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """The runs of the configurations that `best_configurations` chose."""
    keys = [*SETTING, *hyperparameters(runs)]
    keys = [name for name in keys if name in chosen.columns]
    return lines(runs).join(
        chosen.select(keys), on=keys, how="semi", nulls_equal=True, maintain_order="left"
    )


def recommended_and_tuned(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs of each hypergradient method as recommended, and as tuned on the grid.

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
    """The losses of the best configurations over the epochs, with intervals over seeds.

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
    """Each seed's loss over the epochs, a row a run, metric and epoch, in `value`."""
    joined = best.select("run_id", *SETTING, "seed").join(
        epochs.select("run_id", "epoch", *LOSSES), on="run_id", maintain_order="left"
    )
    return (
        joined.unpivot(
            [*LOSSES], index=[*SETTING, "seed", "epoch"], variable_name="metric", value_name="value"
        )
        .drop_nulls("value")
        .with_columns(pl.col("value").clip(SMALLEST))
    )


def verdicts(best: pl.DataFrame) -> pl.DataFrame:
    """Compare hypergradient descent with every other schedule of its base optimizer.

    Student's paired t-test over seeds on the log10 of the final loss; pairs share their initial
    weights and batches.

    Args:
        best: From `best_runs`.

    Returns:
        One row a task, base optimizer, metric and `rival` (the other schedule): `pairs`, the
        geometric mean `ratio` of hypergradient descent's loss to the rival's with its interval
        `low`, `high`, the p-value `p` and the `verdict`: "better" or "worse" (by `LEVEL` and
        `MARGIN`), "comparable", or "undecided" with fewer than two pairs.
    """
    finals = best.unpivot(
        [f"{metric}_final" for metric in LOSSES],
        index=["task", "base", "schedule", "seed"],
        variable_name="metric",
    ).with_columns(
        pl.col("metric").str.strip_suffix("_final"), pl.col("value").clip(SMALLEST).log10()
    )
    adaptive = finals.filter(schedule=HYPERGRADIENT).drop("schedule")
    rivals = finals.filter(pl.col("schedule") != HYPERGRADIENT).rename({"schedule": "rival"})
    pairs = rivals.join(
        adaptive, on=["task", "base", "metric", "seed"], suffix="_hd", maintain_order="left"
    ).with_columns(difference=pl.col("value_hd") - pl.col("value"))
    keys = ("task", "base", "metric", "rival")
    rows = [
        dict(zip(keys, part.select(keys).row(0), strict=True))
        | paired_test(part["difference"].drop_nulls().to_numpy())
        for part in pairs.partition_by(keys, maintain_order=True)
    ]
    schema = dict.fromkeys(keys, pl.String) | _TEST
    return pl.DataFrame(rows, schema)


def paired_test(differences: np.ndarray) -> dict[str, float | int | str | None]:
    """Student's paired t-test that differences of log10 losses are 0 on average.

    Args:
        differences: One a pair.

    Returns:
        `pairs`, `ratio`, `low`, `high`, `p` and `verdict`, as in `verdicts`.
    """
    count = len(differences)
    center = float(np.mean(differences)) if count else None
    answer: dict[str, float | int | str | None] = {
        "pairs": count,
        "ratio": None if center is None else 10**center,
        "low": None,
        "high": None,
        "p": None,
        "verdict": "undecided",
    }
    if center is None or count < 2:  # noqa: PLR2004
        return answer
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    half = error * stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    if error > 0:
        p = float(2 * stdtr(count - 1, -abs(center) / error))
    else:
        p = 1.0 if center == 0 else 0.0
    clear = p < LEVEL and abs(center) > math.log10(MARGIN)
    return answer | {
        "low": 10 ** (center - half),
        "high": 10 ** (center + half),
        "p": p,
        "verdict": ("better" if center < 0 else "worse") if clear else "comparable",
    }


def tally(table: pl.DataFrame) -> pl.DataFrame:
    """Count the verdicts: one row a metric and rival.

    Args:
        table: From `verdicts`.

    Returns:
        The counts, with `settings` in all, and the `lowest` and the `highest` ratio of the losses.
    """
    counts = {
        verdict: (pl.col("verdict") == verdict).sum()
        for verdict in ("better", "comparable", "worse", "undecided")
    }
    return table.group_by("metric", "rival", maintain_order=True).agg(
        **counts,
        settings=pl.len(),
        lowest=pl.col("ratio").min(),
        highest=pl.col("ratio").max(),
    )


_TEST = {
    "pairs": pl.Int64,
    "ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "verdict": pl.String,
}
