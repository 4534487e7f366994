"""Who steps in gpu_step.py: our kernels, this package's optimizers, and torch's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned
from hypergradient.engine.gpu.average import AverageKernels
from hypergradient.engine.gpu.recipes import (
    AverageRecipe,
    Operands,
    RateStep,
    Recipe,
)
from hypergradient.engine.gpu.step import StepKernels
from hypergradient.engine.gpu.tables import Tuning

Shapes = list[tuple[int, ...]]
Step = Callable[[], Any]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
LR, BETA = 1e-6, 1e-12  # of no consequence: nothing is learned here


def gpt2_small() -> Shapes:
    """The 148 tensors, of 124.4 million numbers, of the small GPT-2."""
    width = 768
    block = [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
    block += [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [(50257, width), (1024, width), *block * 12, (width,), (width,)]


def small() -> Shapes:
    """The 102 tensors, of 1.6 million numbers, of a small and deep network."""
    return [(128, 256), (128,)] * 51


def tiny() -> Shapes:
    return [(33, 17), (), (1500,), (5, 3)]


def count(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes)


@dataclass(frozen=True)
class Pair:
    """A base, ours and torch's, and the bytes a parameter that each must move.

    Attributes:
        name: of the row.
        kind: "sgd", "momentum", "nesterov", "adam", "adamw" or "untuned".
        bytes: ours, and those of torch's fused step.
        granularity: of our rates.
        rule: of our rates.
        dtype: of parameters and gradients; states are in float32.
    """

    name: str
    kind: str
    bytes: tuple[int, int]
    granularity: str = "group"
    rule: str = "additive"
    dtype: torch.dtype = torch.float32
    fused: bool = field(default=True)


PAIRS = (
    Pair("SGD", "sgd", (24, 12)),
    Pair("SGD, momentum", "momentum", (24, 20)),
    Pair("SGD, Nesterov", "nesterov", (32, 20)),
    Pair("Adam", "adam", (36, 28)),
    Pair("AdamW", "adamw", (40, 28)),
    Pair("Untuned, Adam", "untuned", (44, 28)),
    Pair("Untuned, SGD", "untuned-sgd", (28, 20)),
    Pair("Adam, cosine rule", "adam", (36, 28), rule="multiplicative"),
    Pair("Adam, a rate a tensor", "adam", (36, 28), "tensor"),
    Pair("Adam, a rate an element", "adam", (36, 28), "element"),
    Pair("AdamW, bfloat16 parameters", "adamw", (32, 28), dtype=torch.bfloat16),
)


def recipe(pair: Pair) -> Recipe:
    rule: dict[str, Any] = {"hypergrad_lr": BETA, "bounds": (0.0, float("inf"))}
    rule["multiplicative"] = pair.rule == "multiplicative"
    if pair.kind.startswith("adam"):
        decay = 0.01 if pair.kind == "adamw" else 0.0
        first, second = (1 - BETA1, BETA1, 0.0), (1 - BETA2, BETA2)
        return Recipe(
            maximize=False, l2=0.0, first=first, second=second, betas=(BETA1, BETA2), eps=EPS,
            decay=decay, **rule,
        )  # fmt: skip
    if pair.kind == "nesterov":
        first, second = (1 + BETA1, 0.0, BETA1**2), (1.0, BETA1)
        return Recipe(maximize=False, l2=0.0, first=first, second=second, **rule)
    first = (1.0, BETA1 if pair.kind == "momentum" else 0.0, 0.0)
    return Recipe(maximize=False, l2=0.0, first=first, **rule)


class ByKernels:
    """What an engine does around the kernels, of which this is the least there can be."""

    def __init__(self, pair: Pair, params: list[Tensor], tuning: Tuning | None = None) -> None:
        device = params[0].device
        self.params, self.recipe, self.kernels = params, recipe(pair), StepKernels(device, tuning)
        two = self.recipe.adam or pair.kind == "nesterov"
        wide = {"dtype": torch.float32}
        self.a = [torch.zeros_like(p, **wide) for p in params]
        self.b = [torch.zeros_like(p, **wide) if two else None for p in params]
        own = pair.granularity == "element"
        shared = torch.full((), LR, device=device)
        alike = pair.granularity == "group"
        self.alpha = [
            shared if alike else torch.full(p.shape if own else (), LR, device=device)
            for p in params
        ]
        adam = self.recipe.adam
        self.steps = [torch.zeros((), device=device) if adam else None for _ in params]
        self.pools = [None if own else 0 if alike else i for i in range(len(params))]

    def step(self) -> None:
        state = zip(self.params, self.a, self.b, self.alpha, self.steps, self.pools, strict=True)
        params = [
            Operands(p, p.grad, a, b, alpha, step, self.recipe, pool)
            for p, a, b, alpha, step, pool in state
            if p.grad is not None
        ]
        rates = {each.pool: each.alpha for each in params if each.pool is not None}
        self.kernels.load(params, [RateStep(rates[key], key, self.recipe) for key in rates])
        self.kernels.visit()
        self.kernels.move_rates()
        self.kernels.descend()


class UntunedByKernels:
    """`Untuned` likewise, but for its rate, which moves by torch's functions."""

    def __init__(self, pair: Pair, params: list[Tensor], tuning: Tuning | None = None) -> None:
        device = params[0].device
        self.params, self.kernels = params, AverageKernels(device, tuning)
        adam = pair.kind == "untuned"
        self.recipe = AverageRecipe(0.93, 0, 0.999 if adam else None, EPS)
        self.z = [p.clone() for p in params]
        self.m = [torch.zeros_like(p) for p in params]
        self.v = [torch.zeros_like(p) if adam else None for p in params]
        self.steps = [torch.zeros((), device=device) for _ in params]
        self.scalars = torch.tensor([[LR, LR, 0.01, 0.98]], device=device)

    def step(self) -> None:
        state = zip(self.params, self.m, self.v, self.z, self.steps, strict=True)
        params = [
            Operands(p, p.grad, m, v, z, step, self.recipe, None)
            for p, m, v, z, step in state
            if p.grad is not None
        ]
        self.kernels.load(params)
        self.kernels.descend(self.scalars)
        self.kernels.sums()


