"""What the lab computes of one function: the descents of several methods on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypergradient.functions import Function
    from hypergradient.study.landscape.descend import Descents
    from hypergradient.study.landscape.methods import Setting
    from hypergradient.study.landscape.search import Tried


@dataclass(frozen=True)
class Descent:
    """One method's way down one function.

    Attributes:
        method: Its name in ``METHODS``.
        setting: The initial rate and its step size.
        path: Where it was; a single setting.
        tried: The search that the setting is the best of, empty where it is a published one.
    """

    method: str
    setting: Setting
    path: Descents
    tried: list[Tried]


@dataclass(frozen=True)
class Landscape:
    """A function and the descents on it."""

    name: str
    function: Function
    descents: list[Descent]
