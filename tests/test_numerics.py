"""What the rate does when numbers go wrong; docs/numerics.md has the table.

Here one event at a time; test_numerics_sequences.py lets them follow each other at random.
"""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cases import (
    BETAS,
    CASES,
    GRANULARITIES,
    LR,
    SHAPES,
    Case,
    as_numbers,
    grouped,
    numbers,
    parameters,
    problem,
    rates,
    reference,
    stacked,
)
from hypergradient import AdamWHD
from pair import Pair, normal
from pairwise import pairs

SHARED = ("global", "group", "tensor")  # by all numbers of a vector
SINGLE = (((3,),),)
FACTORS = {"multiplicative": BETAS["multiplicative"], "relative": math.expm1(4 * BETAS["relative"])}
APART = ("element", "member")  # of the numbers of a vector, each has a rate
SGD = tuple(c for c in CASES if c.algorithm == "sgd")
WITHOUT_L2 = tuple(c for c in CASES if c.decoupled or not c.options.get("weight_decay"))


def options(granularity: str, rule: str, **others: Any) -> dict[str, Any]:
    return {"granularity": granularity, "rule": rule, "hypergrad_lr": BETAS[rule]} | others


def shapes_of(granularity: str) -> list[Any]:
    return [stacked(group, granularity) for group in SHAPES]


def gradients(
    seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float64, shapes: Any = SHAPES
) -> Any:
    of_groups = [normal(group, seed + 7 * i) for i, group in enumerate(shapes)]
    return [[(scale * g).to(dtype) for g in group] for group in of_groups]


def train(optimizer: Any, groups: list[list[Tensor]], of_step: Any) -> list[Tensor]:
    """One step; the rates after it."""
    for group, of_group in zip(groups, of_step, strict=True):
        for p, g in zip(group, of_group, strict=True):
            p.grad = g.clone()
    optimizer.step()
    return [rate for group in rates(optimizer) for rate in group]


def built(
    case: Case, dtype: torch.dtype, shapes: Any = SHAPES, **own: Any
) -> tuple[Any, list[list[Tensor]]]:
    groups = parameters([[p.to(dtype) for p in normal(group, 3)] for group in shapes])
    return case.build(grouped(groups, [own] * len(groups))), groups


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


@pairs(case=CASES, granularity=[*SHARED, "element"], rule=BETAS)
def test_a_loss_spike_is_a_hypergradient_like_any(case: Case, granularity: str, rule: str) -> None:
    """The additive rule takes it in full, within the bounds; the multiplicative one up to beta."""
    shapes = shapes_of(granularity)
    of = partial(gradients, shapes=shapes)
    own = options(granularity, rule, lr_bounds=(0.0, 1.0))
    pair = Pair(case, [normal(group, 3) for group in SHAPES], [own, own])
    for t, scale in enumerate((1, 1, 1e5, 1, 1, 1)):
        before = [r for group in rates(pair.optimizer) for r in group]
        pair.step(of(t, scale))
        for old, new in zip(before, (r for g in rates(pair.optimizer) for r in g), strict=True):
            assert ((new >= 0) & (new <= 1)).all()
            if rule in FACTORS:
                assert ((new / old - 1).abs() <= FACTORS[rule] * (1 + 1e-12)).all()


@pairs(case=WITHOUT_L2, granularity=GRANULARITIES, rule=BETAS)
def test_zero_gradients_leave_the_rate_as_it_was(case: Case, granularity: str, rule: str) -> None:
    """However long; the next gradients move it again. With L2 decay g_t is not zero."""
    shapes = shapes_of(granularity)
    of = partial(gradients, shapes=shapes)
    dtype = torch.float32
    optimizer, groups = built(case, dtype, shapes, **options(granularity, rule))
    for t in range(3):
        before = train(optimizer, groups, of(t, dtype=dtype))
    for _ in range(10):
        assert same(train(optimizer, groups, of(0, 0.0, dtype)), before)
    after = [train(optimizer, groups, of(t, dtype=dtype)) for t in (4, 5)]
    for old, *news in zip(before, *after, strict=True):  # "relative" may go up and down again
        assert not old.numel() or any((new != old).any() for new in news)


