"""The rules by which a hypergradient moves a learning rate, one table of small functions.

To add a rule, write its function and enter it in `RULES`. A rule is a function of the rate
alpha_{t-1}, the hypergradient h_t, the step size beta of the rate's own update (`hypergrad_lr`)
and what the rule remembers, if anything. It returns alpha_t, and after it what it remembers next.
All are floats, or 0-dim tensors, or tensors of one shape for element-wise rates: the functions of
`numbers.py` take any of these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hypergradient.engine.numbers import exp, larger, smaller, where

Form = Literal["inner product", "cosine", "logarithmic"]


@dataclass(frozen=True)
class Rule:
    """How h moves alpha.

    Attributes:
        update: (alpha_{t-1}, h_t, beta, *memory) -> alpha_t, or with a memory (alpha_t, *memory).
        form: what h_t is. "inner product": <g_t, u_{t-1}>, minus the derivative of the loss by
            alpha. "cosine": <g_t, u_{t-1}> / (|g_t| |u_{t-1}|), zero where a norm is zero.
            "logarithmic": alpha <g_t, u_{t-1}>, minus the derivative by log alpha.
        memory: the numbers that the rule remembers for each rate, and where they start. A name is
            that of the tensor in the parameter group, or in the parameter's state for a rate of a
            tensor or an element.
    """

    update: Callable[..., Any]
    form: Form = "inner product"
    memory: Mapping[str, float] = field(default_factory=dict)


def additive(alpha: Any, h: Any, beta: Any) -> Any:
    """alpha_t = alpha_{t-1} + beta h_t (Baydin et al. 2018; poster, eq. 3)."""
    return alpha + beta * h


def multiplicative(alpha: Any, h: Any, beta: Any) -> Any:
    """alpha_t = alpha_{t-1} (1 + beta h_t / (|g_t| |u_{t-1}|)) (after Baydin et al. 2018).

    The cosine has no units, so one beta serves every scale of loss and of rate.
    """
    return alpha * (1 + beta * h)


@dataclass(frozen=True)
class Relative:
    """alpha_t = alpha_{t-1} exp(eta_t clip(h_t / E|h|, -1, 1)), the rule of `Untuned`.

    eta_t is beta at first and `slowing` / t later, so that the rate may change by as much in every
    doubling of the training. Until h is negative for the first time, eta_t is `rise` times beta.
    E|h| is a mean over the last `steps`, or over the `share` of all steps if that is more. An
    outlier counts in it for `outlier` times the mean at most. The rate never falls below `floor`
    times the largest so far, so that it comes back from anywhere.
    """

    slowing: float = 10.0
    rise: float = 4.0
    steps: float = 200.0
    share: float = 0.5
    outlier: float = 100.0
    floor: float = 0.01

    def __call__(
        self, alpha: Any, h: Any, beta: Any, t: Any, over_max: Any, mean_abs_h: Any, warming_up: Any
    ) -> tuple[Any, ...]:
        t = t + 1
        size, most = abs(h), self.outlier * mean_abs_h
        size = where((most > 0) & (size > most), most, size)
        window = larger(larger(smaller(t - 1, self.steps), self.share * t), 1.0)
        mean_abs_h = mean_abs_h + (size - mean_abs_h) / window
        ratio = h / where(mean_abs_h > 0, mean_abs_h, 1.0)
        ratio = where(ratio > 1, 1.0, where(ratio < -1, -1.0, ratio))
        warming_up = warming_up * (h >= 0)
        eta = smaller(beta, self.slowing / t)
        eta = eta + (self.rise * beta - eta) * warming_up
        moved = larger(over_max * exp(eta * ratio), self.floor)
        return alpha * (moved / over_max), t, smaller(moved, 1.0), mean_abs_h, warming_up


RELATIVE_MEMORY = {"rule_step": 0.0, "lr_over_max": 1.0, "mean_abs_h": 0.0, "warming_up": 1.0}

RULES = {
    "additive": Rule(additive),
    "multiplicative": Rule(multiplicative, "cosine"),
    "relative": Rule(Relative(), "logarithmic", RELATIVE_MEMORY),
}
