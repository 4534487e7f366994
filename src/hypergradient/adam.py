"""Adam and AdamW whose learning rate tunes itself."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.optimizer import ParamsT

from hypergradient.core import HypergradientOptimizer, wants_fused
from hypergradient.keeper import State, apart
from hypergradient.options import Group
from hypergradient.pools import Number, plain
from hypergradient.visits import Advance, Direction, Ratio

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


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
        capturable: as in torch; on an accelerator it is always so.
        differentiable: as in torch.
        fused: as in torch.
        hypergrad_lr: beta, the step size of the learning rate's own update.
        rule: "additive" (alpha + beta h) or "multiplicative" (alpha (1 + beta cos(g, u))).
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
        hypergrad_lr: float | Tensor = 1e-8,
        rule: str = "additive",
        granularity: str = "group",
        reduction: str = "sum",
        product: str = "direction",
        lr_bounds: tuple[float, float] | None = (0.0, float("inf")),
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        groups, one = apart(params, lr)
        torch.optim.Adam.__init__(
            self,
            groups,
            one,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=decoupled_weight_decay,
        )
        self._equip(
            process_group,
            lr=lr,
            hypergrad_lr=hypergrad_lr,
            rule=rule,
            granularity=granularity,
            reduction=reduction,
            product=product,
            lr_bounds=lr_bounds,
        )

    def _init_state(self, group: Group, p: Tensor) -> State:
        wide = torch.get_default_dtype() == torch.float64 and not wants_fused(group)
        dtype = torch.float64 if wide else torch.float32  # of step counts, as torch has it
        state = {
            "step": torch.zeros((), dtype=dtype, device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = torch.zeros_like(p)
        return state

    def _memory(self, group: Group) -> tuple[str, ...]:
        return "exp_avg", "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"

    def _stage(self, state: State) -> Number:
        return plain(state["step"])

    def _direction(self, group: Group, stage: Number) -> Direction:
        return self._ratio(group, stage)

    def _advance(self, group: Group, stage: Number) -> Advance | None:
        if group["amsgrad"]:
            return None
        beta1, beta2 = (float(beta) for beta in group["betas"])
        after = self._ratio(group, stage + 1)
        return Advance((1 - beta1, beta1, 0.0), (1 - beta2, beta2), after)

    def _ratio(self, group: Group, step: Number) -> Ratio:
        beta1, beta2 = group["betas"]
        t = step + (step == 0)  # before the first step m = 0, and so u_0 = 0
        bias1, root2 = 1 - beta1**t, (1 - beta2**t) ** 0.5
        decays = group["decoupled_weight_decay"]
        decay = group["weight_decay"] * (step > 0) if decays else 0.0
        return Ratio(bias1 / root2, bias1 * group["eps"], decay, decays)

    def _apply(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]
    ) -> None:
        beta1, beta2 = group["betas"]
        capturable = group["capturable"] or params[0].device.type != "cpu"
        lr = group["lr"]
        if group["foreach"] and not capturable and isinstance(lr, Tensor):
            lr = (
                lr.item()
            )  # torch's foreach Adam takes no tensor; on the CPU this waits for nothing
        adam(
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
            **{name: group[name] for name in _ADAM_OPTIONS},
        )


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
        hypergrad_lr: float | Tensor = 1e-8,
        rule: str = "additive",
        granularity: str = "group",
        reduction: str = "sum",
        product: str = "direction",
        lr_bounds: tuple[float, float] | None = (0.0, float("inf")),
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
            process_group=process_group,
        )


_ADAM_OPTIONS = (
    *("lr", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize"),
    *("foreach", "differentiable", "fused"),
)
