"""What some optimizers need of a training loop: train and eval modes, and the loss of the step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer evaluates other weights than it trains, as Schedule-Free does."""
    return hasattr(optimizer, "train") and hasattr(optimizer, "eval")


def set_mode(optimizer: Optimizer, *, training: bool) -> None:
    """Put the weights to train, or those to evaluate, into the model, where they differ."""
    if has_modes(optimizer):
        getattr(optimizer, "train" if training else "eval")()


def step_function(optimizer: Optimizer) -> Callable[[Tensor], object]:
    """Return what makes a step, given the minibatch's loss: a ``step`` with a ``loss`` gets it."""
    own: Any = optimizer  # a schedule may replace its step later
    if "loss" in inspect.signature(own.step).parameters:
        return lambda loss: own.step(loss=loss.detach())
    return lambda _: own.step()
