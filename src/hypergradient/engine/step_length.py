"""How long a step along a plain gradient is: that of usual gradients, and not that of this one.

Adam's u_t has a size of its own. That of SGD is as large as the gradient, which makes two things
go wrong where a rate finds itself. A gradient that is much larger than others takes a step that
destroys a network, at a rate that is right for all others. And h_t is as small as the square of
the gradient, so that where training is fast h_t falls far below its mean, and the rate stays too
low. So with r_t the root mean square of the last gradients' elements, and n their number,

    r_t^2 = r_{t-1}^2 + (min(|g_t|^2 / n, 10 r_{t-1}^2) - r_{t-1}^2) / max(min(t, 10), t / 5)
    s_t   = min(2, r_t sqrt(n) / |g_t|),      r_1^2 = |g_1|^2 / n, so that s_1 = 1

a step is alpha_t s_t (u_t + lambda theta), and h_t is divided by r_t. As long as gradients are
larger than half of what is usual, steps have the length of usual ones; near a minimum, where they
are smaller, it is SGD at twice the rate.
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

    Each group keeps r_t^2 as `gradient_square`.

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
    numbers += [as_float(first[name]) for name in ("gradient_square", "average_step")]
    results = _by_kernel(like, numbers) or _next(*numbers)
    mean, factor, unit = results
    for group in groups:
        assign(group["gradient_square"], mean)
    return StepLength(factor, unit)


def _next(total: Number, count: Number, mean: Number, t: Number) -> tuple[Any, Any, Any]:
    """Return r_t^2, s_t and the unit of h_t.

    Args:
        total: |g_t|^2.
        count: n; 0 where no rank has a gradient.
        mean: r_{t-1}^2.
        t: t - 1, the steps so far.
    """
    now = total / larger(count, 1.0)
    window = larger(smaller(t + 1, FIRST), SHARE * (t + 1))
    most = OUTLIER * mean
    moved = where(mean > 0, mean + (where(now > most, most, now) - mean) / window, now)
    mean = where(isfinite(now) & (count > 0), moved, mean)
    factor = where(now > 0, (mean / where(now > 0, now, 1.0)) ** 0.5, 1.0)
    factor = where(factor > LONGEST, LONGEST, factor)
    return mean, factor, where(mean > 0, mean, 1.0) ** 0.5


def _by_kernel(like: Tensor, numbers: Sequence[Number]) -> tuple[Tensor, ...] | None:
    """Return what `_next` does, from one launch on a device; None if that cannot be."""
    if like.is_cpu:
        return None
    inputs = [n if isinstance(n, Tensor) else torch.full_like(like, n) for n in numbers]
    results = like.new_empty(3).unbind()
    made = by_kernel("step length", lambda own: [*_next(*own)], inputs, results)
    return results if made else None
