"""theta_t = iterate(theta_{t-1}, alpha_t, u_t): where a step takes the parameters.

An iterate moves one parameter at a time, and returns what the trace is to remember of the move:
minus the derivative of theta_t by the learning rate.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.gpu import device as devices
from hypergradient.engine.gpu.formula_kernels import by_kernel
from hypergradient.engine.learning_rate import alpha_of, learned_rate
from hypergradient.engine.numbers import as_float, assign, larger
from hypergradient.engine.tensors import as_real
from hypergradient.engine.types import Group, Number, State


class AverageNumbers(NamedTuple):
    """What `Average` prepares for one step of a group.

    Attributes:
        learned: the learned rate, which is the rate in use without the factor of a schedule.
        c: c_t.
        mu: mu_t, the memory of the trace.
    """

    learned: Number
    c: Number
    mu: Number


class LastIterate:
    """theta_t = theta_{t-1} - alpha_t u_t, as in Baydin et al. (2018)."""

    rate_first: ClassVar[bool] = True  # the rate moves by h_t before theta does
    group_numbers: ClassVar[Mapping[str, float]] = {}  # what a group keeps, and where it starts

    def init(self, p: Tensor) -> State:
        """Return the state that the iterate keeps for a parameter: none."""
        return {}

    def begin(self, group: Group) -> AverageNumbers | None:
        """Prepare a step of a group; called once for each step and group."""

    def move(
        self,
        p: Tensor,
        alpha: Tensor,
        u: Tensor,
        state: State,
        group: Group,
        numbers: AverageNumbers | None,
    ) -> Tensor:
        """Move p, and return u_t.

        Args:
            p: theta_{t-1}, written to.
            alpha: the rate in use, to broadcast with p.
            u: u_t.
            state: the state of the parameter.
            group: its options.
            numbers: what `begin` has returned.
        """
        # element-wise rates of a complex parameter are two real ones for each number
        if alpha.dtype == p.dtype and not (group["differentiable"] or p.is_complex()):
            p.addcmul_(alpha, u, value=-1)
        else:
            as_real(p).sub_(as_real(alpha) * as_real(u))
        return u


class Velocity(LastIterate):
    """Momentum with the rate inside the velocity (Polyak 1964; Sutskever et al. 2013).

    v_t = mu v_{t-1} + alpha_t u_t and theta_t = theta_{t-1} - v_t. With Nesterov the parameters
    are those at the look-ahead point: theta_t = theta_{t-1} - alpha_t u_t - mu v_t. The derivative
    by alpha_t is u_t, or (1 + mu) u_t with Nesterov.
    """

    def move(
        self,
        p: Tensor,
        alpha: Tensor,
        u: Tensor,
        state: State,
        group: Group,
        numbers: AverageNumbers | None,
    ) -> Tensor:
        """Move p, and return minus the derivative of theta_t by alpha_t."""
        mu = group["momentum"]
        step = as_real(alpha) * as_real(u)
        step = (torch.view_as_complex(step) if p.is_complex() else step).to(p.dtype)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = step.clone()
        else:
            state["momentum_buffer"].mul_(mu).add_(step)
        v = state["momentum_buffer"]
        p.add_(step.add(v, alpha=mu) if group["nesterov"] else v, alpha=-1.0)
        return u * (1 + mu) if group["nesterov"] else u


class Average(LastIterate):
    """The schedule-free average of Defazio et al. ("The Road Less Scheduled", 2024, eq. 1 to 3).

        z_t = z_{t-1} - alpha_t u_t
        x_t = (1 - c_t) x_{t-1} + c_t z_t
        y_t = (1 - b) z_t + b x_t

    Gradients are taken at y, which is what the parameters hold while training; x is the result.
    The weight of a step in x is proportional to t^`power` times the square of the largest rate so
    far, and c_t is that weight's share in the sum of all.

    In a group it keeps `average_step` (t), `average_weight` (1 / c_t) and `largest_lr`; for each
    parameter z. What it returns to the trace is (x_{t-1} - x_t) / a_t, where a_t is the learned
    rate, alpha_t without the factor of a schedule.

    Args:
        power: of t in the weight of a step.
        trace_steps: how many steps of x the trace remembers at least: 1 / (1 - mu_t). A memory is
            also a delay. The rate may grow by half in ten steps; after 50, a recurrent network had
            been harmed for good before the trace saw that its rate was too high.
        trace_share: the share of all steps that it remembers, if that is more. A memory of a fixed
            number of steps is short-sighted once training is long.
    """

    rate_first: ClassVar[bool] = False  # it follows a step later: one pass makes the whole step
    group_numbers: ClassVar[Mapping[str, float]] = {
        "average_step": 0.0,
        "average_weight": 0.0,
        "largest_lr": 0.0,
    }

    def __init__(
        self, power: float = 3.0, trace_steps: float = 10.0, trace_share: float = 0.5
    ) -> None:
        self.power, self.trace_steps, self.trace_share = power, trace_steps, trace_share

    def init(self, p: Tensor) -> State:
        """Return the state that the iterate keeps for a parameter: z_0 = theta_0."""
        return {"z": p.detach().clone()}

    def begin(self, group: Group) -> AverageNumbers:
        """Count the step of a group, and find its c_t; called once for each step and group."""
        alpha = alpha_of(group)
        if not devices.usable(alpha.device):
            return self._begin(group)
        names, reference = (*self.group_numbers, "scheduled_lr", "learned_scale"), "reference_lr"
        tensors, count = [group[name] for name in names], len(self.group_numbers)
        results = alpha.new_empty(len(AverageNumbers._fields)).unbind()

        def function(numbers: list[Tensor]) -> list[Tensor]:
            own = dict(zip(("lr", *names), numbers, strict=True))
            own |= {name: group[name] for name in (reference, "differentiable")}
            prepared = self._begin(own)
            return [*(own[name] for name in self.group_numbers), *map(torch.as_tensor, prepared)]

        key = self, self.power, self.trace_steps, self.trace_share, group[reference]
        if by_kernel(key, function, [alpha, *tensors], [*tensors[:count], *results]):
            return AverageNumbers(*results)
        return self._begin(group)

    def _begin(self, group: Group) -> AverageNumbers:
        t, weight, largest = (
            group[name] for name in ("average_step", "average_weight", "largest_lr")
        )
        before, learned = as_float(largest), learned_rate(group, as_float(alpha_of(group)))
        count = as_float(t) + 1
        now = larger(learned, before)
        ratio = before / larger(now, torch.finfo(torch.float32).tiny)
        power = ((count - 1) / count) ** self.power
        total = 1 + as_float(weight) * power * ratio**2
        assign(weight, total)
        assign(t, count)
        if now is not before:
            assign(largest, now)
        return AverageNumbers(learned, 1 / total, self.mu(count))

    def mu(self, t: Number) -> Number:
        """Return mu_t = 1 - 1 / max(trace_steps, trace_share t)."""
        mu: Number = 1 - 1 / larger(self.trace_share * t, self.trace_steps)
        return mu

    def move(
        self,
        p: Tensor,
        alpha: Tensor,
        u: Tensor,
        state: State,
        group: Group,
        numbers: AverageNumbers | None,
    ) -> Tensor:
        """Move y, which p holds, and z; return (x_{t-1} - x_t) / a_t."""
        assert numbers is not None  # noqa: S101 - `begin` has returned them
        y, z, b, c = as_real(p), as_real(state["z"]), group["interpolation"], numbers.c
        step = as_real(u) * -as_real(alpha)
        of_x = (z - y).mul_(c / b).add_(step * c)  # z - x = (z - y) / b
        z.add_(step)
        y.add_((of_x * b).add_(step.mul_(1 - b)))
        moved = of_x.div_(-numbers.learned)
        return torch.view_as_complex(moved) if p.is_complex() else moved

    def switch(self, p: Tensor, state: State, group: Group, *, training: bool) -> None:
        """Put y into p for training, or x for evaluation: y = x + (1 - b) (z - x)."""
        b = group["interpolation"]
        as_real(p).lerp_(as_real(state["z"]), 1 - b if training else 1 - 1 / b)
