"""The algorithm: any update theta_t = theta_{t-1} - alpha_t u_t, with an alpha_t that moves.

    h_t     = <g_t, u_{t-1}>                   = -d f(theta_{t-1}) / d alpha_{t-1};  u_0 = 0
    alpha_t = rule(alpha_{t-1}, h_t, beta)
    theta_t = theta_{t-1} - alpha_t u_t        by torch's own kernels

Each optimizer of this package is torch's own class with the `step` below. It says four things of
its update: the state in which u_0 = 0 (`_init_state`), the tensors that u_{t-1} follows from
(`_memory`), how (`_direction`), and the kernel that moves theta (`_apply`).
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import overload

import torch
from torch import Tensor

from hypergradient.gradients import dense_gradient, effective, gradient_of, with_gradient
from hypergradient.keeper import RateKeeper, State
from hypergradient.options import Group
from hypergradient.pieces import HALF, as_real, inner, inner_by_member, pieces, same_layout
from hypergradient.rate import alpha_of
from hypergradient.rules import RULES
from hypergradient.sharding import Ranks, ranks_of

Use = Callable[[Tensor, Tensor, Tensor], None]
FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


class HypergradientOptimizer(RateKeeper):
    """The step that all optimizers here have in common."""

    _takes_sparse = False

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
            self._adapt(ranks)
            for group in self.param_groups:
                self._descend(group)
        return loss

    # What an update says of itself.

    def _memory(self, group: Group, p: Tensor) -> list[Tensor]:
        """The parameter-shaped tensors that u_{t-1} follows from."""
        raise NotImplementedError

    def _direction(self, group: Group, p: Tensor) -> Callable[..., Tensor]:
        """A function of aligned pieces, (theta_{t-1}, alpha_{t-1}, *memory) -> u_{t-1}."""
        raise NotImplementedError

    def _remember(self, group: Group, g: Tensor, *memory: Tensor) -> None:
        """Write to `memory` what u_t will follow from and `_apply` does not keep."""

    def _apply(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]
    ) -> None:
        """Advance the states, and params -= group["lr"] * u_t, by one of torch's kernels."""
        raise NotImplementedError

    # alpha_t = rule(alpha_{t-1}, h_t, beta)

    def _adapt(self, ranks: Ranks | None) -> None:
        pools: dict[Hashable, _Pool] = {}
        norms = any(RULES[group["rule"]].normalized for group in self.param_groups)
        for group in self.param_groups:
            if group["differentiable"]:
                self._renew(group)
            for p in with_gradient(group):
                self._refuse(group, p)
                if not self.state[p]:
                    self.state[p].update(self._initial(group, p))
                if group["granularity"] == "element":
                    self._visit(group, p, partial(_move_elements, group))
                else:
                    key = _pool_of(group, p)
                    if ranks is not None and not ranks.counts(group, p):
                        key = "counted by another rank"
                    pool = pools.setdefault(key, _Pool(norms))
                    self._visit(group, p, pool.add)
        if ranks is not None:
            self._total(pools, ranks)
        self._move_shared(pools)

    def _move_shared(self, pools: dict[Hashable, "_Pool"]) -> None:
        for group in self.param_groups:
            for key, alpha in self._shared_rates(group):
                if key in pools:
                    _move(group, alpha, pools[key].hypergradient(group, alpha))

    def _total(self, pools: dict[Hashable, "_Pool"], ranks: Ranks) -> None:
        """Let the pools of rates that ranks share be sums over all of them."""
        sums = {}
        for group in filter(ranks.pools, self.param_groups):
            for key, alpha in self._shared_rates(group):
                sums[key] = pools.get(key, _Pool(norms=True)).sums(alpha)
        for key, total in ranks.total(sums).items():
            pools[key] = _Pool.of(total)

    def _refuse(self, group: Group, p: Tensor) -> None:
        """Refuse what torch's own class refuses, before anything is written."""
        if gradient_of(p).is_sparse and not self._takes_sparse:
            raise RuntimeError(
                "Adam does not support sparse gradients, please consider SparseAdam instead"
            )
        if group["fused"] and not (p.is_floating_point() and p.device.type in FUSED_DEVICES):
            raise RuntimeError(
                "`fused=True` requires all the params to be floating point Tensors of supported "
                f"devices: {sorted(FUSED_DEVICES)} but {p.dtype} and {p.device.type}"
            )

    def _visit(self, group: Group, p: Tensor, use: Use) -> None:
        """Call use(alpha, g_t, u_{t-1}) for each piece of a parameter, then remember u_t."""
        plain_product = group["product"] == "gradient"
        memory = [self.state[p]["gradient"]] if plain_product else self._memory(group, p)
        direction = _first if plain_product else self._direction(group, p)
        whole = (p, dense_gradient(p), self.rate(group, p), *memory)
        for theta, grad, alpha, *kept in pieces(*whole):
            g = effective(group, grad, theta)
            if group["differentiable"]:  # what the graph holds must not be written to below
                u = direction(theta.clone(), alpha.clone(), *(t.clone() for t in kept))
            else:
                u = direction(theta, alpha, *kept)
            use(alpha, g, u)
            if plain_product:
                kept[0].copy_(g)
            else:
                self._remember(group, g, *kept)

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

    def _descend(self, group: Group) -> None:
        params = with_gradient(group)
        if group["granularity"] in ("element", "member"):
            for p in params:
                self._descend_at_rates(group, p)
        elif group["granularity"] == "tensor":
            for p in params:
                self._descend_together({**group, "lr": self.state[p]["lr"]}, [p])
        else:
            self._descend_together({**group, "lr": alpha_of(group)}, params)

    def _descend_together(self, group: Group, params: list[Tensor]) -> None:
        """Descend at one rate: by torch's fused kernel, its fastest, wherever that is right."""
        fused: list[Tensor] = []
        others: list[Tensor] = []
        for p in params:
            (fused if self._fusible(group, p) else others).append(p)
        for members, use in ((fused, True), (others, False)):
            if members:
                grads = [gradient_of(p) for p in members]
                states = [self.state[p] for p in members]
                lr = group["lr"] if use else plain(group["lr"])
                self._apply({**group, "fused": use, "lr": lr}, members, grads, states)

    def _fusible(self, group: Group, p: Tensor) -> bool:
        """Whether p may go to a fused kernel.

        torch's fused kernels on the CPU walk parameter, gradient and state in the order of memory
        whatever their strides (torch 2.13), so their layouts must agree.
        """
        return (
            wants_fused(group)
            and not group["differentiable"]
            and not torch.compiler.is_compiling()
            and p.is_floating_point()
            and p.device.type in FUSED_DEVICES
            and not gradient_of(p).is_sparse
            and same_layout([p, gradient_of(p), *self._memory(group, p)])
        )

    def _descend_at_rates(self, group: Group, p: Tensor) -> None:
        """Let the kernel take its step from zero at the rate -1: that is u_t."""
        u = torch.zeros_like(p)
        g = effective(group, dense_gradient(p), p)
        # in float16 an eps of 1e-8 is 0; of torch's kernels the fused ones count in float32
        fused = p.dtype.itemsize <= HALF and self._fusible(group, p)
        bare = {"lr": -1.0, "weight_decay": 0.0, "maximize": False, "fused": fused}
        self._apply({**group, **bare}, [u], [g], [self.state[p]])
        if group.get("decoupled_weight_decay"):
            u.add_(p, alpha=group["weight_decay"])
        as_real(p).sub_(as_real(self.rate(group, p)) * as_real(u))


