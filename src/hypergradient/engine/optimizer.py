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

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import overload

import torch
from torch import Tensor

from hypergradient.engine.base import KernelBase
from hypergradient.engine.collect import NOTHING, Collector
from hypergradient.engine.gpu.lane import DeviceStep
from hypergradient.engine.hypergradients import apply_rule
from hypergradient.engine.hyperparameters import move_hyperparameters
from hypergradient.engine.inner_products import InnerProducts, Products, shared_rates
from hypergradient.engine.iterates import LastIterate
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.native import NativeAverageStep, NativeStep
from hypergradient.engine.native_repeat import NativeRepeat
from hypergradient.engine.numbers import as_float
from hypergradient.engine.param_step import Batches, ParamStep, UpdateRule
from hypergradient.engine.ranks import Ranks, ranks_of
from hypergradient.engine.rules import rule_of
from hypergradient.engine.state import StatefulOptimizer
from hypergradient.engine.tensors import (
    bounded,
    descent_gradient,
    in_graph,
    inner,
    with_gradient,
)
from hypergradient.engine.torch_kernels import descend_by_kernel, direction_by_kernel
from hypergradient.engine.types import Group

Lane = NativeStep | DeviceStep


class HypergradientOptimizer(StatefulOptimizer):
    """The step that all optimizers here have in common."""

    _repeat: NativeRepeat | None = None  # the last step, if C made all of it

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
        products: Products = {}
        with torch.set_grad_enabled(self.defaults["differentiable"]), ranks or nullcontext():
            if any(group["learn"] for group in self.param_groups):
                move_hyperparameters(self, alone=ranks is None)  # momentum, betas, weight decay
            self._measure(ranks)
            on_device = DeviceStep.of(self, products, alone=ranks is None)
            if on_device is not None and on_device.repeat(self._move_rates):
                self._after_step()
                return loss  # nothing but gradients has changed since the last step
            collector = Collector(self, products, ranks, on_device)
            native = self._collect(collector, ranks, on_device)
            lanes: list[Lane] = [native] if on_device is None else [native, on_device]
            for lane in lanes:
                lane.accumulate()  # h_t = <g_t, trace_{t-1}>
            if self.iterate.rate_first:
                self._move_rates(products, ranks)  # alpha_t = rule(alpha_{t-1}, h_t)
            for lane in lanes:
                lane.descend()  # the three lines below, where C or a kernel of Triton makes them
            for rule, each in self._descend_by_kernels(native.remaining):
                u = self._direction(rule, each)  # u_t = base(g_t)
                if self.has_trace:
                    self._multiply(rule, each, u)
                moved = self._move(rule, each, u)  # theta_t = iterate(theta_{t-1}, alpha_t, u_t)
                self._remember(rule, each, moved)  # trace_t = mu (trace_{t-1} + moved)
            if not self.iterate.rate_first:
                self._move_rates(products, ranks)
            collector.write_back()
        self._after_step()
        return loss

    def _collect(
        self, collector: Collector, ranks: Ranks | None, on_device: DeviceStep | None
    ) -> NativeStep:
        """Collect the parameters that have a gradient, and let the C pass take what it can."""
        groups, last = self.param_groups, None
        repeats = ranks is None and on_device is None and not in_graph()
        if repeats:
            last, self._repeat = self._repeat, None
        for group in groups:
            if group["differentiable"]:
                self._renew(group)
        numbers = [self.begin(group) for group in groups] if self._begin(ranks) else None
        of_groups = numbers or [None] * len(groups)
        again = last.again(collector, of_groups) if last is not None else None
        if again is not None:
            self._repeat = last
            return again
        batches: Batches = []
        for group, of_group in zip(groups, of_groups, strict=True):
            batches += collector.batches(group, of_group)
        native = NativeAverageStep(batches) if self.has_trace else NativeStep(batches)
        if repeats and not collector.stand_ins:
            self._repeat = NativeRepeat.of(self, batches, native)
        return native

    def _begin(self, ranks: Ranks | None) -> bool:
        """Say whether the iterate begins a step: it keeps numbers, and there is a gradient."""
        groups = self.param_groups if self.iterate.group_numbers else ()
        return any(p.grad is not None for group in groups for p in group["params"])

    def _measure(self, ranks: Ranks | None) -> None:
        """Look at what a step needs to know before anything moves; called once a step."""
        if ranks is not None:
            ranks.measure()

    def _renew(self, group: Group) -> None:
        """Leave the rates and states of the last step to the graph, and go on with copies."""
        group["lr"] = group["lr"].clone()
        for p in with_gradient(group):
            self.state[p] = {name: value.clone() for name, value in self.state[p].items()}

    def _after_step(self) -> None:
        """Keep the options of u_t that a scheduler may change before the next step."""
        for group in self.param_groups:
            for name in getattr(self.bases[group["base"]], "remembers", ()):
                if group[f"last_{name}"] != group[name]:
                    group[f"last_{name}"] = group[name]

    # alpha_t = rule(alpha_{t-1}, h_t)

    def _move_rates(self, products: Products, ranks: Ranks | None) -> None:
        """Move all rates that are not element-wise: those move as their products are formed."""
        if ranks is not None:
            self._total(products, ranks)
        for group in self.param_groups:
            names = rule_of(group).memory
            for key, alpha in shared_rates(self, group):
                of = products.get(key)
                if of is None:
                    continue
                memory = NOTHING
                if names:
                    place = self.state[key] if isinstance(key, Tensor) else group
                    memory = [place[name] for name in names]
                apply_rule(group, alpha, of.hypergradient(group), memory, traced=self.has_trace)

    def _total(self, products: Products, ranks: Ranks) -> None:
        """Let the products of rates that ranks share be sums over all of them."""
        sums = {}
        for group in filter(ranks.pools, self.param_groups):
            for key, alpha in shared_rates(self, group):
                sums[key] = products.get(key, InnerProducts(norms=True)).sums(alpha)
        for key, total in ranks.total(sums).items():
            products[key] = InnerProducts.of(total)

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
        if not math.isinf(base.max_rms):
            u = bounded(u, base.max_rms, each.rms)
        decay = group["weight_decay"]
        if not group["decoupled_weight_decay"] or (not isinstance(decay, Tensor) and decay == 0):
            return u
        return u + decay * p if isinstance(decay, Tensor) else u.add(p, alpha=decay)

    def _multiply(self, rule: UpdateRule, each: ParamStep, u: Tensor) -> None:
        """Add the product of a trace: <g_t, trace_{t-1}>."""
        if rule.products is not None:
            g, trace = descent_gradient(rule.group, each.grad, each.p), each.memory[0]
            rule.products.add(u.numel(), *rule.scaled([as_float(inner(g, trace))]))

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
