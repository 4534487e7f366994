"""Which schedule wins: paired tests over seeds, and the count of their verdicts."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import polars as pl
from scipy.special import stdtr, stdtrit

from hypergradient.study.results.intervals import CONFIDENCE, SMALLEST
from hypergradient.study.results.pairs import (
    HYPERGRADIENT,
    rival,
)
from hypergradient.study.results.schema import LOSS_LABELS

LEVEL: Final = 0.05
"""A difference with a smaller p-value, ..."""

MARGIN: Final = 1.1
"""... and of more than this factor, is called better or worse, any other one comparable."""


def verdicts(best: pl.DataFrame) -> pl.DataFrame:
    """Compare hypergradient descent with every rival of the same base optimizer.

    Student's paired t-test over seeds on the log10 of the final loss; pairs share their initial
    weights and batches.

    Args:
        best: From `best_runs`.

    Returns:
        One row a task, base optimizer, metric and `rival` (another schedule, or another method that
        adapts its rate): `pairs`, the geometric mean `ratio` of hypergradient descent's loss to the
        rival's with its interval `low`, `high`, the p-value `p` and the `verdict`: "better" or
        "worse" (by `LEVEL` and `MARGIN`), "comparable", or "undecided" with fewer than two pairs.
    """
    finals = (
        best.with_columns(rival=rival())
        .unpivot(
            [f"{metric}_final" for metric in LOSS_LABELS],
            index=["task", "base", "schedule", "rival", "seed"],
            variable_name="metric",
        )
        .with_columns(
            pl.col("metric").str.strip_suffix("_final"), pl.col("value").clip(SMALLEST).log10()
        )
    )
    adaptive = finals.filter(schedule=HYPERGRADIENT).drop("schedule")
    rivals = finals.filter(pl.col("schedule") != HYPERGRADIENT)
    # Where a base has several methods of hypergradient descent, each is compared on its own.
    named = pl.when(pl.col("rival_hd") != HYPERGRADIENT).then("rival_hd")
    pairs = rivals.join(
        adaptive, on=["task", "base", "metric", "seed"], suffix="_hd", maintain_order="left"
    ).with_columns(
        difference=pl.col("value_hd") - pl.col("value"),
        base=pl.concat_str("base", pl.concat_str(pl.lit(", "), named), ignore_nulls=True),
    )
    keys = ("task", "base", "metric", "rival")
    rows = [
        dict(zip(keys, part.select(keys).row(0), strict=True))
        | paired_test(part["difference"].drop_nulls().to_numpy())
        for part in pairs.partition_by(keys, maintain_order=True)
    ]
    schema = dict.fromkeys(keys, pl.String) | _TEST
    return pl.DataFrame(rows, schema)


def paired_test(differences: np.ndarray) -> dict[str, float | int | str | None]:
    """Make Student's paired t-test that differences of log10 losses are 0 on average.

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
