"""A learning rate that schedules shape and hypergradients scale.

A hypergradient optimizer moves `group["lr"]`; so does a scheduler, and torch's schedulers do it in
two ways. Recursive ones (StepLR, ExponentialLR, CosineAnnealingLR, ...) multiply what they find.
Closed-form ones (LambdaLR, OneCycleLR, CyclicLR, ...) overwrite it with a function of the initial
rate, and would erase at every step what was learned. Here the rate in use is alpha = c s: the
schedule's own rate s times a scale c that hypergradients have learned. `Rate.fill_` receives what
a scheduler writes and decides which of the two it changes. Two facts tell the ways apart. What is
computed from a `Rate` is a `Rate`, by torch's rules for subclasses of Tensor. And the closed forms
are computed from `initial_lr`, which is kept as a float.

Where the optimizer's `lr` is a factor on a rate that it finds by itself (`Untuned`), every number
that is put into `group["lr"]` is a schedule's, and c goes on being learned below any schedule.
"""

import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from hypergradient.engine.numbers import as_float, assign
from hypergradient.engine.types import Group


class Rate(Tensor):
    """The tensor at `group["lr"]`: the rate in use, whoever moved it last; 0-dim, or one a member.

    Attributes:
        alpha: the same memory as a plain tensor, for the engine's own steps.
        group: the parameter group whose rate this is.
        optimizer: its optimizer.
        scheduled: its group's `scheduled_lr`, for as long as it is this group's rate.
    """

    alpha: Tensor
    group: Group
    optimizer: "weakref.ref[Optimizer]"
    scheduled: Tensor

    @classmethod
    def install(cls, optimizer: Optimizer, group: Group) -> None:
        """Put a rate of its own in place of the number or the user's tensor at `group["lr"]`.

        In float64 on the CPU, where it costs nothing and equals a Python float; in float32
        elsewhere, which is what torch's fused kernels take. Under `differentiable` the rate stays
        a plain tensor, with its graph.
        """
        device = rate_device(optimizer, group)
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        lr = group["lr"]
        shape = (len(group["params"][0]),) if group["granularity"] == "member" else ()
        if isinstance(lr, Tensor):
            alpha = lr.as_subclass(Tensor).to(device, dtype)
            alpha = alpha.expand(shape) if shape else alpha.reshape(())
        else:
            alpha = torch.full(shape, lr, device=device, dtype=dtype)
        if "initial_lr" not in group:
            number = lr.detach() if isinstance(lr, Tensor) else lr
            group["initial_lr"] = alpha.detach().clone() if shape else float(number)
        if not shape:
            group.setdefault("reference_lr", group["initial_lr"])
        if group["differentiable"]:
            group["lr"] = alpha.clone()
            return
        alpha = alpha.detach().clone()
        rate = alpha.as_subclass(cls)
        rate.alpha, rate.group, rate.optimizer = alpha, group, weakref.ref(optimizer)
        group["lr"] = rate
        for name, start in (("scheduled_lr", alpha), ("learned_scale", torch.ones_like(alpha))):
            group[name] = group.get(name, start).to(alpha, copy=True)
        rate.scheduled = group["scheduled_lr"]
        _rates_of(optimizer)[id(group)] = rate
        group.setdefault("closed_form_schedule", False)

    @torch.no_grad()
    def fill_(self, value: Tensor | complex) -> Self:
        """Receive what a scheduler or anybody else writes to a group's rate."""
        if not is_rate(self):  # a number computed from one
            super().fill_(value)
            return self
        group, alpha = self.group, self.alpha
        old, scheduled, scale = alpha.clone(), group["scheduled_lr"], group["learned_scale"]
        scale.copy_(torch.where(scheduled == 0, scale, old / scheduled))
        if isinstance(value, Rate):  # computed from this rate: a recursive scheduler
            new = value.as_subclass(Tensor)
            # from a scheduled rate of 0 it can only have added a part of the initial rate
            added = (scheduled == 0) & (new != 0)
            scheduled.copy_(
                torch.where(added, new, scheduled * torch.where(old == 0, 1.0, new / old))
            )
            alpha.copy_(torch.where(added, scale * new, new))
        elif self._is_closed_form(value) or (self._is_factor() and not group.get("bounded")):
            self.schedule(value)  # before the first step there is no rate that a number could be
            if not self._has_scheduler():
                group["initial_lr"] = value
            return self
        elif self._is_factor():
            _write(alpha, value)
            scheduled.copy_(torch.where(scale == 0, scheduled, alpha / scale))
            if not self._has_scheduler():
                group["initial_lr"] = float(scheduled)
        else:
            _write(scheduled, value)
            scale.fill_(1.0)
            alpha.copy_(scheduled)
            if not self._has_scheduler():
                group["initial_lr"] = value  # as CyclicLR expects of the base rate it writes
        self._rescale_own_rates(old)
        return self

    @torch.no_grad()
    def schedule(self, value: Tensor | complex) -> None:
        """Set the schedule's own rate s; the rate in use becomes c s."""
        old, scheduled, scale = self.alpha.clone(), self.scheduled, self.group["learned_scale"]
        scale.copy_(torch.where(scheduled == 0, scale, old / scheduled))
        _write(scheduled, value)
        self.alpha.copy_(scale * scheduled)
        self._rescale_own_rates(old)

    def _is_factor(self) -> bool:
        return bool(getattr(self.optimizer(), "lr_is_factor", False))

    def _has_scheduler(self) -> bool:
        return hasattr(getattr(self.optimizer(), "step", None), "_wrapped_by_lr_sched")

    def _is_closed_form(self, value: Tensor | complex) -> bool:
        """Whether a number that was not computed from this rate is a closed-form scheduler's.

        `ReduceLROnPlateau` writes one as well, and so may a user. But of the schedulers only
        closed-form ones write a number when they are made, before the next step. Some of torch 2.6
        put it in the rate's place, and it is seen in the first step, where there is no state yet.
        The SequentialLR of torch 2.6 writes the initial rate where one of its schedulers begins.
        """
        optimizer = self.optimizer()
        stepped = getattr(optimizer, "_opt_called", False) and getattr(optimizer, "state", True)
        if self._has_scheduler() and not stepped:
            self.group["closed_form_schedule"] = True
        initial = self.group["initial_lr"]
        begins = isinstance(initial, float) and isinstance(value, float) and value == initial
        return self._has_scheduler() and (bool(self.group["closed_form_schedule"]) or begins)

    def _rescale_own_rates(self, old: Tensor) -> None:
        """Let rates of tensors and elements follow the schedule of their group."""
        optimizer = self.optimizer()
        if optimizer is None or self.group["granularity"] not in ("tensor", "element"):
            return
        for p in self.group["params"]:
            if "lr" in optimizer.state.get(p, {}):
                lr = optimizer.state[p]["lr"]
                lr.copy_(torch.where(old == 0, lr + self.alpha, lr * (self.alpha / old)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be saved as a plain tensor, where a scheduler's state holds a rate."""
        plain: Any = self.as_subclass(Tensor)
        return plain.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Tensor:
        """Be copied as a plain tensor, for the same reason."""
        return self.as_subclass(Tensor).detach().clone()

    def __format__(self, spec: str) -> str:
        return format(self.as_subclass(Tensor), spec)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return repr(self.as_subclass(Tensor))


def _rates_of(optimizer: Optimizer) -> dict[int, Rate]:
    """Return the rates of the groups, which also remember them where somebody replaces them."""
    rates: dict[int, Rate] = optimizer.__dict__.setdefault("_rates", {})
    return rates


def _write(rates: Tensor, value: Tensor | complex) -> None:
    """Write one number, or one a member."""
    rates.copy_(value) if isinstance(value, Tensor) else rates.fill_(value)


def rate_device(optimizer: Optimizer, group: Group) -> torch.device:
    """Return where the rate of a group lives: with its parameters, or the optimizer's first."""
    params = [p for g in (group, *optimizer.param_groups) for p in g["params"]]
    return params[0].device if params else torch.device("cpu")


def alpha_of(group: Group) -> Tensor:
    """Return the rate of a group as a plain tensor, which is what steps work with."""
    lr: Tensor = group["lr"].alpha if is_rate(group["lr"]) else group["lr"]
    return lr


def learned_rate(group: Group, alpha: Any) -> Any:
    """Return a rate without the factor of a schedule: what hypergradients have learned.

    It is relative to `reference_lr`, the group's `lr` as it was given, since schedulers such as
    OneCycleLR change `initial_lr`.

    Args:
        group: the group whose schedule it is.
        alpha: a rate in use, as a float or a tensor.
    """
    reference = group.get("reference_lr", 0.0)
    if group["differentiable"] or reference == 0:
        return alpha
    scheduled = as_float(group["scheduled_lr"])
    if isinstance(scheduled, float) and scheduled != 0:
        return alpha * (reference / scheduled)
    rest = as_float(group["learned_scale"]) * reference  # a rate of zero does not tell
    if isinstance(scheduled, float):
        return rest
    return torch.where(scheduled == 0, rest, alpha * (reference / scheduled))


def set_learned_rate(group: Group, learned: Any) -> None:
    """Set the learned rate of a group, whatever its schedule is at."""
    scale = learned / group["reference_lr"]
    assign(group["learned_scale"], scale)
    assign(alpha_of(group), learned * (group["scheduled_lr"] / group["reference_lr"]))


def plain_groups(groups: list[Group]) -> list[Group]:
    """Return groups as others may save them, with plain tensors for rates."""
    return [{**group, "lr": alpha_of(group)} for group in groups]


def is_written(group: Group) -> bool:
    """Return whether somebody has put a number in the place of a group's rate, or an earlier rate.

    `torch.distributed.checkpoint` does both, around a step at the rate 0 that makes states.
    """
    if group["differentiable"]:
        return False
    return not is_rate(group["lr"]) or group["lr"].scheduled is not group["scheduled_lr"]


def accept_number(optimizer: Optimizer, group: Group, install: Callable[[Group], None]) -> None:
    """Accept what somebody has put in the place of a group's rate.

    It is the rate from now on. Where `lr` is a factor, it is the schedule's part of the rate, as
    in the loops that write `base_lr * shape(t)` at every step; but what was computed from a rate
    in use is a rate in use. Where the schedule's own rate was put there too, all of a saved group
    was, and both stay what they are.

    Args:
        optimizer: whose group it is.
        group: the group.
        install: puts a rate of its own into the group, at the number in `group["lr"]`.
    """
    lr, own = group["lr"], _rates_of(optimizer)[id(group)]
    if not isinstance(lr, Rate) and group["scheduled_lr"] is not own.scheduled:
        install(group)  # all of the group was put there: ZeroRedundancyOptimizer loads it so
        return
    group["lr"] = own.alpha
    install(group)
    rate: Rate = group["lr"]
    if getattr(optimizer, "lr_is_factor", False) and (is_rate(lr) or not isinstance(lr, Rate)):
        rate.schedule(lr.scheduled if is_rate(lr) else float(lr))
        return
    several = isinstance(lr, Tensor) and lr.dim() > 0
    rate.fill_(lr.as_subclass(Tensor) if several else float(lr))


def is_rate(lr: object) -> bool:
    """Return whether `lr` is a group's own rate, and not a number computed from one."""
    return isinstance(lr, Rate) and hasattr(lr, "alpha")
