"""What stands in for kernels that torch 2.6 lacks makes the steps that the present ones make."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hypergradient import SGDHD, AdamWHD
from hypergradient.optimizers import adam, sgd


def stepped(make: Any, steps: int = 4, **options: Any) -> tuple[Tensor, Any]:
    start = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3).requires_grad_()
    p = start.clone() if options.get("differentiable") else start
    optimizer = make([p], hypergrad_lr=1e-3, **options)
    for t in range(steps):
        p.grad = p.detach() * (1 + t)
        optimizer.step()
    return p, optimizer


@pytest.mark.skipif(not adam.DECOUPLES, reason="this torch has no other kernel to compare with")
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("kernel", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_the_kernel_of_adamw_stands_in_for_that_of_adam(
    kernel: dict[str, bool], amsgrad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"lr": 0.1, "weight_decay": 0.2, "amsgrad": amsgrad, **kernel}
    expected, theirs = stepped(AdamWHD, **options)
    monkeypatch.setattr(adam, "DECOUPLES", False)
    p, ours = stepped(AdamWHD, **options)
    assert torch.equal(p, expected)
    assert ours.lr_summary() == theirs.lr_summary()


@pytest.mark.skipif(not sgd._takes_recorded_rates(), reason="this torch has no kernel for it")
@pytest.mark.parametrize("granularity", ["group", "tensor"])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}]
)
def test_a_recorded_rate_has_the_same_derivative_without_the_kernel(
    options: dict[str, Any], granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for takes in (True, False):
        monkeypatch.setattr(sgd, "_takes_recorded_rates", lambda takes=takes: takes)
        rate = torch.tensor(0.1, requires_grad=True)
        p, _ = stepped(SGDHD, lr=rate, differentiable=True, granularity=granularity, **options)
        (slope,) = torch.autograd.grad(p.square().sum(), rate)
        found.append((p, slope))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=0)
    assert found[0][1] != 0
