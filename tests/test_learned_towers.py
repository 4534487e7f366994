"""Towers: the step size of a learning rate learns, and the step size of that, and so on.

The twin here knows nothing of products of h. It keeps the parameters and all step sizes as numbers
of autograd, makes each step differentiable, and moves each number down its own derivative, the top
first. That is what Chandra et al. (2022) do, and it costs a backward pass through the step.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import GRANULARITIES
from hypergradient import SGDHD, AdamHD, Hypergradient

STEPS = 8
START = [0.7, -0.4, 1.1]
TOWERS = [(1e-3,), (1e-3, 1e-5), (1e-3, 1e-5, 1e-8), (1e-3, 1e-6, 1e-10, 1e-16)]


def loss(x: Tensor) -> Tensor:
    return torch.cos(x * torch.arange(1, 4).to(x)).sum() + 0.1 * (x**4).sum() + x.prod()


def twin(steps: tuple[float, ...], lr: float, rule: str) -> list[list[float]]:
    """Return alpha and all step sizes after each step of SGD."""
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (START, lr, *steps)]
    memory = torch.zeros(3, dtype=torch.float64)  # of Adam on the rate
    history = []
    for _ in range(STEPS):
        for number in numbers:
            if not number.requires_grad:
                number.requires_grad_()
            number.retain_grad()
        torch.autograd.backward(loss(numbers[0]))
        moved = [numbers[-1].detach().requires_grad_()]  # the top stays as it is
        for i in reversed(range(len(numbers) - 1)):
            slope = torch.zeros(()) if numbers[i].grad is None else numbers[i].grad
            if i == 1 and rule == "adam" and bool(slope):
                count, m, v = memory
                memory = torch.stack(
                    [count + 1, 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2]
                )
                count, m, v = memory
                slope = m / (1 - 0.9**count) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
            moved.append(numbers[i].detach() - moved[-1] * slope)
        numbers = moved[::-1]
        history.append([x.item() for x in numbers[1:-1]])
    return history


@pytest.mark.parametrize("rule", ["additive", "adam"])
@pytest.mark.parametrize("steps", TOWERS)
def test_every_floor_moves_down_the_derivative_of_the_loss(
    steps: tuple[float, ...], rule: str
) -> None:
    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"lr": 0.02, "hypergrad_lr": steps, "lr_bounds": None, "rule": rule}
    optimizer = SGDHD([p], **options)
    (group,) = optimizer.param_groups
    for expected in twin(steps, 0.02, rule):
        optimizer.zero_grad()
        torch.autograd.backward(loss(p))
        optimizer.step()
        learned = [group[f"hypergrad_lr_{i}"] for i in range(len(steps) - 1)]
        ours = torch.stack([torch.as_tensor(each) for each in (group["lr"], *learned)]).tolist()
        assert ours == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert learned == [] or learned[0] != steps[0]


def train(optimizer: Any, p: Tensor, steps: int = STEPS) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss(p))
        optimizer.step()


@pytest.mark.parametrize("rule", ["additive", "multiplicative", "adam", "hdm"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_one_number_in_a_tuple_is_that_number(rule: str, granularity: str) -> None:
    ends = []
    for steps in (1e-3, (1e-3,), (1e-3, 0.0)):
        p = torch.tensor(START, dtype=torch.float64, requires_grad=True)
        optimizer = SGDHD([p], 0.02, hypergrad_lr=steps, rule=rule, granularity=granularity)
        train(optimizer, p)
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("rule", ["additive", "multiplicative", "adam", "hdm"])
def test_a_tower_goes_on_where_it_was_saved(granularity: str, rule: str) -> None:
    def make() -> tuple[Tensor, AdamHD]:
        p = torch.tensor(START, requires_grad=True)
        options: dict[str, Any] = {"rule": rule, "granularity": granularity}
        return p, AdamHD([p], 1e-2, hypergrad_lr=(1e-3, 1e-4, 1e-5), **options)

    p, optimizer = make()
    train(optimizer, p)
    q, loaded = make()
    q.data.copy_(p.data)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, p)
    train(loaded, q)
    assert torch.equal(p, q)
    for mine, theirs in zip(optimizer.state[p].items(), loaded.state[q].items(), strict=True):
        assert mine[0] == theirs[0]
        assert torch.equal(mine[1], theirs[1])


def test_step_sizes_stay_above_zero_unless_the_rate_is_unbounded() -> None:
    """A step size below 0 would move its rate the wrong way."""
    signs = []
    for bounds in ((0.0, 1.0), None):
        p = torch.tensor(START, requires_grad=True)
        optimizer = SGDHD([p], 0.5, hypergrad_lr=(1e-3, 10.0), lr_bounds=bounds)
        lowest = 0.0
        for _ in range(STEPS):
            train(optimizer, p, 1)
            lowest = min(lowest, float(optimizer.param_groups[0]["hypergrad_lr_0"]))
        signs.append(lowest < 0)
    assert signs == [False, True]


def test_what_makes_no_tower_is_refused() -> None:
    p = [torch.zeros(2, requires_grad=True)]
    with pytest.raises(ValueError, match=r"hypergrad_lr\[1\]=-1.0 is not a finite number >= 0"):
        SGDHD(p, hypergrad_lr=(1e-3, -1.0))
    with pytest.raises(ValueError, match=r"hypergrad_lr=\(\) is no tuple of floats"):
        SGDHD(p, hypergrad_lr=())
    with pytest.raises(ValueError, match="is a tower, which rule='relative' cannot have"):
        Hypergradient(p, rule="relative", hypergrad_lr=(1e-3, 1e-4))


def test_a_tower_does_not_grow_in_mid_training() -> None:
    p = torch.tensor(START, requires_grad=True)
    optimizer = SGDHD([p], 0.02, hypergrad_lr=1e-3)
    train(optimizer, p)
    optimizer.param_groups[0]["hypergrad_lr"] = (1e-3, 1e-4)
    with pytest.raises(ValueError, match=r"hypergrad_lr=\(0.001, 0.0001\) has 2 number\(s\)"):
        optimizer.step()
