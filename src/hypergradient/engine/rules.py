"""The rules by which a hypergradient moves a learning rate, one table of small functions.

To add a rule, write its function and enter it in `RULES`. A rule is a function of the rate
alpha_{t-1}, the hypergradient h_t, the step size beta of the rate's own update (`hypergrad_lr`)
and what the rule remembers, if anything. It returns alpha_t, and after it what it remembers next.
All are floats, or 0-dim tensors, or tensors of one shape for element-wise rates: the functions of
`numbers.py` take any of these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from hypergradient.engine.numbers import exp, isfinite, larger, smaller, where
from hypergradient.engine.types import Group

Form = Literal["inner product", "normalised", "cosine", "logarithmic"]


def h_itself(h: Any) -> tuple[Any]:
    """Return the direction of a rule that follows h as it is."""
    return (h,)


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, for `rule_of`
class Rule:
    """How h moves alpha.

    Attributes:
        update: (alpha_{t-1}, h_t, beta, *memory) -> alpha_t, or with a memory (alpha_t, *memory).
        form: what h_t is. "inner product": <g_t, u_{t-1}>, minus the derivative of the loss by
            alpha. "normalised": <g_t, u_{t-1}> / |u_{t-1}|^2, zero where u_{t-1} is zero; for an
            element its product over |u_{t-1}|^2 of the whole parameter. "cosine":
            <g_t, u_{t-1}> / (|g_t| |u_{t-1}|), zero where a norm is zero. "logarithmic":
            alpha <g_t, u_{t-1}>, minus the derivative by log alpha.
        memory: the numbers that the rule remembers for each rate, and where they start. A name is
            that of the tensor in the parameter group, or in the parameter's state for a rate of a
            tensor or an element.
        uses_trace: whether it takes the keyword `traced`, which says whether h is of a trace, with
            the moves of many steps, or of the last step alone.
        direction: (h_t, *memory) -> (d_t, *memory), if the rule is alpha + beta d, or with the form
            "cosine" alpha (1 + beta d). Such a rule may have a tower, and may move momentum and
            other hyperparameters; for other rules None.
    """

    update: Callable[..., Any]
    form: Form = "inner product"
    memory: Mapping[str, float] = field(default_factory=dict)
    uses_trace: bool = False
    direction: Callable[..., tuple[Any, ...]] | None = None

    @property
    def needs_norms(self) -> bool:
        """Whether its h needs <g_t, g_t> and <u_{t-1}, u_{t-1}>."""
        return self.form in ("cosine", "normalised")


def additive(alpha: Any, h: Any, beta: Any) -> Any:
    """alpha_t = alpha_{t-1} + beta h_t (Baydin et al. 2018; poster, eq. 3)."""
    return alpha + beta * h


def multiplicative(alpha: Any, h: Any, beta: Any) -> Any:
    """alpha_t = alpha_{t-1} (1 + beta h_t / (|g_t| |u_{t-1}|)) (after Baydin et al. 2018).

    The cosine has no units, so one beta serves every scale of loss and of rate.
    """
    return alpha * (1 + beta * h)


@dataclass(frozen=True)
class Along:
    """alpha_t = alpha_{t-1} + beta d_t, where d_t follows from h_t and from what is remembered.

    Attributes:
        direction: (h_t, *memory) -> (d_t, *memory).
    """

    direction: Callable[..., tuple[Any, ...]]

    def __call__(self, alpha: Any, h: Any, beta: Any, *memory: Any) -> tuple[Any, ...]:
        d, *remembered = self.direction(h, *memory)
        return additive(alpha, d, beta), *remembered


def adam_direction(h: Any, t: Any, m: Any, v: Any) -> tuple[Any, ...]:
    """Return d = m_hat / (sqrt(v_hat) + eps) of h (Kingma and Ba 2015), from the first h != 0.

    It is what Chandra et al. (2022) write as "/ Adam": d is about 1 at first, so beta is how far
    the rate moves in a step.
    """
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    t = t + where((t > 0) | (h != 0), 1.0, 0.0)
    m = beta1 * m + (1 - beta1) * h
    v = beta2 * v + (1 - beta2) * h * h
    count = larger(t, 1.0)
    d = m / (1 - beta1**count) / ((v / (1 - beta2**count)) ** 0.5 + eps)
    return d, t, m, v


def adagrad_direction(h: Any, total: Any) -> tuple[Any, ...]:
    """Return d = h / sqrt(sum of all h^2), AdaGrad for one number (Chu et al. 2025)."""
    total = total + h * h
    return h / where(total > 0, total, 1.0) ** 0.5, total


@dataclass(frozen=True)
class Tower:
    """The step size of a rule learns too, as does the step size of that, and so on.

    With steps = (beta_0, gamma), a tower of height 2, beta starts at beta_0 and

        beta_t = beta_{t-1} + gamma h_t d_{t-1},  alpha_t = alpha_{t-1} + beta_t d_t,

    where d is the rule's direction, h itself for "additive". With (beta_0, gamma_0, delta) gamma
    learns by the product of what moves beta in this step and in the last, before beta moves. So the
    top moves first, as in Chandra et al. (2022).

    It remembers each step size that learns, what moved each number below it in the last step, and
    after them what the rule remembers.

    Attributes:
        rule: what moves the rate itself.
        steps: the step sizes as they start, the lowest first; the last one is fixed.
        bounded: whether step sizes stay >= 0.
    """

    rule: Rule
    steps: tuple[float, ...]
    bounded: bool

    def memory(self) -> dict[str, float]:
        """Return what it remembers, and where that starts."""
        learned = dict(zip(step_names(len(self.steps)), self.steps, strict=False))
        last = {f"last_move_{i}": 0.0 for i in range(len(learned))}
        return {**learned, **last, **self.rule.memory}

    def __call__(self, alpha: Any, h: Any, _beta: Any, *memory: Any) -> tuple[Any, ...]:
        assert self.rule.direction is not None  # noqa: S101 - `check` refuses such a rule
        count = len(self.steps) - 1
        steps, last, own = memory[:count], memory[count : 2 * count], memory[2 * count :]
        d, *after = self.rule.direction(h, *own)
        moves, product = [d], h
        for before in last:
            product = product * before  # the hypergradient of the step size on this floor
            moves.append(product)
        learned: list[Any] = []
        above: Any = self.steps[-1]
        for step, move in zip(reversed(steps), reversed(moves), strict=False):
            moved = step + above * move
            moved = where(isfinite(moved), moved, step)
            above = larger(moved, 0.0) if self.bounded else moved
            learned.append(above)
        move_rate = multiplicative if self.rule.form == "cosine" else additive
        return move_rate(alpha, d, above), *reversed(learned), *moves[:count], *after


def step_names(height: int) -> list[str]:
    """Return under which names a tower of so many step sizes remembers those that learn."""
    return [f"hypergrad_lr_{i}" for i in range(height - 1)]


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

    Until h is negative for the first time the rate warms up: eta_t is up to `rise` times beta, by
    the share that is left of the steepest slope so far. The slope is h over the rate and over the
    sum of the trace's weights: how fast the loss falls along the mean of the last directions. Where
    it has become flat the parameters have gone most of the way to the minimum along these
    directions, and a rate that goes on rising fast does lasting harm to language models, which have
    new directions to learn then. Without a trace the rate rises at full speed. Below the first rate
    that the optimizer would choose, `climb` times the rate, it climbs by up to `climbing` times
    beta: it is known to be too low there. The t of a move down counts from there, and that of a
    move up from the first step, as does the memory of the trace: a memory is a delay, and a rate
    that grows by more than e in its length overshoots.
    """

    rising: float = 3.0
    falling: float = 0.5
    early: float = 200.0
    rise: float = 3.0
    climbing: float = 8.0
    trace: float = 10.0  # steps that the trace remembers at first, and half of all later
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
        steepest: Any,
        *,
        traced: bool = False,
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
        eta = smaller(beta, where(ratio > 0, self.rising / t, falling / count))
        slope = self._slope(h, t) if traced else 0 * h
        steepest = larger(steepest, slope)
        left = where(steepest > 0, slope / where(steepest > 0, steepest, 1.0), 1.0)
        one = 1 + 0 * over_max  # in the precision of the rate
        climb_speed = where(ratio > 0, self.climbing * one, 0 * one)
        fastest = beta * where(climbing, climb_speed, self.rise * left * one)
        eta = where(warming_up > 0, larger(eta, fastest), eta)
        moved = larger(over_max * exp(eta * ratio), self.floor)
        change = moved / over_max
        climb = where(climbing, larger(climb / change, 1.0), 1.0)
        remembered = t, smaller(moved, 1.0), mean_abs_h, warming_up, age, climb, steepest * change
        return alpha * change, *remembered

    def _slope(self, h: Any, t: Any) -> Any:
        """Return h over the sum of the trace's weights; >= 0.

        It has the factor alpha of h, and so must `steepest` have that of the next step. The sum of
        t - 1 weights at a constant mu is exact; that of a memory of half of all steps tends to a
        third of them.
        """
        weights = (self.trace - 1) * (1 - (1 - 1 / self.trace) ** (t - 1))
        weights = larger(weights, (t - 1) / 3)
        return where(weights > 0, larger(h, 0.0) / where(weights > 0, weights, 1.0), 0.0)


