"""Laws: a step is few launches, and may be captured in a CUDA graph, where there is a GPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from stepping import DEVICE, ByKernels

from cases import CASES, problem
from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned
from hypergradient.engine.gpu.device import takes
from hypergradient.engine.gpu.upload import Uploads

needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no GPU: nothing can be captured")
CASE = {case.name: case for case in CASES}
SHAPES = [[(300, 7), (), (1030,), (5,)]]


def options(**more: Any) -> list[dict[str, Any]]:
    return [{"rule": "additive", "hypergrad_lr": 1e-4, "granularity": "group", **more}]


@needs_gpu
@pytest.mark.parametrize("name", ["nesterov", "adamw"])
@pytest.mark.parametrize("granularity", ["group", "tensor", "element"])
def test_a_captured_step_is_the_launched_one(name: str, granularity: str) -> None:
    of = problem(1, torch.float32, steps=5, shapes=SHAPES, missing=0.0)
    pair = [ByKernels(CASE[name], of.start, options(granularity=granularity)) for _ in range(2)]
    gradients = [[g.to(DEVICE) for g in of.gradients[0][0]]]
    for each in pair:
        each.step(gradients)
        each.step(gradients)  # now momentum has started
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pair[0].step(gradients)
    for ((*news,),) in of.gradients:
        for g, new in zip(gradients[0], news, strict=True):
            g.copy_(new)
        graph.replay()
        pair[1].step(gradients)
    pair[0].step(gradients)  # and on without the graph
    pair[1].step(gradients)
    for one, other in zip(*(each.groups[0] for each in pair), strict=True):
        assert torch.equal(one, other)


@needs_gpu
@pytest.mark.parametrize("kind", [SGDHD, AdamHD, AdamWHD, Untuned])
def test_a_captured_step_of_the_optimizer_is_the_launched_one(kind: Any) -> None:
    of = problem(2, torch.float32, steps=5, shapes=SHAPES, missing=0.0)
    pair = []
    for _ in range(2):
        params = [p.to(DEVICE).clone().requires_grad_() for p in of.start[0]]
        for p, g in zip(params, of.gradients[0][0], strict=True):
            p.grad = g.to(DEVICE)
        pair.append((params, kind(params)))
    for _ in range(2):
        for _params, optimizer in pair:
            optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pair[0][1].step()
    for (news,) in of.gradients:
        for params, _ in pair:
            for p, new in zip(params, news, strict=True):
                p.grad.copy_(new)
        graph.replay()
        pair[1][1].step()
    for _, optimizer in pair:  # and on without the graph
        optimizer.step()
        optimizer.step()
    for one, other in zip(*(params for params, _ in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert pair[0][1].param_groups[0]["lr"] == pair[1][1].param_groups[0]["lr"]


@needs_gpu
@pytest.mark.parametrize("own", [{}, {"granularity": "tensor"}, {"granularity": "element"}])
@pytest.mark.parametrize("kind", [SGDHD, AdamHD, AdamWHD, Untuned])
def test_a_step_of_the_optimizer_waits_for_nothing(kind: Any, own: dict[str, Any]) -> None:
    if own and kind is Untuned:
        pytest.skip("Untuned has one rate")
    of = problem(6, torch.float32, steps=1, shapes=SHAPES, missing=0.0)
    params = [p.to(DEVICE).requires_grad_() for p in of.start[0]]
    optimizer = kind(params, **own)
    for step in range(4):
        for p, g in zip(params, of.gradients[0][0], strict=True):
            p.grad = g.to(DEVICE)
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_a_step_takes_no_memory_and_waits_for_nothing() -> None:
    of = problem(3, torch.float32, steps=1, shapes=[[(1000, 1000), (5,)]], missing=0.0)
    ours = ByKernels(CASE["adamw"], of.start, options())
    gradients = [[g.to(DEVICE) for g in of.gradients[0][0]]]
    ours.step(gradients)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.step(gradients)
        ours.step([[g.clone() for g in gradients[0]]])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    copies = 4 * 1_000_005
    assert torch.cuda.max_memory_allocated() - before <= copies + 2**20


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adamw"])
def test_a_step_is_three_launches_however_many_tensors(name: str) -> None:
    of = problem(4, torch.float32, steps=1, shapes=[[(5,)] * 9], missing=0.0)
    ours = ByKernels(CASE[name], of.start, options())
    launched: list[str] = []

    class Counted:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *_args, **_options: launched.append(self.name)

    counted = {kernel: Counted(kernel) for kernel in ("visit", "move_rates", "descend")}
    ours.kernels._kernels = SimpleNamespace(TYPES=ours.kernels._kernels.TYPES, **counted)
    ours.step(of.gradients[0])
    assert launched == ["visit", "move_rates", "descend"]


def test_what_the_kernels_take() -> None:
    of = problem(5, torch.float32, steps=1, shapes=SHAPES, missing=0.0)
    ours = ByKernels(CASE["adam"], of.start, options())
    ours.load(of.gradients[0])
    each, device = ours.params[0], ours.params[0].theta.device
    strided = each.grad.t().contiguous().t()
    assert takes(each, device, elements=False)
    refused = {
        "device": (each, torch.device("meta")),
        "order of memory": (each._replace(grad=strided), device),
        "float64 states": (each._replace(a=each.a.double()), device),
        "rate of elements": (each._replace(alpha=each.a), device),
        "no step count": (each._replace(step=None), device),
        "shape": (each._replace(b=each.a[:1]), device),
    }
    for why, (step, where) in refused.items():
        assert not takes(step, where, elements=False), why
    alike = each._replace(**{n: getattr(each, n).t() for n in ("theta", "grad", "a", "b")})
    assert takes(alike, device, elements=False)  # all transposed: one order


def test_a_capture_without_a_step_before_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="take a step of this optimizer before the capture"):
        Uploads(torch.device("cpu"))._take(torch.zeros(7))
