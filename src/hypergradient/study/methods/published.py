"""Optimizers with a detail of other authors' code, for studies that stand beside their numbers."""

from typing import Any

from torch import Tensor

from hypergradient import AdamHD

FIRST_SQUARE = 1e-8


class AdamFromFirstSquare(AdamHD):
    """Adam whose mean of squares starts at 1e-8, as in the code of Chandra et al. (2022).

    Their derivatives go through the root of it, which has none at 0.
    """

    def initial_state(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter before its first step."""
        state = super().initial_state(group, p)
        state["exp_avg_sq"].fill_(FIRST_SQUARE)
        return state
