"""What some optimizers need of a training loop: train and eval modes, and the loss of the step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer has weights for evaluation, other than those that it trains.

    Schedule-Free has: its ``train()`` and ``eval()`` exchange them.
    """
    return hasattr(optimizer, "train") and hasattr(optimizer, "eval")


def set_mode(optimizer: Optimizer, *, training: bool) -> None:
    """Put the weights for training, or those for evaluation, into the model, where they differ.

    A training calls it before each epoch's first step and after its last.
    """
    if has_modes(optimizer):
        getattr(optimizer, "train" if training else "eval")()


def step_function(optimizer: Optimizer) -> Callable[[Tensor], object]:
    """Return a function that makes a step, called with the minibatch's loss.

    An optimizer whose ``step`` has an argument ``loss`` gets it.
    """
    own: Any = optimizer  # looked up at each step: a schedule may replace ``step`` later
    if "loss" in inspect.signature(own.step).parameters:
        return lambda loss: own.step(loss=loss.detach())
    return lambda _: own.step()
