"""What an optimizer itself says of it: whether it adapts its rate, and what its base is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

SPELLED = {
    name.lower(): name
    for name in (
        *("SGD", "Adam", "AdamW", "AMSGrad", "NAdam"),
        *("RMSprop", "Adagrad", "Adafactor", "Lion", "Muon"),
    )
}
"""Base optimizers as an option ``base`` spells them, and as they are called in tables."""


@dataclass(frozen=True)
class Traits:
    """What the tables and figures need to know of an optimizer.

    Attributes:
        adaptive: Whether it changes its learning rate itself.
        base: The base optimizer that it is compared with: "SGD", "SGDM" (with momentum), "SGDN"
            (with Nesterov's momentum), "Adam", or another class's name.
    """

    adaptive: bool
    base: str


def traits_of(optimizer: Optimizer) -> Traits:
    """Return the traits of an optimizer."""
    return Traits(adapts_its_rate(optimizer), base_of(optimizer))


def adapts_its_rate(optimizer: Optimizer) -> bool:
    """Return whether an optimizer changes its learning rate itself.

    Such an optimizer says so by an attribute ``adaptive = True``. All optimizers of this package
    do, and so do the classes that people derive from them.
    """
    return getattr(optimizer, "adaptive", False) is True


def base_of(optimizer: Optimizer) -> str:
    """Return the name of the base optimizer.

    It is what the optimizer's own attribute or option ``base`` says, else the class of
    ``torch.optim`` that it derives from, else its own class.
    """
    declared: Any = getattr(optimizer, "base", optimizer.defaults.get("base"))
    classes = [
        c.__name__ for c in type(optimizer).__mro__ if c.__module__.startswith("torch.optim")
    ]
    if declared is not None:
        name = declared if isinstance(declared, str) else getattr(declared, "name", None)
        name = SPELLED.get(str(name).lower(), name) if name else type(declared).__name__
    else:
        name = classes[0] if classes[0] != "Optimizer" else type(optimizer).__name__
    options = optimizer.param_groups[0]
    if name == "SGD" and options.get("momentum", 0) != 0:
        return "SGDN" if options.get("nesterov") else "SGDM"
    return "AMSGrad" if name == "Adam" and options.get("amsgrad") else name
