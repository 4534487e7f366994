"""The step of every optimizer here: base x trace x rule x iterate.

    h_t     = <g_t, trace_{t-1}>                  = -d f(theta_{t-1}) / d alpha_{t-1};  trace_0 = 0
    alpha_t = rule(alpha_{t-1}, h_t)              rules.py
    u_t     = base(g_t)                           base.py, and the folder optimizers/
    theta_t = iterate(theta_{t-1}, alpha_t, u_t)  iterates.py
    trace_t = mu_t (trace_{t-1} + moved)          iterates.py; or u_t, the last step alone

`HypergradientOptimizer.step` has these five lines. A base needs no more than `direction`. Faster
ways to make the same step stand beside it: the C pass (native.py) for dense float32 parameters on
the CPU, and torch's own kernels for the bases that have them (`KernelBase`).
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext
from typing import overload

import torch
from torch import Tensor

from hypergradient.engine.base import Base, KernelBase, stored_direction
from hypergradient.engine.gpu.lane import DeviceStep
from hypergradient.engine.hypergradients import accumulate, apply_rule
from hypergradient.engine.inner_products import InnerProducts
from hypergradient.engine.iterates import AverageNumbers, LastIterate
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.native import NativeAverageStep, NativeStep
from hypergradient.engine.numbers import as_float
from hypergradient.engine.param_step import Batches, ParamStep, UpdateRule
from hypergradient.engine.ranks import Ranks, ranks_of
from hypergradient.engine.rules import RULES
from hypergradient.engine.state import KEPT, StatefulOptimizer
from hypergradient.engine.tensors import (
    dense_gradient,
    descent_gradient,
    gradient_of,
    in_graph,
    inner,
    with_gradient,
)
from hypergradient.engine.torch_kernels import descend_by_kernel, direction_by_kernel, has_fused
from hypergradient.engine.types import Group, Number

Products = dict[Hashable, InnerProducts]
NOTHING: list[Tensor] = []


class HypergradientOptimizer(StatefulOptimizer):
    """The step that all optimizers here have in common."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the learning rates, then the parameters.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            The closure's loss; None without a closure.
        """
        self._before_step()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_writes()
        ranks = ranks_of(self)
        with torch.set_grad_enabled(self.defaults["differentiable"]), ranks or nullcontext():
            on_device = DeviceStep.of(self, self.iterate)
            if on_device is not None and ranks is None and on_device.repeat():
                return loss
            batches, products = self._batches(ranks, on_device)
            native = self._native_step(batches)
            native.accumulate()  # h_t = <g_t, trace_{t-1}>
            if not self.has_trace:
                accumulate(native.others)
            if on_device is not None:
                on_device.accumulate(products, self._shared_rates if ranks is None else None)
            if self.iterate.rate_first:
                self._total(products, ranks)
                self._apply_rules(products)  # alpha_t = rule(alpha_{t-1}, h_t)
            native.descend()
            if on_device is not None:
                on_device.descend()
            for rule, each in self._descend_by_kernels(native.remaining):
                u = self._direction(rule, each)  # u_t = base(g_t)
                if self.has_trace:
                    self._multiply(rule, each, u)
                moved = self._move(rule, each, u)  # theta_t = iterate(theta_{t-1}, alpha_t, u_t)
                self._remember(rule, each, moved)  # trace_t = mu (trace_{t-1} + moved)
            if not self.iterate.rate_first:
                self._total(products, ranks)
                self._apply_rules(products)
        self._after_step()
        return loss

    def _after_step(self) -> None:
        """Keep the options of u_t that a scheduler may change before the next step."""
        for group in self.param_groups:
            for name in getattr(self.bases[group["base"]], "remembers", ()):
                if group[f"last_{name}"] != group[name]:
                    group[f"last_{name}"] = group[name]

    # Which parameters move, and by what.

    def _batches(
        self, ranks: Ranks | None = None, on_device: DeviceStep | None = None
    ) -> tuple[Batches, Products]:
        """Collect the parameters that have a gradient, and the sums that their rates need."""
        batches: Batches = []
        products: Products = {}
        begins = self._begin(ranks)
        for group in self.param_groups:
            if group["differentiable"]:
                self._renew(group)
            numbers = self.iterate.begin(group) if begins else None
            batches += self._batches_of(group, products, ranks, numbers, on_device)
        return batches, products

    def _begin(self, ranks: Ranks | None) -> bool:
        """Say whether the iterate begins a step: it keeps numbers, and there is a gradient."""
        groups = self.param_groups if self.iterate.group_numbers else ()
        return any(p.grad is not None for group in groups for p in group["params"])

    def _batches_of(
        self,
        group: Group,
        products: Products,
        ranks: Ranks | None = None,
        numbers: AverageNumbers | None = None,
        on_device: DeviceStep | None = None,
    ) -> Batches:
        """Collect the parameters of one group, but for those that `on_device` takes."""
        names, granularity = self.memory_names(group), group["granularity"]
        base, alpha = self.base_of(group), alpha_of(group)
        kernels = base if isinstance(base, KernelBase) else None
        rule_memory = tuple(RULES[group["rule"]].memory) if granularity == "element" else ()
        own_rates = granularity in ("tensor", "element", "member")
        own_products = granularity == "tensor" or ranks is not None
        fused, remembered = group.get("fused"), NOTHING
        batches: Batches = []
        key_of_batch: Number | None = None
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            sparse = grad.is_sparse
            if sparse or fused:
                self._refuse(group, p, grad)
                grad = dense_gradient(p)
            state = self.state[p]
            if not state:
                state.update(self.initial_state(group, p))
            try:
                memory = [*map(state.__getitem__, names)]
            except KeyError:
                memory = [state[n] if n in state else self._missing(group, n, p) for n in names]
            if own_rates:
                alpha = self.rate(group, p)
            if rule_memory:
                remembered = [state[name] for name in rule_memory]
            each = ParamStep(p, grad, alpha, memory, remembered, state)
            if on_device is not None and on_device.take(
                group, base, each, self._key_of(group, p, ranks), numbers
            ):
                continue
            key = 0.0 if kernels is None else kernels.batch_key(state)
            alone = own_products or sparse or isinstance(key, Tensor)
            if alone or key_of_batch is None or key != key_of_batch:
                steps: list[ParamStep] = []
                rule = self._update_rule(group, p, key, products, ranks, numbers)
                batches.append((rule, steps))
                key_of_batch = None if alone else key
            steps.append(each)
        return batches

    def _missing(self, group: Group, name: str, p: Tensor) -> Tensor:
        """Return zeros for a state that is not there, as an option has changed in mid-training."""
        base, state = self.base_of(group), self.state[p]
        if name not in KEPT and isinstance(base, KernelBase):
            return base.missing_state(state, name, p)
        state[name] = torch.zeros_like(p)
        zeros: Tensor = state[name]
        return zeros

    def _update_rule(
        self,
        group: Group,
        p: Tensor,
        key: Number,
        products: Products,
        ranks: Ranks | None,
        numbers: AverageNumbers | None,
    ) -> UpdateRule:
        """Say how a parameter moves, and others that share its products and its `key`."""
        form = RULES[group["rule"]].form
        shared = self._key_of(group, p, ranks)
        own = None if shared is None else products.get(shared)
        if own is None and shared is not None:
            cosines = (RULES[each["rule"]].form == "cosine" for each in self.param_groups)
            norms = self.has_trace or any(cosines)
            own = products[shared] = InnerProducts(norms=norms)
        scale: Number | None = None
        if form == "logarithmic" and own is not None:
            scale = self._rate_of_products(group, p) if numbers is None else numbers.learned
        base = self.base_of(group)
        direction, kept, update = stored_direction, None, None
        if group["product"] == "gradient":
            kept = (1.0, 0.0)
        elif isinstance(base, KernelBase):
            if self._may_advance(group, p) and (self.has_trace or not base.goes_plainly(group)):
                update = base.state_update(group, key)
            if not self.has_trace:
                direction = base.last_direction(group, key)
                kept = base.direction_coefficients(group)
        return UpdateRule(group, base, own, scale, direction, kept, update, numbers)

    def _key_of(self, group: Group, p: Tensor, ranks: Ranks | None) -> Hashable:
        """Return where the products of a parameter go; None where each element has a rate."""
        shared = _products_key(group, p)
        if ranks is not None and shared is not None and not ranks.counts(group, p):
            return "counted by another rank"
        return shared

    def _rate_of_products(self, group: Group, p: Tensor) -> Number:
        """Return alpha, which turns a derivative by alpha into one by log alpha."""
        alpha = self.rate(group, p) if group["granularity"] == "tensor" else alpha_of(group)
        return alpha if alpha.dim() else as_float(alpha)

    def _may_advance(self, group: Group, p: Tensor) -> bool:
        """Whether the C pass may advance the states: on the CPU, and no kernel was asked for."""
        unnamed = group.get("foreach") is None and group.get("fused") is None
        dense = self.has_trace or not gradient_of(p).is_sparse
        return unnamed and p.is_cpu and dense and not in_graph()

    def _refuse(self, group: Group, p: Tensor, grad: Tensor) -> None:
        """Refuse what torch's own class refuses, before anything is written."""
        base = self.base_of(group)
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

    def _renew(self, group: Group) -> None:
        """Leave the rates and states of the last step to the graph, and go on with copies."""
        group["lr"] = group["lr"].clone()
        for p in with_gradient(group):
            self.state[p] = {name: value.clone() for name, value in self.state[p].items()}

    def _native_step(self, batches: Batches) -> NativeStep | NativeAverageStep:
        """Let the C pass take what it can of a step."""
        if self.has_trace:
            return NativeAverageStep(batches)
        return NativeStep(batches)

    # alpha_t = rule(alpha_{t-1}, h_t)

    def _total(self, products: Products, ranks: Ranks | None) -> None:
        """Let the products of rates that ranks share be sums over all of them."""
        if ranks is None:
            return
        sums = {}
        for group in filter(ranks.pools, self.param_groups):
            for key, alpha in self._shared_rates(group):
                sums[key] = products.get(key, InnerProducts(norms=True)).sums(alpha)
        for key, total in ranks.total(sums).items():
            products[key] = InnerProducts.of(total)

    def _apply_rules(self, products: Products) -> None:
        """Move all rates that are not element-wise, which `accumulate` has moved."""
        for group in self.param_groups:
            names = RULES[group["rule"]].memory
            for key, alpha in self._shared_rates(group):
                if key in products:
                    memory = NOTHING
                    if names:
                        place = self.state[key] if isinstance(key, Tensor) else group
                        memory = [place[name] for name in names]
                    of = products[key]
                    agreement = of.agreement() if self.has_trace else None
                    apply_rule(group, alpha, of.hypergradient(group), memory, agreement)

    def _shared_rates(self, group: Group) -> Iterator[tuple[Hashable, Tensor]]:
        """Yield each rate of a group that is not element-wise, and what shares it."""
        if group["granularity"] == "tensor":
            for p in group["params"]:
                if "lr" in self.state.get(p, {}):
                    yield p, self.state[p]["lr"]
        elif group["granularity"] != "element":
            yield _products_key(group, None), alpha_of(group)

    # u_t = base(g_t);  theta_t = iterate(theta_{t-1}, alpha_t, u_t);  trace_t

    def _descend_by_kernels(self, remaining: Batches) -> Iterator[tuple[UpdateRule, ParamStep]]:
        """Move what torch's kernels can move at one rate; yield the other parameters."""
        by_group: dict[int, tuple[KernelBase, Group, list[ParamStep]]] = {}
        for rule, steps in remaining:
            base, group = rule.base, rule.group
            one_rate = group["granularity"] not in ("element", "member")
            if isinstance(base, KernelBase) and self._is_for_kernels(rule) and one_rate:
                by_group.setdefault(id(group), (base, group, []))[2].extend(steps)
            else:
                yield from ((rule, each) for each in steps)
        for base, group, steps in by_group.values():
            if group["granularity"] == "tensor":
                for each in steps:
                    descend_by_kernel(base, group, each.alpha, [each])
            else:
                descend_by_kernel(base, group, alpha_of(group), steps)

    def _is_for_kernels(self, rule: UpdateRule) -> bool:
        """Whether torch's kernel makes the whole move theta -= alpha u_t."""
        if self._is_plain(rule):
            return False
        return type(self._iterate_of(rule)) is LastIterate and not self.has_trace

    def _direction(self, rule: UpdateRule, each: ParamStep) -> Tensor:
        """Advance the state of a parameter, and return u_t."""
        group, base, p = rule.group, rule.base, each.p
        g = descent_gradient(group, each.grad, p)
        if isinstance(base, KernelBase) and self._is_for_kernels(rule):
            u = direction_by_kernel(base, group, each, g)
        elif p.is_complex() and not isinstance(base, KernelBase):  # its state is real, too
            real_g = torch.view_as_real(g.resolve_conj())
            u = base.direction(real_g, torch.view_as_real(p), each.state, group)
            u = torch.view_as_complex(u.contiguous())
        else:
            u = base.direction(g, p, each.state, group)
        decay = group["weight_decay"]
        if not group["decoupled_weight_decay"] or (not isinstance(decay, Tensor) and decay == 0):
            return u
        return u + decay * p if isinstance(decay, Tensor) else u.add(p, alpha=decay)

    def _multiply(self, rule: UpdateRule, each: ParamStep, u: Tensor) -> None:
        """Add the products of a trace: <g_t, trace_{t-1}>, <u_t, trace_{t-1}> and <u_t, u_t>."""
        if rule.products is not None:
            g, trace = descent_gradient(rule.group, each.grad, each.p), each.memory[0]
            values = (as_float(inner(*pair)) for pair in ((g, trace), (u, trace), (u, u)))
            rule.products.add(u.numel(), *rule.scaled(values))

    def _move(self, rule: UpdateRule, each: ParamStep, u: Tensor) -> Tensor:
        """Move a parameter, and return what the trace is to remember."""
        p, alpha = each.p, self.rate(rule.group, each.p)
        return self._iterate_of(rule).move(p, alpha, u, each.state, rule.group, rule.numbers)

    def _is_plain(self, rule: UpdateRule) -> bool:
        """Whether u_t is known by the base's `direction` alone."""
        return not isinstance(rule.base, KernelBase) or rule.base.goes_plainly(rule.group)

    def _iterate_of(self, rule: UpdateRule) -> LastIterate:
        own = rule.base.iterate(rule.group) if isinstance(rule.base, KernelBase) else None
        return own or self.iterate

    def _remember(self, rule: UpdateRule, each: ParamStep, moved: Tensor) -> None:
        """Let the trace remember a move, for the next step's hypergradient.

        Args:
            rule: how the parameter moved.
            each: the parameter.
            moved: what the iterate returned.
        """
        if self.has_trace and rule.numbers is not None:
            each.memory[0].add_(moved).mul_(rule.numbers.mu)
        elif rule.group["product"] == "direction" and self._is_plain(rule):
            each.memory[0].copy_(moved)
        # else the base computes u_t from its own state, or `accumulate` has kept it


def _products_key(group: Group, p: Tensor | None) -> Hashable:
    """Return what shares a rate, to find its products; None where each element has its own."""
    granularity: str = group["granularity"]
    if granularity in ("group", "member"):
        return id(group)
    if granularity == "tensor":
        return p
    if granularity == "element":
        return None
    return "global, by log alpha" if RULES[group["rule"]].form == "logarithmic" else "global"
