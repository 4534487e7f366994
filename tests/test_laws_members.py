"""Laws of stacks: its members are as many optimizers, of which none feels another."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import APART, BETAS, CASES, LR, MEMBERS, SPREAD, Case, give, parameters, problem
from hypergradient import SGDHD
from pairwise import pairs


def member(tensors: list[Tensor | None], i: int) -> list[Tensor | None]:
    return [None if x is None else x[i] for x in tensors]


@pairs(case=CASES, rule=BETAS, reduction=["sum", "mean"])
def test_a_stack_is_as_many_optimizers(case: Case, rule: str, reduction: str) -> None:
    missing = 0.0 if case.recomputes else 0.2  # see `loses_pauses`
    of = problem(30, granularity="member", missing=missing, shapes=(((2, 3), (), (4,), (0, 2)),))
    options: dict[str, Any] = {"rule": rule, "reduction": reduction, "lr_bounds": None}
    (stack,) = parameters(of.start)
    rates, betas = LR * APART, BETAS[rule] * SPREAD
    together = case.build(stack, lr=rates, hypergrad_lr=betas, granularity="member", **options)
    alone = [
        parameters([[x[i] for x in of.start[0]]])[0]  # a copy of each member
        for i in range(MEMBERS)
    ]
    optimizers = [
        case.build(own, lr=float(rates[i]), hypergrad_lr=float(betas[i]), **options)
        for i, own in enumerate(alone)
    ]
    for (gradients,) in of.gradients:
        give([stack], [gradients])
        together.step()
        for i, (own, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            give([own], [member(gradients, i)])
            optimizer.step()
            torch.testing.assert_close(
                together.param_groups[0]["lr"][i],
                optimizer.param_groups[0]["lr"],
                rtol=1e-12,
                atol=0,
            )
            for x, y in zip(stack, own, strict=True):
                torch.testing.assert_close(x[i], y, rtol=1e-12, atol=1e-14)


@pairs(case=CASES, rule=BETAS, value=[math.nan, math.inf])
def test_a_damaged_member_touches_no_other(case: Case, rule: str, value: float) -> None:
    """Bit for bit, the others end where they do without it."""
    of = problem(31, granularity="member", missing=0.0)
    ended = []
    for damage in (0.0, value):
        groups = parameters(of.start)
        optimizer = case.build(
            [{"params": group, "lr": LR * APART} for group in groups],
            hypergrad_lr=BETAS[rule],
            rule=rule,
            granularity="member",
        )
        for t, gradients in enumerate(of.gradients):
            give(groups, gradients)
            if t in {2, 3}:
                for p in (p for group in groups for p in group if p.numel()):
                    assert p.grad is not None
                    p.grad[1] += damage
            optimizer.step()
        everything = [p for group in groups for p in group]
        everything += [group["lr"] for group in optimizer.param_groups]
        ended.append([x.detach().clone() for x in everything])
    for x, y in zip(*ended, strict=True):
        assert torch.equal(x[[0, 2]], y[[0, 2]])
    assert all(rate.isfinite().all() for rate in ended[1][-2:])
    assert not torch.equal(ended[1][0][1], ended[0][0][1])


def test_parameters_that_are_no_stacks_of_one_size_are_refused() -> None:
    fits, others = torch.zeros(3, 2), (torch.zeros(2, 2), torch.zeros(()), torch.zeros(0, 2))
    for other in others:
        with pytest.raises(ValueError, match=r"shape \(.*one leading index a member") as error:
            SGDHD([fits.requires_grad_(), other.requires_grad_()], granularity="member")
        assert str(tuple(other.shape)) in str(error.value)
    optimizer = SGDHD([fits], granularity="member")
    with pytest.raises(ValueError, match="3 numbers for 2 members"):
        optimizer.add_param_group({"params": [torch.zeros(2)], "lr": torch.ones(3)})
    assert len(optimizer.param_groups) == 1


def test_groups_have_rates_of_their_own_or_the_default() -> None:
    first, second, third = (torch.zeros(n, 2, requires_grad=True) for n in (2, 2, 3))
    groups = [{"params": [first]}, {"params": [second], "lr": 0.5}]
    optimizer = SGDHD(groups, lr=torch.tensor([0.1, 0.2]), granularity="member")
    optimizer.add_param_group({"params": third, "lr": torch.tensor([1.0, 2.0, 3.0])})
    found = [group["lr"].tolist() for group in optimizer.param_groups]
    assert found == [pytest.approx([0.1, 0.2]), [0.5, 0.5], [1.0, 2.0, 3.0]]
    optimizer.param_groups[0]["lr"] = torch.tensor([0.3, 0.4])
    optimizer.step()
    assert optimizer.param_groups[0]["lr"].tolist() == pytest.approx([0.3, 0.4])
