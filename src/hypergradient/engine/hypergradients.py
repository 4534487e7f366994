"""h_t = <g_t, u_{t-1}>, and the move of a learning rate that follows from it."""

import math
from functools import partial

import torch
from torch import Tensor

from hypergradient.engine.gpu.formula_kernels import by_kernel
from hypergradient.engine.numbers import as_float, assign, cosine_of_elements
from hypergradient.engine.param_step import Batches, ParamStep, UpdateRule
from hypergradient.engine.rules import beta_of, rule_of
from hypergradient.engine.tensors import (
    chunks,
    descent_gradient,
    in_graph,
    inner,
    inner_by_member,
)
from hypergradient.engine.types import Group, Number


def accumulate(batches: Batches) -> None:
    """Add up inner products, move element-wise rates, and keep the u_t that follow already.

    This is the eager way, which is right everywhere, and the reference for the C pass. The
    optimizer's step calls it for the parameters that no faster way has taken.

    Args:
        batches: pairs of an `UpdateRule` and its `ParamStep`s (see param_step.py).
    """
    for rule, steps in batches:
        for each in steps:
            _accumulate_one(rule, each)


def _accumulate_one(rule: UpdateRule, each: ParamStep) -> None:
    group, products, coefficients = rule.group, rule.products, rule.direction_coefficients
    recorded, count = in_graph(), len(each.memory)
    tensors = (each.p, each.grad, each.alpha, *each.memory, *each.rule_memory)
    by_element = products is None and rule_of(group).form == "normalised"
    uu = _squares_of_direction(rule, each) if by_element else None
    for theta, grad, alpha, *others in chunks(*tensors):
        memory, rule_memory = others[:count], others[count:]
        g = descent_gradient(group, grad, theta)
        if group["differentiable"]:  # what the graph holds must not be written to below
            u = rule.direction(theta.clone(), alpha.clone(), *(t.clone() for t in memory))
        else:
            u = rule.direction(theta, alpha, *memory)
        if products is None:
            _move_elements(group, alpha, g, u, rule_memory, uu)
        else:
            pairs = ((g, u), (g, g), (u, u)) if products.norms else ((g, u),)
            by_member = alpha.dim() > 0
            values = [(inner_by_member if by_member else inner)(*pair) for pair in pairs]
            share = g.numel() // values[0].numel()
            numbers = values if recorded or by_member else map(as_float, values)
            products.add(share, *rule.scaled(numbers))
        if coefficients is not None:
            _keep_direction(coefficients, g, *memory)


def _squares_of_direction(rule: UpdateRule, each: ParamStep) -> Tensor:
    """Return <u_{t-1}, u_{t-1}> of a parameter whose elements have rates of their own."""
    terms = []
    for chunk in chunks(each.p, each.alpha, *each.memory):
        kept = rule.group["differentiable"]  # a graph holds what must not be written to later
        u = rule.direction(*(t.clone() if kept else t for t in chunk))
        terms.append(inner(u, u).to(each.alpha.real.dtype))
    return torch.stack(terms).sum()


def _keep_direction(coefficients: tuple[float, float], g: Tensor, u: Tensor, *rest: Tensor) -> None:
    a, b = coefficients
    u.copy_(g if a == 1 else g * a)
    if b:
        u.add_(rest[0], alpha=b)


