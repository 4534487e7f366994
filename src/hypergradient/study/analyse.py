"""Records to tables: ``runs``, a row a run, and ``epochs``, a row a run and epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hypergradient.study.spec import Run, Study
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
}

IDENTITY_SCHEMA = {"run_id": pl.String, "study": pl.String, "task": pl.String, "method": pl.String}
SETTINGS_SCHEMA = {
    "seed": pl.Int64,
    "epochs": pl.Int64,
    "batch_size": pl.Int64,
    "weight_decay": pl.Float64,
}


def tables(study: Study, store: Store) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the tables ``runs`` and ``epochs`` of a study's finished runs.

    ``runs`` has a column for each hyperparameter of the study, null where it does not apply.
    Values that are not finite are null, never NaN.
    """
    finished = [(run, status) for run in study.runs() if (status := store.status(run))]
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
        run_rows.append({"study": study.name} | run_row(run, status, records))
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


def write_tables(runs: pl.DataFrame, epochs: pl.DataFrame, folder: Path) -> None:
    """Write ``runs`` and ``epochs`` into ``folder``, each as Parquet and CSV."""
    for name, table in (("runs", runs), ("epochs", epochs)):
        for suffix, write in ((".parquet", table.write_parquet), (".csv", table.write_csv)):
            partial = folder / f"{name}{suffix}.partial"
            write(partial)
            partial.replace(folder / f"{name}{suffix}")
