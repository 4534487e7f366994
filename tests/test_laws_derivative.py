"""Law: the rate moves by minus the derivative of the loss with respect to it, says autograd.

The derivative is taken through one differentiable step of torch's own optimizer, which shares
nothing with the package: every number is a parameter of its own in a group of its own, whose rate
is the one that the package used, shifted by a leaf that all numbers of a pool share.
"""

from collections.abc import Callable, Hashable
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import GRANULARITIES, MEMBERS, TORCH_CASES, Case, grouped, parameters, problem, rates
from hypergradient import SGDHD, Hypergradient
from pairwise import pairs

BETA = 1e-3
pytestmark = pytest.mark.usefixtures("float64")

STEPS = 5
SHAPES = (((2, 2), (), (3,)), ((0, 2), (1, 2)))
KEYS: dict[str, Callable[[int, int, int, int], Hashable]] = {
    "global": lambda _group, _tensor, _element, _member: "all",
    "group": lambda group, _tensor, _element, _member: group,
    "tensor": lambda group, tensor, _element, _member: (group, tensor),
    "element": lambda group, tensor, element, _member: (group, tensor, element),
    "member": lambda group, _tensor, _element, member: (group, member),
}


def loss(x: Tensor) -> Tensor:
    """A smooth function in which every number meets every other."""
    i = torch.arange(1, x.numel() + 1, dtype=x.dtype)
    return torch.cos(torch.sin(torch.outer(i, i)) @ x).sum() + 0.05 * (x**4).sum()


def flat(groups: list[list[Tensor]]) -> Tensor:
    return torch.cat([p.flatten() for group in groups for p in group])


@pairs(case=TORCH_CASES, granularity=GRANULARITIES, reduction=["sum", "mean"])
def test_the_rate_moves_by_minus_the_derivative(
    case: Case, granularity: str, reduction: str
) -> None:
    groups = parameters(problem(3, shapes=SHAPES, granularity=granularity).start)
    optimizer = case.build(
        grouped(groups, [{"lr": 0.05}, {"lr": 0.03}]),
        hypergrad_lr=BETA,
        granularity=granularity,
        reduction=reduction,
        lr_bounds=None,
    )
    keys = [
        KEYS[granularity](i, j, k, k * MEMBERS // theta.numel())
        for i, group in enumerate(groups)
        for j, theta in enumerate(group)
        for k in range(theta.numel())
    ]
    shares = [keys.count(key) if reduction == "mean" else 1 for key in keys]

    twins = [x.detach().clone() for x in flat(groups)]
    twin = case.base([{"params": [x]} for x in twins], lr=0.0, differentiable=True, **case.options)

    before = flat(rates(optimizer))
    slopes = torch.zeros(len(twins), dtype=torch.float64)  # h_1 = 0
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(loss(flat(groups)))
        optimizer.step()
        after = flat(rates(optimizer))
        torch.testing.assert_close(after, before - BETA * slopes, rtol=1e-12, atol=1e-14)
        before = after
        slopes = derivative(case, twin, twins, after, keys) / torch.tensor(shares)
    assert slopes.abs().min() > 0, "a derivative of 0 shows nothing"


def derivative(
    case: Case,
    twin: torch.optim.Optimizer,
    twins: list[Tensor],
    used: Tensor,
    keys: list[Hashable],
) -> Tensor:
    """Step the twin at the rates `used`; d loss / d (their pool's shift), for every number."""
    x = torch.stack(twins).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    shifts = {key: torch.zeros((), dtype=torch.float64, requires_grad=True) for key in keys}
    for own, theta, g, rate, key in zip(
        twin.param_groups, twins, gradient, used, keys, strict=True
    ):
        theta.grad = g
        own["lr"] = rate + shifts[key]
    twin.step()

    x = torch.stack(twins)
    objective = -loss(x) if case.options.get("maximize") else loss(x)
    if not case.decoupled:
        objective = objective + case.options.get("weight_decay", 0.0) / 2 * (x**2).sum()
    slopes = dict(zip(shifts, torch.autograd.grad(objective, list(shifts.values())), strict=True))
    for theta in twins:
        theta.detach_()
    return torch.stack([slopes[key] for key in keys])


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_rate_inside_the_velocity_moves_by_minus_its_derivative(
    nesterov: bool, decay: float
) -> None:
    """Classical momentum: d theta_t / d alpha_t, with the velocity before it held fixed."""
    mu, alpha = 0.7, torch.tensor(0.03)
    theta = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    options: dict[str, Any] = {"momentum": mu, "nesterov": nesterov, "classical": True}
    options |= {"hypergrad_lr": BETA, "lr_bounds": None}
    if decay:
        options |= {"base": "sgd", "weight_decay": decay, "decoupled_weight_decay": True}
    optimizer = (Hypergradient if decay else SGDHD)([theta], lr=0.03, **options)
    twin, velocity, slope = theta.detach().clone(), torch.zeros(3), torch.tensor(0.0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(loss(theta))
        optimizer.step()

        alpha = (alpha - BETA * slope).detach().requires_grad_()
        torch.testing.assert_close(
            optimizer.param_groups[0]["lr"], alpha.detach(), rtol=1e-12, atol=0
        )
        x = twin.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(x), x)
        u = g + decay * twin
        v = mu * velocity + alpha * u
        moved = twin - (alpha * u + mu * v if nesterov else v)
        (slope,) = torch.autograd.grad(loss(moved), alpha)
        twin, velocity = moved.detach(), v.detach()
        torch.testing.assert_close(theta.detach(), twin, rtol=1e-12, atol=1e-14)
