"""How long a step along a plain gradient is: that of usual gradients, and not that of this one.

Adam's u_t has a size of its own. That of SGD is as large as the gradient, which makes two things
go wrong where a rate finds itself. A gradient that is much larger than others takes a step that
destroys a network, at a rate that is right for all others. And h_t is as small as the square of
the gradient, so that where training is fast h_t falls far below its mean, and the rate stays too
low. So with r_t the root mean square of the last gradients' elements, and n their number,

    r_t^2 = r_{t-1}^2 + (min(|g_t|^2 / n, 10 r_{t-1}^2) - r_{t-1}^2) / max(min(t, 10), t / 5)
    s_t   = min(2, r_t sqrt(n) / |g_t|) / max(1, R_t / 10),    r_1^2 = |g_1|^2 / n

with R_t = max(r_1, ..., r_t) / r_1,

a step is alpha_t s_t (u_t + lambda theta), and h_t is divided by r_t. As long as gradients are
larger than half of what is usual, steps have the length of usual ones; near a minimum, where they
are smaller, it is SGD at twice the rate. Where gradients grow to more than ten times the first one,
as in a converged network that goes on, steps do not grow with them: the first rate follows from the
first gradient.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.gpu.formula_kernels import by_kernel
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.numbers import as_float, assign, isfinite, larger, smaller, where
from hypergradient.engine.stand_ins import wide
from hypergradient.engine.tensors import dense_gradient, descent_gradient, with_gradient
from hypergradient.engine.types import Group, Number

if TYPE_CHECKING:
    from hypergradient.engine.ranks import Ranks

FIRST, SHARE = 10.0, 0.2  # steps that r_t remembers at first, and the share of all later
OUTLIER = 10.0  # what a square counts for at most, in times the mean
LONGEST = 2.0  # s_t
GROWTH = 10.0  # of r_t over r_1; beyond it steps grow no further
NUMBERS = ("gradient_square", "first_gradient_square", "largest_gradient_square")
"""What a group keeps: r_t^2, r_1^2 and the largest r^2 so far."""


class StepLength(NamedTuple):
    """What one step needs of a group.

    Attributes:
        factor: s_t.
        unit: r_t; 1 where no gradient has been other than zero.
    """

    factor: Number
    unit: Number


def measure(groups: Sequence[Group], ranks: "Ranks | None") -> StepLength | None:
    """Count the gradients of groups that share a rate, and return what their step needs.

    Each group keeps `NUMBERS`.

    Args:
        groups: those that share a rate; none of them has moved in this step.
        ranks: those who hold parts of the parameters.

    Returns:
        What the step needs; None if there is no gradient.
    """
    first, grads, count = groups[0], [], 0
    for group in groups:
        for p in with_gradient(group):
            if ranks is None or ranks.counts(group, p):
                theta = p if group["decoupled_weight_decay"] else wide(p)
                grads.append(descent_gradient(group, wide(dense_gradient(p)), theta))
                count += grads[-1].numel()
    if ranks is None and not grads:
        return None
    like = alpha_of(first)
    numbers = [as_float(torch.nn.utils.get_total_norm(grads).to(like)) ** 2, float(count)]
    if ranks is not None:
        sums = torch.stack([torch.zeros_like(like) + number for number in numbers])
        numbers = [*map(as_float, ranks.total({"step length": sums})["step length"].to(like))]
    numbers += [as_float(first[name]) for name in ("average_step", *NUMBERS)]
    *kept, factor, unit = _by_kernel(like, numbers) or _next(*numbers)
    for group in groups:
        for name, value in zip(NUMBERS, kept, strict=True):
            assign(group[name], value)
    return StepLength(factor, unit)


def _next(
    total: Number, count: Number, t: Number, mean: Number, first: Number, largest: Number
) -> tuple[Any, ...]:
    """Return r_t^2, r_1^2, the largest r^2 so far, s_t and the unit of h_t.

    Args:
        total: |g_t|^2.
        count: n; 0 where no rank has a gradient.
        t: t - 1, the steps so far.
        mean: r_{t-1}^2.
        first: r_1^2; 0 before.
        largest: of r_1^2 to r_{t-1}^2.
    """
    now = total / larger(count, 1.0)
    window = larger(smaller(t + 1, FIRST), SHARE * (t + 1))
    most = OUTLIER * mean
    moved = where(mean > 0, mean + (where(now > most, most, now) - mean) / window, now)
    mean = where(isfinite(now) & (count > 0), moved, mean)
    factor = where(now > 0, (mean / where(now > 0, now, 1.0)) ** 0.5, 1.0)
    first, largest = where(first > 0, first, mean), larger(mean, largest)
    growth = where(first > 0, largest / where(first > 0, first, 1.0), 1.0) / GROWTH**2
    factor = where(factor > LONGEST, LONGEST, factor) / larger(growth, 1.0) ** 0.5
    return mean, first, largest, factor, where(mean > 0, mean, 1.0) ** 0.5


def _by_kernel(like: Tensor, numbers: Sequence[Number]) -> tuple[Tensor, ...] | None:
    """Return what `_next` does, from one launch on a device; None if that cannot be."""
    if like.is_cpu:
        return None
    inputs = [n if isinstance(n, Tensor) else torch.full_like(like, n) for n in numbers]
    results = like.new_empty(len(NUMBERS) + 2).unbind()
    made = by_kernel("step length", lambda own: [*_next(*own)], inputs, results)
    return results if made else None
