"""Law: a step of C that repeats the last one is the step that asks anew, whatever has happened."""

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import CASES, Case
from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned
from hypergradient.engine import native_library
from hypergradient.engine.native_repeat import NativeRepeat

pytestmark = pytest.mark.skipif(native_library.function() is None, reason="no C compiler here")

SHAPES = ((30, 7), (), (5, 5), (0, 3), (11,))
KINDS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda groups: SGDHD(groups, lr=0.01),
    "momentum": lambda groups: SGDHD(groups, lr=0.01, momentum=0.9, granularity="tensor"),
    "elements": lambda groups: SGDHD(groups, lr=0.01, momentum=0.9, granularity="element"),
    "adam": lambda groups: AdamHD(groups, lr=0.01, granularity="global"),
    "adamw": lambda groups: AdamWHD(groups, lr=0.01, rule="relative", hypergrad_lr=0.02),
    "untuned": Untuned,
}


@dataclass
class Trained:
    """Parameters and their optimizer, to which something happens."""

    params: list[Tensor]
    optimizer: Any


def make(kind: str) -> Trained:
    torch.manual_seed(0)
    params: list[Tensor] = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    return Trained(params, KINDS[kind]([{"params": params[:3]}, {"params": params[3:]}]))


def train(optimizer: Any, steps: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)
        optimizer.step()


def no_gradient(own: Trained) -> None:
    own.params[1].grad = None
    for p in (own.params[0], own.params[2]):
        p.grad = torch.ones_like(p)
    own.optimizer.step()


def other_memory(own: Trained) -> None:
    own.params[0].data = own.params[0].data * 2


def transposed(own: Trained) -> None:
    own.params[2].data = own.params[2].data.t()  # the same address, another order


def shorter(own: Trained) -> None:
    for t in (own.params[4], *own.optimizer.state[own.params[4]].values()):
        if t.dim():
            t.data = t.data[:6]  # the same address, fewer elements


def double(own: Trained) -> None:
    own.params[4].data = own.params[4].data.double()
    for name, value in own.optimizer.state[own.params[4]].items():
        if value.dim():
            own.optimizer.state[own.params[4]][name] = value.double()


def sparse_gradient(own: Trained) -> None:
    if isinstance(own.optimizer, SGDHD):
        for p in own.params:
            p.grad = torch.ones_like(p)
        own.params[0].grad = torch.ones_like(own.params[0]).to_sparse()
        own.optimizer.step()


def strided_gradient(own: Trained) -> None:
    for p in own.params:
        p.grad = torch.ones_like(p)
    own.params[2].grad = torch.arange(25.0).view(5, 5).t()
    own.optimizer.step()


def negative_view(own: Trained) -> None:
    for p in own.params:
        p.grad = torch.ones_like(p)
    own.params[4].grad = torch._neg_view(torch.arange(11.0))
    own.optimizer.step()


def other_state(own: Trained) -> None:
    state = own.optimizer.state[own.params[0]]
    for name in state:
        state[name] = state[name] * 0.5


def moved_state(own: Trained) -> None:
    for value in own.optimizer.state[own.params[0]].values():
        value.data = value.data * 0.5


def other_dict(own: Trained) -> None:
    own.optimizer.state[own.params[0]] = copy.deepcopy(own.optimizer.state[own.params[0]])


def loaded(own: Trained) -> None:
    own.optimizer.load_state_dict(copy.deepcopy(own.optimizer.state_dict()))


def one_count(own: Trained) -> None:
    if "step" in own.optimizer.state[own.params[0]]:
        own.optimizer.state[own.params[0]]["step"].add_(5)


def more_groups(own: Trained) -> None:
    own.params += [torch.nn.Parameter(torch.ones(3, 2))]
    own.optimizer.add_param_group({"params": [own.params[-1]]})


def in_another_group(own: Trained) -> None:
    first, second = own.optimizer.param_groups
    second["params"].insert(0, first["params"].pop())
    second["hypergrad_lr" if "hypergrad_lr" in second else "lr"] *= 1.5


def other_options(own: Trained) -> None:
    group = own.optimizer.param_groups[0]
    if "momentum" in group:
        group["momentum"] = 0.5
    else:
        group["betas"] = (0.8, 0.99)
    group["lr"] *= 0.5
    own.optimizer.param_groups[1]["weight_decay"] = 0.1


def no_hypergradient(own: Trained) -> None:
    if not isinstance(own.optimizer, Untuned):
        own.optimizer.param_groups[0]["hypergrad_lr"] = 0.0


def the_other_way(own: Trained) -> None:
    own.optimizer.param_groups[0]["maximize"] = True


def put_in_the_rates_place(own: Trained) -> None:
    own.optimizer.param_groups[0]["lr"] = 0.02


EVENTS = [
    no_gradient,
    other_memory,
    transposed,
    shorter,
    double,
    sparse_gradient,
    strided_gradient,
    negative_view,
    other_state,
    moved_state,
    other_dict,
    loaded,
    one_count,
    more_groups,
    in_another_group,
    other_options,
    no_hypergradient,
    the_other_way,
    put_in_the_rates_place,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_repeats_are_steps_that_ask_anew(
    kind: str, event: Callable[[Trained], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> list[Any]:
        own = make(kind)
        train(own.optimizer, 4, seed=1)
        event(own)
        train(own.optimizer, 4, seed=2)
        states = [v for state in own.optimizer.state.values() for v in state.values()]
        rates = [own.optimizer.lr_summary()[name] for name in ("min", "median", "max")]
        return [*(t.detach().double() for t in (*own.params, *states)), torch.tensor(rates)]

    repeated = trained()
    monkeypatch.setattr(NativeRepeat, "of", lambda *_: None)
    anew = trained()
    assert len(repeated) == len(anew)
    for one, other in zip(repeated, anew, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_repeated_while_only_gradients_and_options_change(kind: str) -> None:
    optimizer = make(kind).optimizer
    train(optimizer, 3, seed=0)
    last = optimizer._repeat
    assert last is not None
    train(optimizer, 3, seed=1)
    optimizer.param_groups[0]["lr"] *= 0.5
    optimizer.param_groups[0]["weight_decay"] = 1e-3 * optimizer.param_groups[0]["weight_decay"]
    train(optimizer, 3, seed=2)
    assert optimizer._repeat is last


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_gradient_is_kept(case: Case) -> None:
    p = torch.nn.Parameter(torch.ones(300))
    optimizer = case.hd([p], **case.options)
    gradients = []
    for _ in range(4):
        p.grad = torch.ones(300)
        optimizer.step()
        gradients.append(weakref.ref(p.grad))
    p.grad = None
    gc.collect()
    assert not any(gradient() is not None for gradient in gradients)
