"""From the tables of runs and epochs to what figures show. Functions here only compute.

Losses span decades, so their means and intervals are taken on log10: a mean is geometric and an
interval is Student's t at 95 % around it. A diverged run is a result: it is counted, it has no
loss, and no mean hides it.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from scipy.special import stdtrit

from hypergradient.study.statistics_pairs import SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

LOSSES: Final = {"train_loss": "Training loss", "valid_loss": "Validation loss"}
"""The losses that are drawn, and what they are called on an axis."""

NEAR: Final = 2.0
"""A run is as good as the best where its loss is within this factor of it."""

CONFIDENCE: Final = 0.95
"""Of every interval."""

SMALLEST: Final = 1e-12
"""In place of 0, which has no logarithm: a float32 cross-entropy can be exactly that."""


def half_width(counts: pl.Series, spreads: pl.Series) -> pl.Series:
    """Half of Student's interval around a mean, null where there are fewer than two values.

    Args:
        counts: How many values each mean is of.
        spreads: Their standard deviations (dividing by n - 1).
    """
    several = pl.DataFrame({"n": counts, "s": spreads.cast(pl.Float64)})
    quantiles = stdtrit(np.maximum(counts.to_numpy() - 1, 1), (1 + CONFIDENCE) / 2)
    half = pl.Series(quantiles) * pl.col("s") / pl.col("n").sqrt()
    return several.select(half=pl.when(pl.col("n") > 1).then(half))["half"]


def finals(paired: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The final loss of each run that has one: the columns of a series, lr, seed and value."""
    return (
        paired.filter(pl.col("status") == "done")
        .select(*SERIES, "lr", "seed", value=f"{metric}_final")
        .drop_nulls("value")
    )


def sensitivity(
    paired: pl.DataFrame, metric: str, *, which: str = "final", series: Sequence[str] = SERIES
) -> pl.DataFrame:
    """The loss at each initial learning rate, over seeds.

    Args:
        paired: What `pair` returns.
        metric: One of `LOSSES`.
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


def curves(paired: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Losses and the learning rate over the epochs, each a mean over seeds.

    A mean over the seeds that happen to survive would jump when one diverges, so a value is null
    from the epoch on in which the first of its runs has none.

    Args:
        paired: What `pair` returns.
        epochs: One row a run and epoch.

    Returns:
        One row a series, learning rate and epoch: the losses' geometric means, `lr_mean` (the
        arithmetic mean), `runs` and `diverged` (runs of this line that diverge at some epoch).
    """
    line = (*SERIES, "lr")
    totals = paired.group_by(line).agg(
        runs=pl.len(), diverged=(pl.col("status") == "diverged").sum()
    )
    everyone = pl.col("runs").first()
    means = {loss: _geometric_mean(loss) for loss in LOSSES} | {"lr_mean": pl.col("lr_mean").mean()}
    return (
        paired.select("run_id", *line)
        .join(epochs, on="run_id", maintain_order="left")
        .join(totals, on=line, maintain_order="left")
        .group_by(*line, "epoch", maintain_order=True)
        .agg(
            **{
                name: pl.when(pl.col(name).count() == everyone).then(mean)
                for name, mean in means.items()
            },
            runs=everyone,
            diverged=pl.col("diverged").first(),
        )
    )


def ceilings(paired: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Where axes end, per task: `task`, one column a loss, and `lr_mean`.

    Ten times the loss before training: a loss above that has exploded. How far says nothing, and
    would flatten the rest of a figure. The same goes for rates of ten times the highest at which
    the training loss had not exploded.
    """
    tasks = paired.select("run_id", "task").unique()
    of_tasks = epochs.join(tasks, on="run_id")
    losses = (
        of_tasks.filter(pl.col("epoch") == 0)
        .group_by("task")
        .agg(pl.col(loss).median() * 10 for loss in LOSSES)
    )
    sound = of_tasks.join(losses, on="task").filter(
        pl.col("train_loss") <= pl.col("train_loss_right")
    )
    rates = sound.group_by("task").agg(pl.col("lr_mean").max() * 10)
    return losses.join(rates, on="task", how="left").sort("task")


def width(rates: Sequence[float], losses: Sequence[float | None], limit: float) -> float:
    """How many decades of the learning rate give a loss of at most `limit`.

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
    """What is to be said of each method on each task, from `sensitivity`'s table.

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


def beside_published(
    runs: pl.DataFrame, epochs: pl.DataFrame, published: pl.DataFrame
) -> pl.DataFrame:
    """Our losses beside published ones of the same method, rates and epoch.

    Args:
        runs: One row a run.
        epochs: One row a run and epoch.
        published: method ("sgd", "sgd_hd", ...), lr0, hypergrad_lr, epoch and the losses.

    Returns:
        task, method, metric, epoch, `ours` (geometric mean over seeds), `theirs`, `ratio`.
        Empty if no setting is the same.
    """
    setting = ("name", "lr", "hypergrad_lr")
    if "epoch" not in published.columns:  # numbers of another kind
        published = pl.DataFrame(schema=_PUBLISHED)
    theirs = published.select(
        "epoch",
        name="method",
        lr="lr0",
        hypergrad_lr=pl.when(pl.col("method").str.ends_with("_hd")).then("hypergrad_lr"),
        **{f"published_{loss}": loss for loss in LOSSES},
    )
    if "hypergrad_lr" not in runs.columns:
        runs = runs.with_columns(hypergrad_lr=pl.lit(None, pl.Float64))
    ours = (
        runs.filter(pl.col("status") == "done")
        .select("run_id", "task", "method", "lr", "hypergrad_lr")
        .with_columns(name=pl.col("method").str.to_lowercase().str.replace_all("-", "_"))
        .join(epochs, on="run_id")
        .group_by("task", "method", *setting, "epoch")
        .agg(**{loss: _geometric_mean(loss) for loss in LOSSES})
    )
    both = theirs.join(ours, on=[*setting, "epoch"], nulls_equal=True, maintain_order="left")
    return pl.concat(
        both.select(
            "task",
            "method",
            "epoch",
            metric=pl.lit(loss),
            ours=loss,
            theirs=f"published_{loss}",
            ratio=pl.col(loss) / pl.col(f"published_{loss}"),
        )
        for loss in LOSSES
    ).sort("task", maintain_order=True)


_PUBLISHED = {"method": pl.String, "epoch": pl.Int64} | dict.fromkeys(
    ("lr0", "hypergrad_lr", *LOSSES), pl.Float64
)


def _geometric_mean(loss: str) -> pl.Expr:
    return 10 ** pl.col(loss).clip(SMALLEST).log10().mean()


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
