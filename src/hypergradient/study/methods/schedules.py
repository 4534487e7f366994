# ruff: noqa: ARG001  (schedules have one signature, of which each takes what it needs)
"""Schedules of a base method's learning rate: alpha_t = alpha_0 * factor(t), fixed in advance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HYPERGRADIENT = "hypergradient"
"""The schedule of methods that move their rate by hypergradient descent."""

DECAY_EPOCHS = 25
"""Epochs between two halvings of ``lr-decay`` (Wilson et al. 2017; ICLR 2019 study, 2.2)."""


def lr_decay(t: int, decay_steps: int, steps: int) -> float:
    """Halve every ``decay_steps``, which are 25 epochs (Wilson et al. 2017)."""
    return 0.5 ** (t // decay_steps)


def robbins_monro(t: int, decay_steps: int, steps: int) -> float:
    """Divide by the number of the update, from 1: alpha_t = alpha_0 / t (Robbins, Monro 1951)."""
    return 1 / (t + 1)


def halving(t: int, decay_steps: int, steps: int) -> float:
    """Halve at each update number t = 2^k, from 1 (Bottou et al. 2018)."""
    return 0.5 ** ((t + 1).bit_length() - 1)


def cosine(t: int, decay_steps: int, steps: int) -> float:
    """Fall to 0 along half a cosine over all updates (Loshchilov, Hutter 2017, no restarts)."""
    return (1 + math.cos(math.pi * t / steps)) / 2


WARM_UP = 0.05
"""The share of all updates in which ``warmup-cosine`` rises."""


def warmup_cosine(t: int, decay_steps: int, steps: int) -> float:
    """Rise in proportion to the update for 5% of all updates, then fall to 0 along half a cosine.

    It is what transformers are usually trained with (such as Touvron et al. 2023, LLaMA, 2.3).
    """
    rising = max(1, math.ceil(WARM_UP * steps))
    if t < rising:
        return (t + 1) / rising
    return (1 + math.cos(math.pi * (t - rising) / max(1, steps - rising))) / 2


SCHEDULES: dict[str, Callable[[int, int, int], float] | None] = {
    "constant": None,
    HYPERGRADIENT: None,
    "lr-decay": lr_decay,
    "robbins-monro": robbins_monro,
    "halving": halving,
    "cosine": cosine,
    "warmup-cosine": warmup_cosine,
}
"""By name, from t (updates made so far), updates between decays, and updates in all, to a factor.

None leaves the rate to the optimizer."""
