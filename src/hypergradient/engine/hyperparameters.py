"""Momentum, betas and weight decay learn by their own hypergradients.

An option eta of the direction u moves down the derivative of the loss, as the learning rate does:

    h_t = -d f(theta_{t-1}) / d eta_{t-1} = alpha_{t-1} <g_t, d u_{t-1} / d eta>

The derivative is that of the last step alone, with the state before it held fixed, in closed form
(`Base.derivative`); nothing is differentiated through. All of this happens between two steps, as if
a scheduler had written the options. So the step itself, in C, in a kernel or in torch, is as it is.

A share such as a beta lies between 0 and 1, and weight decay above 0. They move as

    beta = (tanh z + 1) / 2,  lambda = exp z,  z_t = z_{t-1} + kappa h_t d beta / dz,

of which no step size kappa can lead out of the range (Chandra et al. 2022 do so for betas). The
group's rule says how z moves: "additive", "multiplicative" (by kappa times the cosine, as z has no
units), or "adam". By "hdm" a momentum moves itself, and is clipped, as in Chu et al. (2025).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hypergradient.engine.base import Base, Derivative, KernelBase, last_theta, stored_direction
from hypergradient.engine.inner_products import InnerProducts
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.numbers import as_float
from hypergradient.engine.options import check_step_sizes
from hypergradient.engine.rules import RULES, Rule, additive, tower
from hypergradient.engine.tensors import (
    chunks,
    dense_gradient,
    descent_gradient,
    inner,
    with_gradient,
)
from hypergradient.engine.types import Group, Number, State


class Learner(Protocol):
    """What is asked of the optimizer whose options learn, which is a `StatefulOptimizer`."""

    param_groups: list[Group]
    state: defaultdict[Tensor, Any]
    has_trace: bool

    def base_of(self, group: Group) -> Base: ...
    def initial_state(self, group: Group, p: Tensor) -> State: ...
    def memory_names(self, group: Group) -> tuple[str, ...]: ...


EDGE = 1e-7  # a share moves no nearer to 0 and 1: there its z would be lost to rounding
HIGHEST_MOMENTUM = 0.9995  # of the rule "hdm" (Chu et al. 2025, their code); 0 would end it
LARGEST_EXPONENT = 700.0  # exp of more overflows


class Scale(NamedTuple):
    """Where an option is free to move.

    Attributes:
        z: the free number of an option.
        slope: d option / dz.
        option: the option of a free number.
    """

    z: Callable[[float], float]
    slope: Callable[[float], float]
    option: Callable[[float], float]


SHARE = Scale(
    z=lambda x: math.atanh(2 * x - 1),
    slope=lambda x: 2 * x * (1 - x),
    option=lambda z: min(max((math.tanh(z) + 1) / 2, EDGE), 1 - EDGE),
)
POSITIVE = Scale(
    z=math.log,
    slope=lambda x: x,
    option=lambda z: math.exp(min(z, LARGEST_EXPONENT)),
)
CLIPPED = Scale(
    z=lambda x: x,
    slope=lambda _: 1.0,
    option=lambda z: min(max(z, EDGE), HIGHEST_MOMENTUM),
)
SCALES = {"momentum": SHARE, "beta1": SHARE, "beta2": SHARE, "weight_decay": POSITIVE}
"""What can learn beside the learning rate, by name."""


def step_sizes(learn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option `learn` with a name for each number: "betas" are two."""
    own = {name: steps for name, steps in learn.items() if name != "betas"}
    return {**{name: learn["betas"] for name in ("beta1", "beta2") if "betas" in learn}, **own}


def scale_of(group: Group, name: str) -> Scale:
    """Return where an option moves by the rule of its group."""
    clips = name == "momentum" and RULES[group["rule"]].form == "normalised"
    return CLIPPED if clips else SCALES[name]


def value_of(group: Group, name: str) -> float:
    """Return the value of an option that learns."""
    if name in ("beta1", "beta2"):
        return float(group["betas"][name == "beta2"])
    return float(group[name])


