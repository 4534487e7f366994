"""Law: a schedule shapes the rate of `Untuned`, and what it has learned goes on below it.

The rate in use is s_t times the learned one, where s_t is what the same scheduler makes of the rate
of torch's SGD, from the same `lr`. tests/test_untuned_equations.py has the step itself.
"""

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from hypergradient import Untuned
from hypergradient.engine.learning_rate import learned_rate
from test_schedulers import AFFINE, SCHEDULERS, advance

STEPS = 12
FILLS = "_update_param_group_val" in inspect.getsource(
    torch.optim.lr_scheduler.ReduceLROnPlateau._reduce_lr
)
ASSIGNS = "this torch's ReduceLROnPlateau puts a float in the place of the rate: docs/schedulers.md"


class Assigning:
    """A scheduler as timm's are: it puts a float into every group at every step."""

    def __init__(self, optimizer: Optimizer, shape: Callable[[int], float]) -> None:
        self.optimizer, self.shape, self.t = optimizer, shape, -1
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.step()

    def step(self) -> None:
        self.t += 1
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["initial_lr"]) * self.shape(self.t)


def warm_up_and_decay(t: int) -> float:
    """Return Hugging Face's default linear shape: from 0 up to 1, and down to 0."""
    return min(t / 4, (STEPS - 1 - t) / (STEPS - 5))


SHAPES: dict[str, Callable[[Any], Any]] = {
    **SCHEDULERS,
    "warm-up from 0 and decay to 0": lambda o: torch.optim.lr_scheduler.LambdaLR(
        o, warm_up_and_decay
    ),
    "cosine to 0 and back": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=4),
    "assigned floats": lambda o: Assigning(o, warm_up_and_decay),
}


