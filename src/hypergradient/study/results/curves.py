"""Losses and learning rates over the epochs, and where their axes end."""

from __future__ import annotations

import polars as pl

from hypergradient.study.results.intervals import geometric_mean
from hypergradient.study.results.pairs import SERIES
from hypergradient.study.results.schema import ACCURACY_LABELS, LOSS_LABELS


def over_epochs(paired: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Average losses and the learning rate over seeds, for each epoch.

    A mean over the seeds that happen to survive would jump when one diverges, so a value is null
    from the epoch on in which the first of its runs has none.

    Args:
        paired: What `pair` returns.
        epochs: One row a run and epoch.

    Returns:
        One row a series, learning rate and epoch: the losses' geometric means, the arithmetic ones
        of `lr_mean` and the accuracies, `step`, `seconds` (since the start, the mean), `runs` and
        `diverged` (runs of this line that diverge at some epoch).
    """
    line = (*SERIES, "lr")
    totals = paired.group_by(line).agg(
        runs=pl.len(), diverged=(pl.col("status") == "diverged").sum()
    )
    everyone = pl.col("runs").first()
    means = {loss: geometric_mean(loss) for loss in LOSS_LABELS} | {
        name: pl.col(name).mean() for name in ("lr_mean", *ACCURACY_LABELS)
    }
    epochs = epochs.with_columns(pl.col("seconds").cum_sum().over("run_id"))
    # A method that takes no rate has none before its first step.
    rate = pl.when(pl.col("lr").is_not_null() | (pl.col("epoch") > 0)).then("lr_mean")
    return (
        paired.select("run_id", *line)
        .join(epochs, on="run_id", maintain_order="left")
        .with_columns(lr_mean=rate)
        .join(totals, on=line, maintain_order="left", nulls_equal=True)
        .group_by(*line, "epoch", maintain_order=True)
        .agg(
            **{
                name: pl.when(pl.col(name).count() == everyone).then(mean)
                for name, mean in means.items()
            },
            step=pl.col("step").max(),
            seconds=pl.col("seconds").mean(),
            runs=everyone,
            diverged=pl.col("diverged").first(),
        )
    )


def ceilings(paired: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Return where axes end, per task: `task`, one column a loss, and `lr_mean`.

    Ten times the loss before training: a loss above that has exploded. How far says nothing, and
    would flatten the rest of a figure. The same goes for rates of ten times the highest at which
    the training loss had not exploded.
    """
    tasks = paired.select("run_id", "task").unique()
    of_tasks = epochs.join(tasks, on="run_id")
    losses = (
        of_tasks.filter(pl.col("epoch") == 0)
        .group_by("task")
        .agg(pl.col(loss).median() * 10 for loss in LOSS_LABELS)
    )
    sound = of_tasks.join(losses, on="task").filter(
        pl.col("train_loss") <= pl.col("train_loss_right")
    )
    rates = sound.group_by("task").agg(pl.col("lr_mean").max() * 10)
    return losses.join(rates, on="task", how="left").sort("task")
