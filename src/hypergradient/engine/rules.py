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
        uses_agreement: whether it takes the keyword `agreement`, <u_t, trace_{t-1}> / <u_t, u_t>,
            of optimizers that have a trace.
    """

    update: Callable[..., Any]
    form: Form = "inner product"
    memory: Mapping[str, float] = field(default_factory=dict)
    uses_agreement: bool = False


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

    E|h| is a mean over the last `steps`, or over the `share` of all steps if that is more. An
    outlier counts in it for `outlier` times the mean at most. The rate never falls below `floor`
    times the largest so far, so that it comes back from anywhere.

    eta_t is beta at first, and later `rising` / t for a move up and `falling` / t for one down, if
    that is less. So the rate grows and falls no faster than these powers of t, and it may change by
    as much in every doubling of the training. Early, a move down may be faster by `early` / t, so
    that a rate that has risen too far comes back at once.

    Until h is negative for the first time the rate warms up: eta_t is up to `rise` times beta, as
    far as directions agree. The measure of that is <u_t, trace_{t-1}> / <u_t, u_t> over the sum of
    the trace's weights, the mean correlation of u_t with the directions before it; from `agreed` on
    eta_t is the largest. Where gradients are mostly noise (language models) the rate warms up
    slowly, and where they are not, in a few steps. Below the first rate that the optimizer would
    choose, `climb` times the rate, it climbs as fast as it can, and t counts from there.
    """

    rising: float = 2.0
    falling: float = 0.5
    early: float = 200.0
    rise: float = 4.0
    agreed: float = 0.2
    trace: float = 50.0  # steps that the trace remembers at first
    steps: float = 200.0
    share: float = 0.5
    outlier: float = 100.0
    floor: float = 0.01

    def __call__(
        self,
        alpha: Any,
        h: Any,
        beta: Any,
        t: Any,
        over_max: Any,
        mean_abs_h: Any,
        warming_up: Any,
        age: Any,
        climb: Any,
        *,
        agreement: Any = None,
    ) -> tuple[Any, ...]:
        t = t + 1
        size, most = abs(h), self.outlier * mean_abs_h
        size = where((most > 0) & (size > most), most, size)
        window = larger(larger(smaller(t - 1, self.steps), self.share * t), 1.0)
        mean_abs_h = mean_abs_h + (size - mean_abs_h) / window
        ratio = h / where(mean_abs_h > 0, mean_abs_h, 1.0)
        ratio = where(ratio > 1, 1.0, where(ratio < -1, -1.0, ratio))
        climbing = climb > 1
        age = age + where(climbing, 0.0, 1.0)
        warming_up = warming_up * ((h >= 0) | climbing)
        count = larger(age, 1.0)
        falling = self.falling * (1 + self.early / count)
        eta = smaller(beta, where(ratio > 0, self.rising, falling) / count)
        agreed = 1.0 if agreement is None else self._agreed(agreement, t)
        one = 1 + 0 * over_max  # in the precision of the rate
        fastest = self.rise * beta * where(climbing, where(ratio > 0, one, 0 * one), agreed * one)
        eta = where(warming_up > 0, larger(eta, fastest), eta)
        moved = larger(over_max * exp(eta * ratio), self.floor)
        climb = where(climbing, larger(climb * over_max / moved, 1.0), 1.0)
        alpha = alpha * (moved / over_max)
        return alpha, t, smaller(moved, 1.0), mean_abs_h, warming_up, age, climb

    def _agreed(self, agreement: Any, t: Any) -> Any:
        """Return how far directions agree, from 0 to 1; 1 where nothing is known yet."""
        weights = (self.trace - 1) * (1 - (1 - 1 / self.trace) ** (t - 1))
        share = agreement / (self.agreed * where(weights > 0, weights, 1.0))
        return where(weights > 0, smaller(larger(share, 0.0), 1.0), 1.0)


RELATIVE_MEMORY = {
    "rule_step": 0.0,
    "lr_over_max": 1.0,
    "mean_abs_h": 0.0,
    "warming_up": 1.0,
    "rule_age": 0.0,
    "climb": 1.0,
}

RULES = {
    "additive": Rule(additive),
    "multiplicative": Rule(multiplicative, "cosine"),
    "relative": Rule(Relative(), "logarithmic", RELATIVE_MEMORY, uses_agreement=True),
}