def apply_rule(
    group: Group,
    alpha: Tensor,
    h: Number,
    memory: list[Tensor],
    *,
    traced: bool = False,
) -> None:
    """Move alpha by the rule, within its bounds, and what the rule remembers with it.

    A rate does not move to where it would not be finite, and neither moves where h is not finite.
    At h = 0 the rate stays too, be it outside its bounds: a step at the rate 0 changes nothing, as
    `torch.distributed.checkpoint` expects of the one by which it makes states. A rule of log alpha
    learns nothing at a rate of 0, where a schedule may start or end: neither moves there.

    Args:
        group: the options.
        alpha: the rate or rates, written to.
        h: the hypergradient.
        memory: what the rule remembers, in the order of `Rule.memory`, written to.
        traced: whether h is of a trace, for rules that use it.
    """
    if type(h) is float and alpha.is_cpu:
        _apply_to_float(group, alpha, h, memory, traced=traced)
        return
    named, beta, bounds = rule_of(group), beta_of(group), group["lr_bounds"]
    numbers = [alpha, torch.as_tensor(h, dtype=alpha.dtype, device=alpha.device), *memory]
    if isinstance(beta, Tensor):  # one for each member
        numbers.append(beta)
        beta = None
    places, moved = [alpha, *memory], partial(_moved, group, traced=traced)
    if group["differentiable"]:
        numbers[0] = alpha.clone()
    elif by_kernel((named, beta, bounds and tuple(bounds), traced), moved, numbers, places):
        return
    for place, number in zip(places, moved(numbers), strict=True):
        assign(place, number)


def _apply_to_float(
    group: Group, alpha: Tensor, h: float, memory: list[Tensor], *, traced: bool
) -> None:
    named, beta, bounds = rule_of(group), beta_of(group), group["lr_bounds"]
    rule = named.update
    if traced and named.uses_trace:
        rule = partial(rule, traced=True)
    before = [m.item() for m in memory]
    result = rule(alpha.item(), h, beta, *before)
    value, *remembered = result if memory else (result,)
    value = float(value)
    if math.isfinite(value) and math.isfinite(h) and h != 0:
        if bounds is not None:
            value = min(max(value, bounds[0]), bounds[1])
        alpha.fill_(value)
    if math.isfinite(h) and (named.form != "logarithmic" or alpha.item() != 0):
        for m, old, new in zip(memory, before, remembered, strict=True):
            if new != old:  # a write costs more than the rest
                m.fill_(new)


def _moved(group: Group, numbers: list[Tensor], *, traced: bool) -> list[Tensor]:
    """Return alpha_t and what the rule remembers next; the slow way of `apply_rule`.

    Args:
        group: the options.
        numbers: alpha_{t-1}, h_t and what the rule remembers; at last beta, where it is a tensor.
        traced: as in `apply_rule`.
    """
    named, beta, bounds = rule_of(group), beta_of(group), group["lr_bounds"]
    start, h, *memory = numbers
    if isinstance(beta, Tensor):
        *memory, beta = memory
    rule = named.update
    if traced and named.uses_trace:
        rule = partial(rule, traced=True)
    result = rule(start, h, beta, *memory)
    moved, *remembered = result if memory else (result,)
    moves = moved.isfinite() & h.isfinite() & (h != 0)
    if bounds is not None:
        moved = moved.clamp(*bounds)
    learns = h.isfinite()
    if named.form == "logarithmic":
        learns = learns & (start != 0)
    return [
        torch.where(moves, moved, start),
        *(torch.where(learns, new, m) for m, new in zip(memory, remembered, strict=True)),
    ]


def _move_elements(
    group: Group,
    alpha: Tensor,
    narrow_g: Tensor,
    narrow_u: Tensor,
    memory: list[Tensor],
    uu: Tensor | None,
) -> None:
    """Move a rate for each element: there <g_t, u_{t-1}> is a product of two numbers.

    With the form "normalised" it is divided by `uu`, which is |u_{t-1}|^2 of the whole parameter.
    """
    g, u = narrow_g.to(alpha.dtype), narrow_u.to(alpha.dtype)
    rule = rule_of(group)
    if rule.form == "cosine":
        h = cosine_of_elements(g, u)
    elif uu is not None:
        h = torch.where(uu == 0, 0.0 * g * u, g * u / torch.where(uu == 0, 1.0, uu))
    else:
        h = g * u
    if rule.form == "logarithmic":
        h = alpha * h
    apply_rule(group, alpha, h, memory)
