"""A step of the C pass like the last one, without asking again what each parameter needs.

To ask takes longer than to move a small parameter; to see that all memory is where it was takes a
quarter of that. Options are read anew in each step, as schedulers change them.
"""

from array import array
from collections.abc import Iterable, Sequence
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from hypergradient.engine.base import KernelBase
from hypergradient.engine.collect import Collector
from hypergradient.engine.iterates import AverageNumbers
from hypergradient.engine.native import FLOAT, PLAIN, ROW, Accepted, NativeStep, usable
from hypergradient.engine.param_step import Batches
from hypergradient.engine.types import Group, State

if TYPE_CHECKING:
    from hypergradient.engine.state import StatefulOptimizer

GRAD = 2  # the place of its address in a row


class Batch(NamedTuple):
    """Parameters that moved alike.

    Attributes:
        group: the place of their group.
        p: the first of them.
        state: its state.
        counts: the step counts of all of them.
        size: how many elements they have.
    """

    group: int
    p: Tensor
    state: State
    counts: list[Tensor]
    size: int


class NativeRepeat:
    """A step that the C function made whole. Of it, no gradient is kept.

    Args:
        optimizer: whose step it was.
        batches: what moved.
        native: how C moved it.
    """

    def __init__(
        self, optimizer: "StatefulOptimizer", batches: Batches, native: NativeStep
    ) -> None:
        groups, self._native = optimizer.param_groups, type(native)
        self._rows, self._moving, self._counts = native.rows, native.moving, native.counts
        self._kinds = [_kind(optimizer, group) for group in groups]
        self._states = [*optimizer.state.values()]
        steps = [each for _, of_batch in batches for each in of_batch]
        self._params = [each.p for each in steps]
        self._of_params = [each.state for each in steps]
        self._in_states = [value for each in steps for value in each.state.values()]
        self._sizes = [p.numel() for p in self._params]
        self._tensors = [t for _, *own in native.tensors for t in own]
        self._addresses = [t.data_ptr() for t in self._tensors]
        places = {id(group): i for i, group in enumerate(groups)}
        self._batches = []
        for (rule, of_batch), accepted in zip(batches, native.accepted, strict=True):
            counts = [each.state["step"] for each in of_batch if "step" in each.state]
            p, state = of_batch[0].p, of_batch[0].state
            self._batches += [Batch(places[id(rule.group)], p, state, counts, accepted.size)]

    @classmethod
    def of(
        cls, optimizer: "StatefulOptimizer", batches: Batches, native: NativeStep
    ) -> "NativeRepeat | None":
        """Return how to repeat a step; None if C did not make all of it, or not in plain order."""
        if not native.accepted or native.others or native.remaining:
            return None
        plain = all(t.is_contiguous() for _, *own in native.tensors for t in own)
        return cls(optimizer, batches, native) if plain else None

    def again(
        self, collector: Collector, numbers: Sequence[AverageNumbers | None]
    ) -> NativeStep | None:
        """Return the step with new gradients, or None if anything else than options has changed.

        Args:
            collector: that of the new step.
            numbers: what the iterate has prepared for each group.
        """
        optimizer = collector.optimizer
        if not usable() or not self._is_as_it_was(optimizer):
            return None
        native = self._native([])
        for at, p, state, counts, size in self._batches:
            if len({count.item() for count in counts}) > 1:
                return None
            group = optimizer.param_groups[at]
            base = optimizer.base_of(group)
            key = base.batch_key(state) if isinstance(base, KernelBase) else 0.0
            rule = collector.update_rule(group, p, key, numbers[at])
            alpha = optimizer.rate(group, p)
            struct = native.struct(rule, alpha)
            if struct is None or not native.moves(struct):
                return None
            native.arguments += struct
            native.accepted.append(Accepted(rule, size, alpha))
        native.rows, native.moving, native.counts = self._rows, self._moving, self._counts
        return native

    def _is_as_it_was(self, optimizer: "StatefulOptimizer") -> bool:
        """Whether parameters and states are where they were; note where the gradients are."""
        groups, states = optimizer.param_groups, optimizer.state
        if [_kind(optimizer, group) for group in groups] != self._kinds:
            return False
        params = [p for group in groups for p in group["params"] if p.grad is not None]
        in_states = [value for state in self._of_params for value in state.values()]
        if not (
            _same(params, self._params)
            and _same(states.values(), self._states)
            and _same(in_states, self._in_states)
        ):
            return False
        grads: list[Tensor] = [p.grad for p in params]
        tensors = grads + params
        try:
            self._rows[GRAD::ROW] = array("q", map(Tensor.data_ptr, grads))
            return (
                {t.dtype for t in tensors} == {FLOAT}
                and PLAIN.issuperset(map(type, grads))
                and [*map(Tensor.numel, tensors)] == self._sizes * 2
                and [*map(Tensor.data_ptr, self._tensors)] == self._addresses
                and all(map(Tensor.is_contiguous, tensors))
                and all(g.is_cpu for g in grads)
                and not any(map(Tensor.is_neg, grads))
            )
        except RuntimeError:  # a gradient without memory of its own, such as a sparse one
            return False


def _same(now: Iterable[Any], before: list[Any]) -> bool:
    now = [*now]
    return len(now) == len(before) and all(map(is_, now, before))


def _kind(optimizer: "StatefulOptimizer", group: Group) -> tuple[Any, ...]:
    """Return the options of a group on which it depends which tensors a step uses."""
    structure = group["base"], group["granularity"], group.get("fused"), bool(group["learn"])
    return len(group["params"]), optimizer.memory_names(group), *structure
