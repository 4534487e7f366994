"""PyTorch optimizers whose learning rate tunes itself by hypergradient descent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypergradient.engine.base import Base
    from hypergradient.optimizers.adam import AdamHD, AdamWHD
    from hypergradient.optimizers.hypergradient import Hypergradient
    from hypergradient.optimizers.muon import MuonHD
    from hypergradient.optimizers.sgd import SGDHD
    from hypergradient.optimizers.untuned import Untuned

__version__ = "0.1.0"

__all__ = ["SGDHD", "AdamHD", "AdamWHD", "Base", "Hypergradient", "MuonHD", "Untuned"]

_HOME = {
    "AdamHD": "hypergradient.optimizers.adam",
    "AdamWHD": "hypergradient.optimizers.adam",
    "Base": "hypergradient.engine.base",
    "Hypergradient": "hypergradient.optimizers.hypergradient",
    "MuonHD": "hypergradient.optimizers.muon",
    "SGDHD": "hypergradient.optimizers.sgd",
    "Untuned": "hypergradient.optimizers.untuned",
}


def __getattr__(name: str) -> Any:
    """Import an optimizer when it is first asked for, so that `hypergradient --help` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'hypergradient' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names, which are imported late, for `dir`, `help` and completion."""
    return sorted({*globals(), *__all__})
