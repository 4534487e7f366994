"""An optimizer and the scalar loops beside it, compared after every step and every event."""

import copy
import io
import math
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cases import (
    LR,
    Case,
    Gradients,
    as_numbers,
    give,
    grouped,
    numbers,
    parameters,
    rates,
    reference,
    reference_options,
)
from reference import Scalar

TOLERANCE = 1e-9  # of the terms of a sum: float64 rounds by 1e-16, and sums of few terms cancel
LARGEST = 1e100  # beyond it squares overflow, in an order that is anybody's


class Pair:
    """Both, in float64, with what drives training done to both.

    After each step the loops take over the parameters and rates of the optimizer, which were near
    enough: so errors do not pile up, and a wrong step is seen at once, whatever came before.
    """

    def __init__(
        self, case: Case, start: Sequence[Sequence[Tensor]], options: Sequence[dict[str, Any]]
    ) -> None:
        self.case = case
        self.groups = parameters(start)
        self.optimizer = case.build(grouped(self.groups, options))
        self.loops = reference(case, start, options)
        self.used: dict[int, float] = {}  # the rate of each scalar's own last step
        self.assigned: dict[int, float] = {}  # numbers put in the place of groups' rates
        self.written = [float(group["lr"]) for group in self.optimizer.param_groups]

    def scalars(self) -> list[Scalar]:
        return [s for group in self.loops.groups for p in group for s in p]

    def step(self, gradients: Gradients) -> None:
        """A step with these gradients in the place where `backward` puts them."""
        give(self.groups, gradients)
        self.step_with_what_is_there()

    def step_with_what_is_there(self, scaler: Any = None) -> None:
        """A step with what the parameters hold, which a scaler divides by its scale."""
        scale = scaler.get_scale() if scaler else 1.0
        held = [[None if p.grad is None else p.grad / scale for p in g] for g in self.groups]
        self._settle()
        self._know_what_can_be_known()
        before = [s.theta for s in self.scalars()]
        if scaler:
            scaler.step(self.optimizer)
            scaler.update()
        else:
            self.optimizer.step()
        self.loops.step(as_numbers(held))
        self._compare(before)

    def _know_what_can_be_known(self) -> None:
        """Where a rate has moved since a step of AdamW, u_{t-1} follows from the rate by now."""
        for s in self.scalars():
            if self.case.recomputes and self.used.get(id(s), s.rate.value) != s.rate.value:
                decay = s.options.weight_decay
                s.u = (s.ratio + decay * s.theta) / (1 - decay * s.rate.value)

    def _compare(self, before: list[float]) -> None:
        scalars = self.scalars()
        for s, rate, theta, old in zip(scalars, self._rates(), self._thetas(), before, strict=True):
            assert math.isfinite(rate), rate
            assert_near(rate, s.rate.value, s.rate.terms)
            assert_near(theta, s.theta, abs(old) + abs(rate * s.u))
        for s, rate, theta in zip(scalars, self._rates(), self._thetas(), strict=True):
            s.rate.value, s.theta = rate, theta
            if s.g is not None:
                self.used[id(s)] = rate

    def _rates(self) -> list[float]:
        return [x for group in rates(self.optimizer) for rate in group for x in numbers(rate)]

    def _thetas(self) -> list[float]:
        return [x for group in self.groups for p in group for x in numbers(p)]

    def out_of_hand(self) -> bool:
        """Whether some number is too large for its square."""
        sizes = (abs(x) for t in everything(self.optimizer) for x in numbers(t) if math.isfinite(x))
        return max(sizes, default=0.0) > LARGEST

    def join(self, start: Sequence[Tensor], options: dict[str, Any]) -> None:
        """A group more."""
        (group,) = parameters([start])
        self.groups.append(group)
        self.optimizer.add_param_group({"params": list(group), **options})
        own = {"lr": LR, **options}
        self.written.append(own["lr"])
        self.loops.add_group([numbers(p) for p in group], reference_options(self.case, own))

    def write(self, value: float, *, by: str) -> None:
        """What a person or a scheduler writes to the rates of all groups."""
        for i, group in enumerate(self.optimizer.param_groups):
            if by == "halving":  # as the schedulers that multiply do it
                value = group["lr"] * 0.5
            if by == "assignment" or isinstance(group["lr"], float):
                group["lr"] = self.assigned[i] = float(value)
            else:
                self._follow_write(i, float(value))
                group["lr"].fill_(value)

    def _settle(self) -> None:
        """A number in the place of a rate is taken when it is needed."""
        for i, value in self.assigned.items():
            self._follow_write(i, value)
        self.assigned.clear()

    def _follow_write(self, i: int, value: float) -> None:
        """A shared rate is what is written; others are scaled as their group's is."""
        old, self.written[i] = self.written[i], value
        for rate in {id(s.rate): s.rate for p in self.loops.groups[i] for s in p}.values():
            if self.optimizer.param_groups[i]["granularity"] in {"global", "group"}:
                rate.value = value
            else:
                rate.value = rate.value + value if old == 0 else rate.value * (value / old)

    def copy(self, how: str) -> None:
        """Go on with a copy, in which nothing may differ."""
        self._settle()
        groups, optimizer = self.groups, self.optimizer
        if how == "save":
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            self.groups = parameters(groups)
            self.optimizer = self.case.build(grouped(self.groups, [{}] * len(groups)))
            self.optimizer.load_state_dict(torch.load(file))
        elif how == "deepcopy":
            self.optimizer, self.groups = copy.deepcopy((optimizer, groups))
        else:
            self.optimizer, self.groups = pickle.loads(pickle.dumps((optimizer, groups)))  # noqa: S301
        assert_untouched(everything(self.optimizer), everything(optimizer))


def everything(optimizer: Any) -> list[Tensor]:
    """All that a step may change."""
    found = [rate for group in rates(optimizer) for rate in group]
    for p in (p for group in optimizer.param_groups for p in group["params"]):
        found += [p, *optimizer.state.get(p, {}).values()]
    return [t.detach().clone() for t in found]


def assert_untouched(now: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    for x, y in zip(now, before, strict=True):
        assert torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0))


def assert_near(got: float, wanted: float, terms: float) -> None:
    if math.isfinite(wanted):
        assert abs(got - wanted) <= TOLERANCE * (abs(terms) + abs(wanted)), f"{got!r}, {wanted!r}"
    else:
        assert not math.isfinite(got), f"{got!r} is not {wanted!r}"


def normal(shapes: Sequence[tuple[int, ...]], seed: int) -> list[Tensor]:
    """Standard normal numbers, always the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
