"""SGD with momentum or Nesterov momentum: the base, and the optimizer whose rate tunes itself."""

from collections.abc import Container, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from hypergradient.engine.base import (
    Derivative,
    KernelBase,
    StateUpdate,
    last_theta,
    stored_direction,
)
from hypergradient.engine.iterates import LastIterate, Velocity
from hypergradient.engine.optimizer import HypergradientOptimizer
from hypergradient.engine.options import Granularity, Product, Reduction, RuleName, StepSizes
from hypergradient.engine.tensors import descent_gradient
from hypergradient.engine.torch_kernels import check_by_torch
from hypergradient.engine.types import Direction, Group, Number, State

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SGD(KernelBase):
    """u_t = g_t; with momentum b_t = mu b_{t-1} + (1 - dampening) g_t; or Nesterov's g_t + mu b_t.

    b_1 = g_1, as in torch. With `classical`, u_t = g_t and the momentum is that of `Velocity`,
    with the learning rate inside.
    """

    defaults = {
        "momentum": 0.0,
        "dampening": 0.0,
        "nesterov": False,
        "classical": False,
        "foreach": None,
        "fused": None,
    }
    sized_by_gradient = True
    takes_sparse = True
    fused_takes_halves = False  # of torch 2.13: it moves only the last few elements

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        mu = group["momentum"]
        if mu == 0 or group["classical"]:
            return g
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = g.clone()
        else:
            state["momentum_buffer"].mul_(mu).add_(g, alpha=1 - group["dampening"])
        b: Tensor = state["momentum_buffer"]
        return g.add(b, alpha=mu) if group["nesterov"] else b

    def check(self, group: Group) -> None:
        check_by_torch(torch.optim.SGD, group)
        if group["classical"] and group["dampening"]:
            raise ValueError(
                f"dampening={group['dampening']!r} has no place in classical momentum: "
                "leave it at 0"
            )

    # The faster ways.

    def iterate(self, group: Group) -> LastIterate | None:
        return VELOCITY if group["classical"] else None

    def goes_plainly(self, group: Group) -> bool:
        decay = group["weight_decay"]
        zero = not isinstance(decay, Tensor) and decay == 0
        return group["decoupled_weight_decay"] and not zero  # torch's kernels have L2 decay alone

    def _keeps_direction(self, group: Group) -> bool:
        """Whether u_t needs a tensor of its own, being neither torch's buffer nor unasked for."""
        buffer_is_u = group["momentum"] != 0 and not (group["nesterov"] or group["classical"])
        own = not buffer_is_u or self.goes_plainly(group)
        return group["product"] == "direction" and own

    def direction_state(self, group: Group) -> tuple[str, ...]:
        kept = ("direction",) if self._keeps_direction(group) else ()
        no_buffer = group["momentum"] == 0 or group["classical"]
        return kept if no_buffer else (*kept, "momentum_buffer")

    def missing_state(self, state: State, name: str, p: Tensor) -> Tensor:
        if name == "momentum_buffer":  # torch's kernel makes it, from the first gradient
            return torch.zeros_like(p)
        return super().missing_state(state, name, p)

    def batch_key(self, state: State) -> Number:
        return float("momentum_buffer" in state)

    def last_direction(self, group: Group, key: Number) -> Direction:
        return stored_direction

    def direction_coefficients(self, group: Group) -> tuple[float, float] | None:
        mu = group["momentum"]
        if not self._keeps_direction(group) or self.goes_plainly(group):
            return None
        if mu == 0 or (group["classical"] and not group["nesterov"]):
            return 1.0, 0.0
        # Nesterov: u_t = g_t + mu b_t, where b_t will be mu b_{t-1} + g_t
        return 1 + mu, 0.0 if group["classical"] else mu**2

    def state_update(self, group: Group, key: Number) -> StateUpdate | None:
        mu = group["momentum"]
        if mu == 0:
            return StateUpdate((1.0, 0.0, 0.0), (0.0, 1.0), stored_direction)
        if group["classical"] or not key:
            return None
        fresh = 1 - group["dampening"]
        if group["nesterov"]:  # as `direction_coefficients`, and the buffer
            return StateUpdate((1 + mu, 0.0, mu**2), (fresh, mu), stored_direction)
        return StateUpdate((fresh, mu, 0.0), (0.0, 1.0), stored_direction)

    def derivative(self, name: str, group: Group, key: Number) -> Derivative | None:
        mu = group["momentum"]
        if name == "momentum" and mu != 0:
            states = ("momentum_buffer", "previous_buffer")
            by_rate = not group["classical"]  # whose buffer is the velocity, with the rate inside
            if group["nesterov"]:  # u_t = g_t + mu b_t
                return Derivative(
                    states, lambda _theta, _alpha, b, before: b + mu * before, by_rate
                )
            return Derivative(states[1:], lambda _theta, _alpha, before: before, by_rate)
        if name == "weight_decay" and mu == 0 and self._keeps_direction(group):
            return Derivative(("direction",), last_theta(stored_direction))
        return None

    def past(self, names: Container[str], g: Tensor, state: State) -> State:
        # b_{t-2} is kept, as it is lost where mu is small: (b_{t-1} - g_{t-1}) / mu
        if "momentum" not in names:
            return {}
        buffer = state.get("momentum_buffer")
        return {"previous_buffer": torch.zeros_like(g) if buffer is None else buffer}

    def descend(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]
    ) -> None:
        if _refuses_rate(group, grads):
            lr = group["lr"]
            for p, grad, state in zip(params, grads, states, strict=True):
                u = self.direction(descent_gradient(group, grad, p), p, state, group)
                p.addcmul_(u, lr, value=-1)
            return
        if group["foreach"] and group["nesterov"]:  # torch 2.13 writes to these gradients
            grads = [g.clone() for g in grads]
        started = [group["momentum"] == 0 or "momentum_buffer" in state for state in states]
        if group["fused"] and all(started) and _alike(params):
            # what sgd() would call, after it has sorted the tensors for longer than this takes
            velocities = [s["momentum_buffer"] for s in states] if group["momentum"] else []
            options = {name: group[name] for name in _KERNEL_OPTIONS}
            torch._fused_sgd_(params, grads, velocities, is_first_step=False, **options)
            return
        for which in set(started):  # torch's fused kernel takes first steps or others, not both
            chosen = [i for i, has in enumerate(started) if has is which]
            buffers = [states[i].get("momentum_buffer") for i in chosen]
            sgd(
                [params[i] for i in chosen],
                [grads[i] for i in chosen],
                buffers,
                has_sparse_grad=any(grads[i].is_sparse for i in chosen),
                **{name: group[name] for name in _SGD_OPTIONS},
            )
            for i, buffer in zip(chosen, buffers, strict=True):
                if buffer is not None:
                    states[i]["momentum_buffer"] = buffer


