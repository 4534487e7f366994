"""Laws: with `hypergrad_lr=0` these are torch's optimizers, and they always keep its manners."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import (
    BASES,
    BETAS,
    CASES,
    GRANULARITIES,
    IMPLEMENTATIONS,
    LR,
    TORCH_CASES,
    Case,
    Gradients,
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
from pairwise import pairs

LARGE = (((33, 7), (), (64,)), ((0, 3), (5, 1, 5), (1,)))  # longer than a vector register
HYPER_OPTIONS = ["hypergrad_lr", "rule", "granularity", "reduction", "product", "lr_bounds"]


def flatten(groups: list[list[Tensor]]) -> list[Tensor]:
    return [theta for group in groups for theta in group]


def bitwise_gradients(granularity: str = "group") -> tuple[list[list[Tensor]], list[Gradients]]:
    """Start values and gradients in float32; all are there in the first step.

    (torch's own fused SGD fails when momentum buffers of one group start at different steps.)
    """
    large: dict[str, Any] = {"shapes": LARGE, "granularity": granularity}
    of = problem(11, torch.float32, steps=9, **large)
    first = problem(12, torch.float32, steps=1, missing=0.0, **large)
    return of.start, first.gradients + of.gradients


@pairs(case=TORCH_CASES, implementation=IMPLEMENTATIONS, granularity=["global", "group", "tensor"])
def test_zero_hypergrad_lr_is_bitwise_torch(
    case: Case, implementation: str, granularity: str
) -> None:
    start, steps = bitwise_gradients()
    flags = IMPLEMENTATIONS[implementation]
    options = [{"lr": LR}, {"lr": 0.3}]
    ours, theirs = parameters(start), parameters(start)
    optimizer = case.build(
        grouped(ours, options), hypergrad_lr=0.0, granularity=granularity, **flags
    )
    base = case.base(grouped(theirs, options), lr=LR, **case.options, **flags)
    for gradients in steps:
        for groups, each in ((ours, optimizer), (theirs, base)):
            give(groups, gradients)
            each.step()
        for x, y in zip(flatten(ours), flatten(theirs), strict=True):
            assert torch.equal(x, y), f"{(x - y).abs().max()} apart"
            assert_same_state(optimizer.state[x], base.state[y])


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_the_default_is_one_of_torchs_implementations(case: Case) -> None:
    """Which one is chosen for speed; where torch chooses another, results round differently."""
    start, steps = bitwise_gradients()
    every: dict[str, tuple[Any, dict[str, Any]]] = {
        "ours": (case.build, {"hypergrad_lr": 0.0}),
        **{name: (case.base, {**case.options, **flags}) for name, flags in IMPLEMENTATIONS.items()},
    }
    ended = {}
    for name, (build, options) in every.items():
        groups = parameters(start)
        optimizer = build(flatten(groups), lr=LR, **options)
        for gradients in steps:
            give(groups, gradients)
            optimizer.step()
        ended[name] = torch.cat([theta.detach().flatten() for theta in flatten(groups)])
    assert any(torch.equal(ended["ours"], ended[name]) for name in IMPLEMENTATIONS)


@pairs(
    lambda case, flags, **_: case.kernels or not flags,
    case=CASES,
    granularity=GRANULARITIES,
    dtype=[torch.bfloat16, torch.float16],
    flags=[{}, {"fused": True}],
)
def test_half_precision_goes_where_float32_goes(
    case: Case, granularity: str, dtype: torch.dtype, flags: dict[str, bool]
) -> None:
    """Also in tensors that fill a processor's vectors, which torch's fused SGD leaves (2.13)."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 65, generator=generator).to(dtype)
    narrow, wide = (torch.nn.Parameter(start.to(d)) for d in (dtype, torch.float32))
    optimizers = [
        case.build([p], lr=0.5, granularity=granularity, hypergrad_lr=1e-5, **flags)
        for p in (narrow, wide)
    ]
    for _ in range(3):
        g = torch.randn(2, 65, generator=generator).to(dtype)
        for p, optimizer in zip((narrow, wide), optimizers, strict=True):
            p.grad = g.to(p.dtype)
            optimizer.step()
    eps = torch.finfo(dtype).eps
    assert ((narrow - wide).abs() <= 12 * eps * (wide.abs() + 1)).all()


@pytest.mark.parametrize("granularity", ["element", "member"])
@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_zero_hypergrad_lr_with_many_rates_is_torch_to_the_last_places(
    case: Case, granularity: str
) -> None:
    """The states are bitwise torch's; parameters may round differently at each step.

    A rate for each element or member rules out torch's kernels, which take one number. They form
    theta - alpha u in one rounding from u, or from m and v; by them, alpha u is rounded on its
    own, for Adam u is too, and for AdamW the decay that is added to u. So one step from the same
    theta is within 1, 2 or 3 units in the last place of |theta| + |alpha u|.
    """
    start, steps = bitwise_gradients(granularity)
    ours, theirs = parameters(start), parameters(start)
    loop = IMPLEMENTATIONS["for-loop"]
    optimizer = case.build([*flatten(ours)], hypergrad_lr=0.0, granularity=granularity, **loop)
    base = case.base([*flatten(theirs)], lr=LR, **case.options, **loop)
    for gradients in steps:
        before = [theta.detach().clone() for theta in flatten(theirs)]
        for groups, each in ((ours, optimizer), (theirs, base)):
            give(groups, gradients)
            each.step()
        for old, x, y in zip(before, flatten(ours), flatten(theirs), strict=True):
            size = old.abs() + (y.detach() - old).abs()
            ulp = torch.nextafter(size, torch.tensor(torch.inf)) - size
            assert ((x - y).abs() <= case.ulps * ulp).all()
            assert_same_state(optimizer.state[x], base.state[y])
            x.data.copy_(y.data)


def assert_same_state(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name, wanted in theirs.items():
        if isinstance(wanted, Tensor):
            assert torch.equal(ours[name], wanted), name


@pytest.mark.parametrize("hd", BASES, ids=lambda hd: hd.__name__)
def test_signature_is_torchs_and_then_keywords(hd: type[torch.optim.Optimizer]) -> None:
    ours = inspect.signature(hd).parameters
    theirs = inspect.signature(BASES[hd]).parameters
    positional = [
        name for name, p in ours.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert positional == list(theirs)[: len(positional)]
    assert {"params", "lr", "weight_decay"} <= set(positional)
    for name in (*HYPER_OPTIONS, "maximize"):
        assert ours[name].kind is inspect.Parameter.KEYWORD_ONLY
    for name in theirs.keys() & ours.keys() - {"lr"}:
        assert ours[name].default == theirs[name].default, name


@pairs(
    lambda case, implementation: case.kernels or implementation == "default",
    case=CASES,
    implementation=[*IMPLEMENTATIONS, "default"],
)
def test_gradients_are_never_modified(case: Case, implementation: str) -> None:
    of = problem(5, missing=0.0)
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [{}, {}]), **IMPLEMENTATIONS.get(implementation, {}))
    for gradients in of.gradients:
        give(groups, gradients)
        held = [theta.grad for theta in flatten(groups)]
        optimizer.step()
        for theta, before, wanted in zip(
            flatten(groups), held, flatten_gradients(gradients), strict=True
        ):
            assert theta.grad is before
            assert before is not None
            assert torch.equal(before, wanted)


def flatten_gradients(gradients: list[list[Tensor | None]]) -> list[Tensor]:
    return [g for group in gradients for g in group if g is not None]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_tensor_given_as_lr_stays_the_users(case: Case, granularity: str) -> None:
    of = problem(6, granularity=granularity)
    of_all, of_group = torch.tensor(0.05), torch.tensor(0.03, dtype=torch.float64)
    groups = parameters(of.start)
    optimizer = case.build(
        grouped(groups, [{}, {"lr": of_group}]),
        lr=of_all,
        hypergrad_lr=1e-3,
        granularity=granularity,
    )
    began = torch.cat([r.flatten() for r in flatten(rates(optimizer))])
    for gradients in of.gradients:
        give(groups, gradients)
        optimizer.step()
    ended = torch.cat([r.flatten() for r in flatten(rates(optimizer))])
    assert (began != ended).all()
    assert torch.equal(of_all, torch.tensor(0.05))
    assert torch.equal(of_group, torch.tensor(0.03, dtype=torch.float64))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_groups_built_from_one_default_do_not_share_its_rate(case: Case) -> None:
    of = problem(8, missing=0.0)
    groups = parameters(of.start)
    optimizer = case.build(
        grouped(groups, [{}, {"hypergrad_lr": 0.0}]), lr=torch.tensor(LR), hypergrad_lr=1e-3
    )
    for gradients in of.gradients:
        give(groups, gradients)
        optimizer.step()
    moving, fixed = (float(group["lr"]) for group in optimizer.param_groups)
    assert fixed == pytest.approx(LR)
    assert moving != pytest.approx(LR)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_closure_runs_once_with_gradients_and_its_loss_is_returned(case: Case) -> None:
    theta = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = case.build([theta])
    calls = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (theta**2).sum()
        torch.autograd.backward(loss)
        calls.append(loss)
        return loss

    with torch.no_grad():
        returned = optimizer.step(closure)
    assert len(calls) == 1
    assert returned is calls[0]
    assert not torch.equal(theta.detach(), torch.tensor([1.0, -2.0]))
    assert optimizer.step() is None


@pairs(case=CASES, granularity=["global", "group", "member"], rule=BETAS)
def test_follows_a_scheduler(case: Case, granularity: str, rule: str) -> None:
    """A schedule scales the rate between steps, and the direction taken before stays."""
    of = problem(9, missing=0.0, granularity=granularity)
    options: dict[str, Any] = {
        "rule": rule,
        "hypergrad_lr": beta(rule, granularity),
        "granularity": granularity,
    }
    groups = parameters(of.start)
    optimizer = case.build(grouped(groups, [options, options]))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    loops = reference(case, of.start, [options, options])
    for t, gradients in enumerate(of.gradients, start=1):
        give(groups, gradients)
        optimizer.step()
        scheduler.step()
        loops.step(as_numbers(gradients))
        for group in loops.groups:
            if t % 2 == 0:
                for rate in {id(s.rate): s.rate for p in group for s in p}.values():
                    rate.value *= 0.5

    # AdamWHD recovers theta_{t-1} by the rate alpha' that the schedule made of alpha. That scales
    # u_{t-1} by (1 - lambda alpha) / (1 - lambda alpha'), which a cosine does not see.
    tolerance = 1e-12 + (case.decay * LR if case.recomputes and rule != "multiplicative" else 0.0)
    for ours, own, theirs in zip(groups, rates(optimizer), loops.groups, strict=True):
        for theta, rate, wanted in zip(ours, own, theirs, strict=True):
            assert numbers(rate) == pytest.approx([s.rate.value for s in wanted], rel=tolerance)
            assert numbers(theta) == pytest.approx([s.theta for s in wanted], abs=tolerance)


@pytest.mark.parametrize("granularity", ["global", "group", "member"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_number_written_to_a_groups_lr_is_its_rate(case: Case, granularity: str) -> None:
    """People write `group["lr"] = 0.01` in training loops, and the rate goes on from there."""
    of = problem(10, missing=0.0, granularity=granularity)
    found = []
    for new in (0.02, torch.tensor(0.02, dtype=torch.float64)):
        groups = parameters(of.start)
        optimizer = case.build(
            grouped(groups, [{}, {}]), hypergrad_lr=1e-4, granularity=granularity
        )
        for t, gradients in enumerate(of.gradients):
            if t == 3:
                optimizer.param_groups[0]["lr"] = new
            give(groups, gradients)
            optimizer.step()
        found.append([float(group["lr"].flatten()[0]) for group in optimizer.param_groups])
    assert found[0] == found[1]
    assert found[0][0] == pytest.approx(0.02, rel=0.2)
    assert found[0][0] != 0.02
    assert found[0][1] == pytest.approx(LR, rel=0.2)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory_layout_does_not_matter(case: Case, granularity: str) -> None:
    """Channels-last, transposed and expanded tensors give the numbers of contiguous ones."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    found = []
    for dense in (True, False):
        layout = torch.contiguous_format if dense else torch.channels_last
        theta = start.clone(memory_format=layout).requires_grad_()
        bias = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
        optimizer = case.build([theta, bias], hypergrad_lr=1e-3, granularity=granularity)
        generator.manual_seed(2)
        for _ in range(4):
            g = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64).transpose(2, 3)
            row = torch.randn(3, generator=generator, dtype=torch.float64).expand(2, 3)
            theta.grad, bias.grad = (g.contiguous(), row.contiguous()) if dense else (g, row)
            optimizer.step()
        found.append([theta.detach(), bias.detach(), *rates(optimizer)[0]])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-14)