RELATIVE_MEMORY = {
    "rule_step": 0.0,
    "lr_over_max": 1.0,
    "mean_abs_h": 0.0,
    "warming_up": 1.0,
    "rule_age": 0.0,
    "climb": 1.0,
    "steepest": 0.0,
}

RULES = {
    "additive": Rule(additive, direction=h_itself),
    "multiplicative": Rule(multiplicative, "cosine", direction=h_itself),
    "relative": Rule(Relative(), "logarithmic", RELATIVE_MEMORY, uses_trace=True),
    "adam": Rule(
        Along(adam_direction),
        memory={"adam_step": 0.0, "adam_mean": 0.0, "adam_square": 0.0},
        direction=adam_direction,
    ),
    "hdm": Rule(
        Along(adagrad_direction),
        "normalised",
        {"sum_of_squares": 0.0},
        direction=adagrad_direction,
    ),
}


def rule_of(group: Group) -> Rule:
    """Return the rule of a group; if its `hypergrad_lr` is a tuple, the tower on it."""
    steps = group["hypergrad_lr"]
    if type(steps) is not tuple or len(steps) == 1:
        return RULES[group["rule"]]
    return tower(RULES[group["rule"]], steps, bounded=group["lr_bounds"] is not None)


def beta_of(group: Group) -> Any:
    """Return the step size of a group's rates; of a tower the one at which it starts."""
    steps = group["hypergrad_lr"]
    return steps[0] if type(steps) is tuple else steps


@lru_cache(maxsize=100)
def tower(rule: Rule, steps: tuple[float, ...], *, bounded: bool) -> Rule:
    """Return a rule whose step size learns, with one step size for each floor."""
    floors = Tower(rule, steps, bounded)
    return Rule(floors, rule.form, floors.memory())
