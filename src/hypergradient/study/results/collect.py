"""Records to tables: `runs`, a row a run, and `epochs`, a row a run and epoch."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from hypergradient.study.declare.fields import value_of_option
from hypergradient.study.errors import OWN_CODE_RAISES, StudyError
from hypergradient.study.methods.registry import Option, find_method
from hypergradient.study.results.schema import (
    DERIVED,
    EPOCHS_SCHEMA,
    IDENTITY_SCHEMA,
    METRICS,
    SETTINGS_SCHEMA,
    STATUS_SCHEMA,
)
from hypergradient.study.run.claim import read_json
from hypergradient.study.train.records import METRIC_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hypergradient.study.declare.run import Run, Until
    from hypergradient.study.declare.study import Study
    from hypergradient.study.methods.traits import Traits
    from hypergradient.study.run.store import Store

COSTS = "costs.json"
"""What a step of each method costs, where a comparison has measured the methods in turn."""

PART_ROWS = 50_000


def collect(study: Study, store: Store) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the tables ``runs`` and ``epochs`` of a study's finished runs that are not damaged.

    ``runs`` has a column for each hyperparameter of the study, null where it does not apply.
    ``base`` is the base optimizer that a run is compared with, and ``adaptive`` whether it adapts
    its rate: the optimizer itself said both when it was trained.
    Values that are not finite are null, never NaN. ``train_examples`` and ``valid_examples`` are
    null where all are used, ``decay_epochs`` where the schedule is not lr-decay. In a study of
    iterations to convergence, ``steps_to_target`` is the first step, from 1, whose minibatch loss
    was at most ``target_loss``; it is null where that had not come after ``max_steps`` updates,
    the last epoch or divergence, and ``censored`` is then true. In other studies all four are
    null. ``step_seconds`` is what a step took, without evaluation, and ``state_bytes`` what the
    optimizer keeps for each parameter, of runs that are trained one by one; in a comparison the
    methods were measured in turn. ``epochs`` has a column
    for each metric of a person's own task, its name after ``metric_``. ``constant_loss`` is the
    training loss of the best outputs that do not depend on the inputs; it is null in runs of
    earlier versions, and where the loss is a person's own.
    """
    begun = store.begun()
    finished = [
        run
        for run in study.runs()
        if run.id in begun
        and store.finished(run)
        and store.ending(run) in {"done", "diverged", "failed"}
    ]
    schema = {
        **IDENTITY_SCHEMA,
        **options_schema(finished),
        **SETTINGS_SCHEMA,
        **STATUS_SCHEMA,
    }
    own = dict.fromkeys(own_metrics(finished, store), pl.Float64)
    costs = measured_costs(store)
    runs, epochs = Rows(schema), Rows({**EPOCHS_SCHEMA, **own})
    for run in finished:
        status, records = store.status(run) or {}, []
        with suppress(StudyError):  # a run that failed may have damaged epochs besides
            records = store.records(run)
        epochs.add({"run_id": run.id} | record for record in records)
        row = {"study": study.name, "scale": study.scale} | run_row(run, status, records)
        row["task"] = study.task_name(run)
        runs.add([row | costs.get(run.method, {})])
    return runs.table(), epochs.table()


def measured_costs(store: Store) -> dict[str, dict[str, float]]:
    """Return what a comparison has measured of each method, or nothing."""
    methods = (read_json(store.folder / COSTS) or {}).get("methods")
    if not isinstance(methods, dict):
        return {}
    return {
        method: {
            name: float(cost[name])
            for name in ("step_seconds", "state_bytes")
            if isinstance(cost.get(name), int | float)
        }
        for method, cost in methods.items()
        if isinstance(cost, dict)
    }


def own_metrics(finished: Iterable[Run], store: Store) -> list[str]:
    """Return the columns of the metrics of a person's own tasks, as the first run of each has them.

    They are read from the records, so that tables can be made where a task's file is gone.
    """
    names: dict[str, None] = {}
    seen: set[str] = set()
    for run in finished:
        if run.task in seen:
            continue
        with suppress(StudyError):
            for record in store.records(run)[:1]:
                seen.add(run.task)
                names |= dict.fromkeys(key for key in record if key.startswith(METRIC_PREFIX))
    return [*names]


