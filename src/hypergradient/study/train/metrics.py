"""The losses, rates and predictions of an epoch, collected at little cost.

Each operation on tensors between two steps of a small model costs the run several per cent. So a
step only stores its loss, its rates and its outputs, which are there already. The buffer turns them
into tensors for many steps at once, when it is full or when somebody reads it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergradient.engine.learning_rate import alpha_of
from hypergradient.study.tasks.losses import predicted_classes

if TYPE_CHECKING:
    from torch.optim import Optimizer

MOST_STEPS = 512
"""The buffer holds at most so many steps, ..."""

MOST_NUMBERS = 1 << 18
"""... and outputs of so many numbers together, which bounds its memory to 1 MB."""


class MetricBuffer:
    """Losses and rates of an epoch by step, and predictions by example, in the order of training.

    Args:
        steps: The number of steps in an epoch.
        targets: The targets of all training examples. Predictions are kept only of classes.

    Attributes:
        classified: Whether targets are classes.
    """

    def __init__(self, steps: int, targets: Tensor) -> None:
        device = targets.device
        self._losses = torch.empty(steps, device=device)
        self._rates = torch.empty(steps, 3, device=device)
        self.classified = not targets.is_floating_point()
        shape = targets.shape if self.classified else (0,)
        self._predictions = torch.empty(shape, dtype=torch.int64, device=device)
        self._steps = self._examples = self._numbers = 0
        self._pending: list[tuple[float | Tensor, float | Tensor, Tensor]] = []
        self._own_rates = False
        self._no_outputs = torch.empty(0)

    def add(self, loss: Tensor, outputs: Tensor, optimizer: Optimizer) -> None:
        """Store what a step gave. A training calls this after each step, before the next."""
        if not self._pending:  # an optimizer does not change between one rate and many
            self._own_rates = any("lr" in state for state in optimizer.state.values())
        if self._own_rates:
            rates: float | Tensor = rate_summary(optimizer)
        else:
            group = optimizer.param_groups[0]
            used = group.get("rate")  # of an optimizer whose `lr` is a factor on its rate
            if used is None:
                used = alpha_of(group) if "lr" in group else math.nan
            rates = number_of(used)
        stored = self._no_outputs
        if self.classified:
            stored = outputs.detach()
            if outputs._is_view():  # noqa: SLF001  (it may hold more memory, or see it change)
                stored = stored.clone()
        self._pending.append((number_of(loss), rates, stored))
        self._numbers += stored.numel()
        if self._numbers >= MOST_NUMBERS or len(self._pending) >= MOST_STEPS:
            self._flush()

    @property
    def losses(self) -> Tensor:
        """The loss of each step, (steps,)."""
        self._flush()
        return self._losses[: self._steps]

    @property
    def rates(self) -> Tensor:
        """The mean, the least and the largest of the rates that each step used, (steps, 3)."""
        self._flush()
        return self._rates[: self._steps]

    @property
    def predictions(self) -> Tensor:
        """The class that was predicted for each example, in the order of training."""
        self._flush()
        return self._predictions[: self._examples]

    def state(self) -> dict[str, Tensor]:
        """Return what ``restore`` takes. "answers" is what checkpoints call the predictions."""
        self._flush()
        return {"losses": self._losses, "rates": self._rates, "answers": self._predictions}

    def restore(self, state: dict[str, Tensor], steps: int, examples: int) -> None:
        """Go back to where ``state`` was taken, after so many steps and examples."""
        self._steps, self._examples, self._pending = steps, examples, []
        self._losses.copy_(state["losses"])
        self._rates.copy_(state["rates"])
        self._predictions.copy_(state["answers"])

    def _flush(self) -> None:
        if not self._pending:
            return
        losses, rates, outputs = zip(*self._pending, strict=True)
        steps = slice(self._steps, self._steps + len(losses))
        self._losses[steps] = as_tensor(losses)
        self._rates[steps] = as_tensor(rates) if self._own_rates else as_tensor(rates).unsqueeze(1)
        if self.classified:
            classes = predicted_classes(torch.cat(outputs))
            self._predictions[self._examples : self._examples + len(classes)] = classes
            self._examples += len(classes)
        self._steps, self._numbers, self._pending = steps.stop, 0, []


def number_of(scalar: float | Tensor) -> float | Tensor:
    """Return a copy of a number: a float, or a tensor where a float would wait for a device."""
    if isinstance(scalar, Tensor):
        return scalar.item() if scalar.is_cpu else scalar.detach().clone()
    return float(scalar)


def rate_summary(optimizer: Optimizer) -> Tensor:
    """Return the mean, the least and the largest of the rates of tensors or elements, (3,)."""
    own = [state["lr"].flatten() for state in optimizer.state.values() if "lr" in state]
    every = torch.cat(own)
    return torch.stack([every.mean(), every.min(), every.max()])


def as_tensor(numbers: Any) -> Tensor:
    """Return numbers, or tensors of one shape, as one tensor."""
    return torch.stack(numbers) if isinstance(numbers[0], Tensor) else torch.tensor(numbers)