def problem() -> tuple[nn.Module, Callable[[], None]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x = torch.randn(64, 4, dtype=torch.float64)
    y = torch.sin(x.sum(1, keepdim=True))

    def backward() -> None:
        model.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()

    return model, backward


def train(optimizer: Optimizer, scheduler: Any, backward: Callable[[], None]) -> list[float]:
    """Return the rates in use."""
    used = []
    for _ in range(STEPS):
        backward()
        optimizer.step()
        used.append(float(optimizer.param_groups[0]["lr"]))
        advance(scheduler)
    return used


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in AFFINE])
def test_the_rate_in_use_is_the_schedule_times_the_learned_one(name: str) -> None:
    """At `hypergrad_lr=0` the learned rate is the first one, which no schedule changes."""
    if "Plateau" in name and not FILLS:
        pytest.skip(ASSIGNS)
    model, backward = problem()
    first = Untuned(model.parameters(), hypergrad_lr=0.0)
    backward()
    first.step()
    rate = float(first.param_groups[0]["lr"])

    model, backward = problem()
    optimizer = Untuned(model.parameters(), hypergrad_lr=0.0)
    used = train(optimizer, SHAPES[name](optimizer), backward)
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    shape = train(sgd, SHAPES[name](sgd), lambda: None)
    assert used == pytest.approx([rate * s for s in shape], rel=1e-6, abs=1e-12)
    assert len(set(shape)) > 1


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in AFFINE])
def test_no_schedule_changes_what_was_learned(name: str) -> None:
    model, backward = problem()
    optimizer = Untuned(model.parameters())
    scheduler, group = SHAPES[name](optimizer), optimizer.param_groups[0]
    for _ in range(STEPS):
        backward()
        optimizer.step()
        before = float(learned_rate(group, float(group["lr"])))
        advance(scheduler)
        optimizer._take_writes()
        assert float(learned_rate(group, float(group["lr"]))) == pytest.approx(before, rel=1e-6)
    optimizer.eval()
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_schedule_of_ones_changes_nothing() -> None:
    ends = []
    for make in (None, lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda _: 1.0)):
        model, backward = problem()
        optimizer = Untuned(model.parameters())
        rates = train(optimizer, make(optimizer) if make else [], backward)
        ends.append((rates, [p.tolist() for p in model.parameters()]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["OneCycleLR", "LambdaLR", "StepLR", "assigned floats"])
def test_a_schedule_may_begin_in_mid_training(name: str) -> None:
    """Some schedulers change `initial_lr`, which must not change what was learned."""
    model, backward = problem()
    optimizer = Untuned(model.parameters())
    group = optimizer.param_groups[0]
    learned = train(optimizer, [], backward)[-1]
    scheduler = SHAPES[name](optimizer)
    optimizer._take_writes()
    assert float(learned_rate(group, float(group["lr"]))) == pytest.approx(learned, rel=1e-9)
    train(optimizer, scheduler, backward)
    assert 0.1 * learned < float(learned_rate(group, float(group["lr"]))) < 100 * learned


@pytest.mark.parametrize("name", ["OneCycleLR", "CosineAnnealingLR", "LambdaLR"])
def test_saved_and_loaded_in_mid_schedule_it_goes_on(name: str) -> None:
    model, backward = problem()
    optimizer = Untuned(model.parameters())
    scheduler = SHAPES[name](optimizer)
    train(optimizer, scheduler, backward)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    again, its_backward = problem()
    resumed = Untuned(again.parameters())
    its_scheduler = SHAPES[name](resumed)
    for each, state in zip((again, resumed, its_scheduler), saved, strict=True):
        each.load_state_dict(state)
    for _ in range(2):
        for o, s, b in ((optimizer, scheduler, backward), (resumed, its_scheduler, its_backward)):
            b()
            o.step()
            s.step()
    assert float(resumed.param_groups[0]["lr"]) == float(optimizer.param_groups[0]["lr"])


@pytest.mark.skipif(not FILLS, reason=ASSIGNS)
def test_a_plateau_lowers_the_rate_and_keeps_what_was_learned() -> None:
    model, backward = problem()
    optimizer = Untuned(model.parameters())
    group = optimizer.param_groups[0]
    learned = train(optimizer, [], backward)[-1]
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    for loss in (1.0, 2.0):
        plateau.step(loss)
    assert float(group["lr"]) == pytest.approx(0.1 * learned)
    assert float(learned_rate(group, float(group["lr"]))) == pytest.approx(learned)


def test_a_sweep_of_rates_as_a_learning_rate_finder_makes_is_one_of_factors() -> None:
    """Lightning's `lr_find` first writes its lowest rate as the initial one, then a schedule."""
    model, backward = problem()
    optimizer = Untuned(model.parameters())
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 1e-8
    sweep = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1e8 ** (t / STEPS))
    used = train(optimizer, sweep, backward)
    assert used == sorted(used)
    assert used[-1] < 1.0
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_rate_computed_from_the_one_in_use_is_the_rate() -> None:
    model, backward = problem()
    optimizer = Untuned(model.parameters(), hypergrad_lr=0.0)
    rate = train(optimizer, [], backward)[-1]
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] * 0.5
    backward()
    optimizer.step()
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.5 * rate)


def classify(schedule: Callable[[Any], Any] | None) -> float:
    """Return the final loss of the average on a small classification problem."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, 16, generator=generator)
    y = (x @ torch.randn(16, 10, generator=generator)).argmax(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = Untuned(model.parameters())
    scheduler = schedule(optimizer) if schedule else None
    for _ in range(400):
        rows = torch.randint(0, 512, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    optimizer.eval()
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x), y).item()


@pytest.mark.parametrize(
    "shape",
    [
        lambda t: min(1.0, (t + 1) / 50),
        lambda t: max(0.0, 1 - t / 400),
        lambda t: min(t / 40, max(0.0, (400 - t) / 360)),
        lambda t: 0.5 * (1 + math.cos(math.pi * t / 400)),
    ],
    ids=["warm-up", "linear decay", "warm-up from 0 and linear decay", "cosine"],
)
def test_a_network_trains_under_a_schedule(shape: Callable[[int], float]) -> None:
    """A rate of 1.0, which a scheduler once set, ended at a loss of 0.88."""
    assert classify(lambda o: torch.optim.lr_scheduler.LambdaLR(o, shape)) < 0.01
