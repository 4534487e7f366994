"""Laws of what an optimizer remembers: nothing needless, and nothing lost in a copy."""

import copy
import io
import pickle
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import (
    BETAS,
    CASES,
    GRANULARITIES,
    MEMBERS,
    Case,
    Problem,
    beta,
    give,
    grouped,
    numbers,
    parameters,
    problem,
    rates,
    stacked,
)
from pairwise import pairs

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
STEPS = 8
HALF = STEPS // 2


def dtype_id(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def run(optimizer: Any, groups: list[list[Tensor]], of: Problem, begin: int, end: int) -> None:
    for gradients in of.gradients[begin:end]:
        give(groups, gradients)
        optimizer.step()


def assert_same(a: Any, of_a: list[list[Tensor]], b: Any, of_b: list[list[Tensor]]) -> None:
    """Bitwise the same parameters, options and state, dtypes included."""
    for group_a, group_b, ps, qs in zip(a.param_groups, b.param_groups, of_a, of_b, strict=True):
        assert group_a.keys() == group_b.keys()
        for name in group_a.keys() - {"params"}:
            assert_equal(group_a[name], group_b[name], name)
        for p, q in zip(ps, qs, strict=True):
            assert_equal(p.detach(), q.detach(), "parameter")
            one, other = a.state.get(p, {}), b.state.get(q, {})
            assert one.keys() == other.keys()
            for name in one:
                assert_equal(one[name], other[name], name)


def assert_equal(x: Any, y: Any, name: str) -> None:
    if isinstance(x, Tensor):
        assert isinstance(y, Tensor), name
        assert x.dtype == y.dtype, name
        assert torch.equal(x, y), name
    else:
        assert x == y, name


def half_way(
    case: Case, dtype: torch.dtype, **options: Any
) -> tuple[Any, list[list[Tensor]], Problem]:
    """An optimizer after half the steps, with its parameters and problem."""
    of = problem(21, dtype, steps=STEPS, granularity=options["granularity"])
    groups = parameters(of.start)
    second = {"lr": 0.03, "hypergrad_lr": 0.5 * options["hypergrad_lr"]}
    optimizer = case.build(grouped(groups, [{}, second]), **options)
    run(optimizer, groups, of, 0, HALF)
    return optimizer, groups, of


@pairs(case=CASES, granularity=GRANULARITIES, rule=BETAS, dtype=DTYPES)
def test_save_load_continue_is_bitwise(
    case: Case, granularity: str, rule: str, dtype: torch.dtype
) -> None:
    optimizer, groups, of = half_way(
        case, dtype, granularity=granularity, rule=rule, hypergrad_lr=beta(rule, granularity)
    )
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copied = parameters(groups)
    fresh = case.blank(grouped(copied, [{}, {}]))  # its options come with the state
    fresh.load_state_dict(torch.load(file))
    assert_same(optimizer, groups, fresh, copied)

    run(optimizer, groups, of, HALF, STEPS)
    run(fresh, copied, of, HALF, STEPS)
    assert_same(optimizer, groups, fresh, copied)


@pairs(case=CASES, granularity=GRANULARITIES, how=["pickle", "deepcopy"])
def test_a_copy_goes_on_alone_and_the_same(case: Case, granularity: str, how: str) -> None:
    optimizer, groups, of = half_way(
        case, torch.bfloat16, granularity=granularity, hypergrad_lr=1e-3
    )
    pair = (optimizer, groups)
    twin, copied = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))  # noqa: S301
    assert_same(optimizer, groups, twin, copied)
    run(
        twin, copied, of, HALF, STEPS
    )  # first, to see that it does not move what it was copied from
    run(optimizer, groups, of, HALF, STEPS)
    assert_same(optimizer, groups, twin, copied)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_state_is_the_bases_and_no_more(case: Case, granularity: str) -> None:
    of = problem(2, missing=0.0, granularity=granularity)
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [{}, {}]), granularity=granularity)
    run(optimizer, groups, of, 0, 3)
    rate = {"lr"} if granularity in {"tensor", "element"} else set()
    for theta in (p for group in groups for p in group):
        state = optimizer.state[theta]
        assert rate <= state.keys()
        base = {name for name, x in state.items() if isinstance(x, Tensor)} - rate
        if isinstance(case.state, int):
            assert len(base) == case.state
            assert all(state[name].shape == theta.shape for name in base)
        else:
            assert state.keys() - rate == case.state


@pairs(case=CASES, granularity=GRANULARITIES, dtype=DTYPES)
def test_rates_are_never_coarser_than_float32(
    case: Case, granularity: str, dtype: torch.dtype
) -> None:
    of = problem(2, dtype, missing=0.0, granularity=granularity)
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [{}, {}]), granularity=granularity)
    run(optimizer, groups, of, 0, 3)
    for group in optimizer.param_groups:
        for theta in group["params"]:
            if granularity in {"global", "group"}:
                rate, shape = group["lr"], torch.Size()
            elif granularity == "member":
                rate, shape = group["lr"], torch.Size([MEMBERS])
            else:
                rate = optimizer.state[theta]["lr"]
                shape = theta.shape if granularity == "element" else torch.Size()
            assert rate.shape == shape
            assert not rate.requires_grad
            allowed = {torch.float64} if dtype == torch.float64 else {torch.float32, torch.float64}
            assert rate.dtype in allowed


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lr_summary_is_of_the_rates_in_use(case: Case, granularity: str) -> None:
    shapes = (((2, 3), (4,), ()), ((2, 2),), ((2,),))
    of = problem(4, missing=0.0, shapes=shapes, granularity=granularity)
    groups = parameters(of.start)
    optimizer = case.build(
        grouped(groups, [{}, {"lr": 0.03}, {"lr": 0.04}]),
        hypergrad_lr=1e-3,
        granularity=granularity,
    )
    for _ in range(2):  # at the start, and when the rates have moved
        summary = optimizer.lr_summary()
        assert list(summary) == ["min", "median", "max"]
        assert all(type(value) is float for value in summary.values())
        in_use = own_rates(optimizer, granularity)
        assert len(in_use) % 2 == 1, "an odd number of rates, so that the median is one of them"
        assert summary["min"] == pytest.approx(min(in_use))
        assert summary["median"] == pytest.approx(statistics.median(in_use))
        assert summary["max"] == pytest.approx(max(in_use))
        run(optimizer, groups, of, 0, 4)


def own_rates(optimizer: Any, granularity: str) -> list[float]:
    """Each rate once, however many numbers share it."""
    if granularity in {"global", "group"}:
        return [float(group["lr"]) for group in optimizer.param_groups]
    if granularity == "member":
        return [rate for group in optimizer.param_groups for rate in numbers(group["lr"])]
    by_tensor = [numbers(rate) for group in rates(optimizer) for rate in group]
    if granularity == "tensor":
        return [own[0] for own in by_tensor]
    return [x for own in by_tensor for x in own]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lr_summary_of_equal_rates_is_that_rate(case: Case, granularity: str) -> None:
    shapes = stacked(((3,), (), (0, 2)), granularity)
    params = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    optimizer = case.build(params, lr=0.5, granularity=granularity)
    assert optimizer.lr_summary() == {"min": 0.5, "median": 0.5, "max": 0.5}
    for theta in params:
        theta.grad = torch.zeros_like(theta)
    optimizer.step()
    assert optimizer.lr_summary() == {"min": 0.5, "median": 0.5, "max": 0.5}
