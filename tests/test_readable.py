"""Rates as people and loggers read them: as floats, as text, in JSON, before the first step."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, MuonHD, Untuned

EVERY = (SGDHD, AdamHD, AdamWHD, MuonHD, Hypergradient, Untuned)


def step(optimizer: Any, times: int = 1) -> None:
    for _ in range(times):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        optimizer.step()


@pytest.mark.parametrize("make", EVERY)
def test_a_rate_is_a_number_to_python(make: Any) -> None:
    optimizer = make([nn.Parameter(torch.ones(2, 3))])
    step(optimizer, 2)
    lr = optimizer.param_groups[0]["lr"]
    number = float(lr)
    assert f"{lr:.2e}" == f"{number:.2e}"
    assert f"{lr / 10:.3g}" == f"{number / 10:.3g}"
    assert json.loads(json.dumps({"lr": lr}, default=float)) == {"lr": number}
    assert lr.item() == number == pytest.approx(max(lr.tolist(), 0.0))


@pytest.mark.parametrize("make", EVERY)
def test_the_summary_is_ready_for_json(make: Any) -> None:
    optimizer = make([nn.Parameter(torch.ones(2, 3))])
    step(optimizer, 2)
    summary = json.loads(json.dumps(optimizer.lr_summary()))
    rate = float(optimizer.param_groups[0]["lr"])
    assert summary == {"min": rate, "median": rate, "max": rate}


@pytest.mark.parametrize("make", EVERY)
def test_the_rate_in_use_is_where_loggers_look(make: Any) -> None:
    """As `effective_lr` of a group, where Prodigy and its kin put it; always the present one."""
    optimizer = make([nn.Parameter(torch.ones(2, 3))])
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(3):
        step(optimizer)
        scheduler.step()
        (group,) = optimizer.param_groups
        assert float(group["effective_lr"]) == float(group["lr"]) > 0
    twin = copy.deepcopy(optimizer)
    twin.load_state_dict(optimizer.state_dict())
    step(twin)
    (group,) = twin.param_groups
    assert float(group["effective_lr"]) == float(group["lr"])


@pytest.mark.parametrize("granularity", ["tensor", "element"])
def test_a_group_of_many_rates_claims_no_effective_one(granularity: str) -> None:
    optimizer = AdamHD([nn.Parameter(torch.ones(2))], granularity=granularity)
    step(optimizer)
    assert "effective_lr" not in optimizer.param_groups[0]


def test_untuned_reads_no_rate_before_there_is_one() -> None:
    """1.0, its bound, would be believed. Its first rate follows from the first gradient."""
    groups = [{"params": [nn.Parameter(torch.ones(3))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = Untuned(groups)
    assert optimizer.lr_summary()["max"] < 1e-29
    step(optimizer)
    one, tenth = (float(group["lr"]) for group in optimizer.param_groups)
    assert one == pytest.approx(10 * tenth)
    assert 1e-4 < one < 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.LinearLR(o, 0.5, total_iters=4),
        lambda o: lr_scheduler.StepLR(o, 1, gamma=0.5),
        lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.5 / (1 + t)),
    ],
)
def test_schedules_that_begin_before_the_first_rate_is_known_keep_their_factor(make: Any) -> None:
    """The rate in use is the learned one times the schedule's factor, from the first step on."""
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    plain, scheduled = Untuned([p]), Untuned([q])
    scheduler = make(scheduled)
    factor = float(scheduled.param_groups[0]["scheduled_lr"])
    step(plain)
    step(scheduled)
    ours, theirs = (float(o.param_groups[0]["lr"]) for o in (scheduled, plain))
    assert ours == pytest.approx(factor * theirs)
    scheduler.step()
    factor = float(scheduled.param_groups[0]["scheduled_lr"])
    assert float(scheduled.param_groups[0]["lr"]) == pytest.approx(factor * theirs)
