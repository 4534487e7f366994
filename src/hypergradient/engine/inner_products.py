"""Inner products of g_t with u_{t-1}, added up over what shares a learning rate."""

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from hypergradient.engine.gpu.formula_kernels import by_kernel
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.numbers import cosine, dtype_of_total, total, where
from hypergradient.engine.rules import RULES, rule_of
from hypergradient.engine.types import Group, Number

FEW = 48  # numbers, of which one kernel makes a hypergradient


class InnerProducts:
    """Terms of <g_t, u_{t-1}>, and of <g_t, g_t> and <u_{t-1}, u_{t-1}> with `norms`.

    Where there is a trace, it is in the place of u_{t-1}, and with `norms` the other two are
    <u_t, trace_{t-1}> and <u_t, u_t>.

    Attributes:
        norms: whether a group asks for norms; groups that share a rate may differ in their rule.
        terms: (<g, u>,) or (<g, u>, <g, g>, <u, u>), one for each chunk or batch.
        count: the number of elements that share the rate.
    """

    def __init__(self, *, norms: bool) -> None:
        self.norms = norms
        self.terms: list[tuple[Number, ...]] = []
        self.count: int | Tensor = 0

    @classmethod
    def of(cls, sums: Tensor) -> "InnerProducts":
        """Return the products of all ranks, from the sum of what each rank's `sums` gave.

        Where no rank had a gradient, <g, u> is NaN, which moves no rate.
        """
        products = cls(norms=True)
        gu, gg, uu, products.count = sums.unbind()
        products.terms = [(torch.where(products.count == 0, torch.nan, gu), gg, uu)]
        return products

    def add(self, count: int, *products: Number) -> None:
        self.terms.append(products)
        self.count += count

    def totals(self) -> list[Number]:
        if len(self.terms) == 1 and type(self.terms[0][0]) is float:
            return [*self.terms[0]]
        return [total(terms) for terms in zip(*self.terms, strict=True)]

    def sums(self, like: Tensor) -> Tensor:
        """Return <g, u>, <g, g>, <u, u> and their number of elements, in a rate's precision."""
        zero = torch.zeros_like(like)
        numbers = [torch.as_tensor(t, dtype=zero.dtype).to(zero) for t in self.totals()]
        numbers += [zero] * (3 - len(numbers))
        return torch.stack([zero + t for t in (*numbers, self.count)])

    def hypergradient(self, group: Group) -> Number:
        """Return h_t in the form that the group's rule wants."""
        if self.terms and isinstance(self.terms[0][0], Tensor):
            h = self._by_kernel(group)
            if h is not None:
                return h
        return self._formed(group, self.totals())

    def _by_kernel(self, group: Group) -> Tensor | None:
        """Return h_t from a few numbers on a device in one launch; None if that cannot be."""
        numbers = [t for term in self.terms for t in term if isinstance(t, Tensor)]
        width, count = len(self.terms[0]), self.count
        few = len(numbers) == width * len(self.terms) <= FEW
        if not few or isinstance(count, Tensor) or group["differentiable"]:
            return None
        h = numbers[0].new_empty(numbers[0].shape, dtype=dtype_of_total(numbers[0].device))
        key = rule_of(group).form, width, count if group["reduction"] == "mean" else None

        def function(numbers: list[Tensor]) -> list[Tensor]:
            totals = [sum(numbers[i + width :: width], numbers[i]) for i in range(width)]
            return [torch.as_tensor(self._formed(group, totals))]

        return h if by_kernel(key, function, numbers, [h]) else None

    def _formed(self, group: Group, totals: Sequence[Number]) -> Number:
        gu, *norms = totals
        form = rule_of(group).form
        if form == "cosine":
            return cosine(gu, *norms)
        if form == "normalised":
            uu = norms[1]
            normalised: Number = where(uu > 0, gu, 0.0 * gu) / where(uu > 0, uu, 1.0)
            return normalised
        if group["reduction"] != "mean":
            return gu
        return gu / (self.count if isinstance(self.count, Tensor) else max(self.count, 1))


Products = dict[Hashable, InnerProducts]
"""The products of a step, by what shares a rate."""


def products_key(group: Group, p: Tensor | None) -> Hashable:
    """Return what shares a rate, to find its products; None where each element has its own."""
    granularity: str = group["granularity"]
    if granularity in ("group", "member"):
        return id(group)
    if granularity == "tensor":
        return p
    if granularity == "element":
        return None
    return "global, by log alpha" if RULES[group["rule"]].form == "logarithmic" else "global"


def shared_rates(optimizer: Optimizer, group: Group) -> Iterator[tuple[Hashable, Tensor]]:
    """Yield each rate of a group that is not element-wise, and what shares it."""
    if group["granularity"] == "tensor":
        for p in group["params"]:
            if "lr" in optimizer.state.get(p, {}):
                yield p, optimizer.state[p]["lr"]
    elif group["granularity"] != "element":
        yield products_key(group, None), alpha_of(group)