def plain(scalar: Tensor) -> Tensor | float:
    """A 0-dim tensor as a float where nothing waits for that: on the CPU, and not in a graph."""
    if scalar.device.type != "cpu" or scalar.requires_grad or torch.compiler.is_compiling():
        return scalar
    return scalar.item()


class _Pool:
    """Inner products of g_t and u_{t-1}, summed over the parameters that share a rate."""

    def __init__(self, norms: bool) -> None:
        self.norms = norms  # asked for by some group: those that share a pool may differ in rule
        self.gu: list[Tensor] = []
        self.gg: list[Tensor] = []
        self.uu: list[Tensor] = []
        self.count: int | Tensor = 0

    @classmethod
    def of(cls, sums: Tensor) -> "_Pool":
        """A pool of the sums that `sums` gave, of all ranks; without a gradient, not a number."""
        pool = cls(norms=True)
        gu, gg, uu, pool.count = sums.unbind()
        pool.gu, pool.gg, pool.uu = [torch.where(pool.count == 0, torch.nan, gu)], [gg], [uu]
        return pool

    def sums(self, like: Tensor) -> Tensor:
        """<g, u>, <g, g>, <u, u> and their number of elements, in the precision of a rate."""
        count = torch.zeros_like(like) + self.count
        terms = [
            _total(t, like) if t else torch.zeros_like(like) for t in (self.gu, self.gg, self.uu)
        ]
        return torch.stack([*terms, count])

    def add(self, alpha: Tensor, g: Tensor, u: Tensor) -> None:
        product = inner_by_member if alpha.dim() else inner
        self.gu.append(product(g, u))
        if self.norms:
            self.gg.append(product(g, g))
            self.uu.append(product(u, u))
        self.count += g.numel() // self.gu[-1].numel()

    def hypergradient(self, group: Group, alpha: Tensor) -> Tensor:
        """h_t as the group's rule wants it: <g_t, u_{t-1}>, or the cosine of the two."""
        gu = _total(self.gu, alpha)
        if RULES[group["rule"]].normalized:
            return _cosine(gu, _total(self.gg, alpha), _total(self.uu, alpha))
        return gu / self.count if group["reduction"] == "mean" else gu


