"""Momentum, betas and weight decay move by minus the derivative of the loss, says autograd.

The twin makes one step again from what the optimizer held before it, with the option as a leaf of
autograd and the formulas of the papers.
"""

import copy
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, Untuned
from hypergradient.engine.hyperparameters import move_hyperparameters

pytestmark = pytest.mark.usefixtures("float64")

KAPPA = 0.05
STEPS = 6
Step = Callable[[Tensor, Tensor, dict[str, Tensor], dict[str, Any], float], Tensor]


def loss(x: Tensor) -> Tensor:
    i = torch.arange(1, x.numel() + 1, dtype=x.dtype)
    return torch.cos(torch.sin(torch.outer(i, i)) @ x).sum() + 0.05 * (x**4).sum()


def sgd(x: Tensor, g: Tensor, state: dict[str, Tensor], o: dict[str, Any], _t: float) -> Tensor:
    decay, decoupled = o["weight_decay"], o["decoupled_weight_decay"]
    g = g if decoupled else g + decay * x
    mu = o["momentum"]
    if isinstance(mu, float) and mu == 0:
        u = g
    else:
        b = mu * state["momentum_buffer"] + (1 - o["dampening"]) * g
        if not bool(state["momentum_buffer"].any()):
            b = mu * state["momentum_buffer"] + g
        u = g + mu * b if o["nesterov"] else b
    return u + decay * x if decoupled else u


def classical(
    _x: Tensor, g: Tensor, state: dict[str, Tensor], o: dict[str, Any], _t: float
) -> Tensor:
    """The move over the rate, which is inside the velocity."""
    v = o["momentum"] * state["momentum_buffer"] + o["lr"] * g
    return v / o["lr"] if not o["nesterov"] else g + o["momentum"] * v / o["lr"]


def adam(x: Tensor, g: Tensor, state: dict[str, Tensor], o: dict[str, Any], t: float) -> Tensor:
    beta1, beta2 = o["beta1"], o["beta2"]
    decay, decoupled = o["weight_decay"], o["decoupled_weight_decay"]
    g = g if decoupled else g + decay * x
    m = beta1 * state["exp_avg"] + (1 - beta1) * g
    v = beta2 * state["exp_avg_sq"] + (1 - beta2) * g**2
    u: Tensor = m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + o["eps"])
    return u + decay * x if decoupled else u


BETAS = ("beta1", "beta2")
L2 = {"weight_decay": 0.1}
MOMENTUM = {"momentum": 0.7}
NESTEROV = {"momentum": 0.7, "nesterov": True}
DECOUPLED = {"base": "sgd", "weight_decay": 0.1, "decoupled_weight_decay": True}
CASES: dict[str, tuple[Any, dict[str, Any], tuple[str, ...], Step]] = {
    "momentum": (SGDHD, MOMENTUM, ("momentum",), sgd),
    "momentum-l2": (SGDHD, MOMENTUM | L2, ("momentum",), sgd),
    "momentum-maximize": (SGDHD, MOMENTUM | {"maximize": True}, ("momentum",), sgd),
    "dampening": (SGDHD, MOMENTUM | {"dampening": 0.3}, ("momentum",), sgd),
    "nesterov": (SGDHD, NESTEROV, ("momentum",), sgd),
    "nesterov-l2": (SGDHD, NESTEROV | L2, ("momentum",), sgd),
    "classical": (SGDHD, MOMENTUM | {"classical": True}, ("momentum",), classical),
    "classical-nesterov": (SGDHD, NESTEROV | {"classical": True}, ("momentum",), classical),
    "sgd-l2": (SGDHD, L2, ("weight_decay",), sgd),
    "sgd-decoupled": (Hypergradient, DECOUPLED, ("weight_decay",), sgd),
    "both": (Hypergradient, DECOUPLED | MOMENTUM, ("momentum", "weight_decay"), sgd),
    "nesterov-both": (Hypergradient, DECOUPLED | NESTEROV, ("momentum", "weight_decay"), sgd),
    "adam": (AdamHD, {}, BETAS, adam),
    "adam-short": (AdamHD, {"betas": (0.5, 0.8), "eps": 1e-3}, BETAS, adam),
    "adam-l2": (AdamHD, {"betas": (0.5, 0.8)} | L2, BETAS, adam),
    "adam-gradient": (AdamHD, {"product": "gradient"}, BETAS, adam),
    "adamw": (AdamWHD, {"weight_decay": 0.3}, (*BETAS, "weight_decay"), adam),
    "named-adam": (Hypergradient, {"base": "adam"}, BETAS, adam),
    "own-state": (
        Hypergradient,
        {"base": "rmsprop", "weight_decay": 0.2, "decoupled_weight_decay": True},
        ("weight_decay",),
        lambda x, _g, state, o, _t: state["direction"] + o["weight_decay"] * x,
    ),
}


