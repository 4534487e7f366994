"""torch.compile(step), and a step that leaves nothing to wait for."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo as dynamo
from entries import HD, Problem, assert_same
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from hypergradient.engine import torch_kernels

STEPS = 100
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "multiplicative": {"rule": "multiplicative", "hypergrad_lr": 1e-3},
    "global-mean": {"granularity": "global", "reduction": "mean"},
    "tensor": {"granularity": "tensor"},
    "element": {"granularity": "element"},
}
SLOW = {"hypergrad_lr": 1e-6}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    dynamo.reset()
    yield
    dynamo.reset()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", HD)
def test_compiles_whole_and_at_most_twice_and_equals_eager(name: str, variant: str) -> None:
    """Once for the step that makes the state, and once for all others: two compilations."""
    compiled, eager = Problem(), Problem()
    options = {**SLOW, **VARIANTS[variant]}
    ours, plain = HD[name](compiled.params, **options), HD[name](eager.params, **options)
    counter = CompileCounter()
    step = torch.compile(ours.step, backend=counter)
    dynamo.utils.counters.clear()
    for _ in range(STEPS):
        compiled.backward()
        step()
        eager.train(plain, steps=1)
    assert not dynamo.utils.counters["graph_break"]
    assert counter.frame_count <= 2
    assert_same(compiled.params, eager.params, rtol=1e-4, atol=1e-5)
    lr, wanted = (float(o.param_groups[0]["lr"]) for o in (ours, plain))
    assert lr == pytest.approx(wanted, rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own import
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_inductor_makes_the_same_steps(name: str) -> None:
    compiled, eager = Problem(), Problem()
    ours, plain = HD[name](compiled.params, **SLOW), HD[name](eager.params, **SLOW)
    step = torch.compile(ours.step, backend="inductor")
    for _ in range(4):
        compiled.backward()
        step()
        eager.train(plain, steps=1)
    assert_same(compiled.params, eager.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["additive", "multiplicative"])
@pytest.mark.parametrize("name", HD)
def test_a_stack_of_members_compiles_whole_and_equals_eager(name: str, rule: str) -> None:
    options = {"granularity": "member", "rule": rule, "hypergrad_lr": 1e-3}
    groups = [[torch.nn.Parameter(torch.zeros(4, n)) for n in (2, 3)] for _ in range(2)]
    ours, plain = (HD[name](params, **options) for params in groups)
    dynamo.utils.counters.clear()
    step = torch.compile(ours.step, backend="eager")
    for t in range(4):
        for p in (*groups[0], *groups[1]):
            p.grad = torch.arange(1.0, 1 + p.numel()).view(p.shape) - t
        step()
        plain.step()
    assert not dynamo.utils.counters["graph_break"]
    for p, wanted in zip(*groups, strict=True):
        assert p.abs().min() > 0
        torch.testing.assert_close(p, wanted, rtol=1e-4, atol=1e-5)


class NoWaiting(TorchDispatchMode):
    """Refuse what makes the host wait for a device: reading a number, or copying from it.

    The device is torch's meta device, which has no numbers to give.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        away = any(t.device.type != "cpu" for t in tensors)
        if func.name().startswith("aten::_fused_"):
            return None  # a kernel of the device, of which there is no meta version
        result = func(*args, **(kwargs or {}))
        assert not (away and not isinstance(result, Tensor | list | tuple | None)), func
        assert not (away and isinstance(result, Tensor) and result.device.type == "cpu"), func
        return result


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", HD)
def test_nothing_leaves_the_device_in_a_step(
    name: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_kernels, "FUSED_DEVICES", torch_kernels.FUSED_DEVICES | {"meta"})
    adam = sys.modules["torch.optim.adam"]
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda: ["meta"])
    params = [torch.zeros(4, 3, device="meta", requires_grad=True) for _ in range(2)]
    optimizer = HD[name](params, lr=0.1, **VARIANTS[variant])
    for p in params:
        p.grad = torch.zeros(4, 3, device="meta")
    with NoWaiting():
        for _ in range(3):
            optimizer.step()
    assert optimizer.param_groups[0]["lr"].device.type == "meta"


def test_the_detector_detects() -> None:
    number = torch.zeros((), device="meta")
    with NoWaiting(), pytest.raises(RuntimeError, match="meta tensors"):
        number.item()
    with NoWaiting(), pytest.raises((AssertionError, NotImplementedError)):
        number.cpu()
