"""What a visit to a parameter needs, and the forms that u_{t-1} has there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hypergradient.gradients import gradient_of
from hypergradient.options import Group
from hypergradient.pieces import HALF, same_layout
from hypergradient.pools import Number, Pool

Direction = Callable[..., Tensor]


class Advance(NamedTuple):
    """How the states advance from u_{t-1} to u_t, in which alpha_t has no part.

    Attributes:
        first: (i, j, k) for memory[0] <- i g_t + j memory[0] + k memory[1], of which j or k is 0.
        second: (i, j) for memory[1] <- i g_t + j memory[1], with the square of g_t for a `Ratio`.
        direction: how u_t follows from them: a function as `Update.direction`.
    """

    first: tuple[float, float, float]
    second: tuple[float, float]
    direction: Direction


class Update(NamedTuple):
    """How parameters of a group move: those with one pool, or none, that are at one stage.

    Attributes:
        group: its options.
        pool: where the products go; None for element-wise rates, which are moved in place.
        direction: how u_{t-1} follows: a function of aligned pieces, (theta, alpha, *memory).
        kept: (a, b) for memory[0] <- u_t = a g_t + b memory[1], if u_t is kept so.
        advance: how the states advance, if that may be done in the visit.
    """

    group: Group
    pool: Pool | None
    direction: Direction
    kept: tuple[float, float] | None
    advance: Advance | None


class Visit(NamedTuple):
    """One parameter with what a visit needs.

    Attributes:
        p: theta_{t-1}.
        grad: its gradient, dense.
        alpha: its rate, alpha_{t-1}, or those of its elements or members.
        memory: the tensors that u_{t-1} follows from, shaped like p.
        step: the count of its steps, if it has one.
    """

    p: Tensor
    grad: Tensor
    alpha: Tensor
    memory: Sequence[Tensor]
    step: Tensor | None

    @property
    def aligned(self) -> bool:
        """Whether p, its gradient and the tensors of u_{t-1} walk dense memory in one order."""
        dense = not gradient_of(self.p).is_sparse
        return dense and same_layout((self.p, self.grad, *self.memory))


Batches = list[tuple[Update, list[Visit]]]
"""Visits to parameters that move alike."""


def last(_theta: Tensor, _alpha: Tensor, u: Tensor, *_rest: Tensor) -> Tensor:
    """The direction of an optimizer that keeps u_t."""
    return u


@dataclass(frozen=True, slots=True)
class Ratio:
    """Adam's direction: m / (scale sqrt(v) + shift), and the decoupled decay of weights.

    The decay is part of u_{t-1} = ratio + lambda theta_{t-2}, where theta_{t-1} = theta_{t-2} -
    alpha_{t-1} u_{t-1}; so u_{t-1} = (ratio + lambda theta_{t-1}) / (1 - lambda alpha_{t-1}).
    """

    scale: Number
    shift: Number
    decay: Number
    decays: bool

    def __call__(self, theta: Tensor, alpha: Tensor, m: Tensor, v: Tensor) -> Tensor:
        if v.dtype.itemsize <= HALF:  # in float16 an eps of 1e-8 is 0
            m, v = m.float(), v.float()
        root = v.sqrt()
        if torch.is_grad_enabled():  # the graph holds the root
            ratio: Tensor = m / (root * self.scale + self.shift)
        else:
            ratio = torch.div(m, root.mul_(self.scale).add_(self.shift), out=root)
        if not self.decays:
            return ratio
        left = 1 - self.decay * alpha  # of theta_{t-2}; where nothing is, nothing tells it
        told = left.abs() > torch.finfo(theta.dtype).eps
        u = ratio + self.decay * torch.where(told, theta, 0.0)
        return u / torch.where(told, left, 1.0)