def options_schema(runs: Iterable[Run]) -> dict[str, Any]:
    """Return the column of each hyperparameter: of numbers, or of text where any value is none.

    Values such as ``clip = ["none", 1.0]`` are of both kinds.
    """
    numbers = {"lr": True}
    for run in runs:
        for column, value in option_columns(run.hyper).items():
            numbers[column] = isinstance(value, float) and numbers.get(column, True)
    return {key: pl.Float64 if numbers[key] else pl.String for key in sorted(numbers)}


def option_columns(hyper: Mapping[str, Option]) -> dict[str, float | str]:
    """Return the hyperparameters of a run as numbers and texts, by their columns.

    Of a tower, ``hypergrad_lr`` has the first step size and ``tower`` all of them.
    """
    columns: dict[str, float | str] = {}
    for key, value in hyper.items():
        column = option_column(key)
        columns[column] = value if isinstance(value, float) else as_one_text(value)
        if key == "hypergrad_lr" and isinstance(value, tuple):
            columns |= {column: value[0], "tower": as_one_text(value)}
    return columns


def as_one_text(value: Option) -> str:
    """Return a value as a text: several numbers as 0.001/0.0001, a mapping as betas 0.001."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_one_text(steps)}" for name, steps in value.items())
    if isinstance(value, tuple):
        return "/".join(map(as_one_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def option_column(option: str) -> str:
    """Return the column of an optimizer's option: its name, unless ``runs`` has another of it."""
    taken = {*IDENTITY_SCHEMA, *SETTINGS_SCHEMA, *STATUS_SCHEMA, *DERIVED}
    return f"{option}_option" if option in taken else option


class Rows:
    """Rows that become a table part by part: in Python a row takes ten times the memory.

    Args:
        schema: The table's columns. Other entries of a row are left out; missing ones are null.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = dict(schema)
        self.rows: list[list[Any]] = []
        self.parts = [pl.DataFrame(schema=self.schema)]

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows at the end."""
        self.rows += ([self._value(row, key) for key in self.schema] for row in rows)
        if len(self.rows) >= PART_ROWS:
            self._close_part()

    def _value(self, row: dict[str, Any], key: str) -> Any:
        value = row.get(key)
        return str(value) if self.schema[key] == pl.String and value is not None else value

    def _close_part(self) -> None:
        self.parts.append(pl.DataFrame(self.rows, self.schema, orient="row"))
        self.rows = []

    def table(self) -> pl.DataFrame:
        """Return all rows."""
        self._close_part()
        return pl.concat(self.parts)


def run_row(run: Run, status: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a run's row of ``runs``. Epoch 0, before training, is never its best epoch."""
    row = {
        "run_id": run.id,
        **option_columns(run.hyper),
        **run.model_dump(include={"task", "method", *SETTINGS_SCHEMA}),
        **traits_columns(run, status),
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


def traits_columns(run: Run, status: dict[str, Any]) -> dict[str, Any]:
    """Return a run's base optimizer and whether it adapts its rate, as recorded.

    Runs that failed, and those of earlier versions, recorded neither: then the method says it now.
    Both are null where its package is not installed.
    """
    if "base" in status:
        return {"base": status["base"], "adaptive": status["adaptive"]}
    with suppress(*OWN_CODE_RAISES):
        traits = traits_of_method(run.method, json.dumps(run.hyper, sort_keys=True))
        return {"base": traits.base, "adaptive": traits.adaptive}
    return {}


@cache
def traits_of_method(method: str, hyper: str) -> Traits:
    """Return the traits of a method with hyperparameters, building the optimizer once for all.

    Args:
        method: Its name.
        hyper: The hyperparameters as JSON, by which they are known again.
    """
    values = {name: value_of_option(value) for name, value in json.loads(hyper).items()}
    return find_method(method).traits(values)


def until_columns(until: Until, status: dict[str, Any]) -> dict[str, Any]:
    """Return the target of a run that ends at a loss, and whether it was not reached."""
    return {
        "target_loss": until.minibatch_loss,
        "max_steps": until.max_steps,
        "censored": status["state"] != "failed" and status.get("steps_to_target") is None,
    }
