"""A step like the last one, without asking again what each parameter needs.

Asking takes the host about 9 us a parameter; seeing that nothing but gradients has changed takes a
quarter of that.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.gpu.average import AverageKernels
from hypergradient.engine.gpu.recipes import Operands, RateStep
from hypergradient.engine.gpu.step import StepKernels
from hypergradient.engine.types import Group, Number, State

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Seen(NamedTuple):
    """What a parameter was in the last step: its state, and where its numbers were."""

    own: Operands
    state: State
    named: tuple[tuple[str, Tensor], ...]  # the tensors of the state that the kernels use
    addresses: tuple[int, ...]  # of theta, a, b, and of alpha where each element has one
    dtype: torch.dtype  # of the gradient


class Repeat:
    """A step that the kernels made whole: all parameters, and all rates but those of an average.

    Args:
        optimizer: whose step it was.
        kernels: those that made it.
        params: what they moved.
        rates: the rates that they moved.
        averaged: the groups of an average, in the order of their scalars.
        pools: of their products.
    """

    def __init__(
        self,
        optimizer: "Optimizer",
        kernels: StepKernels | AverageKernels,
        params: Sequence[Operands],
        rates: Sequence[RateStep],
        averaged: Sequence[Group],
        pools: Mapping[Any, tuple[Hashable, Number | None]],
    ) -> None:
        self.averaged, self.pools = averaged, pools
        self._kernels, self._rates = kernels, rates
        self._options = [_options_of(group) for group in optimizer.param_groups]
        self._states = optimizer.state
        by_id = {id(own.theta): own for own in params}
        self._seen: list[list[Seen | None]] = [
            [_seen(by_id.get(id(p)), optimizer.state) for p in group["params"]]
            for group in optimizer.param_groups
        ]
        self._grads = [own.grad.data_ptr() for own in self._every()]

    def make(self, optimizer: "Optimizer") -> bool:
        """Load the step again with new gradients; return whether that could be."""
        grads = self._gradients(optimizer)
        if grads is None:
            return False
        kernels, addresses = self._kernels, [g.data_ptr() for g in grads]
        if addresses != self._grads:
            every = [own._replace(grad=g) for own, g in zip(self._every(), grads, strict=True)]
            kernels.load(every, self._rates)
            self._grads = addresses
        return True

    def _every(self) -> list[Operands]:
        return [seen.own for of_group in self._seen for seen in of_group if seen is not None]

    def _gradients(self, optimizer: "Optimizer") -> list[Tensor] | None:
        """Return the new gradients, or None if anything else has changed."""
        states, groups = optimizer.state, optimizer.param_groups
        if states is not self._states or len(groups) != len(self._options):
            return None
        grads: list[Tensor] = []
        for group, options, of_group in zip(groups, self._options, self._seen, strict=True):
            if len(group["params"]) != len(of_group) or not _same(group, options):
                return None
            for p, seen in zip(group["params"], of_group, strict=True):
                g = p.grad
                if seen is None:
                    if g is not None:
                        return None
                elif g is None or not _is(p, g, seen, states.get(p)):
                    return None
                else:
                    grads.append(g)
        return grads


def _seen(own: Operands | None, states: Any) -> Seen | None:
    if own is None:
        return None
    used = {id(t) for t in (own.a, own.b, own.alpha, own.step) if t is not None}
    state = states[own.theta]
    named = tuple((name, t) for name, t in state.items() if id(t) in used)
    return Seen(own, state, named, _addresses(own), own.grad.dtype)


def _addresses(own: Operands) -> tuple[int, ...]:
    shaped = (own.theta, own.a, own.b, own.alpha if own.alpha.dim() else None)
    return tuple(t.data_ptr() for t in shaped if t is not None)


def _is(p: Tensor, g: Tensor, seen: Seen, state: State | None) -> bool:
    """Whether a parameter is what it was; of its gradient, whether it is of the same kind."""
    own = seen.own
    if p is not own.theta or state is not seen.state or _addresses(own) != seen.addresses:
        return False
    for name, t in seen.named:
        if state.get(name) is not t:
            return False
    return (
        type(g) is Tensor
        and g.dtype is seen.dtype
        and g.get_device() == p.get_device()
        and g.is_contiguous()
        and p.is_contiguous()
        and not g.is_neg()
    )


def _options_of(group: Group) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in group.items() if name != "params"]


def _same(group: Group, options: list[tuple[str, Any]]) -> bool:
    """Whether options are what they were: tensors the same ones, all else equal."""
    if len(group) != len(options) + 1:
        return False
    for name, value in options:
        now = group.get(name)
        if now is not value and (isinstance(now, Tensor) or type(now) is not type(value)):
            return False
        if now is not value and now != value:
            return False
    return True
