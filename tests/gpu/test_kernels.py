"""Laws: a step by Triton's kernels is that of the scalar loops, and the eager one."""

import math
import zlib
from itertools import product
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from stepping import DEVICE, ByKernels, recipe_of

from cases import BETAS, CASES, LR, Case, as_numbers, give, grouped, parameters, problem, reference
from hypergradient import AdamHD, AdamWHD
from hypergradient.engine import native_library
from hypergradient.engine.gpu.recipes import RateStep
from hypergradient.engine.gpu.tables import Tuning

SHAPES = (((41, 3), (), (1030,)), ((0, 3), (1,)))  # ends of blocks, several chunks, none
# in the interpreter, NumPy warns of what a GPU does silently
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
LOOPED = tuple(
    case
    for case in CASES
    if case.kernels and not {"classical", "amsgrad", "product"} & case.options.keys()
)
KNOWN_RULES = ("additive", "multiplicative")
GRANULARITIES = ("global", "group", "tensor", "element")
EPS = torch.finfo(torch.float32).eps


def pairs() -> list[Any]:
    """Every case with every granularity, rules and bounds taking turns."""
    options = product(KNOWN_RULES, ("sum", "mean"), [(0.0, math.inf), (0.048, 0.053), None])
    turns = list(options)
    return [
        pytest.param(
            case, granularity, turns[(5 * i + 7 * j) % len(turns)], id=f"{case}-{granularity}"
        )
        for i, case in enumerate(LOOPED)
        for j, granularity in enumerate(GRANULARITIES)
    ]


@pytest.mark.parametrize(("case", "granularity", "turn"), pairs())
def test_it_equals_scalar_loops(case: Case, granularity: str, turn: Any) -> None:
    rule, reduction, bounds = turn
    first = {
        "lr": LR,
        "rule": rule,
        "hypergrad_lr": BETAS[rule],
        "reduction": reduction,
        "lr_bounds": bounds,
        "granularity": granularity,
    }
    options = [first, {**first, "lr": 1.04 * LR, "hypergrad_lr": 0.5 * BETAS[rule]}]
    pauses = case.decoupled and granularity in {"global", "group"}
    of = problem(
        zlib.crc32(f"{case} {granularity}".encode()),
        torch.float32,
        steps=3,
        shapes=SHAPES,
        missing=0.0 if pauses else 0.2,
    )
    ours, loops = ByKernels(case, of.start, options), reference(case, of.start, options)
    for gradients in of.gradients:
        ours.step(gradients)
        loops.step(as_numbers(gradients))
        for group, rates, wanted in zip(ours.groups, ours.rates(), loops.groups, strict=True):
            for p, rate, scalars in zip(group, rates, wanted, strict=True):
                close(p, [s.theta for s in scalars], 3 * EPS, 1.0)
                close(rate, [s.rate.value for s in scalars], 3 * EPS, LR)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "function", lambda: None)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "tuning", [Tuning(), Tuning(256, stages=2, parts=2)], ids=["one block", "several"]
)
@pytest.mark.parametrize("case", LOOPED[::3], ids=str)
def test_ten_steps_are_the_eager_ones(case: Case, tuning: Tuning) -> None:
    options = [{"rule": "additive", "hypergrad_lr": 1e-4, "granularity": "global"}]
    of = problem(1, torch.float32, steps=10, shapes=[[(1030,), (3, 5)]], missing=0.0)
    groups = parameters(of.start)
    eagerly = case.build(grouped(groups, options))
    ours = ByKernels(case, of.start, options, tuning=tuning)
    for gradients in of.gradients:
        give(groups, gradients)
        eagerly.step()
        ours.step(gradients)
    rate, wanted_rate = ours.rates()[0][0][0].item(), eagerly.param_groups[0]["lr"].item()
    assert rate == pytest.approx(wanted_rate, abs=2e-6 * LR)  # it may have fallen
    for group, wanted in zip(ours.groups, groups, strict=True):
        for p, q in zip(group, wanted, strict=True):
            torch.testing.assert_close(p.cpu(), q.detach(), rtol=2e-6, atol=2e-6)


