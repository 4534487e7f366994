"""Adafactor: of the mean square of a matrix it keeps the means of its rows and of its columns."""

import math

import torch
from torch import Tensor

from hypergradient.engine.base import Base
from hypergradient.engine.numbers import as_float
from hypergradient.engine.options import numbers
from hypergradient.engine.tensors import bounded
from hypergradient.engine.types import Group, State
from hypergradient.optimizers.adam import step_count

MATRIX = 2  # dimensions


class Adafactor(Base):
    """u_t = u / max(1, rms(u) / d), u = g_t / sqrt(v_t), without a tensor for v_t.

    For a matrix v_t is the product of its row means r_t and its column means c_t, over the mean of
    r_t; each is a mean over steps with the decay 1 - t^beta2_decay. Of a tensor with more than two
    dimensions, such as a convolution's weight, the first is that of the rows, and the others
    together are that of the columns. A bias keeps v_t itself. There is no step size relative to the
    parameters, as the learning rate is learned. Source: Shazeer and Stern 2018, algorithms 4 and 5
    with the numbers of algorithm 6; options as in `torch.optim.Adafactor`.
    """

    defaults = {"beta2_decay": -0.8, "d": 1.0}
    needs_whole = True
    least = 1e-30  # epsilon_1, added to squares: a gradient of zeros makes a direction of zeros

    def init(self, p: Tensor) -> State:
        state = {"step": step_count(p)}
        if p.dim() < MATRIX:
            return {**state, "variance": torch.zeros_like(p)}
        rows = torch.zeros_like(p).flatten(1)
        return {**state, "row_var": rows.mean(1), "col_var": rows.mean(0)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        state["step"] += 1
        weight = as_float(state["step"]) ** group["beta2_decay"]
        least = max(self.least, torch.finfo(g.dtype).tiny)
        squares = g.square().add_(least)
        if p.dim() < MATRIX:
            u = advance(state["variance"], squares, weight).rsqrt()
        else:
            rows = advance(state["row_var"], squares.flatten(1).mean(1), weight)
            columns = advance(state["col_var"], squares.flatten(1).mean(0), weight)
            v = torch.outer(rows / rows.mean(), columns)
            v.clamp_(min=least)  # where a row and a column are dead, the product underflows
            u = v.rsqrt_().view(g.shape)
        return bounded(u.mul_(g), group["d"])

    def check(self, group: Group) -> None:
        super().check(group)
        decay = group["beta2_decay"]
        if not (isinstance(decay, float | int) and -math.inf < decay <= 0):
            raise ValueError(f"beta2_decay={decay!r} is not a number <= 0, such as -0.8")
        if 0 in numbers("d", group["d"], "1.0"):
            raise ValueError(f"d={group['d']!r} is not a number > 0, such as 1.0")
        if group["granularity"] == "member":
            raise ValueError(
                "granularity='member' does not go with Adafactor, which would mix the rows of "
                "members: train each member by an optimizer of its own, or use base='adam'"
            )


def advance(mean: Tensor, squares: Tensor, weight: float | Tensor) -> Tensor:
    """Move a mean over steps by the share `weight` towards new squares, and return it."""
    return mean.add_((squares - mean).mul_(weight))