@pytest.mark.parametrize("name", ["nesterov", "adamw-decay"])
def test_a_thousand_zero_gradients_do_no_harm(name: str) -> None:
    """Buffers decay through the denormal numbers to zero, and 0 / 0 is nowhere."""
    (case,) = (c for c in CASES if c.name == name)
    single = partial(gradients, dtype=torch.float32, shapes=SINGLE)
    optimizer, groups = built(case, torch.float32, SINGLE, **options("group", "multiplicative"))
    for t in range(3):
        before = train(optimizer, groups, single(t))
    for _ in range(1100):
        after = train(optimizer, groups, single(0, 0.0))
    assert same(after, before)
    for t in range(3):
        after = train(optimizer, groups, single(t))
    assert not same(after, before)


@pairs(case=CASES, granularity=[*SHARED, "element"], rule=BETAS)
def test_all_zero_parameters_and_gradients_are_a_start(
    case: Case, granularity: str, rule: str
) -> None:
    shapes = shapes_of(granularity)
    of = partial(gradients, shapes=shapes)
    own = options(granularity, rule)
    pair = Pair(case, [[torch.zeros_like(p) for p in normal(g, 0)] for g in shapes], [own, own])
    for scale in (0, 0, 1, 1, 1):
        pair.step(of(scale, scale))
    assert not any((r == LR).any() for group in rates(pair.optimizer) for r in group)


@pairs(
    case=[c for c in SGD if c in WITHOUT_L2], granularity=GRANULARITIES, power=[-100, -30, 30, 100]
)
def test_the_multiplicative_rule_has_no_units(case: Case, granularity: str, power: int) -> None:
    """Gradients times a power of two, the same rates bit by bit, as far as squares are numbers."""
    shapes = shapes_of(granularity)
    of = partial(gradients, shapes=shapes)
    wide = abs(power) == 100 and granularity != "element"
    dtype = torch.float64 if wide else torch.float32
    own = options(granularity, "multiplicative")
    (one, of_one), (other, of_other) = (built(case, dtype, shapes, **own) for _ in range(2))
    for t in range(5):
        wanted = train(one, of_one, of(t, dtype=dtype))
        assert same(train(other, of_other, of(t, 2.0**power, dtype)), wanted)
    assert not any((rate == LR).any() for rate in wanted)


@pairs(case=CASES, granularity=GRANULARITIES, rule=BETAS, scale=[1e30, 1e-42])
def test_a_float32_gradient_out_of_all_proportion_harms_no_rate(
    case: Case, granularity: str, rule: str, scale: float
) -> None:
    """Where squares are no float32, a shared cosine does not move the rate; others are right."""
    shapes = shapes_of(granularity)
    of = partial(gradients, shapes=shapes)
    dtype = torch.float32
    optimizer, groups = built(
        case, dtype, shapes, **options(granularity, rule, lr_bounds=(0.0, 1.0))
    )
    for t in range(3):
        before = train(optimizer, groups, of(t, dtype=dtype))
    own_size = (
        not case.options.get("weight_decay") or case.decoupled
    )  # of g_t: that of the gradient
    for t, size in enumerate((scale, scale, 1.0, 1.0)):
        after = train(optimizer, groups, of(3 + t, size, dtype))
        for old, new in zip(before, after, strict=True):
            assert ((new >= 0) & (new <= 1)).all()
            if rule == "multiplicative":
                assert ((new / old - 1).abs() <= BETAS[rule] * 1.001).all()
                if t < 2 and own_size and granularity != "element":
                    assert torch.equal(new, old)
        before = after


@pytest.mark.parametrize("granularity", ["group", "element"])
@pytest.mark.parametrize("case", SGD, ids=str)
def test_a_rate_moves_again_when_directions_are_of_a_size_again(
    case: Case, granularity: str
) -> None:
    """At once, or when momentum has forgotten. Adam's v is infinite for good, as torch's own is."""
    own = options(granularity, "multiplicative") | {"hypergrad_lr": 1e-4, "weight_decay": 0.0}
    single = partial(gradients, dtype=torch.float32, shapes=SINGLE)
    optimizer, groups = built(case, torch.float32, SINGLE, **own)
    train(optimizer, groups, single(0, 1e30))
    for t in range(2 if not case.options.get("momentum") else 300):
        before = train(optimizer, groups, single(t))
    after = train(optimizer, groups, single(1000))
    assert all((x != y).all() for x, y in zip(after, before, strict=True))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("granularity", SHARED)
