"""Laws of torch's test_optim.py: steps go the right way, groups are optimizers of their own."""

from typing import Any

import pytest
import torch
from entries import (
    INFOS,
    Candidate,
    Problem,
    assert_right_direction,
    assert_same,
    assert_same_state,
    candidates,
    each,
)
from torch.nn import Parameter

FOR_LOOP_AND_OURS = candidates(betas=["live"], without=["foreach", "fused", "differentiable"])
SCHEDULED = [
    candidate
    for candidate in candidates(betas=["zero"])
    if candidate.implementation in {"for-loop", "default"} or candidate.index == 4
]
DEFAULTS = [candidate for candidate in candidates() if candidate.index == 0]


def scheduled(selection: list[Candidate]) -> list[Any]:
    return [
        pytest.param(candidate, schedule, id=f"{candidate}-schedule{schedule}")
        for candidate in selection
        for schedule in range(len(INFOS[candidate.name].scheduler_inputs))
    ]


def schedulers_of(candidate: Candidate, schedule: int, optimizer: Any) -> list[Any]:
    return [build(optimizer) for build in candidate.info.scheduler_inputs[schedule]]


@pytest.mark.parametrize("contiguous", [True, False], ids=["dense", "strided"])
@each()
def test_goes_right_direction(candidate: Candidate, contiguous: bool) -> None:
    problem = Problem(contiguous=contiguous)
    optimizer = candidate.ours(problem.params)
    started, rate = problem.loss(), float(optimizer.param_groups[0]["lr"])
    problem.train(optimizer)
    assert_right_direction(candidate, started, problem.loss())
    assert (float(optimizer.param_groups[0]["lr"]) != rate) == candidate.live


@pytest.mark.parametrize(("candidate", "schedule"), scheduled(FOR_LOOP_AND_OURS))
def test_goes_right_direction_with_schedulers(candidate: Candidate, schedule: int) -> None:
    problem = Problem(contiguous=bool(schedule % 2))
    optimizer = candidate.ours(problem.params)
    started = problem.loss()
    problem.train(optimizer, schedulers_of(candidate, schedule, optimizer))
    assert_right_direction(candidate, started, problem.loss())


@pytest.mark.parametrize(("candidate", "schedule"), scheduled(SCHEDULED))
def test_schedulers_move_it_as_they_move_torchs(candidate: Candidate, schedule: int) -> None:
    ours, theirs = Problem(), Problem()
    for problem, build in ((ours, candidate.ours), (theirs, candidate.theirs)):
        optimizer = build(problem.params)
        problem.train(optimizer, schedulers_of(candidate, schedule, optimizer))
    assert_same(ours.params, theirs.params)


@pytest.mark.parametrize(("candidate", "schedule"), scheduled(DEFAULTS))
def test_groups_with_schedulers_go_right_direction(candidate: Candidate, schedule: int) -> None:
    problem = Problem()
    groups = [{"params": [problem.weight]}, {"params": [problem.bias], "lr": 0.01}]
    optimizer = candidate.ours(groups)
    started = problem.loss()
    problem.train(optimizer, schedulers_of(candidate, schedule, optimizer))
    assert_right_direction(candidate, started, problem.loss())


@each(betas=["zero"])
def test_without_a_beta_it_is_torchs(candidate: Candidate) -> None:
    ours, theirs = Problem(), Problem()
    mine, torchs = candidate.ours(ours.params), candidate.theirs(theirs.params)
    for _ in range(20):
        for problem, optimizer in ((ours, mine), (theirs, torchs)):
            problem.train(optimizer, steps=1)
        assert_same(ours.params, theirs.params)
        for x, y in zip(ours.params, theirs.params, strict=True):
            assert_same_state(mine.state[x], torchs.state[y])


@each()
def test_groups_have_weight_decays_of_their_own(candidate: Candidate) -> None:
    problem = Problem()
    options = candidate.options
    optimizer = candidate.ours(
        [
            {"params": [problem.weight], **options},
            {"params": [problem.bias], **options, "weight_decay": 0.0},
        ]
    )
    started = problem.loss()
    problem.train(optimizer)
    assert_right_direction(candidate, started, problem.loss())


@each(betas=["zero"])
def test_a_group_with_no_rate_to_speak_of_stays(candidate: Candidate) -> None:
    """torch's law of lr = 1e-28; a live beta is there to get such a group moving."""
    problem = Problem()
    other = Parameter(torch.ones(2))
    options = {"lr": 1e-3, **candidate.options}
    groups = [{"params": problem.params, **options}, {"params": [other]}]
    optimizer = candidate.ours(groups, lr=1e-28)
    started = problem.loss()
    for step in range(20):
        other.grad = torch.full((2,), 0.1 * (1 + step % 3))
        problem.train(optimizer, steps=1)
    assert_right_direction(candidate, started, problem.loss())
    assert torch.equal(other, torch.ones(2))


@each(without=())
def test_parameters_without_gradients_stay(candidate: Candidate) -> None:
    params = [torch.full((2, 3), 0.5), torch.full((2, 3), 2.0, requires_grad=True)]
    optimizer = candidate.ours(params)
    returned = optimizer.step(lambda: 1.0)
    assert returned == 1.0
    assert torch.equal(params[0], torch.full((2, 3), 0.5))
    assert torch.equal(params[1], torch.full((2, 3), 2.0))
    assert all(not state for state in optimizer.state.values())


@each(without=())
def test_zero_gradients_move_nothing_but_by_decay(candidate: Candidate) -> None:
    """torch's law spares AdamW, and decayed ones; equal to torch's they all must be."""
    start = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    ended = []
    for build in (candidate.ours, candidate.theirs):
        leaf = start.clone().requires_grad_()
        p = leaf.clone() if candidate.options.get("differentiable") else leaf
        p.grad = torch.zeros_like(start)
        optimizer = build([p])
        optimizer.step()
        ended.append(p.detach())
        if build == candidate.ours:
            lr = torch.as_tensor(optimizer.param_groups[0]["lr"]).detach()
            assert float(lr) == pytest.approx(float(candidate.options.get("lr", 1e-3)))
    assert_same([ended[0]], [ended[1]])
    decays = candidate.options.get("weight_decay", 0) or candidate.name == "AdamW"
    assert decays or torch.equal(ended[0], start)


@each(without=())
def test_can_be_printed(candidate: Candidate) -> None:
    shown = repr(candidate.ours([Parameter(torch.ones(2))]))
    assert type(candidate.ours([Parameter(torch.ones(2))])).__name__ in shown
    assert "rule" in shown
    assert "granularity" in shown


@each()
def test_state_is_not_empty(candidate: Candidate) -> None:
    """And all of it appears on the first step, parameter-shaped or 0-dim."""
    problem = Problem()
    optimizer = candidate.ours(problem.params)
    problem.train(optimizer, steps=1)
    names = [set(optimizer.state[p]) for p in problem.params]
    for p in problem.params:
        assert optimizer.state[p]
        for value in optimizer.state[p].values():
            assert value is None or value.shape in {p.shape, ()}
    problem.train(optimizer, steps=2)
    assert names == [set(optimizer.state[p]) for p in problem.params]
