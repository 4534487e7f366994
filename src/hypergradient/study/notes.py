"""What an epoch's steps give, noted at little cost: a step only keeps what is there already.

Each operation on tensors between two steps of a small model costs it several per cent. So losses,
rates and outputs are put aside, and what is wanted of them is found for many steps at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hypergradient.engine.learning_rate import alpha_of
from hypergradient.study.losses import classes_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

MOST_STEPS = 512
"""Steps put aside at once, at most, ..."""

MOST_NUMBERS = 1 << 18
"""... and the numbers their outputs have together, to bound memory: 1 MB."""


class Notes:
    """Losses, rates and answers of an epoch, by step and by example, in the order they were seen.

    Args:
        steps: Of an epoch.
        targets: Of all its examples; whether answers are noted depends on what they are.
    """

    def __init__(self, steps: int, targets: Tensor) -> None:
        self._losses, self._rates = torch.empty(steps), torch.empty(steps, 3)
        self._classified = not targets.is_floating_point()
        shape = targets.shape if self._classified else (0,)
        self._answers = torch.empty(shape, dtype=torch.int64)
        self._steps = self._examples = self._numbers = 0
        self._aside: list[tuple[float | Tensor, float | Tensor, Tensor]] = []
        self._own_rates = False
        self._nothing = torch.empty(0)

    def add(self, loss: Tensor, outputs: Tensor, optimizer: Optimizer) -> None:
        """Note a step that was just made."""
        if not self._aside:  # an optimizer's kind of rates stays as it is
            self._own_rates = any("lr" in state for state in optimizer.state.values())
        if self._own_rates:
            rates: float | Tensor = summary_of(optimizer)
        else:
            group = optimizer.param_groups[0]
            rates = number_of(alpha_of(group)) if "lr" in group else math.nan
        kept = self._nothing
        if self._classified:
            kept = outputs.detach()
            if outputs._is_view():  # noqa: SLF001  (it may hold more memory, or see it change)
                kept = kept.clone()
        self._aside.append((number_of(loss), rates, kept))
        self._numbers += kept.numel()
        if self._numbers >= MOST_NUMBERS or len(self._aside) >= MOST_STEPS:
            self._settle()

    @property
    def losses(self) -> Tensor:
        """The loss of each step, (steps,)."""
        self._settle()
        return self._losses[: self._steps]

    @property
    def rates(self) -> Tensor:
        """The mean, the least and the largest of the rates that each step used, (steps, 3)."""
        self._settle()
        return self._rates[: self._steps]

    @property
    def answers(self) -> Tensor:
        """The class that was said of each example."""
        self._settle()
        return self._answers[: self._examples]

    def state(self) -> dict[str, Tensor]:
        """Return what ``restore`` takes."""
        self._settle()
        return {"losses": self._losses, "rates": self._rates, "answers": self._answers}

    def restore(self, state: dict[str, Tensor], steps: int, examples: int) -> None:
        """Go back to where ``state`` was taken, after so many steps and examples."""
        self._steps, self._examples, self._aside = steps, examples, []
        for name in ("losses", "rates", "answers"):
            getattr(self, f"_{name}").copy_(state[name])

    def _settle(self) -> None:
        if not self._aside:
            return
        losses, rates, outputs = zip(*self._aside, strict=True)
        made = slice(self._steps, self._steps + len(losses))
        self._losses[made] = together(losses)
        self._rates[made] = together(rates) if self._own_rates else together(rates).unsqueeze(1)
        if self._classified:
            answers = classes_of(torch.cat(outputs))
            self._answers[self._examples : self._examples + len(answers)] = answers
            self._examples += len(answers)
        self._steps, self._numbers, self._aside = made.stop, 0, []


def number_of(scalar: float | Tensor) -> float | Tensor:
    """Return a number of its own, as a float unless that would wait for a device."""
    if isinstance(scalar, Tensor):
        return scalar.item() if scalar.is_cpu else scalar.detach().clone()
    return float(scalar)


def summary_of(optimizer: Optimizer) -> Tensor:
    """Return the mean, the least and the largest of the rates of tensors or elements, (3,)."""
    own = [state["lr"].flatten() for state in optimizer.state.values() if "lr" in state]
    every = torch.cat(own)
    return torch.stack([every.mean(), every.min(), every.max()])


def together(numbers: Any) -> Tensor:
    """Return numbers, or tensors of one shape, as one tensor."""
    return torch.stack(numbers) if isinstance(numbers[0], Tensor) else torch.tensor(numbers)
