"""Inner products pooled over what shares a rate, the h_t that they make, and the move of the rate.

Numbers are Python floats on the CPU, where arithmetic on them costs a tenth of that on 0-dim
tensors, and 0-dim tensors where a float would have to wait (accelerators) or lose a graph.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hypergradient.options import Group
from hypergradient.rules import RULES

Number = float | Tensor


class Pool:
    """Terms of <g_t, u_{t-1}>, and of <g_t, g_t> and <u_{t-1}, u_{t-1}> with `norms`."""

    def __init__(self, norms: bool) -> None:
        self.norms = norms  # asked for by some group: those that share a pool may differ in rule
        self.terms: list[tuple[Number, ...]] = []
        self.count: int | Tensor = 0  # elements that share the rate

    @classmethod
    def of(cls, sums: Tensor) -> "Pool":
        """A pool of the sums that `sums` gave, of all ranks; without a gradient, not a number."""
        pool = cls(norms=True)
        gu, gg, uu, pool.count = sums.unbind()
        pool.terms = [(torch.where(pool.count == 0, torch.nan, gu), gg, uu)]
        return pool

    def add(self, count: int, *products: Number) -> None:
        self.terms.append(products)
        self.count += count

    def totals(self) -> list[Number]:
        if len(self.terms) == 1 and type(self.terms[0][0]) is float:
            return [*self.terms[0]]
        return [total(terms) for terms in zip(*self.terms, strict=True)]

    def sums(self, like: Tensor) -> Tensor:
        """<g, u>, <g, g>, <u, u> and their number of elements, in the precision of a rate."""
        zero = torch.zeros_like(like)
        numbers = [torch.as_tensor(t, dtype=zero.dtype).to(zero) for t in self.totals()]
        numbers += [zero] * (3 - len(numbers))
        return torch.stack([zero + t for t in (*numbers, self.count)])

    def hypergradient(self, group: Group) -> Number:
        """h_t as the group's rule wants it: <g_t, u_{t-1}>, or the cosine of the two."""
        gu, *norms = self.totals()
        if RULES[group["rule"]].normalized:
            return cosine(gu, *norms)
        if group["reduction"] != "mean":
            return gu
        return gu / (self.count if isinstance(self.count, Tensor) else max(self.count, 1))


def total(terms: Sequence[Number]) -> Number:
    """The sum: of floats a float; of tensors one, in float64 on the CPU, else in float32."""
    device = next((t.device for t in terms if isinstance(t, Tensor)), None)
    if device is None:
        return sum(terms)
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    return torch.stack([torch.as_tensor(t, device=device, dtype=dtype) for t in terms]).sum(0)


def cosine(gu: Number, gg: Number, uu: Number) -> Number:
    """<g, u> / (|g| |u|), zero where a norm is.

    Squares that underflow make the norms too small: what no cosine is must not move a rate.
    """
    norms = gg**0.5 * uu**0.5
    if isinstance(norms, Tensor):
        return torch.where(norms == 0, 0.0, gu / norms).clamp(-1.0, 1.0)
    ratio = gu / norms if norms else 0.0
    return ratio if math.isnan(ratio) else min(max(ratio, -1.0), 1.0)


def cosine_of_elements(g: Tensor, u: Tensor) -> Tensor:
    """The cosine of two numbers: 1, -1 or 0, of any size; nan where one is not finite."""
    return g.sign() * u.sign() + (g - g) + (u - u)


def move(group: Group, alpha: Tensor, h: Number) -> None:
    """Move alpha by the rule, within its bounds; not at all to where it would not be finite.

    Nor at h = 0, where a rate may be outside its bounds: a step at the rate 0 changes nothing, as
    `torch.distributed.checkpoint` expects of the one by which it makes states.
    """
    rule, beta, bounds = RULES[group["rule"]].update, group["hypergrad_lr"], group["lr_bounds"]
    if type(h) is float and alpha.is_cpu:
        value = float(rule(alpha.item(), h, beta))
        if math.isfinite(value) and h != 0:
            if bounds is not None:
                value = min(max(value, bounds[0]), bounds[1])
            alpha.fill_(value)
        return
    before = alpha.clone() if group["differentiable"] else alpha
    h = torch.as_tensor(h, dtype=alpha.dtype, device=alpha.device)
    moved = rule(before, h, beta)
    moves = moved.isfinite() & (h != 0)
    if bounds is not None:
        moved = moved.clamp(*bounds)
    alpha.copy_(torch.where(moves, moved, before))


def move_elements(group: Group, alpha: Tensor, narrow_g: Tensor, narrow_u: Tensor) -> None:
    """Move a rate for each element: there <g_t, u_{t-1}> is a product of two numbers."""
    g, u = narrow_g.to(alpha.dtype), narrow_u.to(alpha.dtype)
    normalized = RULES[group["rule"]].normalized
    move(group, alpha, cosine_of_elements(g, u) if normalized else g * u)


def plain(scalar: Tensor) -> Number:
    """A 0-dim tensor as a float where nothing waits for that: on the CPU, and not in a graph."""
    if scalar.is_cpu and not (scalar.requires_grad or torch.compiler.is_compiling()):
        return scalar.item()
    return scalar
