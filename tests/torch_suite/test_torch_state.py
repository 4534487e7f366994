"""Laws of torch's test_optim.py: state dicts, pickles, copies, and their hooks."""

import io
import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from entries import Candidate, Problem, assert_same, each
from torch import nn
from torch.testing import assert_close


def named(candidate: Candidate) -> tuple[bool, bool]:
    """Whether the saving and the loading optimizer name their parameters: all four are there."""
    return bool(candidate.index & 1), bool(candidate.index & 2)


def params_of(problem: Problem, *, named: bool) -> list[Any]:
    return list(zip(["weight", "bias"], problem.params, strict=True)) if named else problem.params


def nameless(state_dict: dict[str, Any]) -> dict[str, Any]:
    copied = deepcopy(state_dict)
    for group in copied["param_groups"]:
        group.pop("param_names", None)
    return copied


def assert_equal(x: Any, y: Any) -> None:
    """Nested dicts and lists of tensors and plain values are equal."""
    if isinstance(x, torch.Tensor):
        assert_close(x, y, rtol=0, atol=0)
    elif isinstance(x, dict):
        assert x.keys() == y.keys()
        for key in x:
            assert_equal(x[key], y[key])
    elif isinstance(x, list | tuple):
        assert len(x) == len(y)
        for pair in zip(x, y, strict=True):
            assert_equal(*pair)
    else:
        assert x == y


@each()
def test_state_dicts_are_deterministic(candidate: Candidate) -> None:
    saver, loader = named(candidate)
    first = Problem()
    optimizer = candidate.ours(params_of(first, named=saver))
    first.train(optimizer, steps=5)
    second = first.copy()
    other = candidate.ours(params_of(second, named=loader))
    state_dict = deepcopy(optimizer.state_dict())
    before = deepcopy(state_dict)
    other.load_state_dict(state_dict)
    assert_equal(state_dict, before)  # loading changes nothing that it is given
    first.train(optimizer, steps=5)
    second.train(other, steps=5)
    for p, q in zip(first.params, second.params, strict=True):
        assert torch.equal(p, q)
    assert_equal(nameless(optimizer.state_dict()), nameless(other.state_dict()))
    other.param_groups.extend(other.param_groups)
    repeated = nameless(other.state_dict())["param_groups"]
    assert_equal(nameless(optimizer.state_dict())["param_groups"][-1], repeated[-1])


@each()
def test_saves_and_loads_with_weights_only(candidate: Candidate) -> None:
    problem = Problem()
    optimizer = candidate.ours(problem.params)
    problem.train(optimizer, steps=3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert_equal(torch.load(file, weights_only=True), optimizer.state_dict())


def convolution() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(4, 2, 1, stride=2), nn.BatchNorm2d(2))
    return model, torch.rand(1, 4, 4, 4)


