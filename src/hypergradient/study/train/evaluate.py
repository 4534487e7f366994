"""Losses and accuracies of a model over a set of examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.losses import LOSSES, constant_baseline_loss, count_correct
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.tasks.task import CROSS_ENTROPY

if TYPE_CHECKING:
    from hypergradient.study.declare.run import Run
    from hypergradient.study.tasks.data.batches import Batches

VALIDATION_CHUNK = 2000
"""Examples evaluated at once, at most, ..."""

VALIDATION_NUMBERS = 1_600_000
"""... and the input numbers they have together, to bound the memory that a large model needs."""


def constant_loss(run: Run, data: Data | Batches) -> float:
    """Return the training loss of the best outputs that do not depend on the inputs.

    It is NaN where the loss is a person's own, or targets are read batch by batch.
    """
    if not isinstance(data, Data) or not find_task(run.task).is_plain:
        return math.nan
    targets = data.subset(run.train_examples, run.valid_examples).train_y
    return constant_baseline_loss(torch.as_tensor(targets))


@torch.no_grad()
def evaluate(
    model: nn.Module, x: Tensor, y: Tensor, loss: str = CROSS_ENTROPY
) -> tuple[float, float]:
    """Return the mean loss and the accuracy over examples, in evaluation mode."""
    model.eval()
    total = torch.zeros((), device=x.device)
    hits = torch.zeros((), dtype=torch.int64, device=x.device)
    chunk = max(1, min(VALIDATION_CHUNK, VALIDATION_NUMBERS // x[0].numel()))
    for inputs, targets in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True):
        outputs = model(inputs)
        total += LOSSES[loss](outputs, targets, reduction="sum")
        hits = hits + count_correct(outputs, targets)
    return total.item() / y.numel(), hits.item() / y.numel()


def first_not_finite(losses: Tensor, valid_loss: float, before: int) -> int | None:
    """Return the step, from 1 over the whole training, at which the loss stopped being finite.

    Args:
        losses: The epoch's minibatch losses.
        valid_loss: The validation loss after it, which the last update can spoil on its own.
        before: Steps made in the epochs before.
    """
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        return before + int(bad[0].item()) + 1
    return None if math.isfinite(valid_loss) else before + len(losses)