def check_learn(optimizer: Learner, base: Base, group: Group) -> None:
    """Check the option `learn` of a group.

    Raises:
        ValueError: names the value and the remedy.
    """
    learn, rule = group["learn"], group["rule"]
    if not isinstance(learn, Mapping):
        raise ValueError(  # noqa: TRY004 - as for all other options
            f"learn={learn!r} is no mapping from names to step sizes, such as {{'momentum': 1e-3}}"
        )
    if not learn:
        return
    alone = step_sizes(learn).keys() == {"momentum"}  # what the rule "hdm" is known for
    _require(group, "rule", ("additive", "multiplicative", "adam", *(["hdm"] if alone else [])))
    _require(group, "differentiable", (False,))
    group = {**group, **{f"last_{name}": group[name] for name in ("betas",) if name in group}}
    found = {name: derivative_of(optimizer, base, group, name, 1.0) for name in SCALES}
    able = [name for name, of in found.items() if of is not None]
    several = ("tensor", "element")
    for name, steps in step_sizes(learn).items():
        of = found.get(name)
        _require(group, "granularity", ("global", "group", *(several if _is_moved(of) else ())))
        if of is None:
            raise ValueError(
                f"learn={learn!r}: {name!r} cannot learn with the base {base.name!r} and its "
                f"options, only {', '.join(able) or 'the learning rate'}"
            )
        check_step_sizes(f"learn[{name!r}]", steps, rule)
        value, highest = value_of(group, name), 1.0 if SCALES[name] is SHARE else math.inf
        if not 0 < value < highest:
            raise ValueError(
                f"learn={learn!r}: {name} starts at {value!r}, where it has no way to go: start it "
                f"above 0{' and below 1' if highest == 1 else ''}, or leave it out of learn"
            )


def _require(group: Group, option: str, choices: tuple[str | bool, ...]) -> None:
    if group[option] not in choices:
        raise ValueError(
            f"learn={group['learn']!r} with {option}={group[option]!r}: give {option}="
            f"{' or '.join(map(repr, choices))}, or leave learn out"
        )


def _is_moved(of: Derivative | None) -> bool:
    """Whether the option moves theta itself, so that no rate has a part in its derivative."""
    return of is not None and not of.by_rate


def derivative_of(
    optimizer: Learner, base: Base, group: Group, name: str, key: Number
) -> Derivative | None:
    """Return d u_{t-1} / d option; None where there is no closed form for it.

    Args:
        optimizer: whose base it is.
        base: what makes u.
        group: the options, at which u_{t-1} was made.
        name: of the option, a key of `SCALES`.
        key: the parameter's `batch_key`.
    """
    if optimizer.has_trace:
        return None
    if isinstance(base, KernelBase):
        if base.iterate(group) is not None and name != "momentum":
            return None
        if name != "weight_decay" or not group["decoupled_weight_decay"]:
            return base.derivative(name, group, key)
    elif name != "weight_decay" or not group["decoupled_weight_decay"]:
        return None
    if group["product"] != "direction":
        return None
    last = last_direction_of(optimizer, base, group, key)
    return Derivative(last.states, last_theta(last.function))


def last_direction_of(optimizer: Learner, base: Base, group: Group, key: Number) -> Derivative:
    """Return u_{t-1}, or with product="gradient" g_{t-1}: the derivative by the rate."""
    direction = stored_direction
    kernels = isinstance(base, KernelBase) and not base.goes_plainly(group)
    if isinstance(base, KernelBase) and kernels and group["product"] == "direction":
        direction = base.last_direction(group, key)
    return Derivative(optimizer.memory_names(group), direction)


def move_hyperparameters(optimizer: Learner, *, alone: bool) -> None:
    """Move all options that learn, before a step that then uses them.

    Args:
        optimizer: whose options they are.
        alone: whether all parameters are in this process.

    Raises:
        ValueError: a scheduler moves the same options, or the step cannot be made so.
    """
    products: dict[Hashable, InnerProducts] = {}
    learners = [group for group in optimizer.param_groups if group["learn"]]
    for group in learners:
        _check_step(group, alone=alone)
        _accumulate(optimizer, group, products)
    for group in learners:
        for name, steps in step_sizes(group["learn"]).items():
            if (of := products.get(_key(group, name))) is not None:
                _move(group, name, steps, float(of.hypergradient(group)))


def _check_step(group: Group, *, alone: bool) -> None:
    learn = group["learn"]
    if not alone or torch.compiler.is_compiling():
        where = "in a compiled step" if alone else "with parameters spread over processes"
        raise ValueError(f"learn={learn!r} {where} is not supported: leave learn out")
    cycled = {"momentum", "beta1"} & step_sizes(learn).keys()
    if cycled and "max_momentum" in group:
        raise ValueError(
            f"learn={learn!r}, but a scheduler cycles {', '.join(cycled)}: give the scheduler "
            "cycle_momentum=False"
        )


def _key(group: Group, name: str) -> Hashable:
    """Return what shares the hypergradient of an option."""
    return name, "global" if group["granularity"] == "global" else id(group)


