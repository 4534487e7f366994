"""Laws: a step of `Untuned` by Triton's kernels is the eager one, by its public interface."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from stepping import DEVICE

from cases import problem
from hypergradient import Untuned
from hypergradient.engine import native_library
from hypergradient.engine.gpu import device, lane
from hypergradient.engine.gpu.average import AverageKernels
from hypergradient.engine.gpu.tables import Tuning

# in the interpreter, NumPy warns of what a GPU does silently
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SHAPES = [[(41, 3), (), (1100,)], [(7,), (0, 3)]]
TUNINGS = {"one block": Tuning(), "several": Tuning(256, stages=2, parts=2)}


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels make the steps that they can make, on the CPU too."""
    monkeypatch.setattr(native_library, "function", lambda: None)
    monkeypatch.setattr(device, "usable", lambda where: where.type == DEVICE)


def optimizer(start: list[list[Tensor]], dtype: torch.dtype, where: str, **options: Any) -> Untuned:
    """An optimizer of two groups, of which one moves at half the rate of the other."""
    one, other = ([p.detach().to(where, dtype).clone() for p in group] for group in start)
    return Untuned([{"params": one}, {"params": other, "lr": 0.5}], **options)


def step(of: Untuned, gradients: Any) -> None:
    for group, grads in zip(of.param_groups, gradients, strict=True):
        for p, g in zip(group["params"], grads, strict=True):
            p.grad = g.to(p.device, p.dtype)
    of.step()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("base", ["adam", "sgd"])
def test_it_is_the_eager_step(base: str, decay: float, tuning: str) -> None:
    """The eager way is in float64; ten steps, one with an outlier."""
    of = problem(5, torch.float64, steps=10, shapes=SHAPES, missing=0.0)
    of.gradients[6][0][2] *= 1e4
    options: dict[str, Any] = {"base": base, "weight_decay": decay}
    ours = optimizer(of.start, torch.float32, DEVICE, **options)
    eagerly = optimizer(of.start, torch.float64, "cpu", **options)
    where = ours.param_groups[0]["params"][0].device
    kept = lane.Kept(AverageKernels(where, TUNINGS[tuning]), {})
    lane.OF_OPTIMIZERS[ours] = {where: kept}
    for gradients in of.gradients:
        step(ours, gradients)
        step(eagerly, gradients)
        for group, wanted in zip(ours.param_groups, eagerly.param_groups, strict=True):
            for name, value in wanted.items():
                if isinstance(value, Tensor):
                    assert group[name].item() == pytest.approx(value.item(), rel=1e-4), name
            for p, q in zip(group["params"], wanted["params"], strict=True):
                same(p, q)
                for name, value in eagerly.state[q].items():
                    same(ours.state[p][name], value)
    assert len(kept.kernels._tables.moved) == 5


def same(got: Tensor, wanted: Tensor) -> None:
    """Up to roundings of (z - y) / alpha, where z and y are of the size of theta."""
    scale = max(wanted.abs().max().item() if wanted.numel() else 0.0, 1.0)
    torch.testing.assert_close(got.cpu().double(), wanted.double(), rtol=0, atol=1e-4 * scale)


@pytest.mark.usefixtures("kernels")
def test_a_gradient_that_is_not_finite_leaves_the_rate() -> None:
    of = problem(6, torch.float32, steps=3, shapes=SHAPES, missing=0.0)
    ours = optimizer(of.start, torch.float32, DEVICE)
    for gradients in of.gradients[:2]:
        step(ours, gradients)
    before = ours.param_groups[0]["lr"].item()
    of.gradients[2][0][0][0, 0] = torch.inf
    step(ours, of.gradients[2])
    assert ours.param_groups[0]["lr"].item() == before


@pytest.mark.usefixtures("kernels")
def test_float64_parameters_are_not_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernels leave moves beside what they take, at one rate."""
    of = problem(7, torch.float32, steps=4, shapes=SHAPES, missing=0.0)
    mixed = [[p.double() if p.dim() else p for p in group] for group in of.start]
    runs = []
    for usable in (True, False):
        monkeypatch.setattr(device, "usable", lambda _, usable=usable: usable)
        params = [[p.to(DEVICE).clone() for p in group] for group in mixed]
        each = Untuned([p for group in params for p in group])
        for gradients in of.gradients:
            grads = [g for group in gradients for g in group]
            for p, g in zip(each.param_groups[0]["params"], grads, strict=True):
                p.grad = g.to(p)
            each.step()
        runs.append(each)
    for p, q in zip(*(run.param_groups[0]["params"] for run in runs), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-5)
