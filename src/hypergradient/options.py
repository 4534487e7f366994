"""The options of a learning rate that tunes itself, and what is wrong with bad ones."""

import math
from typing import Any

from torch import Tensor

from hypergradient.rules import RULES

Group = dict[str, Any]
GRANULARITIES = ("global", "group", "tensor", "element", "member")
REDUCTIONS = ("sum", "mean")
PRODUCTS = ("direction", "gradient")


def check(group: Group) -> None:
    """Check the options of a parameter group.

    Raises:
        ValueError: names the value and the remedy.
    """
    _choose("granularity", group["granularity"], GRANULARITIES)
    several = group["granularity"] == "member"
    usual = "1e-4, or 0 to keep the learning rate as it is"
    _numbers("hypergrad_lr", group["hypergrad_lr"], usual, several=several)
    _choose("rule", group["rule"], RULES)
    _choose("reduction", group["reduction"], REDUCTIONS)
    _choose("product", group["product"], PRODUCTS)
    if group.get("classical") and group["dampening"]:
        raise ValueError(
            f"dampening={group['dampening']!r} has no place in classical momentum: leave it at 0"
        )
    _check_bounds(group["lr_bounds"], _numbers("lr", group["lr"], "1e-3", several=several))


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


def _numbers(name: str, value: Any, usual: str, *, several: bool) -> list[float]:
    """The number that an option is; its numbers, one a member, where there may be several."""
    try:
        found = value.detach().double().flatten().tolist() if isinstance(value, Tensor) else [value]
        numbers = [float(x) for x in found]
    except (TypeError, ValueError, RuntimeError):
        numbers = []
    alone = several or len(numbers) == 1
    if not (numbers and alone and all(math.isfinite(x) and x >= 0 for x in numbers)):
        kinds = "or a tensor of one a member" if several else "or a tensor of one element"
        raise ValueError(
            f"{name}={value!r} is not a finite number >= 0 (a float, {kinds}), such as {usual}"
        )
    return numbers


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