def _accumulate(optimizer: Learner, group: Group, products: dict[Hashable, InnerProducts]) -> None:
    """Add up the inner products of a group, and keep what the next ones are computed from."""
    base = optimizer.base_of(group)
    names = step_sizes(group["learn"])
    if "weight_decay" in names:  # u_{t-1} is recomputed with the one that it was made with
        group["last_weight_decay"] = group["weight_decay"]
    slopes = {n: scale_of(group, n).slope(value_of(group, n)) for n in names}
    norms = RULES[group["rule"]].needs_norms
    for p in with_gradient(group):
        state = optimizer.state[p]
        started = bool(state)
        if not started:
            state.update(optimizer.initial_state(group, p))
        key = base.batch_key(state) if isinstance(base, KernelBase) else 0.0
        last = last_direction_of(optimizer, base, group, key)
        for name, slope in slopes.items():
            of = derivative_of(optimizer, base, group, name, key)
            if of is None or not started or not all(each in state for each in of.states):
                continue  # there was no step before, or it has not kept what is needed
            own = products.setdefault(_key(group, name), InnerProducts(norms=norms))
            for i, terms in enumerate(_terms(group, p, state, of, last, slope)):
                own.add(0 if i else p.numel(), *terms)
        if isinstance(base, KernelBase):
            g = descent_gradient(group, dense_gradient(p), p)
            for name, tensor in base.past(names, g, state).items():
                if name in state:
                    state[name].copy_(tensor)
                else:
                    state[name] = torch.zeros_like(p).copy_(tensor)


def _terms(
    group: Group, p: Tensor, state: State, of: Derivative, last: Derivative, slope: float
) -> Iterator[list[Number]]:
    """Yield, chunk by chunk, <g_t, d>, and with norms <g_t, g_t> and <d, d>: d is d theta / dz.

    A normalised h has <u_{t-1}, u_{t-1}> in the place of <d, d>, as the h of the rate has.

    Args:
        group: the options of the group.
        p: the parameter.
        state: its state.
        of: the derivative by the option.
        last: u_{t-1}.
        slope: d option / dz.
    """
    rule = RULES[group["rule"]]
    scale = slope * (as_float(alpha_of(group)) if of.by_rate else 1.0)
    directions = _pairs(group, p, state, last) if rule.form == "normalised" else repeat(None)
    for (g, d), direction in zip(_pairs(group, p, state, of), directions, strict=False):
        terms = [as_float(inner(g, d)) * scale]
        if direction is not None:
            _, u = direction
            terms += [as_float(inner(g, g)), as_float(inner(u, u))]
        elif rule.needs_norms:
            terms += [as_float(inner(g, g)), as_float(inner(d, d)) * scale * scale]
        yield terms


def _pairs(
    group: Group, p: Tensor, state: State, of: Derivative
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks of g_t and of what a `Derivative` is, in float32 or better."""
    dtype = torch.promote_types(p.real.dtype, torch.float32)
    alpha = alpha_of(group).to(dtype)
    tensors = (state[name] for name in of.states)
    for theta, grad, *states in chunks(p, dense_gradient(p), *tensors):
        g = descent_gradient(group, grad, theta).to(dtype)
        yield g, of.function(theta.to(dtype), alpha, *(t.to(dtype) for t in states))


@lru_cache(maxsize=100)
def rule_of_z(rule: Rule, steps: float | tuple[float, ...], *, bounded: bool) -> Rule:
    """Return how z moves by a rule of learning rates: where that multiplies, z adds."""
    own = rule
    if rule.form == "cosine":
        own = Rule(additive, memory=rule.memory, direction=rule.direction)
    if not isinstance(steps, tuple) or len(steps) == 1:
        return own
    return tower(own, steps, bounded=bounded)


def _move(group: Group, name: str, steps: Any, h: float) -> None:
    """Move an option, and what its rule remembers, which are numbers of the group."""
    if not math.isfinite(h) or h == 0:
        return
    value, scale = value_of(group, name), scale_of(group, name)
    rule = rule_of_z(RULES[group["rule"]], steps, bounded=group["lr_bounds"] is not None)
    memory = [group.get(f"{name}_{own}", start) for own, start in rule.memory.items()]
    beta = steps[0] if isinstance(steps, tuple) else steps
    result = rule.update(scale.z(value), h, beta, *memory)
    z, *remembered = result if isinstance(result, tuple) else (result,)
    if not math.isfinite(z):
        return
    for own, number in zip(rule.memory, remembered, strict=True):
        group[f"{name}_{own}"] = float(number)
    moved = scale.option(z)
    if name in ("beta1", "beta2"):
        betas = [*group["betas"]]
        betas[name == "beta2"] = moved
        group["betas"] = tuple(betas)
    else:
        group[name] = moved
