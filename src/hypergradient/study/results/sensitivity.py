"""How the final loss depends on the initial learning rate. Functions here only compute.

Losses span decades, so their means and intervals are taken on log10: a mean is geometric and an
interval is Student's t at 95 % around it. A diverged run is a result: it is counted, it has no
loss, and no mean hides it.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import polars as pl

from hypergradient.study.results.intervals import SMALLEST, half_width
from hypergradient.study.results.pairs import SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

NEAR: Final = 2.0
"""A run is as good as the best where its loss is within this factor of it."""


def finals(paired: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Return the final loss of each run that has one: the columns of a series, lr, seed, value."""
    return (
        paired.filter(pl.col("status") == "done")
        .select(*SERIES, "lr", "seed", value=f"{metric}_final")
        .drop_nulls("value")
    )


def by_rate(
    paired: pl.DataFrame, metric: str, *, which: str = "final", series: Sequence[str] = SERIES
) -> pl.DataFrame:
    """Average the loss at each initial learning rate over seeds.

    Args:
        paired: What `pair` returns.
        metric: One of `LOSS_LABELS`.
        which: "final", or "best" for the lowest over training.
        series: The columns that identify a line.

    Returns:
        One row a series and learning rate: `runs`, `diverged` (how many of them), and of the
        others the geometric mean `mean` with its interval `low`, `high`. `mean` is null where
        all diverged, the interval where any did (it would speak of the survivors only) and
        where there is a single run.
    """
    loss = pl.col(f"{metric}_{which}").clip(SMALLEST)
    value = pl.when(pl.col("status") == "done").then(loss).log10()
    table = paired.group_by(*series, "lr", maintain_order=True).agg(
        runs=pl.len(),
        diverged=(pl.col("status") == "diverged").sum(),
        finite=value.count(),
        center=value.mean(),
        spread=value.std(),
    )
    half = pl.when(pl.col("diverged") == 0).then(half_width(table["finite"], table["spread"]))
    return table.with_columns(
        mean=10 ** pl.col("center"),
        low=10 ** (pl.col("center") - half),
        high=10 ** (pl.col("center") + half),
    ).drop("finite", "center", "spread")


def width(rates: Sequence[float], losses: Sequence[float | None], limit: float) -> float:
    """Return how many decades of the learning rate give a loss of at most `limit`.

    Between neighbours on the grid the loss is taken as linear on log-log axes; beside a rate that
    has no loss (null: it diverged) nothing is claimed.

    Args:
        rates: Learning rates, ascending and positive.
        losses: The loss at each, positive or None.
        limit: The largest loss that counts.

    Returns:
        A length in decades, 0 if no rate is good enough.
    """
    total = 0.0
    points = zip(rates, losses, strict=True)
    for (rate, loss), (next_rate, next_loss) in itertools.pairwise(points):
        if loss is None or next_loss is None or min(loss, next_loss) > limit:
            continue
        part = 1.0
        if (worse := max(loss, next_loss)) > limit:
            better = min(loss, next_loss)
            part = math.log(limit / better) / math.log(worse / better)
        total += part * math.log10(next_rate / rate)
    return total


def summary(sensitivities: pl.DataFrame) -> pl.DataFrame:
    """Summarise each method on each task, from the table of `by_rate`.

    Returns:
        One row a series: `best` loss and the rate `best_lr` that gave it; the loss `at_lowest`,
        that of `lowest_lr`, and `highest_lr`; `worst` finite loss;
        `width`, the decades of rates within a factor `NEAR` of the best loss of the *base*
        optimizer, and `tried`, the decades on the grid (null where fewer than two rates were tried
        or the base was not run); `at_edge`, whether it may go on outside the grid; `diverged` and
        `runs`. Rates at which any seed diverged count as neither best nor wide enough.
    """
    sound = pl.when(pl.col("diverged") == 0).then(pl.col("mean"))
    table = sensitivities.with_columns(sound=sound)
    best = table.group_by("task", "panel").agg(
        target=pl.col("sound").filter(~pl.col("adaptive")).min()
    )
    rows = []
    for part in table.partition_by(*SERIES, maintain_order=True):
        row = part.row(0, named=True)
        target = best.row(
            by_predicate=(pl.col("task") == row["task"]) & (pl.col("panel") == row["panel"]),
            named=True,
        )["target"]
        least = part.drop_nulls("sound").sort("sound").head(1)
        rows.append(
            {name: row[name] for name in SERIES}
            | {
                "best": least["sound"].first(),
                "best_lr": least["lr"].first(),
                "at_lowest": part["sound"].first(),
                "lowest_lr": part["lr"].first(),
                "highest_lr": part["lr"].last(),
                "worst": part["mean"].max(),
                **_reach(part.filter(pl.col("lr") > 0), target),
                "diverged": part["diverged"].sum(),
                "runs": part["runs"].sum(),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _reach(part: pl.DataFrame, target: float | None) -> dict[str, float | bool | None]:
    if target is None or part.height <= 1:
        return {"width": None, "tried": None, "at_edge": None}
    rates, losses = part["lr"].to_list(), part["sound"].to_list()
    limit = NEAR * target
    return {
        "width": width(rates, losses, limit),
        "tried": math.log10(rates[-1] / rates[0]),
        "at_edge": any(loss is not None and loss <= limit for loss in (losses[0], losses[-1])),
    }
