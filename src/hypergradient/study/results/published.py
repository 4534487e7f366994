"""Our losses beside published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from hypergradient.study.errors import StudyError, as_one_line
from hypergradient.study.results.accuracy import NUMBERS as ACCURACIES
from hypergradient.study.results.intervals import geometric_mean
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def read_published(path: Path) -> pl.DataFrame:
    """Read published numbers, a CSV file beside a study.

    Raises:
        StudyError: It is no such file, in one line.
    """
    try:
        table = pl.read_csv(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise StudyError(f"{path}: the published numbers: {as_one_line(error)}") from error
    measured: Collection[str] = LOSS_LABELS if "epoch" in table.columns else ("iterations",)
    if "paper" in table.columns:
        measured = ACCURACIES
    numbers = ("lr0", "hypergrad_lr", *measured)
    if missing := [name for name in ("method", *numbers) if name not in table.columns]:
        raise StudyError(f"{path}: the published numbers have no column {', '.join(missing)}")
    for name in numbers:
        text = table[name].cast(pl.String).str.strip_chars().str.strip_prefix(">")
        try:
            values = text.cast(pl.Float64)
        except pl.exceptions.PolarsError:
            raise StudyError(
                f"{path}: the published numbers: {name} is no number somewhere"
            ) from None
        if name != "iterations":  # its > says that a time is censored
            table = table.with_columns(values.alias(name))
    return table.with_columns(pl.col("method").cast(pl.String))


def beside_published(
    runs: pl.DataFrame, epochs: pl.DataFrame, published: pl.DataFrame
) -> pl.DataFrame:
    """Put our losses beside published ones of the same method, rates and epoch.

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
        **{f"published_{loss}": loss for loss in LOSS_LABELS},
    )
    if "hypergrad_lr" not in runs.columns:
        runs = runs.with_columns(hypergrad_lr=pl.lit(None, pl.Float64))
    ours = (
        runs.filter(pl.col("status") == "done")
        .select("run_id", "task", "method", "lr", "hypergrad_lr")
        .with_columns(name=pl.col("method").str.to_lowercase().str.replace_all("-", "_"))
        .join(epochs, on="run_id")
        .group_by("task", "method", *setting, "epoch")
        .agg(**{loss: geometric_mean(loss) for loss in LOSS_LABELS})
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
        for loss in LOSS_LABELS
    ).sort("task", maintain_order=True)


_PUBLISHED = {"method": pl.String, "epoch": pl.Int64} | dict.fromkeys(
    ("lr0", "hypergrad_lr", *LOSS_LABELS), pl.Float64
)