def test_no_cosine_is_beyond_one(granularity: str, sign: int) -> None:
    """Squares that underflow make a norm too small: 1,000 of 2e-23 and one of 4e-23."""
    case = CASES[0]
    p = torch.zeros(1001, requires_grad=True)
    optimizer = case.build([p], rule="multiplicative", granularity=granularity, hypergrad_lr=0.2)
    p.grad = torch.ones(1001)
    optimizer.step()
    p.grad = torch.full((1001,), sign * 2e-23)
    p.grad[0] *= 2
    optimizer.step()
    assert rates(optimizer)[0][0][0] == pytest.approx(LR * (1 + sign * 0.2))


@pairs(granularity=GRANULARITIES, decay=[1.0, 10.0], dtype=[torch.float64, torch.float32])
def test_a_rate_that_takes_all_weight_away_still_moves(
    granularity: str, decay: float, dtype: torch.dtype
) -> None:
    """alpha lambda = 1 leaves nothing of theta_{t-2} to know u_{t-1} by: its decay is left out."""
    p = torch.tensor([0.5, -2.0], dtype=dtype, requires_grad=True)
    optimizer = AdamWHD(
        [p], lr=1 / decay, weight_decay=decay, granularity=granularity, hypergrad_lr=1e-3
    )
    p.grad = torch.tensor([3.0, 4.0], dtype=dtype)
    optimizer.step()
    p.grad = torch.tensor([1.0, 2.0], dtype=dtype)
    optimizer.step()
    h = torch.tensor([1.0, 2.0]) if granularity in APART else torch.tensor([3.0, 3.0])
    torch.testing.assert_close(rates(optimizer)[0][0], 1 / decay + 1e-3 * h.double())
    for _ in range(5):
        before = rates(optimizer)[0][0]
        p.grad = torch.tensor([1.0, 2.0], dtype=dtype)
        optimizer.step()
        assert (rates(optimizer)[0][0] != before).all()


@pytest.mark.parametrize("granularity", SHARED)
def test_float16_sums_go_beyond_float16(granularity: str) -> None:
    for rule, wanted in (
        ("additive", LR + 1e-7 * 70_000 * 16),
        ("multiplicative", LR * (1 + 1e-7)),
    ):
        p = torch.zeros(70_000, dtype=torch.float16, requires_grad=True)
        optimizer = CASES[0].build([p], rule=rule, granularity=granularity, hypergrad_lr=1e-7)
        for _ in range(2):
            p.grad = torch.full_like(p, 4.0)
            optimizer.step()
        assert float(rates(optimizer)[0][0][0]) == pytest.approx(wanted, rel=1e-9)


@pairs(case=CASES, rule=BETAS, granularity=["group", "element"])
def test_float16_training_with_a_scaler(case: Case, rule: str, granularity: str) -> None:
    """Steps that a scaler skips move no rate; in the others it sees the unscaled gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    groups = [list(model.parameters())]
    twins = parameters(groups)
    own = options(granularity, rule, hypergrad_lr={**BETAS, "additive": 1e-5}[rule])
    optimizer, twin = (case.build(grouped(each, [own])) for each in (groups, twins))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**19, growth_interval=3)
    x, skipped = torch.randn(16, 3), 0
    for _ in range(10):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = (model(x) - 3).square().mean()
        scaler.scale(loss).backward()
        held = [[p.grad / scaler.get_scale() for p in groups[0] if p.grad is not None]]
        finite = all(g.isfinite().all() for g in held[0])
        before = [rate for group in rates(optimizer) for rate in group]
        scaler.step(optimizer)
        scaler.update()
        after = [rate for group in rates(optimizer) for rate in group]
        if finite:
            assert same(train(twin, twins, held), after)
        else:
            skipped += 1
            assert same(after, before)
    assert 0 < skipped < 8
    assert not any((rate == LR).all() for rate in after)


@pairs(case=CASES, granularity=[*SHARED, "element"], rule=BETAS)
def test_float16_parameters_follow_the_loops(case: Case, granularity: str, rule: str) -> None:
    dtype = torch.float16
    of = problem(29, dtype, steps=4, missing=0.0, steady=True, granularity=granularity)
    own = options(granularity, rule)
    groups = parameters(of.start)
    optimizer, loops = case.build(grouped(groups, [own, own])), reference(case, of.start, [own] * 2)
    for of_step in of.gradients:
        after = train(optimizer, groups, of_step)
        loops.step(as_numbers(of_step))
        wanted = [[s.rate.value for s in p] for group in loops.groups for p in group]
        for rate, values in zip(after, wanted, strict=True):
            assert numbers(rate) == pytest.approx(values, rel=3 * torch.finfo(dtype).eps)
    assert not any((rate == LR).any() for rate in after)
