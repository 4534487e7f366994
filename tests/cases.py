"""Every optimizer under test in one table, and the random problems that they are tested on."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from hypergradient import SGDHD, AdamHD, AdamWHD
from reference import Options, Reference

Gradients = list[list[Tensor | None]]  # [group][parameter]

GRANULARITIES = ("global", "group", "tensor", "element", "member")
MEMBERS = 3
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}
LR = 0.05
ADAMW_DECAY = 0.01  # torch's default
BETAS = {"additive": 1e-3, "multiplicative": 0.2}  # rates move by some percent a step
TIGHT = (0.048, 0.053)  # rates that start at LR run into both ends within a few steps
APART = torch.tensor([1.0, 0.99, 1.01], dtype=torch.float64)  # rates of members
SPREAD = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)  # and their betas; one is a base method
BOUNDS = {"positive": (0.0, float("inf")), "tight": TIGHT, "unbounded": None}


@dataclass(frozen=True)
class Case:
    """One optimizer with one setting of its base options."""

    name: str
    hd: Any
    options: dict[str, Any] = field(default_factory=dict)
    state: frozenset[str] | int = (
        0  # names of its state tensors, or how many where names are its own
    )

    def __str__(self) -> str:
        return self.name

    @property
    def base(self) -> Any:
        """The optimizer of torch that this one stands in for."""
        return BASES[self.hd]

    @property
    def algorithm(self) -> str:
        return str(self.base.__name__).lower()

    @property
    def decoupled(self) -> bool:
        return self.hd is AdamWHD

    @property
    def decay(self) -> float:
        """The decoupled weight decay lambda, a part of the direction; 0 for the others."""
        return float(self.options.get("weight_decay", ADAMW_DECAY)) if self.decoupled else 0.0

    @property
    def torchs(self) -> bool:
        """Whether all its base options are torch's, and h is the true derivative by the rate."""
        return not {"classical", "product"} & self.options.keys()

    @property
    def ulps(self) -> int:
        """Roundings that an elementwise step has beside those of torch's kernels (see there)."""
        return {SGDHD: 1, AdamHD: 2, AdamWHD: 3}[self.hd]

    def build(self, params: Any, **options: Any) -> Any:
        """The hypergradient optimizer, with the base options of this case."""
        return self.hd(params, **{"lr": LR, **self.options, **options})


BASES: dict[type[torch.optim.Optimizer], type[torch.optim.Optimizer]] = {
    SGDHD: torch.optim.SGD,
    AdamHD: torch.optim.Adam,
    AdamWHD: torch.optim.AdamW,
}
ADAM = frozenset({"step", "exp_avg", "exp_avg_sq"})
AMSGRAD = ADAM | {"max_exp_avg_sq"}
SHORT_MEMORY = (0.5, 0.9)
NESTEROV = {"momentum": 0.9, "nesterov": True}

CASES = (
    Case("sgd", SGDHD, {}, 1),
    Case("sgd-l2", SGDHD, {"weight_decay": 0.1}, 1),
    Case("sgd-maximize", SGDHD, {"maximize": True, "weight_decay": 0.1}, 1),
    Case("momentum", SGDHD, {"momentum": 0.9}, 1),
    Case("momentum-l2", SGDHD, {"momentum": 0.5, "weight_decay": 0.1}, 1),
    Case("dampening", SGDHD, {"momentum": 0.9, "dampening": 0.3, "maximize": True}, 1),
    Case("nesterov", SGDHD, {"momentum": 0.9, "nesterov": True}, 2),
    Case("nesterov-l2", SGDHD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 2),
    Case("classical", SGDHD, {"momentum": 0.5, "classical": True}, 2),
    Case(
        "classical-nesterov",
        SGDHD,
        {"momentum": 0.9, "nesterov": True, "classical": True, "weight_decay": 0.1},
        2,
    ),
    Case("nesterov-gradient", SGDHD, {**NESTEROV, "maximize": True, "product": "gradient"}, 2),
    Case("adam", AdamHD, {}, ADAM),
    Case("adam-gradient", AdamHD, {"product": "gradient", "eps": 0.1}, ADAM | {"gradient"}),
    Case("adam-l2", AdamHD, {"betas": SHORT_MEMORY, "weight_decay": 0.1}, ADAM),
    Case("adam-eps-maximize", AdamHD, {"eps": 0.1, "maximize": True}, ADAM),
    Case("amsgrad", AdamHD, {"amsgrad": True, "betas": SHORT_MEMORY}, AMSGRAD),
    Case("adamw", AdamWHD, {}, ADAM),
    Case("adamw-decay", AdamWHD, {"weight_decay": 0.5, "betas": SHORT_MEMORY}, ADAM),
    Case("adamw-no-decay", AdamWHD, {"weight_decay": 0.0}, ADAM),
    Case(
        "amsgradw-maximize",
        AdamWHD,
        {"amsgrad": True, "betas": SHORT_MEMORY, "weight_decay": 0.1, "maximize": True},
        AMSGRAD,
    ),
)

