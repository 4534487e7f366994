"""The columns of the tables `runs` and `epochs`."""

from __future__ import annotations

from typing import Final

import polars as pl

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
    "error": pl.String,
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
    "step_seconds": pl.Float64,
    "state_bytes": pl.Float64,
    "init_hash": pl.String,
    "torch": pl.String,
    "python": pl.String,
    "platform": pl.String,
    "threads": pl.Int64,
    "engine": pl.String,
}

IDENTITY_SCHEMA = {
    "run_id": pl.String,
    "study": pl.String,
    "task": pl.String,
    "method": pl.String,
    "base": pl.String,
    "adaptive": pl.Boolean,
}

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
    "device": pl.String,
    "autocast": pl.String,
    "channels_last": pl.Boolean,
}

DERIVED: Final = ("panel", "line")
"""What statistics add to the columns of ``runs``."""

LOSS_LABELS: Final = {"train_loss": "Training loss", "valid_loss": "Validation loss"}
"""The losses that are drawn, and what they are called on an axis."""

ACCURACY_LABELS: Final = {
    "valid_accuracy": "Validation accuracy",
    "train_accuracy": "Training accuracy",
}
"""The accuracies, and what they are called on an axis."""