def _cosine(gu: Tensor, gg: Tensor, uu: Tensor) -> Tensor:
    norms = gg.sqrt() * uu.sqrt()
    # squares that underflow make the norms too small: what no cosine is must not move a rate
    return torch.where(norms == 0, 0.0, gu / norms).clamp(-1.0, 1.0)


def _cosine_of_elements(g: Tensor, u: Tensor) -> Tensor:
    """The cosine of two numbers: 1, -1 or 0, of any size; nan where one is not finite."""
    return g.sign() * u.sign() + (g - g) + (u - u)


def _move_elements(group: Group, alpha: Tensor, narrow_g: Tensor, narrow_u: Tensor) -> None:
    g, u = narrow_g.to(alpha.dtype), narrow_u.to(alpha.dtype)
    normalized = RULES[group["rule"]].normalized
    _move(group, alpha, _cosine_of_elements(g, u) if normalized else g * u)


def _move(group: Group, alpha: Tensor, h: Tensor) -> None:
    """Move alpha by the rule, within its bounds; not at all to where it would not be finite.

    Nor at h = 0, where a rate may be outside its bounds: a step at the rate 0 changes nothing, as
    `torch.distributed.checkpoint` expects of the one by which it makes states.
    """
    before = alpha.clone() if group["differentiable"] else alpha
    moved = RULES[group["rule"]].update(before, h, group["hypergrad_lr"])
    moves = moved.isfinite() & (h != 0)
    if group["lr_bounds"] is not None:
        moved = moved.clamp(*group["lr_bounds"])
    alpha.copy_(torch.where(moves, moved, before))


def _total(terms: list[Tensor], like: Tensor) -> Tensor:
    """The sum of tensors shaped like a rate, in its precision and on its device."""
    return torch.stack([t.to(like.device) for t in terms]).sum(0, dtype=like.dtype)


def _first(_theta: Tensor, _alpha: Tensor, u: Tensor) -> Tensor:
    return u


def _pool_of(group: Group, p: Tensor | None) -> Hashable:
    keys = {"global": "global", "group": id(group), "tensor": p, "member": id(group)}
    return keys[group["granularity"]]


def wants_fused(group: Group) -> bool:
    """Whether a group is for torch's fused kernels: by the user's wish, or for want of another."""
    return bool(group["fused"]) or (group["fused"] is None and group["foreach"] is None)