def by_kernels(pair: Pair, params: list[Tensor], tuning: Tuning | None = None) -> Step:
    kind = UntunedByKernels if pair.kind.startswith("untuned") else ByKernels
    return kind(pair, params, tuning).step


def by_package(pair: Pair, params: list[Tensor]) -> Step:
    """The public optimizer, by whichever lane it takes."""
    if pair.kind.startswith("untuned"):
        return Untuned(params, base="sgd" if pair.kind.endswith("sgd") else "adam").step
    own = {"granularity": pair.granularity, "rule": pair.rule, "hypergrad_lr": BETA, "lr": LR}
    if pair.kind.startswith("adam"):
        return (AdamWHD if pair.kind == "adamw" else AdamHD)(params, **own).step
    return SGDHD(params, **own, **_momentum(pair)).step


def by_torch(pair: Pair, params: list[Tensor], *, fused: bool) -> Step:
    """What torch has in the place of ours; for `Untuned` that is Adam, or SGD with momentum."""
    which = {"fused": True} if fused else {"foreach": True}
    if pair.kind in {"adam", "adamw", "untuned"}:
        kind = torch.optim.AdamW if pair.kind == "adamw" else torch.optim.Adam
        capturable = params[0].is_cuda
        return kind(params, lr=LR, capturable=capturable, **which).step
    return torch.optim.SGD(params, lr=LR, **_momentum(pair), **which).step


def _momentum(pair: Pair) -> dict[str, Any]:
    if pair.kind == "sgd":
        return {}
    return {"momentum": BETA1, "nesterov": pair.kind == "nesterov"}


def parameters(shapes: Shapes, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Parameters with gradients, of random numbers."""
    params: list[Tensor] = []
    for shape in shapes:
        p = nn.Parameter(torch.randn(shape, device=device).to(dtype))
        p.grad = torch.randn(shape, device=device).to(dtype)
        params.append(p)
    return params
