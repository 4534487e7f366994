"""Small hand-made tables of runs and epochs, and a study to go with them."""

from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from hypergradient.study.analyse import (
    EPOCHS_SCHEMA,
    IDENTITY_SCHEMA,
    SETTINGS_SCHEMA,
    STATUS_SCHEMA,
)

RATES = (1e-3, 1e-2, 1e-1)
EPOCHS = 3


class Declared(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str = "small"
    title: str = "A small study"
    description: str = "Of nothing in particular."
    source: str = ""


def runs_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Runs from what matters of each: the other columns get harmless values."""
    schema = (
        {**IDENTITY_SCHEMA, "lr": pl.Float64, "hypergrad_lr": pl.Float64}
        | SETTINGS_SCHEMA
        | STATUS_SCHEMA
    )
    filled = []
    for number, row in enumerate(rows):
        loss = row.get("loss")
        defaults: dict[str, Any] = {
            "run_id": f"run{number}",
            "study": "small",
            "task": "task",
            "seed": 0,
            "epochs": EPOCHS,
            "batch_size": 8,
            "weight_decay": 0.0,
            "status": "done",
            "train_loss_final": loss,
            "valid_loss_final": loss,
            "wall_seconds": 1.0,
            "init_hash": "same",
            "torch": "2",
            "python": "3",
            "platform": "here",
            "threads": 1,
        }
        filled.append({key: (defaults | row).get(key) for key in schema})
    return pl.DataFrame(filled, schema)


def epochs_table(runs: pl.DataFrame) -> pl.DataFrame:
    """Losses that fall geometrically from 2 to each run's final one; a diverged run stops at 1."""
    rows = []
    for run in runs.filter(pl.col("status") != "failed").iter_rows(named=True):
        lost = run["status"] == "diverged"
        final = run["train_loss_final"] or 1.0
        for epoch in range(2 if lost else EPOCHS + 1):
            loss = None if lost and epoch else 2 * (final / 2) ** (epoch / EPOCHS)
            rate = run["lr"] * (1 + epoch if run["method"].endswith("-HD") else 1)
            rows.append(
                {"run_id": run["run_id"], "epoch": epoch, "step": 10 * epoch}
                | {"train_loss": loss, "valid_loss": loss}
                | {"lr_mean": rate, "lr_min": rate, "lr_max": rate, "seconds": 1.0}
            )
    return pl.DataFrame(
        [{key: row.get(key) for key in EPOCHS_SCHEMA} for row in rows], EPOCHS_SCHEMA
    )


def study_tables(tasks: tuple[str, ...] = ("logreg", "mlp")) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two tasks, two pairs of methods, three rates, three seeds; SGD diverges at the largest."""
    rows = []
    for task in tasks:
        for base in ("SGD", "Adam"):
            for method in (base, f"{base}-HD"):
                for place, lr in enumerate(RATES):
                    for seed in range(3):
                        lost = method == "SGD" and place == len(RATES) - 1 and seed > 0
                        flat = 0.1 if method.endswith("-HD") else 10.0 ** (-place)
                        rows.append(
                            {"task": task, "method": method, "lr": lr, "seed": seed}
                            | {"hypergrad_lr": 1e-3 if method.endswith("-HD") else None}
                            | {"status": "diverged" if lost else "done"}
                            | {"loss": None if lost else flat * 1.1**seed}
                        )
    runs = runs_table(rows)
    return runs, epochs_table(runs)
