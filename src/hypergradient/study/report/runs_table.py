"""The page's table of runs, and the names of those that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from hypergradient.study.results.beside import FOLDER
from hypergradient.study.results.pairs import hyperparameters, symbol

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST: Final = 2000
"""The most runs that the page lists, which bounds its size."""

SHOWN: Final = {
    "status": "Status",
    "train_loss_final": "Training loss",
    "valid_loss_final": "Validation loss",
    "valid_accuracy_final": "Validation accuracy",
    "wall_seconds": "Seconds",
}
"""The columns after those that identify a run, without those that are empty."""


def runs_table(runs: pl.DataFrame) -> dict[str, Any]:
    """Return the headings and rows of the table of runs.

    Returns:
        ``columns``; ``names``, how many of them say which run it is; ``rows``, each with its
        ``cells`` and its ``kind`` ("adaptive", "constant" or "failed"); and ``left``, how many runs
        are not in it.
    """
    options = [name for name in hyperparameters(runs) if runs[name].count()]
    several = [name for name in ("task",) if runs[name].n_unique() > 1]
    schedule = ["schedule"] if runs["schedule"].n_unique() > 1 else []
    last = [name for name in SHOWN if name in runs.columns and runs[name].count()]
    names = ["method", *several, *schedule, *options, "seed", *last]
    labels = {"method": "Method", "task": "Task", "schedule": "Schedule", "seed": "Seed"}
    labels |= {FOLDER: "Folder"} | SHOWN
    shown = runs.head(MOST)
    return {
        "columns": [labels.get(name, symbol(name)) for name in names],
        "names": names.index("seed") + 1,
        "rows": [
            {"cells": [row[name] for name in names], "kind": _kind(row)}
            for row in shown.iter_rows(named=True)
        ],
        "left": runs.height - shown.height,
    }


def failed_runs(runs: pl.DataFrame) -> list[tuple[str, str | None]]:
    """Return what identifies each run that failed, and its error."""
    options = hyperparameters(runs)
    return [
        (_name(row, options), row.get("error"))
        for row in runs.filter(pl.col("status") == "failed").iter_rows(named=True)
    ]


def _kind(row: Mapping[str, Any]) -> str:
    if row["status"] == "failed":
        return "failed"
    return "adaptive" if row["adaptive"] else "constant"


def _name(row: Mapping[str, Any], options: list[str]) -> str:
    given = [f"{symbol(name)} = {row[name]}" for name in options if row[name] is not None]
    return ", ".join([row["task"], row["method"], *given, f"seed {row['seed']}"])
