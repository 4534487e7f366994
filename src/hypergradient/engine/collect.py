"""Which parameters move in a step, and by what: those that move alike are one batch."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergradient.engine.base import Base, KernelBase, stored_direction
from hypergradient.engine.inner_products import InnerProducts, Products, products_key
from hypergradient.engine.iterates import AverageNumbers
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.numbers import as_float
from hypergradient.engine.param_step import KEPT, Batches, ParamStep, UpdateRule
from hypergradient.engine.rules import rule_of
from hypergradient.engine.stand_ins import STAND_INS, theta_of, wide, write
from hypergradient.engine.tensors import dense_gradient, gradient_of, in_graph
from hypergradient.engine.torch_kernels import has_fused
from hypergradient.engine.types import Group, Number

if TYPE_CHECKING:
    from hypergradient.engine.gpu.lane import DeviceStep
    from hypergradient.engine.ranks import Ranks
    from hypergradient.engine.state import StatefulOptimizer

NOTHING: list[Tensor] = []


class Collector:
    """Collects the parameters of one step, group by group.

    Attributes:
        optimizer: whose step it is.
        stand_ins: parameters, and what moves in their place.

    Args:
        optimizer: whose step it is.
        products: where the sums go that rates need, by what shares a rate.
        ranks: those who hold parts of the parameters, if any.
        on_device: what takes parameters first, if anything.
    """

    def __init__(
        self,
        optimizer: "StatefulOptimizer",
        products: Products,
        ranks: "Ranks | None" = None,
        on_device: "DeviceStep | None" = None,
    ) -> None:
        self.optimizer, self._products = optimizer, products
        self._ranks, self._on_device = ranks, on_device
        self._trace = optimizer.has_trace
        self.stand_ins: list[tuple[Tensor, Tensor]] = []
        self._norms = any(rule_of(group).needs_norms for group in optimizer.param_groups)

    def batches(self, group: Group, numbers: AverageNumbers | None = None) -> Batches:
        """Return the parameters of a group that have a gradient, but for those on the device.

        Args:
            group: the group.
            numbers: what the iterate has prepared for its step.
        """
        optimizer, ranks, on_device = self.optimizer, self._ranks, self._on_device
        names, granularity = optimizer.memory_names(group), group["granularity"]
        base, alpha = optimizer.base_of(group), alpha_of(group)
        kernels = base if isinstance(base, KernelBase) else None
        rule_memory = tuple(rule_of(group).memory) if granularity == "element" else ()
        own_rates = granularity in ("tensor", "element", "member")
        own_products = granularity == "tensor" or ranks is not None
        fused, states = group.get("fused"), optimizer.state
        trace, eager = self._trace, not torch.compiler.is_compiling()
        batches: Batches = []
        key_of_batch: Number | None = None
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            sparse = grad.is_sparse
            if sparse or fused or (eager and grad.is_neg()):  # torch's fused kernels refuse that
                _refuse(base, group, p, grad)
                grad = dense_gradient(p).resolve_neg()
            state = states[p]
            if not state:
                state.update(optimizer.initial_state(group, p))
            try:
                memory = [*map(state.__getitem__, names)]
            except KeyError:
                memory = [state[n] if n in state else self._missing(base, n, p) for n in names]
            if own_rates:
                alpha = optimizer.rate(group, p)
            theta = p
            if trace and p.dtype in STAND_INS:
                theta, grad = theta_of(p, state), wide(grad)
                self.stand_ins.append((p, theta))
            remembered = [state[name] for name in rule_memory] if rule_memory else NOTHING
            rms = ranks.rms.get(p) if ranks is not None else None
            each = ParamStep(theta, grad, alpha, memory, remembered, state, rms)
            if on_device is not None and on_device.take(
                group, base, each, self._key_of(group, p), numbers
            ):
                continue
            key = 0.0 if kernels is None else kernels.batch_key(state)
            alone = own_products or sparse or isinstance(key, Tensor)
            if alone or key_of_batch is None or key != key_of_batch:
                steps: list[ParamStep] = []
                batches.append((self.update_rule(group, p, key, numbers), steps))
                key_of_batch = None if alone else key
            steps.append(each)
        return batches

    def write_back(self) -> None:
        """Let parameters have the value of what has moved in their place; called after the step."""
        for p, theta in self.stand_ins:
            if not p.is_complex():  # of those the same memory has moved
                write(p, theta)

    def _missing(self, base: Base, name: str, p: Tensor) -> Tensor:
        """Return zeros for a state that is not there, as an option has changed in mid-training."""
        state = self.optimizer.state[p]
        if name not in KEPT and isinstance(base, KernelBase):
            return base.missing_state(state, name, p)
        state[name] = torch.zeros_like(p)
        zeros: Tensor = state[name]
        return zeros

    def update_rule(
        self, group: Group, p: Tensor, key: Number, numbers: AverageNumbers | None
    ) -> UpdateRule:
        """Say how a parameter moves, and others that share its products and its `key`."""
        base = self.optimizer.base_of(group)
        shared, own = self._key_of(group, p), None
        if shared is not None:
            own = self._products.get(shared)
            if own is None:
                own = self._products[shared] = InnerProducts(norms=self._norms)
        scale: Number | None = None
        if own is not None and rule_of(group).form == "logarithmic":
            scale = self._rate_of_products(group, p) if numbers is None else numbers.learned
        direction, kept, update = stored_direction, None, None
        if group["product"] == "gradient":
            kept = (1.0, 0.0)
        elif isinstance(base, KernelBase):
            if self._may_advance(group, p) and (self._trace or not base.goes_plainly(group)):
                update = base.state_update(group, key)
            if not self._trace:
                direction = base.last_direction(group, key)
                kept = base.direction_coefficients(group)
        return UpdateRule(group, base, own, scale, direction, kept, update, numbers)

    def _key_of(self, group: Group, p: Tensor) -> Hashable:
        """Return where the products of a parameter go; None where each element has a rate."""
        shared = products_key(group, p)
        if self._ranks is not None and shared is not None and not self._ranks.counts(group, p):
            return "counted by another rank"
        return shared

    def _rate_of_products(self, group: Group, p: Tensor) -> Number:
        """Return alpha, which turns a derivative by alpha into one by log alpha."""
        by_tensor = group["granularity"] == "tensor"
        alpha = self.optimizer.rate(group, p) if by_tensor else alpha_of(group)
        return alpha if alpha.dim() else as_float(alpha)

    def _may_advance(self, group: Group, p: Tensor) -> bool:
        """Whether the C pass may advance the states: on the CPU, and no kernel was asked for."""
        unnamed = group.get("foreach") is None and group.get("fused") is None
        dense = self._trace or not gradient_of(p).is_sparse
        return unnamed and p.is_cpu and dense and not in_graph()


def _refuse(base: Base, group: Group, p: Tensor, grad: Tensor) -> None:
    """Refuse what torch's own class refuses, before anything is written."""
    if grad.is_sparse and not base.takes_sparse:
        kinds = [kind for kind in type(base).__mro__ if issubclass(kind, Base)]
        first = next(kind for kind in reversed(kinds) if kind not in (Base, KernelBase))
        raise RuntimeError(  # in torch's words, which call AdamW an Adam
            f"{first.__name__} does not support sparse gradients, please consider "
            "SparseAdam instead"
        )
    if group.get("fused") and not has_fused(p):
        raise RuntimeError(
            "`fused=True` requires all the params to be floating point Tensors of supported "
            f"devices, but one is {p.dtype} on {p.device.type}: leave it out"
        )