TORCH_CASES = tuple(case for case in CASES if case.torchs)


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule, granularity, reduction and bounds, with a readable id."""
    for rule, granularity, reduction, bounds in product(
        BETAS, GRANULARITIES, ("sum", "mean"), BOUNDS
    ):
        if granularity == "element" and reduction == "mean":
            continue  # a mean over one number; a law of its own says that it changes nothing
        yield (
            f"{rule}-{granularity}-{reduction}-{bounds}",
            {
                "rule": rule,
                "lr": LR * APART if granularity == "member" else LR,
                "hypergrad_lr": beta(rule, granularity),
                "granularity": granularity,
                "reduction": reduction,
                "lr_bounds": BOUNDS[bounds],
            },
        )


def beta(rule: str, granularity: str) -> float | Tensor:
    """A beta at which rates move; members have their own."""
    return BETAS[rule] * SPREAD if granularity == "member" else BETAS[rule]


def stacked(shapes: Sequence[tuple[int, ...]], granularity: str) -> list[tuple[int, ...]]:
    """The shapes of a group, or of stacks of them where its members have rates of their own."""
    return [(MEMBERS, *shape) if granularity == "member" else shape for shape in shapes]


@dataclass(frozen=True)
class Problem:
    """Start values of two groups of parameters, and the gradients of some steps.

    The gradients do not depend on the parameters, so that a difference at one step is not amplified
    by the next ones and tolerances can be stated in units of the last place.
    """

    start: list[list[Tensor]]
    gradients: list[Gradients]


SHAPES = (((2, 3), (), (4,)), ((0, 3), (2, 1, 2), (1,)))


def problem(
    seed: int,
    dtype: torch.dtype = torch.float64,
    *,
    steps: int = 6,
    shapes: Sequence[Sequence[tuple[int, ...]]] = SHAPES,
    granularity: str = "group",
    missing: float = 0.2,
    steady: bool = False,
) -> Problem:
    """A random problem; each parameter is without a gradient in a share `missing` of the steps.

    Where the `granularity` is "member", its parameters are stacks of the `shapes`.
    `steady` gradients keep their signs and stay away from 0: sums of them do not cancel, which
    keeps the relative precision of the dtype.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = random.Random(seed)  # noqa: S311 (a test's random numbers)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def like(theta: Tensor, sign: Tensor) -> Tensor | None:
        g = normal(tuple(theta.shape))
        if steady:
            g = sign * (0.5 + g.abs().clamp(max=2))
        return None if chance.random() < missing else g.to(dtype)

    shapes = [stacked(group, granularity) for group in shapes]
    start = [[normal(shape).to(dtype) for shape in group] for group in shapes]
    signs = [[normal(shape).sign() for shape in group] for group in shapes]
    gradients = [
        [
            [like(*pair) for pair in zip(*group, strict=True)]
            for group in zip(start, signs, strict=True)
        ]
        for _ in range(steps)
    ]
    return Problem(start, gradients)


def parameters(start: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Fresh leaf parameters at `start`, group by group."""
    return [[theta.detach().clone().requires_grad_() for theta in group] for group in start]


def grouped(
    groups: Sequence[Sequence[Tensor]], options: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Parameter groups as torch wants them, each with its own options."""
    return [{"params": list(g), **o} for g, o in zip(groups, options, strict=True)]


def give(groups: Sequence[Sequence[Tensor]], gradients: Gradients) -> None:
    """Put gradients where `backward` would have."""
    for group, of_group in zip(groups, gradients, strict=True):
        for theta, g in zip(group, of_group, strict=True):
            theta.grad = None if g is None else g.clone()


def rates(optimizer: torch.optim.Optimizer) -> list[list[Tensor]]:
    """The learning rate of every number of every parameter, [group][parameter], in float64.

    Public places only: `state[p]["lr"]` for rates a tensor or an element, `group["lr"]` for the
    others (and for parameters that have had no gradient yet, whose rate is where it began).
    """

    def own(group: dict[str, Any], p: Tensor) -> Tensor:
        rate = optimizer.state.get(p, {}).get("lr", group["lr"])
        rate = torch.as_tensor(rate, dtype=torch.float64)
        if group["granularity"] == "member":
            rate = rate.reshape(-1, *(1,) * (p.dim() - 1))
        return rate.expand(p.shape).clone()

    return [[own(group, p) for p in group["params"]] for group in optimizer.param_groups]


def reference(
    case: Case, start: Sequence[Sequence[Tensor]], options: Sequence[dict[str, Any]]
) -> Reference:
    """The scalar loops for `case` over the same groups with the same options."""
    loops = Reference()
    for group, own in zip(start, options, strict=True):
        loops.add_group([numbers(theta) for theta in group], reference_options(case, own))
    return loops


def reference_options(case: Case, own: dict[str, Any]) -> Options:
    plain = {name: x.tolist() if isinstance(x, Tensor) else x for name, x in own.items()}
    if own.get("granularity") == "member":
        plain["members"] = MEMBERS
    return Options(
        algorithm=case.algorithm,
        **{"weight_decay": case.decay, "lr": LR, **case.options, **plain},
    )


def numbers(tensor: Tensor) -> list[float]:
    flat: list[float] = tensor.detach().double().flatten().tolist()
    return flat


def as_numbers(gradients: Gradients) -> list[list[list[float] | None]]:
    return [[None if g is None else numbers(g) for g in group] for group in gradients]
