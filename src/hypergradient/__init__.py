"""PyTorch optimizers whose learning rate tunes itself by hypergradient descent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypergradient.adam import AdamHD, AdamWHD
    from hypergradient.sgd import SGDHD

__all__ = ["SGDHD", "AdamHD", "AdamWHD"]

_HOME = {
    "AdamHD": "hypergradient.adam",
    "AdamWHD": "hypergradient.adam",
    "SGDHD": "hypergradient.sgd",
}


def __getattr__(name: str) -> Any:
    """Import an optimizer when it is first asked for, so that `hypergradient --help` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'hypergradient' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
