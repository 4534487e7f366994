"""From toy to network: what constant, scalar and element-wise rates reach with the same tuning.

``python -m hypergradient.study.results.network RESULTS`` reads the folder that ``hypergradient
run`` of one of the studies ``network-digits`` and ``network-mnist`` has filled, and prints the
comparison and what the best settings say of beta.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import polars as pl
from scipy.special import stdtrit

from hypergradient.study.errors import StudyError
from hypergradient.study.results.intervals import SMALLEST

KEYS = ("base", "rate")

LOSS = "train_loss_final"

NAMES = {"SGD": "GD", "SGDM": "GDM", "SGDN": "NAG", "Adam": "Adam"}
"""What Fischer (2020) calls the base optimizers."""

RATES = {"constant": "constant", "group": "one rate", "element": "element-wise"}


def label(runs: pl.DataFrame) -> pl.DataFrame:
    """Call ``base`` GD, GDM, NAG or Adam, and add ``rate`` and ``setting`` to ``runs``.

    Raises:
        StudyError: The table is of an earlier version, which did not record the base.
    """
    if "base" not in runs.columns:
        raise StudyError("runs.parquet is of an earlier version: run `hypergradient report` again")
    return runs.with_columns(
        base=pl.col("base").replace_strict(NAMES),
        rate=pl.col("granularity").fill_null("constant").replace_strict(RATES),
        setting=pl.struct("lr", pl.col("hypergrad_lr").fill_null(0.0)),
        log_loss=pl.when(pl.col("status") == "done").then(pl.col(LOSS).clip(SMALLEST).log10()),
    )


def chosen(runs: pl.DataFrame) -> pl.DataFrame:
    """Choose each seed's setting by the other seeds, so that no seed is both judge and judged.

    Args:
        runs: From `label`.

    Returns:
        The rows of ``runs`` whose setting has the lowest geometric mean of the final training loss
        over the other seeds, among those with which none of them diverged: one a base, rate and
        seed.
    """
    own = runs.select(*KEYS, "setting", "seed")
    others = runs.select(*KEYS, "setting", other="seed", loss="log_loss")
    judged = (
        own.join(others, on=[*KEYS, "setting"])
        .filter(pl.col("seed") != pl.col("other"))
        .group_by(*KEYS, "setting", "seed")
        .agg(mean=pl.col("loss").mean(), sound=pl.col("loss").is_not_null().all())
        .filter("sound")
        .sort("mean", "setting")
        .group_by(*KEYS, "seed")
        .first()
    )
    return runs.join(judged.select(*KEYS, "setting", "seed"), on=[*KEYS, "setting", "seed"])


def compare(runs: pl.DataFrame) -> pl.DataFrame:
    """Return a row a base and rate: losses, accuracy, ratio to the constant rate, what diverged.

    Args:
        runs: From `label`.

    Returns:
        ``loss`` is the geometric mean over seeds of the final training loss, ``ratio`` its ratio to
        the constant rate's loss of the same seed, each with the ends of its 95 % Student-t
        interval, null where one of the chosen runs diverged, of which there are ``lost``;
        ``setting`` is the one most often chosen.
    """
    picked = chosen(runs)
    constant = picked.filter(rate="constant").select("base", "seed", base_loss="log_loss")
    paired = picked.join(constant, on=["base", "seed"]).with_columns(
        log_ratio=pl.col("log_loss") - pl.col("base_loss")
    )
    table = paired.group_by(KEYS).agg(
        *_geometric("log_loss", "loss"),
        *_geometric("log_ratio", "ratio"),
        valid_loss=10 ** pl.col("valid_loss_final").clip(SMALLEST).log10().mean(),
        accuracy=pl.col("valid_accuracy_final").mean(),
        setting=pl.col("setting").mode().sort().first(),
        seeds=pl.len(),
        lost=pl.col("log_loss").is_null().sum(),
    )
    tried = runs.group_by(KEYS).agg(
        settings=pl.col("setting").n_unique(),
        diverged=(pl.col("status") == "diverged").sum(),
        runs=pl.len(),
    )
    return (
        table.with_columns(*_undo_log(table, "loss"), *_undo_log(table, "ratio"))
        .join(tried, on=KEYS)
        .with_columns(pl.col("base").cast(pl.Enum(["GD", "GDM", "NAG", "Adam"])))
        .with_columns(pl.col("rate").cast(pl.Enum(list(RATES.values()))))
        .sort(KEYS)
    )


def _geometric(column: str, name: str) -> list[pl.Expr]:
    """Return a column's mean and its standard error, both null if any value is null."""
    values = pl.col(column)
    all_there = values.is_not_null().all()
    error = values.std() / pl.len().sqrt()
    return [
        pl.when(all_there).then(values.mean()).alias(name),
        pl.when(all_there).then(error).alias(f"{name}_error"),
    ]


def _undo_log(table: pl.DataFrame, name: str) -> list[pl.Expr]:
    """Return a geometric mean and the ends of its 95 % interval, from what `_geometric` gives."""
    quantiles = stdtrit((table["seeds"] - 1).clip(1).to_numpy(), 0.975)
    half = pl.col(f"{name}_error") * pl.Series(quantiles)
    return [
        (10 ** pl.col(name)).alias(name),
        (10 ** (pl.col(name) - half)).alias(f"{name}_low"),
        (10 ** (pl.col(name) + half)).alias(f"{name}_high"),
    ]


def main() -> None:
    """Print the comparison as a Markdown table."""
    runs = label(pl.read_parquet(Path(sys.argv[1]) / "runs.parquet"))
    print(
        "| method | rate | training loss | ratio to the constant rate | validation loss "
        "| accuracy | α, β | diverged |\n|---|---|---|---|---|---|---|---|"
    )
    for row in compare(runs).iter_rows(named=True):
        lost = f"{row['lost']} of {row['seeds']} diverged"
        loss, ratio = (_text(row, name) or lost for name in ("loss", "ratio"))
        alpha, beta = row["setting"]["lr"], row["setting"]["hypergrad_lr"]
        print(
            f"| {row['base']} | {row['rate']} | {loss} | {ratio} | {row['valid_loss']:.3g} "
            f"| {row['accuracy']:.2%} | {alpha:g}, {beta:g} "
            f"| {row['diverged']} of {row['runs']} |"
        )


def _text(row: dict[str, Any], name: str) -> str | None:
    values = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    if None in values:
        return None
    return "{:.2g} [{:.2g}, {:.2g}]".format(*values)


if __name__ == "__main__":
    main()
