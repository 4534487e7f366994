"""The algorithm: any update theta_t = theta_{t-1} - alpha_t u_t, with an alpha_t that moves.

    h_t     = <g_t, u_{t-1}>                   = -d f(theta_{t-1}) / d alpha_{t-1};  u_0 = 0
    alpha_t = rule(alpha_{t-1}, h_t, beta)
    theta_t = theta_{t-1} - alpha_t u_t        by a C function or by torch's own kernels

Each optimizer of this package is torch's own class with the `step` below. It says four things of
its update: the state in which u_0 = 0 (`_init_state`), what u_{t-1} follows from (`_memory`, and
`_kept` if u_t is written there; `_stage`), how (`_direction`), and how theta and the states move:
by a kernel of torch (`_apply`), and where the states may move ahead of theta (`_advance`).
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext
from typing import overload

import torch
from torch import Tensor

from hypergradient.gradients import dense_gradient, effective, gradient_of, with_gradient
from hypergradient.keeper import RateKeeper, State
from hypergradient.options import Group
from hypergradient.pieces import HALF, as_real, in_graph, same_layout
from hypergradient.pools import Number, Pool, move, plain
from hypergradient.products import visit_all
from hypergradient.rate import alpha_of
from hypergradient.rules import RULES
from hypergradient.sharding import Ranks, ranks_of
from hypergradient.visits import Advance, Batches, Direction, Update, Visit, last

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


class HypergradientOptimizer(RateKeeper):
    """The step that all optimizers here have in common."""

    _takes_sparse = False
    _fused_takes_halves = True  # whether torch's fused kernel on the CPU is right in 16 bits

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
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_writes()
        ranks = ranks_of(self)
        with torch.set_grad_enabled(self.defaults["differentiable"]), ranks or nullcontext():
            pools: dict[Hashable, Pool] = {}
            batches: Batches = []
            for group in self.param_groups:
                batches += self._batches(group, pools, ranks)
            job = visit_all(batches)
            if ranks is not None:
                self._total(pools, ranks)
            self._move_rates(pools)
            job.descend()
            for group in self.param_groups if job.left else ():
                left = [v for update, visits in job.left if update.group is group for v in visits]
                if left:
                    self._descend(group, left)
        return loss

    # What an update says of itself.

    def _memory(self, group: Group) -> tuple[str, ...]:
        """The states, shaped like the parameter, that u_{t-1} follows from."""
        raise NotImplementedError

    def _absent(self, state: State, name: str, p: Tensor) -> Tensor:
        """What stands for one of `_memory` that a state has not, and may be put there."""
        if name != "gradient":
            raise KeyError(name)
        state[name] = torch.zeros_like(p)  # the product has changed in mid-training
        return state[name]

    def _stage(self, state: State) -> Number:
        """What else of a state u_{t-1} and u_t follow from: parameters at one stage move alike."""
        raise NotImplementedError

    def _direction(self, group: Group, stage: Number) -> Direction:
        """A function of aligned pieces, (theta_{t-1}, alpha_{t-1}, *memory) -> u_{t-1}."""
        raise NotImplementedError

    def _kept(self, group: Group) -> tuple[float, float] | None:
        """(a, b) for memory[0] <- u_t = a g_t + b memory[1], if u_t is to be kept so."""

    def _advance(self, group: Group, stage: Number) -> Advance | None:
        """How the states advance to u_t; None where that takes alpha_t, or torch's kernel."""

    def _apply(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]
    ) -> None:
        """Advance the states, and params -= group["lr"] * u_t, by one of torch's kernels."""
        raise NotImplementedError

    # h_t = <g_t, u_{t-1}>

    def _batches(
        self, group: Group, pools: dict[Hashable, Pool], ranks: Ranks | None = None
    ) -> Batches:
        """Prepare the visits to a group's parameters, and the pools for their inner products."""
        if group["differentiable"]:
            self._renew(group)
        names = self._memory(group)
        if group["product"] == "gradient":
            names = ("gradient", *names)
        granularity, alpha = group["granularity"], alpha_of(group)
        own_rates = granularity in ("tensor", "element", "member")
        own_pools = granularity == "tensor" or ranks is not None
        batches: Batches = []
        of_batch: Number | None = None
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            sparse = grad.is_sparse
            if sparse or group["fused"]:
                self._refuse(group, p, grad)
                grad = dense_gradient(p)
            state = self.state[p]
            if not state:
                state.update(self._initial(group, p))
            memory = [state[n] if n in state else self._absent(state, n, p) for n in names]
            if own_rates:
                alpha = self.rate(group, p)
            stage = self._stage(state)
            alone = own_pools or sparse or isinstance(stage, Tensor)
            if alone or of_batch is None or stage != of_batch:
                visits: list[Visit] = []
                batches.append((self._update(group, p, stage, pools, ranks), visits))
                of_batch = None if alone else stage
            visits.append(Visit(p, grad, alpha, memory, state.get("step")))
        return batches

    def _update(
        self,
        group: Group,
        p: Tensor,
        stage: Number,
        pools: dict[Hashable, Pool],
        ranks: Ranks | None,
    ) -> Update:
        """Say how a parameter moves, and others of its pool and at its stage.

        Those of another device may be among them: what the C function cannot do it refuses itself.
        """
        key = _pool_of(group, p)
        if ranks is not None and key is not None and not ranks.counts(group, p):
            key = "counted by another rank"
        pool = None if key is None else pools.get(key)
        if pool is None and key is not None:
            norms = any(RULES[each["rule"]].normalized for each in self.param_groups)
            pool = pools[key] = Pool(norms)
        if group["product"] == "gradient":
            return Update(group, pool, last, (1.0, 0.0), None)
        unnamed = group["foreach"] is None and group["fused"] is None
        ahead = unnamed and p.is_cpu and not (gradient_of(p).is_sparse or in_graph())
        advance = self._advance(group, stage) if ahead else None
        return Update(group, pool, self._direction(group, stage), self._kept(group), advance)

    # alpha_t = rule(alpha_{t-1}, h_t, beta)

    def _total(self, pools: dict[Hashable, Pool], ranks: Ranks) -> None:
        """Let the pools of rates that ranks share be sums over all of them."""
        sums = {}
        for group in filter(ranks.pools, self.param_groups):
            for key, alpha in self._shared_rates(group):
                sums[key] = pools.get(key, Pool(norms=True)).sums(alpha)
        for key, total in ranks.total(sums).items():
            pools[key] = Pool.of(total)

    def _move_rates(self, pools: dict[Hashable, Pool]) -> None:
        for group in self.param_groups:
            for key, alpha in self._shared_rates(group):
                if key in pools:
                    move(group, alpha, pools[key].hypergradient(group))

    def _refuse(self, group: Group, p: Tensor, grad: Tensor) -> None:
        """Refuse what torch's own class refuses, before anything is written."""
        if grad.is_sparse and not self._takes_sparse:
            raise RuntimeError(
                "Adam does not support sparse gradients, please consider SparseAdam instead"
            )
        if group["fused"] and not _has_fused(p):
            raise RuntimeError(
                "`fused=True` requires all the params to be floating point Tensors of supported "
                f"devices: {sorted(FUSED_DEVICES)} but {p.dtype} and {p.device.type}"
            )

    def _renew(self, group: Group) -> None:
        """Leave the rates and states of the last step to the graph, and go on with copies."""
        group["lr"] = group["lr"].clone()
        for p in with_gradient(group):
            self.state[p] = {name: value.clone() for name, value in self.state[p].items()}

    def _shared_rates(self, group: Group) -> Iterator[tuple[Hashable, Tensor]]:
        if group["granularity"] == "tensor":
            for p in group["params"]:
                if "lr" in self.state.get(p, {}):
                    yield p, self.state[p]["lr"]
        elif group["granularity"] != "element":
            yield _pool_of(group, None), alpha_of(group)

    # theta_t = theta_{t-1} - alpha_t u_t

    def _descend(self, group: Group, visits: list[Visit]) -> None:
        if group["granularity"] in ("element", "member"):
            for visit in visits:
                self._descend_at_rates(group, visit)
        elif group["granularity"] == "tensor":
            for visit in visits:
                self._descend_together({**group, "lr": visit.alpha}, [visit])
        else:
            self._descend_together({**group, "lr": alpha_of(group)}, visits)

    def _descend_together(self, group: Group, visits: list[Visit]) -> None:
        """Descend at one rate: by torch's fused kernel, its fastest, wherever that is right.

        torch's fused kernels on the CPU walk parameter, gradient and state in the order of memory
        whatever their strides (torch 2.13), so their layouts must agree.
        """
        may_fuse = _may_fuse(group)
        fused: list[Tensor] = []
        others: list[Tensor] = []
        for visit in visits:
            use = may_fuse and visit.aligned and self._fusible(visit.p)
            (fused if use else others).append(visit.p)
        for members, use in ((fused, True), (others, False)):
            if members:
                grads = [gradient_of(p) for p in members]
                states = [self.state[p] for p in members]
                lr = group["lr"] if use else plain(group["lr"])
                self._apply({**group, "fused": use, "lr": lr}, members, grads, states)

    def _fusible(self, p: Tensor) -> bool:
        half_on_cpu = p.is_cpu and p.dtype.itemsize <= HALF
        return _has_fused(p) and (self._fused_takes_halves or not half_on_cpu)

    def _descend_at_rates(self, group: Group, visit: Visit) -> None:
        """Let the kernel take its step from zero at the rate -1: that is u_t.

        The fused one if it may, also as it counts in float32 where others have an eps of 0, in
        float16. But it rounds by the place in a tensor, of which a member's numbers must be free.
        """
        p, state = visit.p, self.state[visit.p]
        u = torch.zeros_like(p)
        g = effective(group, visit.grad, p)
        placeless = group["granularity"] == "element" or p.dtype.itemsize <= HALF
        may_fuse = placeless and visit.aligned and _may_fuse(group)
        fused = may_fuse and self._fusible(p) and same_layout((p, u, g))
        bare = {"lr": -1.0, "weight_decay": 0.0, "maximize": False, "fused": fused}
        self._apply({**group, **bare}, [u], [g], [state])
        if group.get("decoupled_weight_decay"):
            u.add_(p, alpha=group["weight_decay"])
        if visit.alpha.dtype == p.dtype and not group["differentiable"]:
            p.addcmul_(self.rate(group, p), u, value=-1)
        else:
            as_real(p).sub_(as_real(self.rate(group, p)) * as_real(u))


def _pool_of(group: Group, p: Tensor | None) -> Hashable:
    """What shares a rate; None where nothing does."""
    granularity: str = group["granularity"]
    if granularity in ("group", "member"):
        return id(group)
    if granularity == "tensor":
        return p
    return None if granularity == "element" else granularity


def _may_fuse(group: Group) -> bool:
    recorded = group["differentiable"] or torch.compiler.is_compiling()
    return wants_fused(group) and not recorded


def _has_fused(p: Tensor) -> bool:
    """Whether torch has fused kernels for a parameter."""
    return p.is_floating_point() and (p.is_cpu or p.device.type in FUSED_DEVICES)


def wants_fused(group: Group) -> bool:
    """Whether a group is for torch's fused kernels: by the user's wish, or for want of another."""
    return bool(group["fused"]) or (group["fused"] is None and group["foreach"] is None)
