"""`Hypergradient`: hypergradient descent on the learning rate of any base."""

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from hypergradient.engine.optimizer import HypergradientOptimizer
from hypergradient.optimizers.bases import BASES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.distributed import ProcessGroup

    from hypergradient.engine.base import Base
    from hypergradient.engine.options import Granularity, Product, Reduction, RuleName, StepSizes
    from hypergradient.optimizers.bases import BaseName


class Hypergradient(HypergradientOptimizer):
    r"""Any base optimizer, with hypergradient descent on its learning rate.

    .. math::
        h_t &= \langle g_t, u_{t-1} \rangle = - \partial f(\theta_{t-1}) / \partial \alpha_{t-1} \\
        \alpha_t &= \alpha_{t-1} + \beta h_t, \quad \text{or another rule} \\
        u_t &= \text{base}(g_t), \qquad \theta_t = \theta_{t-1} - \alpha_t u_t

    Args:
        params: parameters, named parameters or parameter groups, as for any torch optimizer. A
            group may have a base of its own, `{"params": ..., "base": "adam"}`.
        base: what makes the direction u_t: an instance of `Base`, or the name of one that is here:
            "sgd", "adam", "adamw", "amsgrad", "nadam", "rmsprop", "adagrad", "adafactor", "lion",
            "muon".
        lr: the initial learning rate alpha_0; 0 works with the additive rule.
        hypergrad_lr: beta, the step size of the learning rate's own update; or a tower
            (beta_0, gamma, ...), in which all step sizes but the last learn, too.
        rule: "additive" (alpha + beta h), "multiplicative" (alpha (1 + beta cos(g, u))),
            "relative" (alpha exp(eta h / E|h|), the rule of `Untuned`), "adam" (Adam on h), or
            "hdm" (AdaGrad on h / |u|^2).
        granularity: what shares one rate: "global" (all groups move by one pooled h), "group",
            "tensor", "element", or "member": the parameters are stacks of an ensemble's members,
            as `torch.func.stack_module_state` makes them, and index i of every leading axis in the
            group shares rate i. Then `lr` and `hypergrad_lr` may be 1-D tensors, a number a member.
        reduction: "sum" (Baydin et al.) or "mean" (Fischer's global rate: the inner product
            divided by the number of elements that share the rate).
        product: what moves the rate: the inner product of g_t with the "direction" u_{t-1} of the
            last step, which is the hypergradient, or with the "gradient" g_{t-1} (Fischer).
        lr_bounds: (low, high) that the rate is clipped to; None for the unbounded rate of the
            paper, which may go negative.
        learn: what else learns, with the step size of each, such as `{"momentum": 1e-3}`; which
            options can depends on the base. See docs/hyperparameters.md.
        maximize: ascend instead.
        differentiable: let autograd record the step; the base must then not write to its state.
        process_group: of the ranks whose optimizers hold other parameters of the same model, as
            those in a `ZeroRedundancyOptimizer` do. It is no part of the state.
        options: `weight_decay`, `decoupled_weight_decay`, and the base's own options.

    The rate is `param_groups[i]["lr"]` ("global", "group", "member") or `state[p]["lr"]` ("tensor",
    "element"), always a tensor; `lr_summary()` gives floats.

    Raises:
        ValueError: at construction, for an option out of its range.
        TypeError: at construction, for an option that neither this class nor the base has.

    Source: Baydin et al., "Online Learning Rate Adaptation with Hypergradient Descent", ICLR 2018,
    algorithm 2.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = Hypergradient(model.parameters(), base="lion", lr=1e-4, betas=(0.9, 0.98))
        >>> model(torch.ones(1, 3)).square().sum().backward()
        >>> optimizer.step()
    """

    known_bases = BASES

    def __init__(
        self,
        params: ParamsT,
        base: "Base | BaseName" = "sgd",
        lr: float | Tensor = 1e-3,
        *,
        hypergrad_lr: "StepSizes" = 1e-3,
        rule: "RuleName" = "additive",
        granularity: "Granularity" = "group",
        reduction: "Reduction" = "sum",
        product: "Product" = "direction",
        lr_bounds: tuple[float, float] | None = (0.0, math.inf),
        learn: "Mapping[str, StepSizes]" = MappingProxyType({}),
        maximize: bool = False,
        differentiable: bool = False,
        process_group: "ProcessGroup | None" = None,
        **options: Any,
    ) -> None:
        shared = {
            "lr": lr,
            "hypergrad_lr": hypergrad_lr,
            "rule": rule,
            "granularity": granularity,
            "reduction": reduction,
            "product": product,
            "lr_bounds": lr_bounds,
            "learn": learn,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, base, {**shared, **options}, process_group)
