"""The model of a run before training, which is the same for all methods."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from hypergradient.study.tasks.registry import find_task

if TYPE_CHECKING:
    from torch import nn

    from hypergradient.study.declare.run import Run


def initial_model(run: Run) -> nn.Module:
    """Return the run's model before training, the same for all methods."""
    return find_task(run.task).model(run.derive_seed("initialisation"))


def weights_hash(model: nn.Module) -> str:
    """Return the first 16 hex digits of the sha256 of the model's weights."""
    digest = sha256()
    for parameter in model.parameters():
        numbers = parameter.detach().cpu().contiguous().reshape(-1)
        digest.update(numbers.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
