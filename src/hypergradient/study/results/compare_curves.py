"""What the figure "compare" draws: every metric over the training, and at its end."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from hypergradient.study.results.compare import contest, setting
from hypergradient.study.results.intervals import SMALLEST, half_width
from hypergradient.study.results.pairs import complete, short_method
from hypergradient.study.results.schema import ACCURACY_LABELS, LOSS_LABELS
from hypergradient.study.train.records import METRIC_PREFIX

ENTRY: Final = ("task", "method", "name", "schedule", "setting", "lr", "adaptive")
"""What identifies a line."""


def metrics_of(epochs: pl.DataFrame) -> dict[str, str]:
    """Return the metrics that there are, and their labels: losses, accuracies, a person's own."""
    own = {
        name: name.removeprefix(METRIC_PREFIX)
        for name in epochs.columns
        if name.startswith(METRIC_PREFIX)
    }
    named = {"valid_loss": LOSS_LABELS["valid_loss"]} | LOSS_LABELS | ACCURACY_LABELS | own
    trained = epochs.filter(pl.col("epoch") > 0)
    return {name: label for name, label in named.items() if trained[name].count() > 0}


def over_training(runs: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Average metrics, rates and times over seeds.

    Returns:
        One row an entry and epoch: the columns of ``ENTRY``, ``epoch``, ``step``, ``seconds``
        (since the start), ``lr_mean`` (null before the first step), and each metric: the
        geometric mean of losses that are all positive, else the arithmetic one; null from where a
        seed has none. ``is_best`` is whether the entry is its method's best.
    """
    done = complete(runs).with_columns(setting(runs), name=short_method())
    metrics = metrics_of(epochs)
    joined = (
        done.select("run_id", *ENTRY)
        .join(epochs, on="run_id", maintain_order="left")
        .with_columns(
            pl.col("seconds").cum_sum().over("run_id"),
            lr_mean=pl.when(pl.col("step") > 0).then("lr_mean"),
            seeds=pl.col("run_id").n_unique().over(ENTRY),
        )
    )
    everyone = pl.col("seeds").first()
    means = {name: pl.when(pl.len() == everyone).then(_mean(name, joined)) for name in metrics}
    curves = joined.group_by(*ENTRY, "epoch", maintain_order=True).agg(
        pl.col("step").max(), pl.col("seconds", "lr_mean").mean(), **means
    )
    best = pl.DataFrame(
        [
            {key: row[key] for key in ("task", "method", "schedule", "setting")}
            for row in contest(runs)
        ]
    )
    keys = best.columns
    return curves.join(best.with_columns(is_best=True), on=keys, how="left", maintain_order="left")


def _mean(name: str, table: pl.DataFrame) -> pl.Expr:
    if name in LOSS_LABELS and table.select((pl.col(name) > 0).all()).item():
        value = 10 ** pl.col(name).clip(SMALLEST).log10().mean()
    else:
        value = pl.col(name).mean()
    return pl.when(pl.col(name).null_count() == 0).then(value)


def at_the_end(runs: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Return each entry's metrics after the last epoch.

    Returns:
        One row an entry and metric: ``mean``, its 95% interval ``low``, ``high`` (null with one
        seed), ``values`` (one a seed), ``runs`` and ``diverged``. All but the last two are of the
        runs that did not diverge, and the interval is null where one did.
    """
    done = complete(runs).with_columns(setting(runs), name=short_method())
    last = epochs.group_by("run_id", maintain_order=True).last()
    joined = done.select("run_id", "status", *ENTRY).join(last, on="run_id", maintain_order="left")
    parts = [_ends(joined, name) for name in metrics_of(epochs)]
    return pl.concat(parts) if parts else pl.DataFrame()


def _ends(joined: pl.DataFrame, name: str) -> pl.DataFrame:
    log = name in LOSS_LABELS and bool(joined.select((pl.col(name) > 0).all()).item())
    value = pl.when(pl.col("status") == "done").then(pl.col(name))
    scaled = value.clip(SMALLEST).log10() if log else value
    table = joined.group_by(*ENTRY, maintain_order=True).agg(
        values=value.drop_nulls(),
        centre=scaled.mean(),
        spread=scaled.std(),
        finite=value.count(),
        runs=pl.len(),
        diverged=(pl.col("status") == "diverged").sum(),
    )
    half = pl.when(pl.col("diverged") == 0).then(half_width(table["finite"], table["spread"]))
    ends = {
        "mean": pl.col("centre"),
        "low": pl.col("centre") - half,
        "high": pl.col("centre") + half,
    }
    return table.select(
        *ENTRY,
        pl.lit(name).alias("metric"),
        **{key: 10**end if log else end for key, end in ends.items()},
        values="values",
        runs="runs",
        diverged="diverged",
    )


def rows_of_table(runs: pl.DataFrame, epochs: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of ``contest``, each with ``ends``: its final metrics by name."""
    ends = at_the_end(runs, epochs)
    rows = []
    for row in contest(runs):
        keys = {key: row[key] for key in ("task", "method", "schedule", "setting")}
        own = ends.filter(**keys)
        rows.append(row | {"ends": dict(own.select("metric", "mean").iter_rows())})
    return rows
