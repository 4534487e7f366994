"""The options that all optimizers here share, and what is wrong with bad ones."""

import math
from typing import Any, Literal, get_args

from torch import Tensor

from hypergradient.engine.rules import RULES
from hypergradient.engine.types import Group

Granularity = Literal["global", "group", "tensor", "element", "member"]
Reduction = Literal["sum", "mean"]
Product = Literal["direction", "gradient"]
RuleName = Literal["additive", "multiplicative", "relative"]


def check(group: Group) -> None:
    """Check the options of a parameter group.

    Raises:
        ValueError: names the value and the remedy.
    """
    _choose("granularity", group["granularity"], get_args(Granularity))
    several = group["granularity"] == "member"
    usual = "1e-4, or 0 to keep the learning rate as it is"
    numbers("hypergrad_lr", group["hypergrad_lr"], usual, several=several)
    _choose("rule", group["rule"], RULES)
    _choose("reduction", group["reduction"], get_args(Reduction))
    _choose("product", group["product"], get_args(Product))
    _check_bounds(group["lr_bounds"], numbers("lr", group["lr"], "1e-3", several=several))
    numbers("weight_decay", group["weight_decay"], "1e-2, or 0 for none")


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
