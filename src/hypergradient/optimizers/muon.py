"""Muon: the orthogonalised momentum of a matrix; and the optimizer whose rate tunes itself."""

import math
from collections.abc import Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from hypergradient.engine.base import Base
from hypergradient.engine.optimizer import HypergradientOptimizer
from hypergradient.engine.options import (
    Granularity,
    Product,
    Reduction,
    RuleName,
    StepSizes,
    check_params,
)
from hypergradient.engine.types import Group, State
from hypergradient.optimizers.adam import AdamW

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

MATRIX = 2  # dimensions
Adjustment = Literal["original", "match_rms_adamw"]
ADJUSTMENTS = (None, *get_args(Adjustment))
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(Base):
    """u_t = r O_t for a matrix, with O_t the orthogonalised momentum and r a ratio of its sides.

    b_t = mu b_{t-1} + (1 - mu) g_t, and O_t follows from g_t + mu (b_t - g_t) with Nesterov, or
    from b_t, by the Newton-Schulz iteration. Weight decay is decoupled. Source: Jordan, "Muon: An
    optimizer for hidden layers in neural networks", 2024; options and numbers as in torch.optim.
    """

    defaults = {
        "weight_decay": 0.1,
        "decoupled_weight_decay": True,
        "momentum": 0.95,
        "nesterov": True,
        "ns_coefficients": COEFFICIENTS,
        "eps": 1e-7,
        "ns_steps": 5,
        "adjust_lr_fn": None,
    }

    needs_whole = True

    def init(self, p: Tensor) -> State:
        return {"momentum_buffer": torch.zeros_like(p)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        mu, b = group["momentum"], state["momentum_buffer"]
        b.lerp_(g, 1 - mu)
        o = orthogonalised(
            g.lerp(b, mu) if group["nesterov"] else b,
            group["ns_coefficients"],
            group["ns_steps"],
            group["eps"],
        )
        rows, columns = p.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            r = 0.2 * math.sqrt(max(rows, columns))
        else:
            r = math.sqrt(max(1.0, rows / columns)) if columns else 1.0
        return o.to(p.dtype) * r

    def check(self, group: Group) -> None:
        super().check(group)
        if group["adjust_lr_fn"] not in ADJUSTMENTS:
            raise ValueError(
                f"adjust_lr_fn={group['adjust_lr_fn']!r} is not one of 'original', "
                "'match_rms_adamw', None"
            )
        params = group["params"]
        for p in [params] if isinstance(params, Tensor) else params:
            if isinstance(p, Tensor) and (p.dim() != MATRIX or p.is_complex()):
                raise ValueError(
                    f"a parameter of shape {tuple(p.shape)} is not a real matrix, which is what "
                    'Muon moves: put it into a group of its own with "base": "adamw", or use MuonHD'
                )


def orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Return a matrix with the same singular vectors, and singular values near one, in bfloat16.

    Args:
        matrix: of shape (rows, columns).
        coefficients: a, b and c of x -> a x + b x^3 + c x^5, which each singular value x takes.
        steps: the number of iterations.
        eps: the least norm to divide by.
    """
    a, b, c = coefficients
    x = matrix.bfloat16()
    tall = matrix.shape[0] > matrix.shape[1]
    x = x.mT if tall else x
    x = x / x.norm().clamp(min=eps)  # no singular value above one
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonHD(HypergradientOptimizer):
    r"""Muon-HD: Muon for matrices and AdamW for all else, with learning rates that tune themselves.

    .. math::
        h_t &= \langle g_t, u_{t-1} \rangle, \qquad \alpha_t = \alpha_{t-1} + \beta h_t \\
        u_t &= r O_t + \lambda \theta_{t-1}, \qquad \theta_t = \theta_{t-1} - \alpha_t u_t

    Give it all parameters. Those that are no matrices (biases, norms, convolutions) move by AdamW
    in a group of their own. Embeddings and the last layer are matrices, but are usually left to
    AdamW as well: put them into a group with `"base": "adamw"` and its own `lr`.

    Args:
        params: parameters, named parameters or parameter groups.
        lr: the initial learning rate of matrices.
        weight_decay: lambda, decoupled.
        momentum: mu.
        nesterov: use Nesterov momentum.
        ns_coefficients: of the Newton-Schulz iteration.
        eps: the least norm of a momentum.
        ns_steps: iterations.
        adjust_lr_fn: what r is: "original", sqrt(max(1, rows / columns)), as None; or
            "match_rms_adamw", 0.2 sqrt(max(rows, columns)).
        adamw_lr: the initial learning rate of all other parameters.
        adamw_betas: their decay rates.
        hypergrad_lr: beta, the step size of the learning rates' own update.
        maximize: ascend instead.
        rule: as in `Hypergradient`; "multiplicative" by default, as an orthogonalised step has a
            size of its own.
        granularity: what shares one rate, as in `Hypergradient`.
        reduction: "sum" or "mean".
        product: "direction" or "gradient".
        lr_bounds: (low, high) that rates are clipped to; None for none.
        process_group: of the ranks whose optimizers hold other parameters.

    Raises:
        ValueError: at construction, for an option out of its range.

    Source: Jordan (2024) for the direction; Baydin et al. (ICLR 2018) for the rate.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
        >>> optimizer = MuonHD(model.parameters(), lr=0.02)
        >>> [(group["base"], len(group["params"])) for group in optimizer.param_groups]
        [('muon', 2), ('adamw', 2)]
        >>> model(torch.ones(1, 3)).square().sum().backward()
        >>> optimizer.step()
    """

    known_bases = MappingProxyType({"muon": Muon(), "adamw": AdamW()})

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Adjustment | None = None,
        *,
        adamw_lr: float | Tensor = 3e-4,
        adamw_betas: tuple[float, float] = (0.9, 0.999),
        maximize: bool = False,
        hypergrad_lr: StepSizes = 1e-3,
        rule: RuleName = "multiplicative",
        granularity: Granularity = "group",
        reduction: Reduction = "sum",
        product: Product = "direction",
        lr_bounds: tuple[float, float] | None = (0.0, math.inf),
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        self.for_others = {"base": "adamw", "lr": adamw_lr, "betas": adamw_betas}
        options = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "maximize": maximize,
            "hypergrad_lr": hypergrad_lr,
            "rule": rule,
            "granularity": granularity,
            "reduction": reduction,
            "product": product,
            "lr_bounds": lr_bounds,
        }
        super().__init__(params, "muon", options, process_group)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group; its parameters that are no matrices go to a group with the base AdamW."""
        if param_group.get("base", "muon") != "muon":
            super().add_param_group({**self._adamw_options(), **param_group})
            return
        params = param_group["params"]
        check_params(params)
        given = [params] if isinstance(params, Tensor) else list(_iterable(params))
        matrices = [p for p in given if _parameter(p).dim() == MATRIX]
        others = [p for p in given if _parameter(p).dim() != MATRIX]
        if matrices or not others:
            super().add_param_group({**param_group, "params": matrices})
        if others:
            own = {k: v for k, v in param_group.items() if k not in ("lr", *Muon.defaults)}
            super().add_param_group({**own, **self._adamw_options(), "params": others})

    def _adamw_options(self) -> dict[str, Any]:
        return {**AdamW.defaults, "weight_decay": self.defaults["weight_decay"], **self.for_others}


def _iterable(params: Any) -> Iterable[Any]:
    if isinstance(params, set):
        raise TypeError("parameters must be in an order, and a set has none: give a list")
    return params if isinstance(params, Iterable) else [params]


def _parameter(given: Any) -> Tensor:
    """Return the parameter of a named one, or what was given."""
    p: Tensor = given[1] if isinstance(given, tuple) else given
    if not isinstance(p, Tensor):
        raise TypeError(f"{p!r} is not a parameter: give tensors, or pairs of a name and a tensor")
    return p
