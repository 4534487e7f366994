"""What a training gives back: one record an epoch, and the state that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypergradient.study.declare.run import Run

METRIC_PREFIX = "metric_"
"""What the columns of a person's own metrics begin with."""

State = dict[str, Any]
"""Tensors, numbers, texts, None, and lists and dicts of them: what ``torch.save`` keeps safely."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave; epoch 0 is the state before training.

    Attributes:
        epoch: Epochs trained so far; the last may be a part of one, where the run has reached its
            target or its last step.
        step: Updates made so far.
        train_loss: Mean of the epoch's minibatch losses, each before its update (as the sources
            report it); at epoch 0 the first minibatch's, evaluated as in validation. Of a run with
            ``whole_train_loss``, the mean over the whole training set, evaluated as in validation.
        train_accuracy: The same of the accuracies; NaN where targets are not classes.
        valid_loss: Mean loss over the validation set after the epoch.
        valid_accuracy: The validation set's share classified correctly.
        lr_mean: Mean of the learning rates that the epoch's steps used; at epoch 0 the initial.
        lr_min: The smallest of them.
        lr_max: The largest.
        seconds: Time that training and validation took.
        diverged_at_step: The first step, from 1, whose loss was not finite, or None.
        target_step: The first step, from 1, whose loss was at most the run's target, or None.
        metrics: The means of a person's own metrics over the validation set, by name.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    lr_mean: float
    lr_min: float
    lr_max: float
    seconds: float
    diverged_at_step: int | None
    target_step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the record as a flat row: a metric's column is ``METRIC_PREFIX`` and its name."""
        row = asdict(self)
        return row | {f"{METRIC_PREFIX}{name}": value for name, value in row.pop("metrics").items()}


class RunRecord(NamedTuple):
    """What a session yields.

    Attributes:
        run: The run.
        record: Its record of an epoch.
        last: Whether the run has ended with this record.
    """

    run: Run
    record: EpochRecord
    last: bool
