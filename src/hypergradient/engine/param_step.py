"""What one step needs to know of a parameter, and of the parameters that move as it does."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

from hypergradient.engine.base import Base, StateUpdate
from hypergradient.engine.inner_products import InnerProducts
from hypergradient.engine.iterates import AverageNumbers
from hypergradient.engine.tensors import gradient_of, same_layout
from hypergradient.engine.types import Direction, Group, Number, State


class UpdateRule(NamedTuple):
    """How a batch of parameters moves: parameters of one group that share all of this.

    Attributes:
        group: the options of their group.
        base: what makes u_t.
        products: where their inner products go; None for element-wise rates, which move in place.
        scale: what the products are multiplied by: the rate for a rule of log alpha, else None.
        direction: the function that computes u_{t-1} from the tensors of `ParamStep.memory`.
        direction_coefficients: (a, b) if memory[0] <- u_t = a g_t + b memory[1] may be written
            before theta moves; else None.
        state_update: how the C pass may advance the state, or None.
        numbers: what the iterate `Average` has prepared for the group's step, or None.
    """

    group: Group
    base: Base
    products: InnerProducts | None
    scale: Number | None
    direction: Direction
    direction_coefficients: tuple[float, float] | None
    state_update: StateUpdate | None
    numbers: AverageNumbers | None

    def scaled(self, products: Iterable[Number]) -> Iterator[Number]:
        """Yield <g, u> times the scale, and the norms, if there are any, as they are."""
        gu, *norms = products
        yield gu if self.scale is None else gu * self.scale
        yield from norms


class ParamStep(NamedTuple):
    """One parameter in one step.

    Attributes:
        p: theta_{t-1}.
        grad: its gradient, dense unless the base takes sparse ones.
        alpha: its rate alpha_{t-1}, 0-dim, or the rates of its elements or members.
        memory: the tensors, shaped like p, that u_{t-1} is computed from.
        rule_memory: for element-wise rates, what the rule remembers of each; else empty.
        state: its state.
        rms: of u_t over the whole parameter, where this process holds a part of it; else None.
    """

    p: Tensor
    grad: Tensor
    alpha: Tensor
    memory: list[Tensor]
    rule_memory: list[Tensor]
    state: State
    rms: Tensor | None = None

    @property
    def aligned(self) -> bool:
        """Whether p, its gradient and the tensors of u_{t-1} walk dense memory in one order."""
        dense = not gradient_of(self.p).is_sparse
        return dense and same_layout((self.p, self.grad, *self.memory))


Batches = list[tuple[UpdateRule, list[ParamStep]]]
"""The parameters of a step, those that move alike together."""

KEPT = frozenset({"direction", "direction_trace", "gradient"})
"""The states that the engine makes: zeros shaped like the parameter."""