def options_of(group: dict[str, Any]) -> dict[str, Any]:
    """The options of a group, with betas apart."""
    return {**group, **dict(zip(BETAS, group.get("betas", ()), strict=False))}


def free(name: str, value: float) -> float:
    """The number that an option moves in."""
    return math.log(value) if name == "weight_decay" else math.log(value / (1 - value)) / 2


def slope_of(
    step: Step, before: dict[str, Any], names: tuple[str, ...], groups: list[int]
) -> list[float]:
    """d loss / d z of each option after one step, summed over the groups that share it."""
    zs = {
        name: torch.zeros((), dtype=torch.float64, requires_grad=True) for name in names
    }  # a shift of z that the groups share
    moved = []
    for i, (x, g, state, o, t) in enumerate(before["groups"]):
        own = dict(o)
        for name, shift in zs.items():
            if i in groups:
                z = free(name, o[name]) + shift
                own[name] = z.exp() if name == "weight_decay" else (z.tanh() + 1) / 2
        sign = -1 if o["maximize"] else 1
        moved.append(x - float(o["lr"]) * step(x, sign * g, state, own, t))
    objective = loss(torch.cat(moved))
    if before["groups"][0][3]["maximize"]:
        objective = -objective
    for x, o in zip(moved, (each[3] for each in before["groups"]), strict=True):
        if not o["decoupled_weight_decay"]:  # of the same decay lambda, held fixed
            objective = objective + o["weight_decay"] / 2 * (x**2).sum()
    slopes = torch.autograd.grad(objective, list(zs.values()), allow_unused=True)
    return [0.0 if s is None else float(s) for s in slopes]


@pytest.mark.parametrize("granularity", ["group", "global"])
@pytest.mark.parametrize("case", CASES)
def test_an_option_moves_by_minus_the_derivative(case: str, granularity: str) -> None:
    kind, options, names, step = CASES[case]
    params = [torch.tensor([0.7, -0.4, 1.1]), torch.tensor([-0.9, 0.3])]
    for p in params:
        p.requires_grad_()
    optimizer = kind(
        [{"params": [params[0]], "lr": 0.05}, {"params": [params[1]], "lr": 0.03}],
        hypergrad_lr=1e-4,
        granularity=granularity,
        learn=dict.fromkeys(names, KAPPA),
        **options,
    )
    shared = [[0, 1], [0, 1]] if granularity == "global" else [[0], [1]]
    slopes = [[0.0] * len(names)] * 2
    moved = False
    for t in range(1, STEPS + 1):
        optimizer.zero_grad()
        torch.autograd.backward(loss(torch.cat(params)))
        starts = [options_of(group) for group in optimizer.param_groups]
        before: dict[str, Any] = {"groups": []}
        for p in params:
            state = {name: value.clone() for name, value in optimizer.state[p].items()}
            for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
                state.setdefault(name, torch.zeros_like(p))
            assert p.grad is not None
            before["groups"].append([p.detach().clone(), p.grad.clone(), state, None, t])
        optimizer.step()
        for i, group in enumerate(optimizer.param_groups):
            now = options_of(group)
            for name, slope in zip(names, slopes[i], strict=True):
                expected = free(name, starts[i][name]) - KAPPA * slope
                assert free(name, now[name]) == pytest.approx(expected, rel=1e-11, abs=1e-12)
                moved |= now[name] != starts[i][name]
            before["groups"][i][3] = {**now, "lr": float(group["lr"])}
            if case == "own-state":  # its direction without the decay of this step
                p = params[i]
                u = (before["groups"][i][0] - p.detach()) / float(group["lr"])
                decay = now["weight_decay"] * before["groups"][i][0]
                before["groups"][i][2]["direction"] = u - decay
        slopes = [slope_of(step, before, names, groups) for groups in shared]
    assert moved
    assert min(abs(s) for each in slopes for s in each) > 0, "a derivative of 0 shows nothing"


