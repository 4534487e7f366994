"""Laws of who shares a rate: order does not matter, groups are apart, and damage stays local."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import (
    BETAS,
    CASES,
    GRANULARITIES,
    LR,
    Case,
    as_numbers,
    beta,
    give,
    grouped,
    numbers,
    parameters,
    problem,
    rates,
    reference,
)
from hypergradient import SGDHD, AdamHD
from pairwise import pairs
from reference import Reference

TOLERANCE = 1e-12
ORDER_SHAPES = (((2, 3), (), (4,), (0, 2), (3, 1)),)
ORDERS = ((4, 3, 2, 1, 0), (2, 0, 3, 4, 1))
NAN, INF = math.nan, math.inf


def step(optimizer: Any, groups: list[list[Tensor]], gradients: list[list[Tensor | None]]) -> None:
    give(groups, gradients)
    optimizer.step()


def assert_follows(optimizer: Any, groups: list[list[Tensor]], loops: Reference) -> None:
    for ours, own, theirs in zip(groups, rates(optimizer), loops.groups, strict=True):
        for theta, rate, wanted in zip(ours, own, theirs, strict=True):
            assert numbers(theta) == pytest.approx(
                [s.theta for s in wanted], rel=TOLERANCE, abs=TOLERANCE, nan_ok=True
            )
            assert numbers(rate) == pytest.approx(
                [s.rate.value for s in wanted], rel=TOLERANCE, abs=TOLERANCE * LR
            )


@pairs(order=ORDERS, case=CASES, granularity=GRANULARITIES, rule=BETAS)
def test_order_of_parameters_does_not_matter(
    case: Case, granularity: str, rule: str, order: tuple[int, ...]
) -> None:
    of = problem(13, shapes=ORDER_SHAPES, granularity=granularity)
    options = {"granularity": granularity, "rule": rule, "hypergrad_lr": beta(rule, granularity)}
    ((straight,), (shuffled,)) = (parameters(of.start), parameters(of.start))
    shuffled = [shuffled[i] for i in order]
    one, other = case.build(straight, **options), case.build(shuffled, **options)
    for (gradients,) in of.gradients:
        step(one, [straight], [gradients])
        step(other, [shuffled], [[gradients[i] for i in order]])
    for rate, theta, i in zip(rates(other)[0], shuffled, order, strict=True):
        torch.testing.assert_close(rate, rates(one)[0][i], rtol=TOLERANCE, atol=0)
        torch.testing.assert_close(theta, straight[i], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("rule", BETAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_order_of_groups_does_not_matter_to_a_global_rate(case: Case, rule: str) -> None:
    of = problem(14)
    options = {"granularity": "global", "rule": rule, "hypergrad_lr": BETAS[rule]}
    straight, reverse = parameters(of.start), parameters(of.start)[::-1]
    one = case.build(grouped(straight, [{}, {}]), **options)
    other = case.build(grouped(reverse, [{}, {}]), **options)
    for gradients in of.gradients:
        step(one, straight, gradients)
        step(other, reverse, gradients[::-1])
    all_rates = [float(g["lr"]) for each in (one, other) for g in each.param_groups]
    assert all_rates == pytest.approx(all_rates[:1] * 4, rel=TOLERANCE)
    assert all_rates[0] != LR


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_mean_over_single_numbers_is_the_number(case: Case) -> None:
    of = problem(15)
    found = []
    for reduction in ("sum", "mean"):
        groups = parameters(of.start)
        optimizer = case.build(
            grouped(groups, [{}, {}]),
            granularity="element",
            reduction=reduction,
            hypergrad_lr=1e-3,
        )
        for gradients in of.gradients:
            step(optimizer, groups, gradients)
        found.append([r for group in rates(optimizer) for r in group])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_additive_rates_start_from_zero(case: Case, granularity: str) -> None:
    """With lr=0 the first step goes nowhere, but gradients that agree with it raise the rate."""
    of = problem(16, steps=3, missing=0.0, steady=True, granularity=granularity)
    options = {"lr": 0.0, "hypergrad_lr": 1e-3, "granularity": granularity, "maximize": False}
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [options, options]), lr=0.0)
    step(optimizer, groups, of.gradients[0])
    for theta, start in zip(flat(groups), flat(of.start), strict=True):
        assert torch.equal(theta.detach(), start)
    loops = reference(case, of.start, [options, options])
    loops.step(as_numbers(of.gradients[0]))
    for gradients in of.gradients[1:]:
        step(optimizer, groups, gradients)
        loops.step(as_numbers(gradients))
    assert_follows(optimizer, groups, loops)
    for theta, start, rate in zip(
        flat(groups), flat(of.start), flat(rates(optimizer)), strict=True
    ):
        assert (rate > 0).all()
        assert (theta != start).all()


def flat(groups: list[list[Tensor]]) -> list[Tensor]:
    return [x for group in groups for x in group]


@pairs(case=CASES, granularity=GRANULARITIES, rule=BETAS)
def test_a_group_may_join_in_mid_training(case: Case, granularity: str, rule: str) -> None:
    of = problem(17, steps=8, missing=0.0, granularity=granularity)
    options = {"granularity": granularity, "rule": rule, "hypergrad_lr": beta(rule, granularity)}
    joins = {**options, "lr": 0.02, "weight_decay": 0.3}
    groups = parameters(of.start)
    optimizer = case.build(groups[0], **options)
    loops = reference(case, of.start[:1], [options])
    for gradients in of.gradients[:4]:
        step(optimizer, groups[:1], gradients[:1])
        loops.step(as_numbers(gradients[:1]))

    optimizer.add_param_group({"params": groups[1], "lr": 0.02, "weight_decay": 0.3})
    joined = reference(case, of.start[1:], [joins])
    loops.groups += joined.groups
    for gradients in of.gradients[4:]:
        step(optimizer, groups, gradients)
        loops.step(as_numbers(gradients))
    assert_follows(optimizer, groups, loops)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_parameters_without_gradients_are_left_alone(case: Case, granularity: str) -> None:
    of = problem(18, missing=0.0, granularity=granularity)
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [{}, {}]), hypergrad_lr=1e-3, granularity=granularity)
    optimizer.step()  # nobody has a gradient yet
    frozen = groups[0][0]
    for gradients in of.gradients:
        give(groups, gradients)
        frozen.grad = None
        optimizer.step()
    assert torch.equal(frozen.detach(), of.start[0][0])
    loops = reference(case, of.start, [{"hypergrad_lr": 1e-3, "granularity": granularity}] * 2)
    for gradients in of.gradients:
        (_, *others), second = as_numbers(gradients)
        loops.step([[None, *others], second])
    # The loops give a tensor's rate a value before its first gradient; so do `rates`.
    assert_follows(optimizer, groups, loops)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_parameter_keeps_its_direction_while_it_has_no_gradient(case: Case) -> None:
    """Its next gradient meets the direction of its own last step, however long ago that was."""
    of = problem(19, missing=0.0, shapes=(((3,),),))
    options = {"hypergrad_lr": 1e-3}
    found = []
    for pauses in (0, 2):
        ((theta,),) = groups = parameters(of.start)
        optimizer = case.build(grouped(groups, [options]))
        for gradients in of.gradients:
            step(optimizer, groups, gradients)
            for _ in range(pauses):
                theta.grad = None
                optimizer.step()
        found.append((theta.detach().clone(), rates(optimizer)[0][0]))
    for x, y in zip(*found, strict=True):
        assert torch.equal(x, y)


@pairs(case=CASES, granularity=GRANULARITIES, value=[NAN, INF, -INF], rule=BETAS)
def test_a_non_finite_gradient_leaves_the_rate_as_it_was(
    case: Case, granularity: str, value: float, rule: str
) -> None:
    """Rates that the damaged number shares stay; all others move on."""
    of = problem(20, missing=0.0, granularity=granularity)
    own = {"granularity": granularity, "rule": rule, "hypergrad_lr": BETAS[rule]}
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [own, own]))
    for gradients in of.gradients[:3]:
        step(optimizer, groups, gradients)
    before = rates(optimizer)
    damaged = of.gradients[3]
    assert damaged[0][0] is not None
    damaged[0][0][1, 1] = value
    step(optimizer, groups, damaged)

    for i, (olds, news) in enumerate(zip(before, rates(optimizer), strict=True)):
        for j, (old, new) in enumerate(zip(olds, news, strict=True)):
            stays = torch.full(
                old.shape,
                {"global": True, "group": i == 0, "member": False}.get(
                    granularity, (i, j) == (0, 0)
                ),
            )
            if granularity == "element" and (i, j) == (0, 0):
                stays = torch.zeros_like(stays)
                stays[1, 1] = True
            if granularity == "member" and i == 0:
                stays[1] = True
            assert torch.equal(old == new, stays)
    for gradients in of.gradients[4:]:
        step(optimizer, groups, gradients)
        assert all(torch.isfinite(rate).all() for group in rates(optimizer) for rate in group)


@pairs(value=[NAN, INF, -INF], granularity=GRANULARITIES, rule=BETAS)
def test_a_rate_moves_again_when_directions_are_finite_again(
    value: float, granularity: str, rule: str
) -> None:
    """Plain SGD forgets a damaged direction after one more step; the loops say exactly how."""
    case = CASES[0]
    assert case.name == "sgd"
    of = problem(22, missing=0.0, granularity=granularity)
    assert of.gradients[2][0][0] is not None
    of.gradients[2][0][0].view(-1)[2] = value
    own = {"granularity": granularity, "rule": rule, "hypergrad_lr": BETAS[rule]}
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [own, own]))
    loops = reference(case, of.start, [own, own])
    damaged = []
    for gradients in of.gradients:
        step(optimizer, groups, gradients)
        loops.step(as_numbers(gradients))
        damaged.append(float(rates(optimizer)[0][0].flatten()[2]))
    assert_follows(optimizer, groups, loops)
    _, second, third, fourth, fifth, _ = damaged
    assert second == third == fourth != fifth


@pytest.mark.parametrize("case", CASES, ids=str)
def test_numbers_of_different_dtypes_share_a_rate(case: Case) -> None:
    of = problem(23, shapes=(((2, 2), (3,)),), missing=0.0)
    options = {"hypergrad_lr": 1e-3}
    precise = [[theta.float() for theta in group] for group in of.start]
    groups = [[precise[0][0].double().requires_grad_(), precise[0][1].requires_grad_()]]
    optimizer = case.build(grouped(groups, [options]))
    loops = reference(case, precise, [options])
    for ((g, h),) in of.gradients:
        assert g is not None
        assert h is not None
        gradients: list[list[Tensor | None]] = [[g, h.float()]]
        step(optimizer, groups, gradients)
        loops.step(as_numbers(gradients))
    ulp = torch.finfo(torch.float32).eps
    wanted = loops.groups[0][0][0].rate.value
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(wanted, rel=16 * ulp)
    assert wanted != pytest.approx(LR, rel=1e-3)


@pytest.mark.parametrize("hd", [SGDHD, AdamHD])
def test_the_product_may_change_in_mid_training(hd: Any) -> None:
    """From then on the rate follows the gradients: the first of them has none before it."""
    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = hd([p], lr=0.1, hypergrad_lr=0.01)
    rates = []
    for t in range(6):
        p.grad = torch.full_like(p, t + 1.0)
        if t == 3:
            optimizer.param_groups[0]["product"] = "gradient"
        optimizer.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert rates[3] == rates[2]
    assert rates[4] - rates[3] == pytest.approx(0.01 * 3 * 5 * 4)
    assert rates[5] - rates[4] == pytest.approx(0.01 * 3 * 6 * 5)


@pytest.mark.parametrize("end", [0.0, 0.9], ids=["to-none", "to-some"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_momentum_may_change_in_mid_training(nesterov: bool, end: float) -> None:
    """h is of the last direction from then on, and where that was not kept it starts from zero."""
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = SGDHD([p], lr=0.1, momentum=0.9 - end, hypergrad_lr=1e-3)
    group = optimizer.param_groups[0]
    generator = torch.Generator().manual_seed(0)
    taken = torch.zeros(3, dtype=torch.float64)
    for t in range(8):
        if t == 4:
            group["momentum"], group["nesterov"] = end, nesterov and end > 0
        before, start = float(group["lr"]), p.detach().clone()
        p.grad = torch.randn(3, generator=generator, dtype=torch.float64)
        optimizer.step()
        h = 0.0 if t == 0 else float(p.grad @ taken)
        if t != 4:
            assert float(group["lr"]) == pytest.approx(before + 1e-3 * h, rel=1e-12)
        taken = (start - p.detach()) / float(group["lr"])
