"""Laws: where the kernels make their steps, the optimizers are the scalar loops too."""

import zlib
from itertools import product
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from cases import BETAS, BOUNDS, CASES, LR, TORCH_CASES, Case, problem
from hypergradient import AdamHD, Hypergradient
from hypergradient.engine import native_library
from hypergradient.engine.gpu import device, lane
from test_laws_reference import TOLERANCE, follow, loses_pauses

# in the interpreter, NumPy warns of what a GPU does silently
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("lent")]
GRANULARITIES = ("global", "group", "tensor", "element")


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels make the steps that they can make on the CPU."""
    if torch.cuda.is_available():
        pytest.skip("kernels cannot reach the CPU's memory where there is a GPU")
    monkeypatch.setattr(native_library, "function", lambda: None)
    monkeypatch.setattr(device, "usable", lambda _: True)


def turns() -> list[Any]:
    """Every case with every granularity; rules, reductions and bounds take turns."""
    options = list(product(BETAS, ("sum", "mean"), BOUNDS.values()))
    return [
        pytest.param(case, granularity, *options[(5 * i + 7 * j) % 12], id=f"{case}-{granularity}")
        for i, case in enumerate(CASES)
        for j, granularity in enumerate(GRANULARITIES)
    ]


@pytest.mark.parametrize(("case", "granularity", "rule", "reduction", "bounds"), turns())
def test_the_optimizers_are_the_scalar_loops(
    case: Case, granularity: str, rule: str, reduction: str, bounds: Any
) -> None:
    missing = 0.0 if loses_pauses(case, granularity) else 0.2
    of = problem(zlib.crc32(f"{case} {granularity}".encode()), torch.float32, missing=missing)
    first = {
        "rule": rule,
        "hypergrad_lr": BETAS[rule],
        "granularity": granularity,
        "reduction": reduction,
        "lr_bounds": bounds,
        "lr": LR,
    }
    second = {**first, "lr": 1.04 * LR, "hypergrad_lr": 0.5 * BETAS[rule]}
    follow(case, of, [first, second], TOLERANCE[torch.float32])


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_the_kernels_take_what_they_can(case: Case) -> None:
    p = torch.ones(5, requires_grad=True)
    optimizer = case.build([p], hypergrad_lr=1e-4)
    for _ in range(2):  # torch makes the buffer of a momentum, in the first step
        p.grad = torch.ones(5)
        optimizer.step()
    (kept,) = lane.OF_OPTIMIZERS[optimizer].values()
    took = bool(getattr(kept.kernels._tables, "moved", []))
    assert took is ("amsgrad" not in case.options)


@pytest.mark.parametrize(
    "options",
    [{"fused": True}, {"foreach": True}, {"hypergrad_lr": 0.0}, {"granularity": "member"}],
)
def test_they_leave_what_somebody_else_is_asked_for(options: dict[str, Any]) -> None:
    p = torch.ones(5, 2, requires_grad=True)
    optimizer = AdamHD([p], **options)
    p.grad = torch.ones(5, 2)
    optimizer.step()
    assert all(not kept.recipes for kept in lane.OF_OPTIMIZERS[optimizer].values())


def test_a_base_of_ones_own_shares_a_rate_with_none_of_them() -> None:
    p = torch.ones(5, requires_grad=True)
    optimizer = Hypergradient([p], base="lion", lr=0.1)
    p.grad = torch.ones(5)
    optimizer.step()
    assert p.detach() == pytest.approx(0.9)


@pytest.mark.parametrize("rule", BETAS)
def test_a_rate_that_others_share_is_moved_by_all(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels take one parameter; the other is of float64, which they do not take."""
    rates = []
    for usable in (True, False):
        monkeypatch.setattr(device, "usable", lambda _, usable=usable: usable)
        of = problem(3, torch.float32, steps=4, shapes=[[(5,), (1030,)]], missing=0.0)
        params = [of.start[0][0].double().requires_grad_(), of.start[0][1].requires_grad_()]
        optimizer = AdamHD(params, lr=LR, hypergrad_lr=BETAS[rule], rule=rule)
        for (gradients,) in of.gradients:
            for p, g in zip(params, gradients, strict=True):
                p.grad = g.to(p.dtype)
            optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"].item())
    assert rates[0] == pytest.approx(rates[1], abs=1e-6 * LR)
    assert rates[0] != LR