def one_step(case: Case, granularity: str = "group", **options: Any) -> tuple[ByKernels, Any]:
    """An optimizer after two steps, with the gradients of another."""
    own = {"rule": "additive", "hypergrad_lr": 1e-3, "granularity": granularity, **options}
    of = problem(2, torch.float32, steps=3, shapes=[[(1030,), (5,)]], missing=0.0)
    ours = ByKernels(case, of.start, [own])
    for gradients in of.gradients[:2]:
        ours.step(gradients)
    return ours, of.gradients[2]


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("rule", KNOWN_RULES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_leaves_the_rate(
    value: float, granularity: str, rule: str
) -> None:
    ours, gradients = one_step(case_of("adam"), granularity, rule=rule)
    gradients[0][0][3] = value
    before = [rate.clone() for rate in ours.rates()[0]]
    ours.step(gradients)
    after = ours.rates()[0]
    assert after[0][3] == before[0][3]
    own = granularity in {"tensor", "element"}  # the other parameter's rate moves on
    assert torch.equal(after[1], before[1]) is not own
    assert torch.isfinite(after[0]).all()


@pytest.mark.parametrize("name", ["sgd", "nesterov"])
def test_a_direction_forgets_a_gradient_that_is_not_finite(name: str) -> None:
    ours, gradients = one_step(case_of(name))
    spoilt = [[g.clone() for g in gradients[0]]]
    spoilt[0][0][3] = math.inf
    ours.step(spoilt)
    ours.step(gradients)
    direction = ours.states[ours.groups[0][0]][0]
    assert direction[:3].isfinite().all()
    assert direction[3].isfinite() == (name == "sgd")  # a momentum does not


@pytest.mark.parametrize("granularity", ["group", "element"])
@pytest.mark.parametrize("case", [case_of("sgd"), case_of("adamw")], ids=str)
def test_a_rate_outside_its_bounds_stays_at_h_0(case: Case, granularity: str) -> None:
    ours, gradients = one_step(case, granularity, lr_bounds=(0.2, 0.3), lr=0.0)
    ours = ByKernels(case, ours.groups, ours.options)
    ours.step(gradients)  # u_0 = 0
    assert all((rate == 0).all() for rate in ours.rates()[0])
    ours.step(gradients)  # h = |g|^2, or like it
    assert all((rate >= torch.tensor(0.2)).all() for rate in ours.rates()[0])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "case",
    [
        Case("no eps", AdamHD, {"eps": 0.0}),  # 0 / 0 beyond the end of a tensor
        Case("a decay of everything", AdamWHD, {"weight_decay": 0.5, "lr": 2.0}),
    ],
    ids=str,
)
@pytest.mark.parametrize("rule", KNOWN_RULES)
def test_what_is_divided_by_0_is_left_out(case: Case, rule: str) -> None:
    options = [{"rule": rule, "hypergrad_lr": 1e-3, "granularity": "group"}]
    options[0]["lr"] = case.options.get("lr", LR)
    of = problem(8, torch.float32, steps=4, shapes=[[(1030,), (5,)]], missing=0.0)
    groups = parameters(of.start)
    eagerly = case.build(grouped(groups, options))
    ours = ByKernels(case, of.start, options)
    for gradients in of.gradients:
        give(groups, gradients)
        eagerly.step()
        ours.step(gradients)
        wanted = eagerly.param_groups[0]["lr"].item()
        assert ours.alphas[0].item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert wanted != options[0]["lr"]


