"""Records to tables: ``runs``, a row a run, and ``epochs``, a row a run and epoch."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import polars as pl

from hypergradient.study import StudyError
from hypergradient.study.files import replacing, set_aside, sha256, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from hypergradient.study.spec import Run, Study, Until
    from hypergradient.study.store import Store

TABLES = ("runs.parquet", "runs.csv", "epochs.parquet", "epochs.csv")
SUMS = "SHA256SUMS"
"""The tables' checksums, as ``sha256sum --check`` reads them."""

PART_ROWS = 50_000

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
    "constant_loss": pl.Float64,
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
    null. ``constant_loss`` is the training loss of the best outputs that do not depend on the
    inputs; it is null in runs of earlier versions.
    """
    begun = store.begun()
    finished = [
        run
        for run in study.runs()
        if run.id in begun
        and store.finished(run)
        and store.ending(run) in {"done", "diverged", "failed"}
    ]
    hypers = {key: value for run in finished for key, value in run.hyper.items()} | {"lr": 0.0}
    schema = {
        **IDENTITY_SCHEMA,
        **{
            key: pl.Float64 if isinstance(value, float) else pl.String
            for key, value in sorted(hypers.items())
        },
        **SETTINGS_SCHEMA,
        **STATUS_SCHEMA,
    }
    runs, epochs = Rows(schema), Rows(EPOCHS_SCHEMA)
    for run in finished:
        status, records = store.status(run) or {}, []
        with suppress(StudyError):  # a run that failed may have damaged epochs besides
            records = store.records(run)
        epochs.add({"run_id": run.id} | record for record in records)
        runs.add([{"study": study.name, "scale": study.scale} | run_row(run, status, records)])
    return runs.table(), epochs.table()


class Rows:
    """Rows that become a table in parts, as a row in Python takes ten times its room in a table.

    Args:
        schema: The table's columns; what a row has besides is left out, what it lacks is null.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = dict(schema)
        self.rows: list[list[Any]] = []
        self.parts = [pl.DataFrame(schema=self.schema)]

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows at the end."""
        self.rows += ([row.get(key) for key in self.schema] for row in rows)
        if len(self.rows) >= PART_ROWS:
            self._close_part()

    def _close_part(self) -> None:
        self.parts.append(pl.DataFrame(self.rows, self.schema, orient="row"))
        self.rows = []

    def table(self) -> pl.DataFrame:
        """Return all rows."""
        self._close_part()
        return pl.concat(self.parts)


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
    """Write ``runs`` and ``epochs`` into ``folder``, each as Parquet and CSV, and their sha256.

    Of the tables that are there, those that are damaged are kept aside.
    """
    for path in damaged_tables(folder):
        set_aside(path)
    writers: tuple[Any, ...] = (
        runs.write_parquet,
        runs.write_csv,
        epochs.write_parquet,
        epochs.write_csv,
    )
    sums = []
    for name, write in zip(TABLES, writers, strict=True):
        write(content := BytesIO())
        with replacing(folder / name) as partial:
            partial.write_bytes(content.getbuffer())  # here a full disk is an OSError
        sums.append(f"{sha256(content.getbuffer())}  {name}\n")
    write_whole(folder / SUMS, "".join(sums))


def damaged_tables(folder: Path) -> list[Path]:
    """Return the tables that are not, to the byte, what was written."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    written = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = [folder / name for name in TABLES if name in written and (folder / name).is_file()]
    return [path for path in there if sha256(path.read_bytes()) != written[path.name]]
