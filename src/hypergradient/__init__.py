"""PyTorch optimizers whose learning rate tunes itself by hypergradient descent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypergradient.adam import AdamHD, AdamWHD
    from hypergradient.sgd import SGDHD
    from hypergradient.untuned import Untuned

__all__ = ["SGDHD", "AdamHD", "AdamWHD", "Untuned"]

_HOME = {
    "AdamHD": "hypergradient.adam",
    "AdamWHD": "hypergradient.adam",
    "SGDHD": "hypergradient.sgd",
    "Untuned": "hypergradient.untuned",
}


def __getattr__(name: str) -> Any:
    """Import an optimizer when it is first asked for, so that `hypergradient --help` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'hypergradient' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