def _refuses_rate(group: Group, grads: list[Tensor]) -> bool:
    """Whether torch's kernel cannot take the rate, or would wait for a device to read it."""
    lr = group["lr"]
    if not isinstance(lr, Tensor):
        return False
    if lr.requires_grad:
        return not _takes_recorded_rates()
    eager = not (group["fused"] or lr.is_cpu or is_compiling())
    return eager and not any(grad.is_sparse for grad in grads)


@cache
def _takes_recorded_rates() -> bool:
    """Whether torch's kernel takes a rate that autograd records; that of torch 2.6 does not."""
    p = torch.zeros(1)
    p.grad = torch.zeros(1)
    rate = torch.zeros((), requires_grad=True)
    try:
        torch.optim.SGD([p], lr=rate, foreach=False, differentiable=True).step()
    except TypeError:
        return False
    return True


class SGDHD(HypergradientOptimizer, torch.optim.SGD):
    r"""SGD-HD and SGDN-HD: `torch.optim.SGD` with hypergradient descent on its learning rate.

    .. math::
        g_t &= \nabla f(\theta_{t-1}) + \lambda \theta_{t-1} \\
        \alpha_t &= \alpha_{t-1} + \beta \, \langle g_t, u_{t-1} \rangle \\
        u_t &= g_t, \quad b_t \;\text{(momentum)} \quad\text{or}\quad
               g_t + \mu b_t \;\text{(Nesterov)} \\
        \theta_t &= \theta_{t-1} - \alpha_t u_t

    Beside torch's own state it keeps one tensor a parameter, u_t; none with momentum that is not
    Nesterov's, whose buffer is u_t.

    Args:
        params: parameters, named parameters or parameter groups, as for `torch.optim.SGD`.
        lr: the initial learning rate alpha_0; 0 works with the additive rule.
        momentum: mu.
        dampening: of the momentum.
        weight_decay: L2 penalty lambda; it is part of g_t, and `p.grad` is left as it is.
        nesterov: use Nesterov momentum.
        maximize: ascend instead.
        foreach: as in torch. By default our C function takes the step, or torch's fused kernel,
            wherever these apply.
        differentiable: as in torch.
        fused: as in torch.
        classical: momentum with the rate inside the velocity (Polyak 1964; Sutskever et al. 2013):
            v_t = mu v_{t-1} + alpha_t g_t and theta_t = theta_{t-1} - v_t, or with Nesterov, whose
            parameters are those at the look-ahead point, theta_t = theta_{t-1} - alpha_t g_t -
            mu v_t. There u_t = -d theta_t / d alpha_t is g_t, or (1 + mu) g_t with Nesterov.
        hypergrad_lr: beta, the step size of the learning rate's own update; or a tower
            (beta_0, gamma, ...), in which all step sizes but the last learn, too.
        rule: "additive" (alpha + beta h), "multiplicative" (alpha (1 + beta cos(g, u))), "adam"
            (Adam on h), or "hdm" (AdaGrad on h / |u|^2).
        granularity: what shares one rate: "global" (all groups move by one pooled h), "group",
            "tensor", "element", or "member": the parameters are stacks of an ensemble's members,
            as `torch.func.stack_module_state` makes them, and index i of every leading axis in the
            group shares rate i. Then `lr` and `hypergrad_lr` may be 1-D tensors, a number a member.
        reduction: "sum" (Baydin et al.) or "mean" (Fischer's global rate: the inner product
            divided by the number of elements that share the rate).
        product: what moves the rate: the inner product of g_t with the "direction" u_{t-1} of the
            last step, which is the hypergradient, or with the "gradient" g_{t-1} (Fischer), for
            which one tensor a parameter is kept.
        lr_bounds: (low, high) that the rate is clipped to; None for the unbounded rate of the
            paper, which may go negative.
        learn: what else learns, with the step size of each: `{"momentum": 1e-3}`, or
            "weight_decay". See docs/hyperparameters.md.
        process_group: of the ranks whose optimizers hold other parameters of the same model, as
            those in a `ZeroRedundancyOptimizer` do: group and global rates follow from sums over
            all of them. Not for plain DistributedDataParallel, nor for FSDP2, which need nothing.
            It is no part of the state, and a copied or loaded optimizer has none.

    The rate is `param_groups[i]["lr"]` ("global", "group", "member") or `state[p]["lr"]` ("tensor",
    "element"), always a tensor; `lr_summary()` gives floats.

    Raises:
        ValueError: at construction, for an option out of its range.

    Source: Baydin et al., "Online Learning Rate Adaptation with Hypergradient Descent", ICLR 2018,
    algorithms 4 and 5 (default beta: their tuning example); Fischer (2020) for element-wise rates.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.randn(64, 3), torch.randn(64, 1)
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = SGDHD(model.parameters(), lr=0.0, hypergrad_lr=1e-2)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     torch.nn.functional.mse_loss(model(x), y).backward()
        ...     optimizer.step()
        >>> optimizer.param_groups[0]["lr"] > 0.01
        tensor(True)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        classical: bool = False,
        hypergrad_lr: StepSizes = 1e-3,
        rule: RuleName = "additive",
        granularity: Granularity = "group",
        reduction: Reduction = "sum",
        product: Product = "direction",
        lr_bounds: tuple[float, float] | None = (0.0, float("inf")),
        learn: Mapping[str, StepSizes] = MappingProxyType({}),
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
            "classical": classical,
            "hypergrad_lr": hypergrad_lr,
            "rule": rule,
            "granularity": granularity,
            "reduction": reduction,
            "product": product,
            "lr_bounds": lr_bounds,
            "learn": learn,
        }
        super().__init__(params, SGD(), options, process_group)


VELOCITY = Velocity()


def _alike(params: list[Tensor]) -> bool:
    return all(p.is_cpu and p.dtype is params[0].dtype for p in params)


_KERNEL_OPTIONS = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
_SGD_OPTIONS = (*_KERNEL_OPTIONS, "foreach", "fused")
