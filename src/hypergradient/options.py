"""The options of a learning rate that tunes itself, and what is wrong with bad ones."""

import math
from typing import Any

from torch import Tensor

from hypergradient.rules import RULES

Group = dict[str, Any]
GRANULARITIES = ("global", "group", "tensor", "element")
REDUCTIONS = ("sum", "mean")
PRODUCTS = ("direction", "gradient")


def check(group: Group) -> None:
    """Check the options of a parameter group.

    Raises:
        ValueError: names the value and the remedy.
    """
    _number("hypergrad_lr", group["hypergrad_lr"], "1e-4, or 0 to keep the learning rate as it is")
    _choose("rule", group["rule"], RULES)
    _choose("granularity", group["granularity"], GRANULARITIES)
    _choose("reduction", group["reduction"], REDUCTIONS)
    _choose("product", group["product"], PRODUCTS)
    if group.get("classical") and group["dampening"]:
        raise ValueError(
            f"dampening={group['dampening']!r} has no place in classical momentum: leave it at 0"
        )
    _check_bounds(group["lr_bounds"], _number("lr", group["lr"], "1e-3"))


def _number(name: str, value: Any, usual: str) -> float:
    try:
        number = float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(
            f"{name}={value!r} is not a finite number >= 0 (a float, or a tensor of one element), "
            f"such as {usual}"
        )
    return number


def _choose(name: str, value: object, choices: Any) -> None:
    if value not in tuple(choices):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(choices)}")


def _check_bounds(bounds: Any, lr: float) -> None:
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
    if not low <= lr <= high:
        raise ValueError(
            f"lr={lr!r} is outside lr_bounds={bounds!r}: start inside them, or widen them"
        )
