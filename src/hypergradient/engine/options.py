"""The options that all optimizers here share, and what is wrong with bad ones."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor
from torch.nn import Module

from hypergradient.engine.rules import RULES, beta_of
from hypergradient.engine.types import Group

Granularity = Literal["global", "group", "tensor", "element", "member"]
Reduction = Literal["sum", "mean"]
Product = Literal["direction", "gradient"]
RuleName = Literal["additive", "multiplicative", "relative", "adam", "hdm"]
StepSizes = float | Tensor | tuple[float, ...]
"""A number, or one a member in a tensor; or those of a tower, in which all but the last learn."""

MADE_FOR = ("base", "granularity", "rule", "hypergrad_lr")
"""The options on which it depends what an optimizer keeps: they stay as they were at the start. Of
`hypergrad_lr` that is how many numbers it has."""


def check_kinds(group: Group, defaults: Mapping[str, Any]) -> None:
    """Check that options whose defaults are numbers are numbers, and no text.

    Args:
        group: the options.
        defaults: the usual value of each option of this kind, a number or a tuple of numbers.

    Raises:
        ValueError: names the value and the remedy.
    """
    for name, usual in defaults.items():
        several = isinstance(usual, tuple) or name == "hypergrad_lr"
        if type(usual) in (int, float) and not (several and isinstance(group[name], tuple)):
            _check_number(name, group[name])
        elif several and isinstance(group[name], tuple | list):
            for i, part in enumerate(group[name]):
                _check_number(f"{name}[{i}]", part)


def check_params(params: Any) -> None:
    """Check that parameters are not a model.

    Raises:
        TypeError: they are.
    """
    if isinstance(params, Module):
        raise TypeError(
            f"params={type(params).__name__}(...) is a model: give its parameters, "
            "model.parameters()"
        )


def check(group: Group) -> None:
    """Check the options of a parameter group.

    Raises:
        ValueError: names the value and the remedy.
    """
    _choose("granularity", group["granularity"], get_args(Granularity))
    several = group["granularity"] == "member"
    _choose("rule", group["rule"], RULES)
    check_step_sizes("hypergrad_lr", group["hypergrad_lr"], group["rule"], several=several)
    _choose("reduction", group["reduction"], get_args(Reduction))
    _choose("product", group["product"], get_args(Product))
    rates = numbers("lr", group["lr"], "1e-3", several=several)
    _check_bounds(group["lr_bounds"], rates)
    _check_moves(group, rates)
    numbers("weight_decay", group["weight_decay"], "1e-2, or 0 for none")


def check_step_sizes(name: str, steps: Any, rule: str, *, several: bool = False) -> None:
    """Check a step size, or those of a tower.

    Raises:
        ValueError: names the value and the remedy.
    """
    usual = "1e-4, or 0 to keep the learning rate as it is"
    if not isinstance(steps, tuple):
        numbers(name, steps, usual, several=several)
        return
    for i, step in enumerate(steps):
        numbers(f"{name}[{i}]", step, usual)
    if any(isinstance(step, Tensor) for step in steps) or len(steps) < 1:
        raise ValueError(f"{name}={steps!r} is no tuple of floats, such as (1e-4, 1e-6)")
    if RULES[rule].direction is None:
        able = ", ".join(each for each in RULES if RULES[each].direction is not None)
        raise ValueError(
            f"{name}={steps!r} is a tower, which rule={rule!r} cannot have: give one number, or "
            f"one of the rules {able}"
        )


def made_for(group: Group) -> tuple[Any, ...]:
    """Return the options of a group that its rates and states depend on, as `MADE_FOR` names."""
    steps = group["hypergrad_lr"]
    height = len(steps) if type(steps) is tuple else 1
    return group["base"], group["granularity"], group["rule"], height


def check_change(group: Group) -> None:
    """Check that a group goes on with options that its rates and states were not made for.

    Raises:
        ValueError: it cannot; names the option, its value and the remedy.
    """
    for name, before in zip(MADE_FOR, group["made_for"], strict=True):
        now: Any = group[name]
        if name == "hypergrad_lr":
            now = len(now) if isinstance(now, tuple) else 1
            if now != before:
                raise ValueError(
                    f"hypergrad_lr={group[name]!r} has {now} number(s) and had {before} when the "
                    f"state of this group was made: give {before}, or make a new optimizer"
                )
        alike = name == "rule" and now in RULES and RULES[now].memory == RULES[before].memory
        if now != before and not alike:
            raise ValueError(
                f"{name}={now!r} was {before!r} when the state of this group was made: put "
                f"{before!r} back, or make a new optimizer with {name}={now!r}"
            )
    group["made_for"] = made_for(group)


def check_members(group: Group) -> int:
    """Check that the parameters of a group are stacks of its members, and count these.

    Raises:
        ValueError: names the value and the remedy.
    """
    first = group["params"][0]
    members = len(first) if first.dim() else 0
    for p in group["params"]:
        if members == 0 or p.dim() == 0 or len(p) != members:
            raise ValueError(
                f"granularity='member' with a parameter of shape {tuple(p.shape)}: all parameters "
                "of a group need one leading index a member, as torch.func.stack_module_state gives"
            )
    for name in ("lr", "hypergrad_lr"):
        if isinstance(group[name], Tensor) and group[name].numel() not in (1, members):
            raise ValueError(
                f"{name}={group[name]!r} has {group[name].numel()} numbers for {members} members: "
                "give one number, or one a member"
            )
    return members


def numbers(name: str, value: Any, usual: str, *, several: bool = False) -> list[float]:
    """Return the number that an option is; its numbers, one a member, if it may have `several`.

    Raises:
        ValueError: it is no finite number >= 0.
    """
    try:
        found = value.detach().double().flatten().tolist() if isinstance(value, Tensor) else [value]
        given = [float(x) for x in found]
    except (TypeError, ValueError, RuntimeError):
        given = []
    alone = several or len(given) == 1
    if not (given and alone and all(math.isfinite(x) and x >= 0 for x in given)):
        kinds = "or a tensor of one a member" if several else "or a tensor of one element"
        raise ValueError(
            f"{name}={value!r} is not a finite number >= 0 (a float, {kinds}), such as {usual}"
        )
    return given


def _check_number(name: str, value: Any) -> None:
    """Refuse what is no number, text among it, which `float` would take for one."""
    if isinstance(value, Tensor):
        return
    problem = "is not a number, such as 1e-3"
    try:
        number = float(value)
    except (TypeError, ValueError):
        pass
    else:
        if not isinstance(value, str | bytes):
            return
        problem = (
            f"is text, not a number: write {number!r}, or in a YAML file {number:.1e}, "
            "as YAML knows no exponent without a point"
        )
    raise ValueError(f"{name}={value!r} {problem}")


def _check_moves(group: Group, rates: list[float]) -> None:
    """Refuse a rate of 0 that no hypergradient can move."""
    moves = any(numbers("hypergrad_lr", beta_of(group), "", several=True))
    multiplies = RULES[group["rule"]].form in ("cosine", "logarithmic")
    if multiplies and moves and 0 in rates:
        raise ValueError(
            f"lr={group['lr']!r} stays 0 for ever with rule={group['rule']!r}, which multiplies "
            "it: start above 0, or use rule='additive'"
        )


def _choose(name: str, value: object, choices: Any) -> None:
    if value not in tuple(choices):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(choices)}")


def _check_bounds(bounds: Any, rates: list[float]) -> None:
    if bounds is None:
        return
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise ValueError(
            f"lr_bounds={bounds!r} is not a pair (low, high) with low <= high, "
            "such as (0.0, 1.0), nor None for an unbounded learning rate"
        )
    for lr in rates:
        if not low <= lr <= high:
            raise ValueError(
                f"lr={lr!r} is outside lr_bounds={bounds!r}: start inside them, or widen them"
            )
