"""A comparison as an ordinary study: which methods, rates and schedules, and its TOML file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import OWN_CODE_RAISES
from hypergradient.study.import_by_name import is_reference
from hypergradient.study.methods.modes import has_modes
from hypergradient.study.methods.registry import METHODS, find_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.study.comparison.budget import Size
    from hypergradient.study.methods.registry import Method

RIVAL = "AdamW"

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""The rates of the rival: a factor of about three apart, around torch's own default."""

WEIGHT_DECAY = 0.01
"""torch's own default for AdamW."""

CONTENDERS = ("Untuned", "AdamW-HD")
"""What the rival is compared with, besides what a person names."""

RECOMMENDED: dict[str, dict[str, float | str]] = {
    "AdamW-HD": {"rule": "relative", "hypergrad_lr": 0.02},
}
"""The options with which the README recommends a method; others have their defaults."""

PLANNED = "warmup-cosine"
"""The schedule of a method whose rate must be chosen: 5% warm-up, then a cosine to 0."""


@dataclass(frozen=True)
class Contender:
    """A method that takes part.

    Attributes:
        name: As in a study.
        schedule: Its schedule.
        rates: The rates from which it is run; None is the optimizer's own default.
    """

    name: str
    schedule: str
    rates: tuple[float, ...] | None


def contender(text: str, rates: Sequence[float]) -> Contender:
    """Return the contender that a person names: ``NAME`` or ``NAME@0.01,0.1``.

    A method that adapts its rate starts from its own default, and any other from the rival's rates,
    unless rates are given. One that averages its iterates, or adapts its rate, needs no schedule.

    Args:
        text: What was named.
        rates: The rival's rates.

    Raises:
        ValueError: There is no such method.
    """
    name, at, given = text.rpartition("@")
    if not at or not all(map(_is_number, given.split(","))):
        name, given = text, ""
    try:
        method = find_method(name)
    except ValueError as error:
        close = [] if is_reference(name) else get_close_matches(name, METHODS, n=1)
        if close:
            raise ValueError(f"no optimizer {name!r}; did you mean {close[0]}?") from error
        raise
    own = tuple(map(float, given.split(","))) if given else None
    adaptive, averages = _nature(method)
    if own is None and not adaptive:
        own = tuple(rates)
    planned = PLANNED in method.schedules and not adaptive and not averages
    return Contender(name, PLANNED if planned else method.schedules[0], own)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nature(method: Method) -> tuple[bool, bool]:
    """Return whether a method adapts its rate, and whether it averages its iterates."""
    import torch  # noqa: PLC0415

    for options in ({}, {"lr": RATES[len(RATES) // 2]}):
        try:
            optimizer = method.build([torch.zeros(1, 1, requires_grad=True)], options)
            return method.traits(options).adaptive, has_modes(optimizer)
        except OWN_CODE_RAISES:  # it may need a rate; what else is wrong is said by the study
            continue
    known = method.known_traits
    return known is not None and known.adaptive, False


def declare(
    task: str,
    title: str,
    description: str,
    size: Size,
    batch_size: int,
    weight_decay: float,
    contenders: Sequence[str],
) -> dict[str, Any]:
    """Return the content of the study's file.

    Args:
        task: The task's name or file.
        title: The page's heading.
        description: What is below it.
        size: The rates, seeds and epochs.
        batch_size: Examples in a minibatch.
        weight_decay: That of all methods.
        contenders: What the rival is compared with.
    """
    rival = Contender(RIVAL, PLANNED, size.rates)
    every = dict.fromkeys([rival, *(contender(text, size.rates) for text in contenders)])
    methods = [
        {
            "names": [each.name],
            "schedule": [each.schedule],
            "grid": RECOMMENDED.get(each.name, {})
            | ({} if each.rates is None else {"lr": list(each.rates)}),
        }
        for each in every
    ]
    steps = {} if size.steps is None else {"steps": size.steps}
    return {
        "title": title,
        "description": description,
        "tasks": [task],
        "seeds": list(range(size.seeds)),
        "epochs": size.epochs,
        **steps,
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "figures": ["compare"],
        "methods": methods,
    }


def to_toml(content: dict[str, Any], comment: str) -> str:
    """Return a study's content as a TOML file, after a line of comment."""
    lines = [f"# {comment}"]
    lines += [f"{key} = {_value(value)}" for key, value in content.items() if key != "methods"]
    for method in content["methods"]:
        lines += ["", "[[methods]]"]
        for key, value in method.items():
            if isinstance(value, dict):
                inner = ", ".join(f"{name} = {_value(each)}" for name, each in value.items())
                lines.append(f"{key} = {{{inner}}}")
            else:
                lines.append(f"{key} = {_value(value)}")
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:
    """Return a value as TOML writes it; its texts are written as those of JSON."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")
