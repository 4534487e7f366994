"""Every base, and a person's own, compiled, saved and averaged by `Untuned`."""

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo as dynamo
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from hypergradient import Base, Hypergradient, Untuned
from own_bases import Lion, Softened, TwoMeans

BASES: dict[str, Base | str] = {
    **{name: name for name in ("sgd", "adam", "adamw", "amsgrad", "nadam")},
    **{name: name for name in ("rmsprop", "adagrad", "adafactor", "lion", "muon")},
    "own lion": Lion(),
    "own without state": Softened(),
    "own with two states": TwoMeans(),
}
AVERAGED = tuple(name for name in BASES if name not in ("adamw", "amsgrad", "nadam"))
STEPS = 6


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    dynamo.reset()
    yield
    dynamo.reset()


def built(name: str, kind: str, params: list[nn.Parameter]) -> Any:
    """The optimizer of a base, with its parameters in two groups."""
    groups = [
        {"params": params[:1]},
        {"params": params[1:], "lr": 0.5 if kind == "untuned" else 0.02},
    ]
    if kind == "untuned":
        return Untuned(groups, base=BASES[name])
    return Hypergradient(groups, base=BASES[name], lr=0.01, hypergrad_lr=1e-5)


def matrices() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(4, n, generator=generator)) for n in (3, 2)]


def train(optimizer: Any, params: list[nn.Parameter], steps: int, step: Any = None) -> None:
    """Descend the distance to a matrix of ones, with noise."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in params:
            p.grad = p.detach() - 1 + 0.1 * torch.randn(p.shape, generator=generator)
        (step or optimizer.step)()


def kinds() -> list[tuple[str, str]]:
    return [(name, "hypergradient") for name in BASES] + [(name, "untuned") for name in AVERAGED]


every = pytest.mark.parametrize(("name", "kind"), kinds())


COMPILED = (
    *("sgd", "adam", "rmsprop", "adafactor", "lion", "muon"),
    *("own without state", "own with two states"),
)


@pytest.mark.parametrize("kind", ["hypergradient", "untuned"])
def test_all_compile_whole_and_equal_eager(kind: str) -> None:
    """As groups of one optimizer; two compilations, one for the step that makes the state."""
    bases = [BASES[name] for name in COMPILED + ("nadam",) * (kind == "hypergradient")]

    def of_all() -> tuple[Any, list[nn.Parameter]]:
        params = [matrices()[0] for _ in bases]
        groups = [{"params": [p], "base": base} for p, base in zip(params, bases, strict=True)]
        if kind == "untuned":
            return Untuned(groups), params
        return Hypergradient(groups, lr=0.01, hypergrad_lr=1e-5), params

    (ours, compiled), (plain, eager) = of_all(), of_all()
    counter = CompileCounter()
    dynamo.utils.counters.clear()
    train(ours, compiled, STEPS, torch.compile(ours.step, backend=counter))
    train(plain, eager, STEPS)
    assert not dynamo.utils.counters["graph_break"]
    assert counter.frame_count <= 2
    for p, q in zip(compiled, eager, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    for group, wanted in zip(ours.param_groups, plain.param_groups, strict=True):
        assert float(group["lr"]) == pytest.approx(float(wanted["lr"]), rel=1e-4)


@every
def test_a_loaded_one_goes_on_bit_for_bit(name: str, kind: str) -> None:
    params = matrices()
    optimizer = built(name, kind, params)
    train(optimizer, params, STEPS)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copied = copy.deepcopy(params)
    loaded = built(name, kind, copied)
    loaded.load_state_dict(torch.load(file))
    for each, own in ((optimizer, params), (loaded, copied)):
        train(each, own, STEPS)
    for p, q in zip(params, copied, strict=True):
        assert torch.equal(p, q)
        assert_same(optimizer.state[p], loaded.state[q])


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("name", AVERAGED)
def test_untuned_trains_with_any_base(name: str) -> None:
    """From a distance of 1 or so to a small part of that, in all groups."""
    params = matrices()
    began = [float((p.detach() - 1).norm()) for p in params]
    optimizer = built(name, "untuned", params)
    train(optimizer, params, 600)
    optimizer.eval()
    for p, start in zip(params, began, strict=True):
        assert float((p.detach() - 1).norm()) < (0.7 if "lion" in name else 0.4) * start
    one, other = (float(group["lr"]) for group in optimizer.param_groups)
    assert other == pytest.approx(0.5 * one)


@pytest.mark.parametrize("name", AVERAGED)
def test_groups_share_one_learned_rate_after_loading(name: str) -> None:
    """Also where the rates of the new optimizer's groups were others."""
    params = matrices()
    optimizer = built(name, "untuned", params)
    train(optimizer, params, STEPS)
    copied = copy.deepcopy(params)
    loaded = Untuned([{"params": copied[:1], "lr": 1e-3}, {"params": copied[1:]}], base=BASES[name])
    loaded.load_state_dict(optimizer.state_dict())
    train(loaded, copied, STEPS)
    one, other = (float(group["lr"]) for group in loaded.param_groups)
    assert other == pytest.approx(0.5 * one, rel=1e-12)
