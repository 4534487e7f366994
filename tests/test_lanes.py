"""Law: each faster way to make a step is the plain base's, to rounding.

`plain` keeps of a base what its page says, `init` and `direction`; the engine then does all else.
torch's kernels are held to it in float64, the C passes in float32.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from cases import BETAS, IMPLEMENTATIONS, give, grouped, parameters, problem, rates
from hypergradient import Base, Hypergradient, Untuned
from hypergradient.engine import native_library
from hypergradient.optimizers.adam import Adam, AdamW, AMSGrad
from hypergradient.optimizers.sgd import SGD
from hypergradient.optimizers.untuned import AdamWithoutMomentum
from own_bases import plain
from pairwise import pairs

SHAPES = (((33, 7), (), (5_001,)), ((0, 3), (5, 1, 5)))
NESTEROV = {"momentum": 0.9, "nesterov": True}
BASES: dict[str, tuple[Base, dict[str, Any]]] = {
    "sgd": (SGD(), {"weight_decay": 0.1}),
    "momentum": (SGD(), {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    "nesterov": (SGD(), {**NESTEROV, "weight_decay": 0.1}),
    "sgd with decoupled decay": (SGD(), {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adam": (Adam(), {"weight_decay": 0.1}),
    "adamw": (AdamW(), {"weight_decay": 0.3, "betas": (0.5, 0.9)}),
    "amsgrad": (AMSGrad(), {"betas": (0.5, 0.9), "maximize": True}),
}
GRANULARITIES = ("global", "group", "tensor", "element")
LANES: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    **{name: (flags, torch.float64) for name, flags in IMPLEMENTATIONS.items()},
    "C": ({}, torch.float32),
}


@pairs(
    base=BASES, lane=LANES, granularity=GRANULARITIES, rule=BETAS, product=["direction", "gradient"]
)
def test_every_lane_is_the_plain_base(
    base: str, lane: str, granularity: str, rule: str, product: str
) -> None:
    if lane == "C" and native_library.function() is None:
        pytest.skip("no C compiler here")
    (fast, options), (flags, dtype) = BASES[base], LANES[lane]
    missing = 0.0 if base == "adamw" else 0.2  # see `loses_pauses`
    of = problem(5, dtype, steps=6, shapes=SHAPES, missing=missing)
    own = {
        "granularity": granularity,
        "rule": rule,
        "hypergrad_lr": 1e-6 if rule == "additive" else BETAS[rule],
        "product": product,
    }
    groups = [parameters(of.start) for _ in range(2)]
    optimizers = [
        Hypergradient(grouped(params, [{}, {"lr": 0.03}]), each, 0.05, **options, **own, **more)
        for params, each, more in zip(groups, (fast, plain(fast)), (flags, {}), strict=True)
    ]
    eps = torch.finfo(dtype).eps
    for gradients in of.gradients:
        for params, optimizer in zip(groups, optimizers, strict=True):
            give(params, gradients)
            optimizer.step()
    close = {"rtol": 64 * eps, "atol": 64 * eps}
    for ours, wanted in zip(*([p for g in params for p in g] for params in groups), strict=True):
        torch.testing.assert_close(ours, wanted, **close)
    for ours, wanted in zip(*(flat(rates(optimizer)) for optimizer in optimizers), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=256 * eps, atol=0)
    starts = [0.05] * 3 + [0.03] * 2
    moved = zip(flat(rates(optimizers[0])), starts, strict=True)
    assert any((rate != start).any() for rate, start in moved)


def flat(nested: list[list[Tensor]]) -> list[Tensor]:
    return [x for group in nested for x in group]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("base", [SGD(), AdamWithoutMomentum()], ids=lambda base: base.name)
def test_the_pass_of_an_average_is_the_plain_base(base: Base, decay: float) -> None:
    ended = []
    for each in (base, plain(base)):
        generator = torch.Generator().manual_seed(0)
        params = [
            torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in (3, (70, 9))
        ]
        optimizer = Untuned(params, base=each, weight_decay=decay, interpolation=0.9)
        for _ in range(20):
            for p in params:
                p.grad = 2 * p.detach() + torch.randn(p.shape, generator=generator)
            versions = [p._version for p in params]
            optimizer.step()
            assert all(p._version > old for p, old in zip(params, versions, strict=True))
        ended.append(
            [*params, *(optimizer.state[p]["z"] for p in params), optimizer.param_groups[0]["lr"]]
        )
    for ours, wanted in zip(*ended, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5, check_dtype=False)