@pytest.mark.parametrize("name", ["nesterov", "adamw"])
@pytest.mark.parametrize("granularity", ["group", "element"])
def test_reruns_are_equal_bit_by_bit(name: str, granularity: str) -> None:
    runs = [one_step(case_of(name), granularity)[0] for _ in range(2)]
    assert runs[0].alphas.keys() != runs[1].alphas.keys() or granularity == "group"
    for one, other in zip(runs[0].groups[0], runs[1].groups[0], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(runs[0].rates()[0], runs[1].rates()[0], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["momentum", "adamw-decay"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_parameters_have_wide_states(name: str, dtype: torch.dtype) -> None:
    """Parameters are rounded once a step; states and rates are those of wide gradients."""
    case, options = (
        case_of(name),
        {"rule": "additive", "granularity": "group", "hypergrad_lr": 1e-4},
    )
    of = problem(3, dtype, steps=1, shapes=[[(1030,), (5, 3)]], missing=0.0)
    narrow = ByKernels(case, of.start, [options], torch.float32)
    wide = ByKernels(case, [[p.float() for p in of.start[0]]], [options])
    for _ in range(4):
        for p, q in zip(narrow.groups[0], wide.groups[0], strict=True):
            q.copy_(p)
        narrow.step(of.gradients[0])
        wide.step([[g.float() for g in of.gradients[0][0]]])
        assert torch.equal(narrow.alphas[0], wide.alphas[0])
        for p, q in zip(narrow.groups[0], wide.groups[0], strict=True):
            if DEVICE == "cpu" and dtype is torch.bfloat16:  # Triton's interpreter cuts digits off
                torch.testing.assert_close(p.float(), q, rtol=2**-7, atol=0)
            else:
                assert torch.equal(p, q.to(dtype))
            for a, b in zip(narrow.states[p], wide.states[q], strict=True):
                assert a.dtype is torch.float32
                assert torch.equal(a, b)


@pytest.mark.parametrize("rule", KNOWN_RULES)
def test_ranks_may_add_their_sums(rule: str) -> None:
    """Two ranks, each with one of two parameters, move the rate as one that has both."""
    options = [{"rule": rule, "hypergrad_lr": BETAS[rule], "granularity": "group"}]
    of = problem(4, torch.float32, steps=3, shapes=[[(1030,), (5,)]], missing=0.0)
    case = case_of("adam")
    alone = ByKernels(case, of.start, options)
    ranks = [ByKernels(case, [of.start[0][i : i + 1]], options) for i in range(2)]
    for gradients in of.gradients:
        alone.step(gradients)
        for i, rank in enumerate(ranks):
            rank.load([gradients[0][i : i + 1]])
            rank.kernels.visit()
        total = torch.stack([rank.kernels.sums() for rank in ranks]).sum(0)
        for rank in ranks:
            rank.kernels.move_rates(total)
            rank.kernels.descend()
    for i, rank in enumerate(ranks):
        torch.testing.assert_close(rank.alphas[0], alone.alphas[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(rank.groups[0][0], alone.groups[0][i], rtol=1e-6, atol=1e-6)


def test_gradients_may_lie_at_odd_addresses() -> None:
    even, odd = (one_step(case_of("adamw"))[0] for _ in range(2))
    gradients = [g.to(DEVICE) for g in one_step(case_of("adamw"))[1][0]]
    shifted = []
    for g in gradients:
        memory = torch.empty(g.numel() + 1, device=DEVICE)
        memory[1:] = g
        shifted.append(memory[1:])
    even.step([gradients])
    odd.step([shifted])
    assert not any(launch.variant.aligned for launch in odd.kernels._tables.launches)
    for one, other in zip(even.groups[0], odd.groups[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(even.alphas[0], odd.alphas[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("granularity", ["group", "element"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_parameters_may_be_left_to_others(name: str, granularity: str) -> None:
    """As where a is the last gradient, and torch's kernel descends."""
    ours, gradients = one_step(case_of(name), granularity)
    recipe = recipe_of(case_of(name), ours.options[0], started=True)
    recipe = recipe._replace(descends=False)
    ours.load(gradients)
    before = [(p.clone(), ours.steps[p].clone()) for p in ours.groups[0]]
    rate = ours.rates()[0][0].clone()
    rates = [RateStep(ours.alphas[0], 0, recipe)] if granularity == "group" else []
    ours.kernels.load([each._replace(recipe=recipe) for each in ours.params], rates)
    ours.kernels.visit()
    ours.kernels.move_rates()
    ours.kernels.descend()
    assert not torch.equal(ours.rates()[0][0], rate)
    for p, (was, count) in zip(ours.groups[0], before, strict=True):
        assert torch.equal(p, was)
        assert ours.steps[p] == count


def test_tables_are_uploaded_again_only_when_something_has_moved() -> None:
    ours, gradients = one_step(case_of("adam"))
    on_device = [[g.to(DEVICE) for g in gradients[0]]]
    ours.step(on_device)
    known = ours.kernels._tables
    rows, recipes = known.rows, known.recipes
    ours.step(on_device)
    assert known.rows is rows
    ours.step([[g.clone() for g in on_device[0]]])  # elsewhere
    assert known.rows is not rows
    assert known.recipes is recipes
    ours.options[0]["hypergrad_lr"] = 0.5
    ours.step(on_device)
    assert known.recipes is not recipes


def test_a_backward_pass_sees_that_parameters_have_moved() -> None:
    ours, gradients = one_step(case_of("adam"))
    before = [p._version for p in ours.groups[0]]
    ours.step(gradients)
    assert all(p._version > v for p, v in zip(ours.groups[0], before, strict=True))


def close(got: torch.Tensor, wanted: list[float], tolerance: float, scale: float) -> None:
    values = torch.tensor(wanted, dtype=torch.float64)
    off = (got.detach().cpu().double().flatten() - values).abs()
    assert (off <= tolerance * (values.abs() + scale)).all(), off.max()