def train(optimizer: Any, params: list[Tensor], steps: int = STEPS) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss(torch.cat([p.flatten() for p in params])))
        optimizer.step()


MAKERS: dict[str, Callable[..., Any]] = {
    "momentum": lambda params, **o: SGDHD(
        params, 0.05, momentum=0.7, **{"learn": {"momentum": KAPPA}, **o}
    ),
    "nesterov": lambda params, **o: SGDHD(
        params, 0.05, momentum=0.7, nesterov=True, **{"learn": {"momentum": KAPPA}, **o}
    ),
    "classical": lambda params, **o: SGDHD(
        params,
        0.05,
        momentum=0.7,
        classical=True,
        **{"learn": {"momentum": KAPPA}, "granularity": "element", **o},
    ),
    "adam": lambda params, **o: AdamHD(params, 0.05, **{"learn": {"betas": KAPPA}, **o}),
    "adamw": lambda params, **o: AdamWHD(
        params, 0.05, **{"learn": {"betas": KAPPA, "weight_decay": (KAPPA, 1e-2)}, **o}
    ),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *product(MAKERS, ["additive", "multiplicative", "adam"]),
        ("momentum", "hdm"),
        ("nesterov", "hdm"),
        ("classical", "hdm"),
    ],
)
def test_what_was_learned_is_saved_loaded_and_copied(
    name: str, rule: str, dtype: torch.dtype
) -> None:
    params = [torch.tensor([0.7, -0.4, 1.1], dtype=dtype, requires_grad=True)]
    optimizer = MAKERS[name](params, rule=rule, hypergrad_lr=1e-4)
    fresh = options_of(optimizer.param_groups[0])
    train(optimizer, params)
    learned = options_of(optimizer.param_groups[0])
    assert any(learned[each] != fresh[each] for each in ("momentum", *BETAS) if each in fresh)

    others = []
    for saves in (False, True):
        own = [p.detach().clone().requires_grad_() for p in params]
        other = MAKERS[name](own, rule=rule, hypergrad_lr=1e-4)
        if saves:
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        else:
            other, own = copy.deepcopy((optimizer, params))
        others.append((other, own))
    train(optimizer, params)
    for other, own in others:
        train(other, own)
        assert torch.equal(params[0], own[0])
        for mine, theirs in zip(optimizer.param_groups, other.param_groups, strict=True):
            assert {k: v for k, v in mine.items() if k not in ("params", "lr")}.keys() == {
                k: v for k, v in theirs.items() if k not in ("params", "lr")
            }.keys()
            for key in ("momentum", "betas", "weight_decay"):
                assert mine.get(key) == theirs.get(key)


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_size_of_zero_is_the_optimizer_without(name: str) -> None:
    ends = []
    for learn in (
        {},
        dict.fromkeys(["betas" if "adam" in name else "momentum"], 0.0),
    ):
        params = [torch.tensor([0.7, -0.4, 1.1], requires_grad=True)]
        train(MAKERS[name](params, learn=learn, hypergrad_lr=1e-4), params)
        ends.append(params[0].detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=0)


def test_it_goes_on_from_a_state_of_torch() -> None:
    """That has no gradient of the step before: the betas stay for one step."""
    params = [torch.tensor([0.7, -0.4, 1.1], requires_grad=True)]
    theirs = torch.optim.Adam(params, 0.05)
    train(theirs, params, 3)
    ours = AdamHD(params, 0.05)
    ours.load_state_dict(theirs.state_dict())
    ours.param_groups[0]["learn"] = {"betas": KAPPA}
    train(ours, params, 1)
    assert ours.param_groups[0]["betas"] == (0.9, 0.999)
    train(ours, params, 1)
    assert ours.param_groups[0]["betas"] != (0.9, 0.999)


def test_shares_stay_between_zero_and_one() -> None:
    params = [torch.tensor([0.7, -0.4, 1.1], requires_grad=True)]
    optimizer = SGDHD(params, 0.05, momentum=0.7, learn={"momentum": 1e9})
    for _ in range(STEPS):
        train(optimizer, params, 1)
        assert 0 < optimizer.param_groups[0]["momentum"] < 1


