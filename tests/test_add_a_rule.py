"""To add a rule is its function, an entry of `RULES`, the same as scalars, and a beta to test with.

A toy rule with a memory is added in just these places, and the laws hold for it.
"""

import copy
from typing import Any

import pytest
import torch

import reference
from cases import BETAS, CASES, GRANULARITIES, Case, give, grouped, parameters, problem, variant
from hypergradient.engine.rules import RULES, Rule
from pairwise import pairs
from reference import Rate
from test_laws_reference import TOLERANCE, follow, loses_pauses

NAME = "adagrad of h"


def normalised(alpha: Any, h: Any, beta: Any, total: Any) -> tuple[Any, Any]:
    """alpha_t = alpha_{t-1} + beta h_t / sqrt(1 + sum of h^2), with the sum as its memory."""
    total = total + h * h
    return alpha + beta * h / (1 + total) ** 0.5, total


def as_scalars(rate: Rate, h: float, beta: float) -> float:
    (total,) = rate.memory or (0.0,)
    rate.memory = [total + h * h]
    return rate.value + beta * h / (1 + rate.memory[0]) ** 0.5


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, NAME, Rule(normalised, memory={"sum_of_squares": 0.0}))
    monkeypatch.setitem(reference.RULES, NAME, as_scalars)
    monkeypatch.setitem(reference.FORMS, NAME, "inner product")
    monkeypatch.setitem(BETAS, NAME, 1e-3)


@pairs(
    case=CASES[::3],
    granularity=GRANULARITIES,
    dtype=[torch.float64, torch.float32],
    reduction=["sum", "mean"],
)
def test_it_equals_its_scalar_loops(
    case: Case, granularity: str, dtype: torch.dtype, reduction: str
) -> None:
    missing = 0.0 if loses_pauses(case, granularity) else 0.2
    of = problem(3, dtype, granularity=granularity, missing=missing)
    options = variant(NAME, granularity, reduction, "positive")
    follow(case, of, [options, {**options, "lr": 1.04 * options["lr"]}], TOLERANCE[dtype])


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_its_memory_is_saved_and_loaded(granularity: str) -> None:
    of = problem(4, torch.bfloat16, granularity=granularity, missing=0.0)
    options = variant(NAME, granularity, "sum", "positive")
    groups = parameters(of.start)
    optimizer = CASES[0].build(grouped(groups, [options, options]))
    for gradients in of.gradients[:3]:
        give(groups, gradients)
        optimizer.step()
    copied = parameters(groups)
    loaded = CASES[0].build(grouped(copied, [options, options]))
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for gradients in of.gradients[3:]:
        for own, each in ((groups, optimizer), (copied, loaded)):
            give(own, gradients)
            each.step()
    for ps, qs, mine, theirs in zip(
        groups, copied, optimizer.param_groups, loaded.param_groups, strict=True
    ):
        assert torch.equal(mine["lr"], theirs["lr"])
        for p, q in zip(ps, qs, strict=True):
            assert torch.equal(p, q)
            for name, value in optimizer.state[p].items():
                assert torch.equal(value, loaded.state[q][name]), name
