"""Records to tables: ``runs``, a row a run, and ``epochs``, a row a run and epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hypergradient.study.spec import Run, Study, Until
    from hypergradient.study.store import Store

METRICS = {"train_loss": min, "valid_loss": min, "train_accuracy": max, "valid_accuracy": max}
"""Each metric and which of its values is the best."""

EPOCHS_SCHEMA = {
    "run_id": pl.String,
    "epoch": pl.Int64,
    "step": pl.Int64,
    "train_loss": pl.Float64,
    "train_accuracy": pl.Float64,
    "valid_loss": pl.Float64,
    "valid_accuracy": pl.Float64,
    "lr_mean": pl.Float64,
    "lr_min": pl.Float64,
    "lr_max": pl.Float64,
    "seconds": pl.Float64,
}

STATUS_SCHEMA = {
    "status": pl.String,
    "diverged_at_step": pl.Int64,
    "target_loss": pl.Float64,
    "max_steps": pl.Int64,
    "steps_to_target": pl.Int64,
    "censored": pl.Boolean,
    **{
        f"{metric}_{which}": dtype
        for metric in METRICS
        for which, dtype in (("final", pl.Float64), ("best", pl.Float64), ("best_epoch", pl.Int64))
    },
    "wall_seconds": pl.Float64,
    "init_hash": pl.String,
    "torch": pl.String,
    "python": pl.String,
    "platform": pl.String,
    "threads": pl.Int64,
    "engine": pl.String,
}

IDENTITY_SCHEMA = {"run_id": pl.String, "study": pl.String, "task": pl.String, "method": pl.String}
SETTINGS_SCHEMA = {
    "schedule": pl.String,
    "scale": pl.String,
    "seed": pl.Int64,
    "epochs": pl.Int64,
    "batch_size": pl.Int64,
    "weight_decay": pl.Float64,
    "train_examples": pl.Int64,
    "valid_examples": pl.Int64,
    "decay_epochs": pl.Int64,
}


def tables(study: Study, store: Store) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the tables ``runs`` and ``epochs`` of a study's finished runs that are not damaged.

    ``runs`` has a column for each hyperparameter of the study, null where it does not apply.
    Values that are not finite are null, never NaN. ``train_examples`` and ``valid_examples`` are
    null where all are used, ``decay_epochs`` where the schedule is not lr-decay. In a study of
    iterations to convergence, ``steps_to_target`` is the first step, from 1, whose minibatch loss
    was at most ``target_loss``; it is null where that had not come after ``max_steps`` updates,
    the last epoch or divergence, and ``censored`` is then true. In other studies all four are
    null.
    """
    finished = [
        (run, status)
        for run in study.runs()
        if (status := store.status(run)) and (status["state"] == "failed" or store.whole(run))
    ]
    hypers = {key: value for run, _ in finished for key, value in run.hyper.items()} | {"lr": 0.0}
    schema = {
        **IDENTITY_SCHEMA,
        **{
            key: pl.Float64 if isinstance(value, float) else pl.String
            for key, value in sorted(hypers.items())
        },
        **SETTINGS_SCHEMA,
        **STATUS_SCHEMA,
    }
    run_rows, epoch_rows = [], []
    for run, status in finished:
        records = store.records(run)
        epoch_rows += [{"run_id": run.id} | record for record in records]
        run_rows.append({"study": study.name, "scale": study.scale} | run_row(run, status, records))
    return (
        pl.DataFrame([{key: row.get(key) for key in schema} for row in run_rows], schema),
        pl.DataFrame(
            [{key: row.get(key) for key in EPOCHS_SCHEMA} for row in epoch_rows], EPOCHS_SCHEMA
        ),
    )


def run_row(run: Run, status: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a run's row of ``runs``; the best epochs leave out epoch 0, before training."""
    row = {
        "run_id": run.id,
        **{
            key: value if isinstance(value, float) else str(value)
            for key, value in run.hyper.items()
        },
        **run.model_dump(include={"task", "method", *SETTINGS_SCHEMA}),
        "status": status["state"],
        **({} if run.until is None else until_columns(run.until, status)),
        **{key: status.get(key) for key in STATUS_SCHEMA if key in status},
    }
    trained = [record for record in records if record["epoch"] > 0]
    for metric, best in METRICS.items():
        values = [(record[metric], record["epoch"]) for record in trained]
        finite = [(value, epoch) for value, epoch in values if value is not None]
        if values:
            row[f"{metric}_final"] = values[-1][0]
        if finite:
            value = best(value for value, _ in finite)
            row[f"{metric}_best"] = value
            row[f"{metric}_best_epoch"] = next(epoch for other, epoch in finite if other == value)
    return row


def until_columns(until: Until, status: dict[str, Any]) -> dict[str, Any]:
    """Return what a run that ends at a loss was to reach, and whether it did not."""
    return {
        "target_loss": until.minibatch_loss,
        "max_steps": until.max_steps,
        "censored": status["state"] != "failed" and status.get("steps_to_target") is None,
    }


def tuned(
    runs: pl.DataFrame, roles: Mapping[str, str], metric: str = "train_loss_final"
) -> pl.DataFrame:
    """Select the best values of the nuisance hyperparameters for each scientific setting.

    The best have the best mean of ``metric`` over all seeds. Values at which some seed has none,
    as it diverged, failed or is not trained yet, are not chosen while others have it.

    Args:
        runs: A row a run, of ``tables``.
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


def write_tables(runs: pl.DataFrame, epochs: pl.DataFrame, folder: Path) -> None:
    """Write ``runs`` and ``epochs`` into ``folder``, each as Parquet and CSV."""
    for name, table in (("runs", runs), ("epochs", epochs)):
        for suffix, write in ((".parquet", table.write_parquet), (".csv", table.write_csv)):
            partial = folder / f"{name}{suffix}.partial"
            write(partial)
            partial.replace(folder / f"{name}{suffix}")
