"""Law: the optimizers are the scalar loops of reference.py, whatever their options."""

import math
import zlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import (
    BETAS,
    BOUNDS,
    CASES,
    GRANULARITIES,
    LR,
    SHAPES,
    TIGHT,
    TORCH_CASES,
    Case,
    Problem,
    as_numbers,
    give,
    grouped,
    numbers,
    parameters,
    problem,
    rates,
    reference,
    stacked,
    variant,
)
from pairwise import pairs

STEPS = 6

# How far a value may be from the float64 loops, relative to itself plus its scale. In float32 and
# bfloat16 each step rounds parameters, buffers and products by at most eps / 2 each, and the
# roundings of many numbers partly cancel in a sum.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 3 * torch.finfo(torch.float32).eps,
    torch.bfloat16: 3 * torch.finfo(torch.bfloat16).eps,
}
THETA_SCALE = 1.0  # parameters start as standard normal numbers
RATE_SCALE = LR


@pairs(
    case=CASES,
    rate=[f"{rule} {granularity}" for rule in BETAS for granularity in GRANULARITIES],
    reduction=["sum", "mean"],
    bounds=BOUNDS,
    dtype=TOLERANCE,
)
def test_equals_scalar_loops(
    case: Case, rate: str, reduction: str, bounds: str, dtype: torch.dtype
) -> None:
    rule, granularity = rate.split()
    seed = zlib.crc32(f"{case} {rate} {reduction} {bounds}".encode())
    first = variant(rule, granularity, reduction, bounds)
    given_problem = problem(
        seed,
        dtype,
        steps=STEPS,
        missing=0.0 if loses_pauses(case, granularity) else 0.2,
        steady=dtype is torch.bfloat16,
        granularity=granularity,
    )
    second = {**first, "lr": 1.04 * first["lr"], "hypergrad_lr": 0.5 * first["hypergrad_lr"]}
    follow(case, given_problem, [first, second], TOLERANCE[dtype])


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_rule_relative_equals_its_scalars_for_long(granularity: str) -> None:
    """Its speed falls with the number of steps, and its mean becomes one of many."""
    of = problem(5, steps=150, granularity=granularity)
    options = {**variant("relative", granularity, "sum", "positive"), "hypergrad_lr": 0.05}
    follow(CASES[0], of, [options, options], 1e-10)


def loses_pauses(case: Case, granularity: str) -> bool:
    """Whether u_{t-1} is known only nearly after steps without a gradient.

    With decoupled decay, u_{t-1} holds the theta that it was applied to, which nothing keeps: it
    follows from theta and the rate of that step. While a parameter pauses, a rate that it shares
    may move.
    """
    return case.recomputes and granularity in {"global", "group", "member"}


def follow(case: Case, of: Problem, options: list[dict[str, Any]], tolerance: float) -> None:
    """Step the optimizer and the loops side by side and compare them after every step."""
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, options))
    loops = reference(case, of.start, options)
    for gradients in of.gradients:
        give(groups, gradients)
        optimizer.step()
        loops.step(as_numbers(gradients))
        for theta, rate, wanted in zip(
            (p for group in groups for p in group),
            (r for group in rates(optimizer) for r in group),
            (p for group in loops.groups for p in group),
            strict=True,
        ):
            assert_near(numbers(rate), [s.rate.value for s in wanted], tolerance, RATE_SCALE)
            assert_near(numbers(theta), [s.theta for s in wanted], tolerance, THETA_SCALE)


def assert_near(got: list[float], wanted: list[float], tolerance: float, scale: float) -> None:
    for x, y in zip(got, wanted, strict=True):
        assert abs(x - y) <= tolerance * (abs(y) + scale), f"{x!r} is not {y!r}"


def group_options(rule: str) -> st.SearchStrategy[dict[str, Any]]:
    """Options that groups may differ in, all in one rule (`global` has a test of its own)."""
    return st.fixed_dictionaries(
        {
            "lr": st.sampled_from([0.0] * (rule == "additive") + [0.049, 0.052]),
            "hypergrad_lr": st.sampled_from([0.0, 1e-4, 1e-3]),
            "rule": st.just(rule),
            "granularity": st.sampled_from(["group", "tensor", "element", "member"]),
            "reduction": st.sampled_from(["sum", "mean"]),
            "lr_bounds": st.sampled_from([(0.0, math.inf), (0.0, 0.0525), None]),
            "weight_decay": st.sampled_from([0.0, 0.1]),
            "maximize": st.booleans(),
        }
    )


