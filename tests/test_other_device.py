"""Laws: on another device a step reads nothing back, mixes nothing, and is the same step.

The device is `elsewhere.Device`. Each optimizer takes the lanes that a device can have: torch's
fused, foreach and for-loop kernels, and the plain base. For the kernels of a GPU see tests/gpu.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elsewhere import Device, lend
from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, Untuned
from hypergradient.optimizers import adam

Make = Callable[[Any], torch.optim.Optimizer]
RULES = ("additive", "multiplicative", "relative", "adam", "hdm")
LANES = {"fused": {}, "foreach": {"foreach": True}, "for-loop": {"foreach": False}}


def every() -> dict[str, Make]:
    """All optimizers, on each lane, with each rule and granularity."""
    made: dict[str, Make] = {}
    for lane, own in LANES.items():
        made[f"SGDHD, {lane}"] = lambda p, own=own: SGDHD(p, lr=0.1, **own)
        options = {"lr": 0.1, "momentum": 0.9, "nesterov": True}
        made[f"Nesterov, {lane}"] = lambda p, own={**options, **own}: SGDHD(p, **own)
        made[f"AdamHD, {lane}"] = lambda p, own=own: AdamHD(p, lr=0.01, **own)
        decay = {"lr": 0.01, "weight_decay": 0.1}
        made[f"AdamWHD, {lane}"] = lambda p, own={**decay, **own}: AdamWHD(p, **own)
        torch_own = {"hypergrad_lr": 0.0, **own}
        made[f"Adam of torch, {lane}"] = lambda p, own=torch_own: AdamHD(p, lr=0.01, **own)
    for rule in RULES:
        made[f"rule {rule}"] = lambda p, rule=rule: AdamHD(p, lr=0.01, rule=rule)
    for granularity in ("global", "tensor", "element"):
        made[granularity] = lambda p, own=granularity: AdamHD(p, lr=0.01, granularity=own)
    made["a tower"] = lambda p: SGDHD(p, lr=0.1, hypergrad_lr=(1e-3, 1e-5))
    for base in ("rmsprop", "adagrad", "adafactor", "lion", "nadam"):
        made[base] = lambda p, base=base: Hypergradient(p, base=base, lr=0.01)
    made["muon"] = lambda p: Hypergradient(matrices(p), base="muon", lr=0.01)
    made["Untuned, muon"] = lambda p: Untuned(matrices(p), base="muon")
    for base in ("adam", "sgd", "rmsprop", "adagrad", "adafactor", "lion"):
        made[f"Untuned, {base}"] = lambda p, base=base: Untuned(p, base=base, weight_decay=0.01)
    return made


def matrices(params: Any) -> list[Tensor]:
    return [p for p in params if p.dim() > 1]


OPTIMIZERS = every()


def model_of() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def steps(optimizer: torch.optim.Optimizer, model: nn.Module, data: Any) -> Iterator[None]:
    """Yield where each of eight steps, and its schedule's, is to be made."""
    x, y = data
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    for _ in range(8):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        yield
        scheduler.step()


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    lend(monkeypatch)


def data_of() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 4, generator=generator), torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_wait_for_nothing_and_are_the_same(name: str) -> None:
    here, data = model_of(), data_of()
    optimizer = OPTIMIZERS[name](here.parameters())
    for _ in steps(optimizer, here, data):
        optimizer.step()
    with Device(float64=False) as device:
        there = model_of().to("meta")
        other = OPTIMIZERS[name](there.parameters())
        for step in steps(other, there, tuple(t.to("meta") for t in data)):
            with device.strict():
                other.step(step)
        same = zip(here.parameters(), there.parameters(), strict=True)
        pairs = [(p.detach(), q.detach().cpu()) for p, q in same]
        rates = [float(of.param_groups[0]["lr"]) for of in (optimizer, other)]
    for p, q in pairs:
        torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)
    assert rates[1] == pytest.approx(rates[0], rel=1e-3)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # it has values
@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "foreach" not in n])
def test_a_state_of_the_cpu_goes_on_there(name: str) -> None:
    """Rates are in float64 on the CPU, which a device need not have."""
    here, data = model_of(), data_of()
    optimizer = OPTIMIZERS[name](here.parameters())
    for _ in steps(optimizer, here, data):
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    weights = [p.detach().clone() for p in here.parameters()]
    for _ in steps(optimizer, here, data):
        optimizer.step()
    with Device(float64=False) as device:
        there = model_of().to("meta")
        with torch.no_grad():
            for p, weight in zip(there.parameters(), weights, strict=True):
                p.copy_(weight)
        other = OPTIMIZERS[name](there.parameters())
        other.load_state_dict(saved)
        for step in steps(other, there, tuple(t.to("meta") for t in data)):
            with device.strict():
                other.step(step)
        same = zip(here.parameters(), there.parameters(), strict=True)
        pairs = [(p.detach(), q.detach().cpu()) for p, q in same]
    for p, q in pairs:
        torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-4)


def test_an_average_is_put_in_place_without_waiting() -> None:
    results = []
    for where in ("cpu", "meta"):
        with Device(float64=False) as device:
            model, data = model_of().to(where), tuple(t.to(where) for t in data_of())
            optimizer = Untuned(model.parameters())
            for step in steps(optimizer, model, data):
                optimizer.step(step)
            weight = model[0].weight
            with device.strict():
                optimizer.project(lambda weight=weight: weight.clamp_(min=0))
                with optimizer.averaged():
                    average = weight.detach().clone()
            results.append((average.cpu(), weight.detach().cpu()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_device_refuses_what_a_gpu_would_wait_for() -> None:
    with Device(float64=False) as device:
        x = torch.ones(3).to("meta")
        refused: dict[str, Callable[[], Any]] = {
            "item": lambda: x.sum().item(),
            "bool": lambda: bool(x.sum() > 0),
            "tolist": x.tolist,
            "cpu": x.cpu,
            "numpy": x.numpy,
            "index": lambda: x[x > 0],
            "brought": lambda: torch.ones(3).to("meta"),
            "copied": lambda: torch.ones(3).copy_(x),
            "two devices": lambda: x + torch.ones(3),
            "float64": x.double,
        }
        for name, use in refused.items():
            with device.strict(), pytest.raises((RuntimeError, TypeError)):
                pytest.fail(f"{name}: {use()}")
        with device.strict():
            y = torch.ones(3).to("meta", non_blocking=True) * torch.tensor(2.0) + x
        assert y.sum().item() == 9


def test_the_devices_that_adam_asks_nothing_are_those_of_torch() -> None:
    own = sys.modules["torch.optim.adam"]
    assert {*own._get_capturable_supported_devices()} == adam.CAPTURABLE