def test_a_schedule_of_the_rate_composes_and_one_of_the_momentum_is_refused() -> None:
    params = [torch.tensor([0.7, -0.4, 1.1], requires_grad=True)]
    optimizer = SGDHD(params, 0.05, momentum=0.7, learn={"momentum": KAPPA})
    scheduler = StepLR(optimizer, 2)
    for _ in range(4):
        train(optimizer, params, 1)
        scheduler.step()
    assert optimizer.param_groups[0]["momentum"] != 0.7
    OneCycleLR(optimizer, 0.1, total_steps=10)
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        train(optimizer, params, 1)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SGDHD, {"learn": ["momentum"]}, "is no mapping from names to step sizes"),
        (SGDHD, {"learn": {"momentum": 1e-3}}, "'momentum' cannot learn with the base 'sgd'"),
        (SGDHD, {"learn": {"betas": 1e-3}}, "'beta1' cannot learn with the base 'sgd'"),
        (
            SGDHD,
            {"learn": {"weight_decay": 1e-3}, "momentum": 0.9, "classical": True},
            "only momentum",
        ),
        (AdamHD, {"learn": {"betas": 1e-3}, "amsgrad": True}, "'beta1' cannot learn"),
        (AdamHD, {"learn": {"betas": -1.0}}, r"learn\['beta1'\]=-1.0 is not a finite number"),
        (AdamHD, {"learn": {"beta1": 1.0}, "betas": (0.0, 0.9)}, "beta1 starts at 0.0"),
        (AdamHD, {"learn": {"weight_decay": 1.0}, "weight_decay": 0.1}, "only beta1, beta2"),
        (AdamWHD, {"learn": {"weight_decay": 1.0}, "weight_decay": 0.0}, "weight_decay starts at"),
        (AdamHD, {"learn": {"betas": 1e-3}, "granularity": "tensor"}, "'global' or 'group'"),
        (AdamHD, {"learn": {"betas": 1e-3}, "rule": "hdm"}, "rule='additive' or"),
        (SGDHD, {"learn": {"momentum": 1.0}, "granularity": "tensor"} | MOMENTUM, "'group', or"),
        (AdamHD, {"learn": {"betas": 1e-3}, "differentiable": True}, "differentiable=False"),
    ],
)
def test_what_cannot_learn_is_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind([torch.zeros(2, requires_grad=True)], **options)


def test_parameters_spread_over_processes_are_refused() -> None:
    params = [torch.tensor([0.7], requires_grad=True)]
    optimizer = SGDHD(params, 0.05, momentum=0.7, learn={"momentum": KAPPA})
    with pytest.raises(ValueError, match="with parameters spread over processes"):
        move_hyperparameters(optimizer, alone=False)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    params = [torch.tensor([0.7, -0.4, 1.1], requires_grad=True)]
    optimizer = SGDHD(params, 0.05, momentum=0.7, learn={"momentum": KAPPA}, rule="adam")
    train(optimizer, params, 3)
    (group,) = optimizer.param_groups
    before = {name: value for name, value in group.items() if name.startswith("momentum")}
    params[0].grad = torch.tensor([1.0, math.nan, 1.0])
    optimizer.step()
    assert before == {name: value for name, value in group.items() if name.startswith("momentum")}


@pytest.mark.parametrize("pause", [1, 3])
def test_a_parameter_without_a_gradient_has_no_part(pause: int) -> None:
    """What is kept for it is of its own last step."""
    ends = []
    for alone in (False, True):
        params = [torch.tensor([0.7, -0.4, 1.1], requires_grad=True)]
        other = torch.tensor([1.0, 2.0], requires_grad=True)
        groups = params if alone else [*params, other]
        optimizer = AdamHD(groups, 0.05, hypergrad_lr=0.0, learn={"betas": KAPPA})
        for _ in range(pause + 2):
            train(optimizer, params, 1)
        ends.append((params[0].detach(), optimizer.param_groups[0]["betas"]))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_untuned_learns_its_rate_alone() -> None:
    params = [torch.tensor([0.7], requires_grad=True)]
    with pytest.raises(ValueError, match="rule='additive' or"):
        Untuned([{"params": params, "learn": {"beta2": 1e-3}}])
