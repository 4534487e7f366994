"""Every optimizer under test in one table, and the random problems that they are tested on."""

import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hypergradient import SGDHD, AdamHD, AdamWHD, Base, Hypergradient
from own_bases import Lion, Softened, TwoMeans
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
BETAS = {  # rates move by some percent a step
    "additive": 1e-3,
    "multiplicative": 0.2,
    "relative": 0.02,
    "adam": 2e-3,
    "hdm": 2e-3,
}
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
    def kernels(self) -> bool:
        """Whether it has torch's implementations to choose from."""
        return self.hd is not Hypergradient

    @property
    def algorithm(self) -> str:
        """Its direction in the scalar loops."""
        if self.kernels:
            return "sgd" if self.hd is SGDHD else "adam"
        base = self.options["base"]
        return base if isinstance(base, str) else base.name

    @property
    def decoupled(self) -> bool:
        defaults = getattr(self.options.get("base"), "defaults", {})
        default = defaults.get("decoupled_weight_decay", self.hd is AdamWHD)
        return bool(self.options.get("decoupled_weight_decay", default))

    @property
    def recomputes(self) -> bool:
        """Whether u_{t-1} is recomputed with the theta that decay was applied to."""
        return self.hd is AdamWHD

    @property
    def decay(self) -> float:
        """The decoupled weight decay lambda, a part of the direction; 0 for the others."""
        usual = ADAMW_DECAY if self.hd is AdamWHD else 0.0
        return float(self.options.get("weight_decay", usual)) if self.decoupled else 0.0

    @property
    def torchs(self) -> bool:
        """Whether all its base options are torch's, and h is the true derivative by the rate."""
        return self.kernels and not {"classical", "product"} & self.options.keys()

    @property
    def ulps(self) -> int:
        """Roundings that an elementwise step has beside those of torch's kernels (see there)."""
        return {SGDHD: 1, AdamHD: 2, AdamWHD: 3}[self.hd]

    def build(self, params: Any, **options: Any) -> Any:
        """The hypergradient optimizer, with the base options of this case."""
        return self.hd(params, **{"lr": LR, **self.options, **options})

    def blank(self, params: Any) -> Any:
        """The hypergradient optimizer with its default options, to load a state into."""
        return self.hd(params, **{k: v for k, v in self.options.items() if k == "base"})


BASES: dict[type[torch.optim.Optimizer], type[torch.optim.Optimizer]] = {
    SGDHD: torch.optim.SGD,
    AdamHD: torch.optim.Adam,
    AdamWHD: torch.optim.AdamW,
}
ADAM = frozenset({"step", "exp_avg", "exp_avg_sq"})
AMSGRAD = ADAM | {"max_exp_avg_sq"}
SHORT_MEMORY = (0.5, 0.9)
EPS = 1e-3  # of bases that compute in the dtype of the parameter; 1e-8 is 0 in float16
L2_UPWARDS = {"maximize": True, "weight_decay": 0.1}
DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}


def base_case(name: str, base: Base | str, state: AbstractSet[str], **options: Any) -> Case:
    """A base through `Hypergradient`, which keeps u_t beside the base's own state."""
    return Case(name, Hypergradient, {"base": base, **options}, frozenset({*state, "direction"}))


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
    base_case("nadam", "nadam", ADAM | {"mu_product"}),
    base_case("nadam-decay", "nadam", ADAM | {"mu_product"}, betas=SHORT_MEMORY, **DECOUPLED),
    base_case("rmsprop", "rmsprop", {"square_avg"}, alpha=0.9, eps=EPS),
    base_case("rmsprop-maximize", "rmsprop", {"square_avg"}, **L2_UPWARDS, alpha=0.5, eps=EPS),
    base_case("adagrad", "adagrad", {"sum"}, eps=0.1),
    base_case("lion", "lion", {"exp_avg"}, betas=(0.9, 0.99), **DECOUPLED),
    base_case("own-lion", Lion(), {"exp_avg"}, betas=(0.8, 0.9)),
    base_case("own-without-state", Softened(), set(), weight_decay=0.1),
    base_case("own-two-states", TwoMeans(), {"fast_mean", "slow_mean"}, weight_decay=0.1),
)

TORCH_CASES = tuple(case for case in CASES if case.torchs)


def variant(rule: str, granularity: str, reduction: str, bounds: str) -> dict[str, Any]:
    """The options by which a rate moves, by their names."""
    return {
        "rule": rule,
        "lr": LR * APART if granularity == "member" else LR,
        "hypergrad_lr": beta(rule, granularity),
        "granularity": granularity,
        "reduction": reduction,
        "lr_bounds": BOUNDS[bounds],
    }


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
        **{
            "weight_decay": case.decay,
            "decoupled_weight_decay": case.decoupled,
            "lr": LR,
            **{name: value for name, value in case.options.items() if name != "base"},
            **plain,
        },
    )


def numbers(tensor: Tensor) -> list[float]:
    flat: list[float] = tensor.detach().double().flatten().tolist()
    return flat


def as_numbers(gradients: Gradients) -> list[list[list[float] | None]]:
    return [[None if g is None else numbers(g) for g in group] for group in gradients]
