"""The methods of the lab: four base optimizers, each with a constant rate and with moving ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypergradient import SGDHD, AdamHD
from hypergradient.study.landscape.functions import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypergradient.engine.optimizer import HypergradientOptimizer

MOMENTUM = {"momentum": 0.5, "classical": True}

_SUFFIXES = {
    "constant": "",
    "own": "+",
    "shared": "+ global",
    "hdm": " hdm",
    "learned": " hdm momentum",
}


@dataclass(frozen=True)
class Method:
    """An optimizer of this package with the options that make it the method of that name.

    Attributes:
        base: "GD", "GDM", "NAG" or "Adam".
        kind: "constant", "own" (a rate for each coordinate), "shared" (Fischer's global one), "hdm"
            (one rate by the rule of that name) or "learned" (the momentum learns, too).
        optimizer: The class.
        options: All but the parameters, the rate and its step size.
    """

    base: str
    kind: str
    optimizer: Callable[..., HypergradientOptimizer]
    options: Mapping[str, Any]

    @property
    def title(self) -> str:
        return self.base + _SUFFIXES[self.kind]

    @property
    def learns_momentum(self) -> bool:
        return bool(self.options.get("learn"))


@dataclass(frozen=True)
class Setting:
    """What is tuned: the initial rate and the step size of its own update.

    Attributes:
        lr: The initial learning rate, alpha; Fischer (2020) calls it eta.
        hypergrad_lr: The step size of its own update, beta, which Fischer calls alpha; 0 keeps
            the rate constant.
    """

    lr: float
    hypergrad_lr: float = 0.0


_BASES: dict[str, tuple[Callable[..., HypergradientOptimizer], dict[str, Any]]] = {
    "GD": (SGDHD, {}),
    "GDM": (SGDHD, MOMENTUM),
    "NAG": (SGDHD, MOMENTUM | {"nesterov": True}),
    "Adam": (AdamHD, {"betas": (0.9, 0.99), "eps": 1e-8}),
}

_KINDS = {
    "constant": {"granularity": "element"},
    "own": {"granularity": "element"},
    # One tensor holds both coordinates, so a rate a tensor is a rate for all parameters.
    "shared": {"granularity": "tensor", "reduction": "mean"},
}

_PUBLISHED_SO = {"product": "gradient", "lr_bounds": None}

_ALL = [
    Method(base, kind, optimizer, options | own | _PUBLISHED_SO)
    for kind, own in _KINDS.items()
    for base, (optimizer, options) in _BASES.items()
]

_HDM = {"rule": "hdm", "granularity": "tensor", **MOMENTUM}

_ALL += [  # the heavy ball of Chu et al. (2025)
    Method("GDM", "hdm", SGDHD, _HDM),
    Method("GDM", "learned", SGDHD, {**_HDM, "learn": {"momentum": 0.1}}),
]

METHODS = {method.title.lower(): method for method in _ALL}
"""The methods by name: gd, gd+, "gd+ global" and so on, and "gdm hdm momentum"."""

DEFAULT = tuple(name for base in _BASES for name in (base.lower(), f"{base.lower()}+"))
"""The eight methods of Fischer (2020)."""

PUBLISHED = {
    "gd": Setting(0.01),
    "gd+": Setting(0.01, 1e-4),
    "gdm": Setting(0.015),
    "gdm+": Setting(0.01, 1e-5),
    "nag": Setting(0.006),
    "nag+": Setting(0.006, 1e-6),
    "adam": Setting(0.0005),
    "adam+": Setting(0.0005, 1e-8),
}
"""Fischer's settings for Beale's function, found by a grid search."""


def find_methods(names: str) -> list[str]:
    """Return the names of methods that a comma-separated list gives, each once.

    Raises:
        StudyError: One is not known; the message suggests a close one.
    """
    wanted: Sequence[str] = [" ".join(name.lower().split()) for name in names.split(",")]
    return list(dict.fromkeys(choose("method", name, METHODS) for name in wanted))
