"""Adam and its kin: the bases, and Adam and AdamW whose learning rate tunes itself."""

from collections.abc import Container, Mapping
from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from hypergradient.engine.adam_direction import AdamByBeta, AdamDirection
from hypergradient.engine.base import Base, Derivative, KernelBase, StateUpdate, check_count
from hypergradient.engine.numbers import as_float
from hypergradient.engine.optimizer import HypergradientOptimizer
from hypergradient.engine.options import Granularity, Product, Reduction, RuleName, StepSizes
from hypergradient.engine.torch_kernels import check_by_torch, wants_fused
from hypergradient.engine.types import Direction, Group, Number, State

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


DECOUPLES = "decoupled_weight_decay" in signature(adam).parameters
"""Whether torch's `adam` decouples weight decay; before torch 2.7 only its `adamw` does."""

CAPTURABLE = frozenset({"cuda", "xpu", "hpu", "privateuseone", "xla"})
"""Devices on which torch's Adam reads no step count back if it is told so; elsewhere it refuses."""


class Adam(KernelBase):
    """u_t = m_t / (1 - beta1^t) / (sqrt(v_t / (1 - beta2^t)) + eps) (Kingma and Ba 2015, alg. 1).

    With `amsgrad`, the largest v so far stands for v_t (Reddi et al. 2018).
    """

    defaults = {
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "amsgrad": False,
        "foreach": None,
        "fused": None,
        "capturable": False,
    }
    remembers = ("betas",)

    def init(self, p: Tensor) -> State:
        return {
            "step": step_count(p),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }

    def init_for(self, p: Tensor, group: Group) -> State:
        state = {**self.init(p), "step": step_count(p, fused=wants_fused(group))}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = torch.zeros_like(p)
        return state

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        beta1, beta2 = group["betas"]
        state["step"] += 1
        m, v, t = state["exp_avg"], state["exp_avg_sq"], as_float(state["step"])
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if group["amsgrad"]:
            v = torch.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        u: Tensor = m_hat / (v_hat.sqrt() + group["eps"])
        return u

    def check(self, group: Group) -> None:
        check_count(group["betas"], 2)
        check_by_torch(torch.optim.Adam, group)

    # The faster ways.

    def direction_state(self, group: Group) -> tuple[str, ...]:
        return "exp_avg", "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"

    def batch_key(self, state: State) -> Number:
        return as_float(state["step"])

    def last_direction(self, group: Group, key: Number) -> Direction:
        learned = "last_weight_decay" in group
        decay = group["last_weight_decay" if learned else "weight_decay"]
        return self._ratio(group, key, group["last_betas"], decay)

    def state_update(self, group: Group, key: Number) -> StateUpdate | None:
        if group["amsgrad"]:
            return None
        beta1, beta2 = (float(beta) for beta in group["betas"])
        after = self._ratio(group, key + 1, group["betas"], group["weight_decay"])
        return StateUpdate((1 - beta1, beta1, 0.0), (1 - beta2, beta2), after)

    def _ratio(
        self, group: Group, step: Number, betas: tuple[Number, Number], decay: Number
    ) -> AdamDirection:
        """Return u_t for a step count of t, and 0 before the first step, at which m is 0."""
        beta1, beta2 = betas
        t = step + (step == 0)
        bias1, root2 = 1 - beta1**t, (1 - beta2**t) ** 0.5
        # a decay of 0 must not meet an infinite theta
        decays = group["decoupled_weight_decay"] and (isinstance(decay, Tensor) or decay != 0)
        decay = decay * (step > 0) if decays else 0.0
        return AdamDirection(bias1 / root2, bias1 * group["eps"], decay, decays)

    def derivative(self, name: str, group: Group, key: Number) -> Derivative | None:
        if name not in ("beta1", "beta2") or group["amsgrad"]:
            return None
        beta1, beta2 = (float(beta) for beta in group["last_betas"])
        by_beta = AdamByBeta(name, beta1, beta2, group["eps"], float(key))
        return Derivative(("exp_avg", "exp_avg_sq", "previous_gradient"), by_beta)

    def past(self, names: Container[str], g: Tensor, state: State) -> State:
        # m_{t-1} - g_t follows from m_t and g_t; m_{t-1} would not do for v, nor v_{t-1} for m
        return {"previous_gradient": g} if "beta1" in names or "beta2" in names else {}

    def descend(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]
    ) -> None:
        beta1, beta2 = group["betas"]
        capturable = group["capturable"] or params[0].device.type in CAPTURABLE
        lr = group["lr"]
        if group["foreach"] and not capturable and isinstance(lr, Tensor):
            lr = lr.item()  # torch's foreach Adam takes no tensor there
        options = {name: group[name] for name in _ADAM_OPTIONS}
        kernel: Any = adam
        if not DECOUPLES and options.pop("decoupled_weight_decay"):
            kernel = adamw
        kernel(
            params,
            grads,
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [s["max_exp_avg_sq"] for s in states] if group["amsgrad"] else [],
            [s["step"] for s in states],
            has_complex=any(p.is_complex() for p in params),
            beta1=beta1,
            beta2=beta2,
            capturable=capturable,
            lr=lr,
            **options,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay, u_t + lambda theta_{t-1} (Loshchilov and Hutter 2019)."""

    defaults = {**Adam.defaults, "weight_decay": 1e-2, "decoupled_weight_decay": True}


class AMSGrad(Adam):
    """Adam with the largest v so far in place of v_t (Reddi et al. 2018, algorithm 2)."""

    defaults = {**Adam.defaults, "amsgrad": True}


class NAdam(Base):
    """Adam with Nesterov momentum (Dozat 2016): m_hat looks one step ahead.

    mu_t = beta1 (1 - 0.96^(0.004 t) / 2), m_hat = mu_{t+1} m_t / (1 - mu_1 ... mu_{t+1}) +
    (1 - mu_t) g_t / (1 - mu_1 ... mu_t), and u_t = m_hat / (sqrt(v_hat) + eps).
    """

    defaults = {"betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 4e-3}

    def init(self, p: Tensor) -> State:
        wide = torch.promote_types(p.dtype, torch.float32)  # the precision of its parameter
        return {**Adam().init(p), "mu_product": torch.ones((), dtype=wide, device=p.device)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        (beta1, beta2), decay = group["betas"], group["momentum_decay"]
        state["step"] += 1
        m, v, t = state["exp_avg"], state["exp_avg_sq"], as_float(state["step"])
        mu, next_mu = (beta1 * (1 - 0.5 * 0.96 ** (i * decay)) for i in (t, t + 1))
        state["mu_product"] *= mu
        product = as_float(state["mu_product"])
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        m_hat = m * (next_mu / (1 - product * next_mu)) + g * ((1 - mu) / (1 - product))
        v_hat = v / (1 - beta2**t)
        u: Tensor = m_hat / (v_hat.sqrt() + group["eps"])
        return u


def step_count(p: Tensor, *, fused: bool = False) -> Tensor:
    """Return a count of steps at zero, on the parameter's device, in the dtype that torch uses."""
    wide = torch.get_default_dtype() == torch.float64 and not fused
    return torch.zeros((), dtype=torch.float64 if wide else torch.float32, device=p.device)


class AdamHD(HypergradientOptimizer, torch.optim.Adam):
    r"""Adam-HD: `torch.optim.Adam` with hypergradient descent on its learning rate.

    .. math::
        \alpha_t &= \alpha_{t-1} + \beta \, \langle g_t, u_{t-1} \rangle \\
        u_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} \\
        \theta_t &= \theta_{t-1} - \alpha_t u_t

    It keeps no state beyond Adam's own: u_{t-1} follows from m, v and the step count.

    Args:
        params: parameters, named parameters or parameter groups, as for `torch.optim.Adam`.
        lr: the initial learning rate alpha_0; 0 works with the additive rule.
        betas: decay rates of the two moments.
        eps: added to the denominator.
        weight_decay: L2 penalty; it is part of g_t, and `p.grad` is left as it is.
        amsgrad: use the largest second moment so far.
        foreach: as in torch. By default our C function takes the step, or torch's fused kernel,
            wherever these apply.
        maximize: ascend instead.
        capturable: as in torch; where torch can, as on CUDA, it is always so.
        differentiable: as in torch.
        fused: as in torch.
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
        learn: what else learns, with the step size of each: `{"betas": 1e-3}`, "beta1",
            "beta2", or with decoupled decay "weight_decay". See docs/hyperparameters.md.
        process_group: of the ranks whose optimizers hold other parameters of the same model, as
            those in a `ZeroRedundancyOptimizer` do: group and global rates follow from sums over
            all of them. Not for plain DistributedDataParallel, nor for FSDP2, which need nothing.
            It is no part of the state, and a copied or loaded optimizer has none.

    The rate is `param_groups[i]["lr"]` ("global", "group", "member") or `state[p]["lr"]` ("tensor",
    "element"), always a tensor; `lr_summary()` gives floats.

    Raises:
        ValueError: at construction, for an option out of its range.

    Source: Baydin et al., "Online Learning Rate Adaptation with Hypergradient Descent", ICLR 2018,
    algorithm 6 (default beta: the poster's tuning example); Fischer (2020) for element-wise rates.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = AdamHD(model.parameters(), lr=1e-3, hypergrad_lr=1e-5)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(1, 3)).square().sum().backward()
        ...     optimizer.step()
        >>> optimizer.lr_summary()["median"] > 1e-3
        True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        hypergrad_lr: StepSizes = 1e-8,
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
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
            "hypergrad_lr": hypergrad_lr,
            "rule": rule,
            "granularity": granularity,
            "reduction": reduction,
            "product": product,
            "lr_bounds": lr_bounds,
            "learn": learn,
        }
        base = AdamW() if decoupled_weight_decay else Adam()
        super().__init__(params, base, options, process_group)


class AdamWHD(AdamHD, torch.optim.AdamW):
    r"""AdamW-HD: `torch.optim.AdamW` with hypergradient descent on its learning rate.

    .. math::
        u_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}
               + \lambda \theta_{t-1} \\
        \alpha_t &= \alpha_{t-1} + \beta \, \langle g_t, u_{t-1} \rangle, \qquad
        \theta_t = \theta_{t-1} - \alpha_t u_t

    The decoupled decay lambda is scaled by alpha, so it is part of the direction and of the
    hypergradient. It needs no copy of older parameters: theta_{t-2} follows from theta_{t-1}.

    Arguments, state and errors are those of `AdamHD`, with `weight_decay` 1e-2 by default.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, with the
    rule of Baydin et al., ICLR 2018.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = AdamWHD(model.parameters(), lr=1e-3, weight_decay=0.1)
        >>> model(torch.ones(1, 3)).square().sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        hypergrad_lr: StepSizes = 1e-8,
        rule: RuleName = "additive",
        granularity: Granularity = "group",
        reduction: Reduction = "sum",
        product: Product = "direction",
        lr_bounds: tuple[float, float] | None = (0.0, float("inf")),
        learn: Mapping[str, StepSizes] = MappingProxyType({}),
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            hypergrad_lr=hypergrad_lr,
            rule=rule,
            granularity=granularity,
            reduction=reduction,
            product=product,
            lr_bounds=lr_bounds,
            learn=learn,
            process_group=process_group,
        )


_ADAM_OPTIONS = (
    *("eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize"),
    *("foreach", "differentiable", "fused"),
)
