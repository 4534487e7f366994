"""The rules by which a hypergradient moves a learning rate.

A rule is a pure function of the rate alpha_{t-1}, the hypergradient h_t and the step size beta of
the rate's own update; it returns alpha_t. Rates and hypergradients are floats or 0-dim tensors, or
tensors of one shape for element-wise rates. To add a rule, write the function and enter it in
`RULES`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

N = TypeVar("N", float, Tensor)


class Rule(NamedTuple):
    """How h moves alpha.

    Attributes:
        update: (alpha_{t-1}, h_t, beta) -> alpha_t.
        normalized: h_t is the cosine <g_t, u_{t-1}> / (|g_t| |u_{t-1}|), zero where a norm is,
            instead of the inner product itself.
    """

    update: Callable[[Any, Any, float], Any]
    normalized: bool


def additive(alpha: N, h: N, beta: float) -> N:
    """alpha_t = alpha_{t-1} + beta h_t (Baydin et al. 2018; poster, eq. 3)."""
    return alpha + beta * h


def multiplicative(alpha: N, h: N, beta: float) -> N:
    """alpha_t = alpha_{t-1} (1 + beta h_t / (|g_t| |u_{t-1}|)) (after Baydin et al. 2018).

    The cosine has no units, so one beta serves every scale of loss and of rate.
    """
    return alpha * (1 + beta * h)


RULES = {
    "additive": Rule(additive, normalized=False),
    "multiplicative": Rule(multiplicative, normalized=True),
}