SHAPE = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Case, Problem, list[dict[str, Any]]]:
    """A case, and a problem in one to three groups of one to four tensors, with own options."""
    case = draw(st.sampled_from([c for c in CASES if "maximize" not in c.options]))
    shapes = draw(st.lists(st.lists(SHAPE, min_size=1, max_size=4), min_size=1, max_size=3))
    options = [draw(st.sampled_from([*BETAS]).flatmap(group_options)) for _ in shapes]
    shapes = [stacked(own, o["granularity"]) for own, o in zip(shapes, options, strict=True)]
    exact = not any(loses_pauses(case, own["granularity"]) for own in options)
    missing = draw(st.sampled_from([0.0, 0.3, 0.7])) if exact else 0.0
    return case, problem(draw(st.integers(0, 2**31)), shapes=shapes, missing=missing), options


@given(worlds())
def test_equals_scalar_loops_in_any_groups(
    world: tuple[Case, Problem, list[dict[str, Any]]],
) -> None:
    case, of, options = world
    follow(case, of, options, TOLERANCE[torch.float64])


@pytest.mark.parametrize("granularity", ["global", "group", "member"])
@pytest.mark.parametrize("case", [c for c in CASES if c.recomputes], ids=str)
def test_pauses_under_decoupled_decay_cost_little(case: Case, granularity: str) -> None:
    """See `loses_pauses`: u_{t-1} is off by the factor (1 - lambda alpha) / (1 - lambda alpha').

    alpha' is the rate by then. Rates move by less than themselves here, so they are off by less
    than lambda alpha, relative to themselves.
    """
    options = {"hypergrad_lr": 1e-3, "granularity": granularity}
    off = 0.0
    for seed in range(10):
        of = problem(seed, steps=STEPS, missing=0.5, granularity=granularity)
        groups = parameters(of.start)
        optimizer = case.build(grouped(groups, [options, options]))
        loops = reference(case, of.start, [options, options])
        for gradients in of.gradients:
            give(groups, gradients)
            optimizer.step()
            loops.step(as_numbers(gradients))
        for group, wanted in zip(optimizer.param_groups, loops.groups, strict=True):
            alpha = next(s for p in wanted for s in p).rate.value
            off = max(off, abs(float(group["lr"].flatten()[0]) - alpha) / LR)
    assert off <= 1e-12 + case.decay * LR


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_the_scalar_loops_are_torch_at_a_constant_rate(case: Case) -> None:
    """The reference itself is held to something: with beta = 0 it is torch's own optimizer."""
    of = problem(7)
    groups = parameters(of.start)
    base = case.base([p for group in groups for p in group], lr=LR, foreach=False, **case.options)
    loops = reference(case, of.start, [{"hypergrad_lr": 0.0}] * len(SHAPES))
    for gradients in of.gradients:
        give(groups, gradients)
        base.step()
        loops.step(as_numbers(gradients))
    for group, wanted_group in zip(groups, loops.groups, strict=True):
        for theta, wanted in zip(group, wanted_group, strict=True):
            assert_near(numbers(theta), [s.theta for s in wanted], 1e-14, THETA_SCALE)


@pytest.mark.parametrize("rule", BETAS)
def test_the_problems_reach_both_bounds(rule: str) -> None:
    """The table above would prove little of `lr_bounds` if no rate ever ran into them."""
    lower, upper = TIGHT
    seen: set[float] = set()
    for seed, granularity in enumerate(GRANULARITIES):
        options = variant(rule, granularity, "sum", "tight")
        of = problem(seed, steps=STEPS, granularity=granularity)
        loops = reference(CASES[0], of.start, [options, options])
        for gradients in of.gradients:
            loops.step(as_numbers(gradients))
            seen |= {s.rate.value for group in loops.groups for p in group for s in p}
    assert {lower, upper} <= seen
    assert min(seen) == lower
    assert max(seen) == upper
