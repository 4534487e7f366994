"""Descents: one method on one function from its start, with many settings side by side."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.engine.optimizer import HypergradientOptimizer
    from hypergradient.functions import Function
    from hypergradient.study.landscape.methods import Method, Setting

CLOSE = 1e-6
"""A descent that has come this near to a minimum has nothing left to show ..."""

STILL = 1e-9
"""... nor has one that moves by less than this in a step."""


@dataclass(frozen=True)
class Descents:
    """What each of n settings did in T steps; row 0 is the start.

    Attributes:
        points: Where it was, (T + 1, n, 2), float64; not finite once it has diverged.
        rates: The learning rate of each coordinate that the step used, (T + 1, n, 2).
        distances: From the nearest minimum, (T + 1, n).
        momenta: The momentum of each step, (T + 1, n), if it learns; else None.
    """

    points: Tensor
    rates: Tensor
    distances: Tensor
    momenta: Tensor | None = None

    def steps_to(self, tolerance: float) -> list[int | None]:
        """Return after how many steps each first was within ``tolerance`` of a minimum."""
        within = self.distances <= tolerance
        first = within.int().argmax(0)
        return _or_none(first, within.any(0))

    def settled(self, tolerance: float, steps: int) -> list[int | None]:
        """Return the first step from which each stayed within ``tolerance`` for ``steps`` more.

        Or to the end, where that comes earlier.
        """
        outside = ~(self.distances <= tolerance)  # a distance that is not a number is outside
        before = torch.cat([torch.zeros_like(outside[:1]), outside]).cumsum(0)
        ends = torch.arange(len(outside)).add(steps + 1).clamp(max=len(outside))
        stays = before[ends] == before[:-1]
        return _or_none(stays.int().argmax(0), stays.any(0))


def descend(
    function: Function, method: Method, settings: Sequence[Setting], steps: int
) -> Descents:
    """Take ``steps`` steps, or fewer once all settings are ``CLOSE``, ``STILL`` or diverged.

    The settings never touch each other: with a rate for each element, those of one beta are the
    rows of one parameter; else each is a parameter of its own.

    Args:
        function: What to minimise.
        method: The optimizer and its options.
        settings: Initial rates and their step sizes.
        steps: The most steps to take.
    """
    minima = torch.tensor(function.minima, dtype=torch.float64)
    optimizer, order = _optimizer(function, method, settings)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    sizes = [len(p) for p in params]
    back = torch.tensor(order).argsort()
    points, rates = _state(optimizer)
    history = [(points, rates, _distances(points, minima), _momenta(optimizer))]
    for _ in range(steps):
        # With Nesterov's momentum the parameters are at the look-ahead point x - gamma v.
        gradients = torch.split(function.gradient(torch.cat(params)), sizes)
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        before, (points, rates) = points, _state(optimizer)
        distances = _distances(points, minima)
        history.append((points, rates, distances, _momenta(optimizer)))
        moved = (points - before).abs().amax(-1)
        if not ((distances > CLOSE) & (moved > STILL)).any():  # NaN is above nothing
            break
    columns = [torch.stack(column) for column in zip(*history, strict=True)]
    points, rates, distances = (column[:, back] for column in columns[:3])
    learned = columns[3][:, back] if method.learns_momentum else None
    return Descents(points, rates, distances, learned)


def _optimizer(
    function: Function, method: Method, settings: Sequence[Setting]
) -> tuple[HypergradientOptimizer, list[int]]:
    """An optimizer over all settings, a group a beta, and which setting each row of it is."""
    order = sorted(range(len(settings)), key=lambda i: settings[i].hypergrad_lr)

    def of_group(i: int) -> tuple[float, int]:  # which has one beta, and one momentum
        return settings[i].hypergrad_lr, i if method.learns_momentum else 0

    start = torch.tensor([function.start], dtype=torch.float64)
    groups: list[dict[str, Any]] = []
    alphas: list[Tensor] = []
    for (beta, _), members in groupby(order, key=of_group):
        alpha = torch.tensor([[settings[i].lr] for i in members], dtype=torch.float64)
        each = (
            [alpha.expand(-1, 2)] if method.options["granularity"] == "element" else alpha.view(-1)
        )
        params = [start.expand(rate.numel() // 2 or 1, 2).clone() for rate in each]
        groups.append({"params": params, "hypergrad_lr": beta})
        alphas += each
    # The fused kernel rounds by the place in a tensor; settings must not touch each other.
    optimizer = method.optimizer(groups, lr=0.0, fused=False, **method.options)
    # A state with its rates is how they can all start differently; Adam's must have its step count.
    state = {i: {"lr": rate.clone(), "step": torch.zeros(())} for i, rate in enumerate(alphas)}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return optimizer, order


def _state(optimizer: HypergradientOptimizer) -> tuple[Tensor, Tensor]:
    """Where each setting is, the point x and not the look-ahead point, and its rates."""
    points, rates = [], []
    for group in optimizer.param_groups:
        for p in group["params"]:
            velocity = optimizer.state[p].get("momentum_buffer") if group.get("nesterov") else None
            points.append(p.clone() if velocity is None else p + group["momentum"] * velocity)
            rates.append(optimizer.state[p]["lr"].expand(p.shape).clone())
    return torch.cat(points), torch.cat(rates)


def _momenta(optimizer: HypergradientOptimizer) -> Tensor:
    """The momentum of each group; where it learns, a group is a setting."""
    momenta = [group.get("momentum", 0.0) for group in optimizer.param_groups]
    return torch.tensor(momenta, dtype=torch.float64)


def _or_none(steps: Tensor, reached: Tensor) -> list[int | None]:
    pairs = zip(steps.tolist(), reached.tolist(), strict=True)
    return [int(step) if so else None for step, so in pairs]


def _distances(points: Tensor, minima: Tensor) -> Tensor:
    nearest: Tensor = torch.linalg.vector_norm(points[:, None] - minima, dim=-1).amin(-1)
    return nearest
