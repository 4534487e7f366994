"""Small differences that add up: complex rates, cycled betas, infinities, threads and forks."""

import math
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned


@pytest.mark.parametrize("hypergrad_lr", [0.0, 1e-3])
@pytest.mark.parametrize("kind", [SGDHD, AdamHD, AdamWHD])
def test_elements_of_complex_parameters_have_two_real_rates_each(
    kind: type[Any], hypergrad_lr: float
) -> None:
    """A complex parameter moves as its real and imaginary parts in a real one do."""
    start = torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64)
    p, q = nn.Parameter(start.clone()), nn.Parameter(torch.view_as_real(start).clone())
    options = {"lr": 0.1, "hypergrad_lr": hypergrad_lr, "granularity": "element"}
    one, other = kind([p], **options), kind([q], **options)
    for t in range(4):
        g = torch.tensor([1 + 1j, 2 - 3j]) * (1 + t)
        p.grad, q.grad = g, torch.view_as_real(g)
        one.step()
        other.step()
    assert torch.allclose(torch.view_as_real(p.detach()), q.detach(), rtol=1e-6)
    rates = torch.view_as_real(one.state[p]["lr"])
    assert torch.allclose(rates, other.state[q]["lr"], rtol=1e-6)


@pytest.mark.parametrize("total", [20, 100])
def test_a_cycle_of_betas_leaves_the_hypergradient_right(total: int) -> None:
    """OneCycleLR cycles beta1 by default; h is asked of the direction as it was."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(50, dtype=torch.float64))
    optimizer = AdamHD([p], lr=1e-3, hypergrad_lr=1e-6, lr_bounds=None)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=total)
    group, u = optimizer.param_groups[0], torch.zeros_like(p)
    for _ in range(total - 1):
        g = p.detach() + 0.1 * torch.randn_like(p)
        p.grad, before, theta = g.clone(), float(group["lr"]), p.detach().clone()
        optimizer.step()
        after = float(group["lr"])
        h = (after - before) / 1e-6
        assert h == pytest.approx(float((g * u).sum()), rel=1e-6, abs=1e-6)
        u = (theta - p.detach()) / after
        scheduler.step()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", [SGDHD, AdamWHD])
def test_one_infinite_gradient_does_not_freeze_the_rate(
    kind: type[Any], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other parameters of the group go on learning, with `maximize` or without decay, too."""
    if not native:
        monkeypatch.setattr("hypergradient.engine.native_library.function", lambda: None)
    p = nn.Parameter(torch.ones(4))
    options = {"weight_decay": 0.0} if kind is AdamWHD else {}
    optimizer = kind([p], lr=0.1, hypergrad_lr=1e-3, maximize=True, **options)
    rates = []
    for first in (1.0, math.inf, 1.0, 1.0, 1.0):
        p.grad = torch.tensor([first, 1.0, 1.0, 1.0])
        optimizer.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    if kind is SGDHD:
        assert rates[-1] > rates[1]
        assert torch.isfinite(p[1:]).all()
    assert math.isfinite(rates[-1])


def first_rate(threads: int, numbers: Tensor, base: str) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        p = nn.Parameter(numbers.clone())
        p.grad = torch.sin(7 * numbers)
        optimizer = Untuned([p], base=base)
        optimizer.step()
        return float(optimizer.param_groups[0]["lr"])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("base", ["adam", "sgd"])
def test_the_first_rate_does_not_depend_on_the_number_of_threads(base: str) -> None:
    numbers = torch.randn(1_500_001, generator=torch.Generator().manual_seed(0))
    assert len({first_rate(threads, numbers, base) for threads in (1, 2, 3, 4)}) == 1


FORK = """
import os, torch
from hypergradient import SGDHD
torch.set_num_threads(2)
p = torch.nn.Parameter(torch.ones(1_000_000))
optimizer = SGDHD([p], lr=0.1, hypergrad_lr=1e-9)
p.grad = torch.ones(1_000_000)  # torch's own operations on large tensors hang in a child
optimizer.step()
child = os.fork()
optimizer.step()
if child == 0:
    os._exit(0 if abs(p[0].item() - p[-1].item()) == 0 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(p[0].item())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_steps_by_one_thread_and_does_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(0.8, abs=0.01)
