"""Small hand-made tables of runs and epochs, and a study to go with them."""

from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from hypergradient.study.results.schema import (
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
    figures: tuple[str, ...] = ()


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
            rate = (run["lr"] or 0.0) * (1 + epoch if run["method"].endswith("-HD") else 1)
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


def heatmap_runs() -> pl.DataFrame:
    """Steps to a target for two rates and two betas, three seeds, at most 1000 steps.

    In rows by learning rate, columns by beta (None: the base): the steps of each seed, None where
    it did not reach the target.
    """
    steps = {
        1e-3: {None: [None] * 3, 1e-4: [50, 40, 60], 1e-2: [None, 900, None]},
        1e-2: {None: [200, 100, 300], 1e-4: [50, 50, 50], 1e-2: [400, 300, 900]},
    }
    return runs_table(
        [
            {"method": "SGD" if beta is None else "SGD-HD", "lr": lr, "hypergrad_lr": beta}
            | {"seed": seed, "steps_to_target": count, "max_steps": 1000, "scale": "laptop"}
            | {"censored": count is None, "loss": 0.3}
            for lr, row in steps.items()
            for beta, counts in row.items()
            for seed, count in enumerate(counts)
        ]
    )


def schedules_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """One task, SGD with a constant rate, lr-decay and hypergradient descent with two betas.

    At each one's best, hypergradient descent halves the constant rate's loss and equals lr-decay's
    but for noise.
    """
    rows = []
    for place, lr in enumerate(RATES):
        for seed in range(2):
            noise = 1.01**seed
            common = {"lr": lr, "seed": seed, "scale": "laptop"}
            slope = 4.0 ** (1 - place)
            for schedule, loss in (("constant", 0.4), ("lr-decay", 0.2 * 1.1 ** (seed - 0.5))):
                rows.append(
                    {"method": "SGD", "schedule": schedule, "loss": slope * loss * noise} | common
                )
            for beta, loss in ((1e-4, 0.2), (1e-3, 0.3)):
                rows.append(
                    {"method": "SGD-HD", "schedule": "hypergradient", "hypergrad_lr": beta}
                    | {"loss": max(slope, 0.25) * loss * noise * 1.001**seed}
                    | common
                )
    runs = runs_table([row | {"train_loss_best": row["loss"]} for row in rows])
    runs = runs.with_columns(valid_loss_best="valid_loss_final")
    return runs, epochs_table(runs)
