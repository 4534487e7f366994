"""States that another optimizer has saved are taken over, or refused with nothing loaded."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, Untuned

Make = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01),
    "SGD with momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-3),
    "SGDHD": lambda p: SGDHD(p, 0.01),
    "AdamHD": lambda p: AdamHD(p, 1e-3),
    "AdamWHD": lambda p: AdamWHD(p, 1e-3),
    "Lion": lambda p: Hypergradient(p, "lion", 1e-3),
    "Untuned": Untuned,
    "Untuned SGD": lambda p: Untuned(p, base="sgd"),
}
TAKES = {
    "SGDHD": {"SGD", "SGD with momentum"},
    "AdamHD": {"Adam", "AdamW"},
    "AdamWHD": {"Adam", "AdamW"},
    "Lion": set(),
    "Untuned": {"Adam", "AdamW", "AdamHD", "AdamWHD"},
    "Untuned SGD": set(),
}


def trained(name: str, steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1), torch.randn(16, 4)
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, x, steps)
    return model, optimizer, x


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()


def numbers(x: Any) -> Any:
    """Return a state dict with lists for its tensors, to be compared."""
    if isinstance(x, Tensor):
        return x.tolist()
    if isinstance(x, dict):
        return {key: numbers(value) for key, value in x.items()}
    return [numbers(each) for each in x] if isinstance(x, list) else x


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (target, source)
        for target, takes in TAKES.items()
        for source in OPTIMIZERS
        if source != target and source not in takes
    ],
)
def test_what_is_of_no_use_is_refused_and_nothing_is_loaded(target: str, source: str) -> None:
    _, foreign, _ = trained(source)
    model, optimizer, x = trained(target)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"Load it into an optimizer of the class that saved it"):
        optimizer.load_state_dict(foreign.state_dict())
    assert numbers(optimizer.state_dict()) == numbers(before)
    other, undisturbed, _ = trained(target)
    train(model, optimizer, x, 2)
    train(other, undisturbed, x, 2)
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize(
    ("target", "source"),
    [(target, source) for target, takes in TAKES.items() for source in sorted(takes)],
)
def test_what_is_of_use_is_taken_over(target: str, source: str) -> None:
    model, foreign, x = trained(source)
    optimizer = OPTIMIZERS[target](model.parameters())
    weights = model.weight.detach().clone()
    optimizer.load_state_dict(foreign.state_dict())
    assert torch.equal(model.weight, weights)
    theirs, ours = foreign.state[model.weight], optimizer.state[model.weight]
    for name in ("step", "exp_avg_sq", "momentum_buffer"):
        if name in theirs:
            assert torch.equal(theirs[name], ours[name])
    before = (model(x) - 1).square().mean().item()
    train(model, optimizer, x, 100)
    assert (model(x) - 1).square().mean().item() < before


def test_the_average_begins_where_adam_left_the_parameters() -> None:
    model, foreign, x = trained("AdamW", 50)
    optimizer = Untuned(model.parameters(), weight_decay=0.1)
    train(model, optimizer, x, 5)  # also if it has trained before
    optimizer.load_state_dict(foreign.state_dict())
    group, state = optimizer.param_groups[0], optimizer.state[model.weight]
    assert torch.equal(state["z"], model.weight)
    assert not state["direction_trace"].any()
    assert state["step"].item() == 50
    assert (group["weight_decay"], float(group["lr"])) == (0.1, 1.0)
    assert float(group["average_step"]) == 0
    train(model, optimizer, x, 1)
    assert float(group["lr"]) < 0.1


def test_a_state_of_untuned_from_an_earlier_version_is_refused() -> None:
    model, optimizer, _ = trained("Untuned")
    old = copy.deepcopy(optimizer.state_dict())
    for group in old["param_groups"]:
        del group["base"], group["interpolation"]
    for state in old["state"].values():
        state["directions"] = -state.pop("direction_trace")
    with pytest.raises(ValueError, match="an earlier version"):
        Untuned(model.parameters()).load_state_dict(old)


def test_another_number_of_groups_is_refused_as_torch_refuses_it() -> None:
    model, foreign, _ = trained("AdamW")
    groups = [{"params": [p]} for p in model.parameters()]
    for optimizer in (Untuned(groups), AdamHD(groups)):
        with pytest.raises(ValueError, match="different number of parameter groups"):
            optimizer.load_state_dict(foreign.state_dict())