def train(model: nn.Module, x: torch.Tensor, optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


@each()
def test_loads_state_dicts_from_before_the_flags(candidate: Candidate) -> None:
    model, x = convolution()
    optimizer = candidate.ours(model.parameters())
    train(model, x, optimizer, 3)
    old = deepcopy(optimizer.state_dict())
    for group in old["param_groups"]:
        for flag in candidate.info.not_og_supported_flags:
            group.pop(flag, None)
    optimizer.load_state_dict(old)
    train(model, x, optimizer, 2)


@each(betas=["zero"])
def test_loads_torchs_own_state_dict_and_goes_on_as_torchs(candidate: Candidate) -> None:
    ours, theirs = Problem(), Problem()
    torchs = candidate.theirs(theirs.params)
    theirs.train(torchs, steps=3)
    ours = theirs.copy()
    optimizer = candidate.ours(ours.params)
    optimizer.load_state_dict(deepcopy(torchs.state_dict()))
    ours.train(optimizer, steps=3)
    theirs.train(torchs, steps=3)
    assert_same(ours.params, theirs.params)


@each()
def test_loads_named_and_nameless_state_dicts(candidate: Candidate) -> None:
    model, x = convolution()
    optimizers = [
        candidate.ours(model.named_parameters() if n else model.parameters())
        for n in named(candidate)
    ]
    train(model, x, optimizers[0], 3)
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    train(model, x, optimizers[1], 1)
    if any(named(candidate)):
        names = optimizers[1].state_dict()["param_groups"][0]["param_names"]
        assert names == ["0.weight", "0.bias", "1.weight", "1.bias"]


@each()
def test_loads_steps_that_are_numbers(candidate: Candidate) -> None:
    problem, same = Problem(), Problem()
    optimizer, plain = candidate.ours(problem.params), candidate.ours(same.params)
    problem.train(optimizer, steps=3)
    same.train(plain, steps=4)
    state_dict = deepcopy(optimizer.state_dict())
    for state in state_dict["state"].values():
        if "step" in state:
            state["step"] = state["step"].item()
    optimizer.load_state_dict(state_dict)
    problem.train(optimizer, steps=1)
    assert_same(problem.params, same.params)


@each()
def test_copies_and_pickles_go_on_as_the_original(candidate: Candidate) -> None:
    problem = Problem()
    optimizer = candidate.ours(problem.params)
    problem.train(optimizer, steps=3)
    copies = [deepcopy((problem, optimizer)), pickle.loads(pickle.dumps((problem, optimizer)))]  # noqa: S301 - our own
    problem.train(optimizer, steps=3)
    for again, copied in copies:
        shown = {name for name in vars(optimizer) if not name.startswith("_")}
        assert shown == {name for name in vars(copied) if not name.startswith("_")}
        again.train(copied, steps=3)
        assert_same(again.params, problem.params, rtol=0, atol=0)


@each(without=["foreach", "fused"])
def test_state_dict_hooks(candidate: Candidate) -> None:
    def before(optimizer: Any) -> None:
        optimizer.state["noted"] = 1

    def after(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        state_dict["had a note"] = state_dict["state"].pop("noted", None) is not None
        return state_dict

    for hooks, noted, had in ((1, True, None), (2, False, False), (3, False, True)):
        optimizer = candidate.ours([torch.ones(2, requires_grad=True)])
        if hooks & 1:
            optimizer.register_state_dict_pre_hook(before)
        if hooks & 2:
            optimizer.register_state_dict_post_hook(after)
        state_dict = optimizer.state_dict()
        assert ("noted" in state_dict["state"]) == noted
        assert state_dict.get("had a note") == had


@each(without=["foreach", "fused"])
def test_load_state_dict_hooks(candidate: Candidate) -> None:
    def in_place(_: Any, state_dict: dict[str, Any]) -> None:
        state_dict["param_groups"][0]["lr"] = 0.002

    def anew(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        changed = deepcopy(state_dict)
        changed["param_groups"][0]["lr"] = 0.003
        return changed

    def after(optimizer: Any) -> None:
        seen.append(float(optimizer.param_groups[0]["lr"]))

    def lr(optimizer: Any) -> float:
        return float(optimizer.param_groups[0]["lr"])

    seen: list[float] = []
    optimizer = candidate.ours([torch.ones(2, requires_grad=True)])
    optimizer.register_load_state_dict_post_hook(after)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.register_load_state_dict_pre_hook(in_place)
    optimizer.load_state_dict(optimizer.state_dict())
    assert lr(optimizer) == pytest.approx(0.002)
    optimizer.register_load_state_dict_pre_hook(anew, prepend=True)
    optimizer.load_state_dict(optimizer.state_dict())
    assert lr(optimizer) == pytest.approx(0.002)  # the first hook is now the last
    alone = candidate.ours([torch.ones(2, requires_grad=True)])
    alone.register_load_state_dict_pre_hook(anew)
    alone.register_load_state_dict_post_hook(after)
    alone.load_state_dict(alone.state_dict())
    start = float(candidate.options.get("lr", 1e-3))
    assert seen == pytest.approx([start, 0.002, 0.002, 0.003])
