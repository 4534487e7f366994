"""The laws that make `Untuned` need no rate."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hypergradient import Untuned
from hypergradient.engine.hypergradients import apply_rule
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.rules import RULES
from untuned_problem import Problem

BASES = ("adam", "sgd")
NUMBERS = tuple(RULES["relative"].memory)


def move_rate(optimizer: Untuned, h: float | Tensor) -> None:
    """Move the rate as a step with this hypergradient does."""
    for group in optimizer.param_groups:
        apply_rule(group, alpha_of(group), h, [group[name] for name in NUMBERS])


@pytest.mark.parametrize("base", BASES)
def test_any_bound_above_the_first_rate_trains_alike(base: str) -> None:
    rates = []
    for lr in (1.0, 1e3, 1e6):
        problem = Problem()
        rates.append(problem.train(Untuned(problem.model.parameters(), lr, base=base), 50))
    assert rates[0] == rates[1] == rates[2]


@pytest.mark.parametrize(("base", "factor"), [("sgd", 1 / 64), ("adam", 1.0)])
def test_a_loss_in_other_units_trains_alike(base: str, factor: float) -> None:
    one, other = Problem(), Problem(scale=64.0)
    rates = one.train(Untuned(one.model.parameters(), 1e9, eps=0, base=base), 200)
    others = other.train(Untuned(other.model.parameters(), 1e9, eps=0, base=base), 200)
    assert others == pytest.approx([factor * rate for rate in rates], rel=1e-9)
    assert one.loss().item() == pytest.approx(other.loss().item() / 64, rel=1e-6)


def test_a_tiny_loss_trains_alike_by_default() -> None:
    one, other = Problem(), Problem(scale=1e-8)
    one.train(Untuned(one.model.parameters()), 200)
    other.train(Untuned(other.model.parameters()), 200)
    assert one.loss().item() == pytest.approx(1e8 * other.loss().item(), rel=0.01)


@pytest.mark.parametrize(("base", "steps"), [("adam", 800), ("sgd", 1600)])
def test_it_trains_from_tiny_rates_as_from_its_own(base: str, steps: int) -> None:
    losses = []
    for lr in (1e-6, 1.0):
        problem = Problem()
        before = problem.loss().item()
        optimizer = Untuned(problem.model.parameters(), lr, base=base)
        problem.train(optimizer, steps)
        optimizer.eval()
        losses.append(problem.loss().item() / before)
    assert max(losses) < min(0.5, 1.5 * min(losses))


@pytest.mark.parametrize("base", BASES)
def test_long_training_does_not_lose_what_was_learnt(base: str) -> None:
    """Where all is learnt every step looks good, and a rate that grew on would kill the network."""
    torch.manual_seed(0)
    x, y = torch.randn(256, 16), torch.randint(0, 4, (256,))
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )
    optimizer = Untuned(model.parameters(), base=base)
    late = []
    for epoch in range(1500):
        for rows in torch.randperm(256).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        if epoch >= 500:
            late.append(loss.item())
    assert max(late) < 0.01


@pytest.mark.parametrize("base", BASES)
def test_it_trains_on_clipped_gradients(base: str) -> None:
    """Clipping bounds every gradient, so the rate has to grow where the descent is plain SGD."""
    problem = Problem()
    before = problem.loss().item()
    optimizer = Untuned(problem.model.parameters(), base=base)

    def clip(*_: object) -> None:
        nn.utils.clip_grad_norm_(problem.model.parameters(), 1e-3)

    optimizer.register_step_pre_hook(clip)
    problem.train(optimizer, 800)
    optimizer.eval()
    assert problem.loss().item() < 0.5 * before


@pytest.mark.parametrize("base", BASES)
def test_a_rate_at_its_floor_comes_back(base: str) -> None:
    problem = Problem()
    optimizer = Untuned(problem.model.parameters(), base=base)
    right = problem.train(optimizer, 200)[-1]
    state = optimizer.param_groups[0]
    state["lr"].mul_(0.01 / state["lr_over_max"].item())
    state["lr_over_max"].fill_(0.01)
    floor = float(state["lr"])
    rates = problem.train(optimizer, 1500, first=200)
    assert floor < 0.02 * right
    assert rates[-1] > 2 * floor


def test_one_huge_gradient_does_not_freeze_the_rate() -> None:
    problem = Problem()
    optimizer = Untuned(problem.model.parameters())
    problem.train(optimizer, 20)
    spread = float(optimizer.param_groups[0]["mean_abs_h"])
    move_rate(optimizer, torch.tensor(1e20))
    assert float(optimizer.param_groups[0]["mean_abs_h"]) < 10 * spread


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_rate_alone(bad: float) -> None:
    problem = Problem()
    optimizer = Untuned(problem.model.parameters())
    rate = problem.train(optimizer, 20)[-1]
    state = copy.deepcopy(optimizer.state_dict()["param_groups"][0])
    for p in problem.model.parameters():
        p.grad = torch.full_like(p, bad)
    optimizer.step()
    after = optimizer.state_dict()["param_groups"][0]
    assert float(after["lr"]) == rate
    assert all(math.isfinite(after[name]) for name in NUMBERS)
    assert after["mean_abs_h"] <= state["mean_abs_h"]


@pytest.mark.parametrize(("lr", "size"), [(1e-300, 1.0), (1.0, 1e30)])
def test_no_first_rate_is_too_small_to_divide_by(lr: float, size: float) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = Untuned([p], lr, base="sgd")
    for _ in range(3):
        p.grad = torch.full((3,), size)
        optimizer.step()
    assert torch.isfinite(optimizer.state[p]["direction_trace"]).all()
    assert float(optimizer.param_groups[0]["lr"]) > 0


def test_gradients_that_are_infinite_on_both_sides_leave_the_rate_alone() -> None:
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = Untuned(params)
    for size in (1.0, 1.0, math.inf):
        rate = float(optimizer.param_groups[0]["lr"])
        for p, sign in zip(params, (1, -1), strict=True):
            p.grad = torch.full((3,), sign * size)
        optimizer.step()
    assert float(optimizer.param_groups[0]["lr"]) == rate


@pytest.mark.parametrize("base", BASES)
def test_a_gradient_of_zeros_from_the_start_changes_nothing(base: str) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = Untuned([p], base=base)
    for _ in range(5):
        p.grad = torch.zeros(3)
        optimizer.step()
    assert p.tolist() == [1.0, 1.0, 1.0]
    assert math.isfinite(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("base", BASES)
def test_a_start_without_gradients_does_not_leave_the_first_rate_unbounded(base: str) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = Untuned([p], base=base)
    optimizer.step()  # none at all
    p.grad = torch.zeros(3)
    optimizer.step()
    assert float(optimizer.param_groups[0]["lr"]) <= 0.01
    p.grad = torch.ones(3)
    optimizer.step()
    assert (p - 1).abs().max() < 0.1


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_the_rate_stays_within_a_factor_of_a_hundred_of_its_largest(
    kind: Callable[[float], float | Tensor],
) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = Untuned([p])
    p.grad = torch.ones(3)
    optimizer.step()
    state = optimizer.param_groups[0]
    for _ in range(50):
        move_rate(optimizer, kind(1.0))
    largest = float(state["lr"])
    state["lr"].mul_(0.012)  # it falls with 1 / sqrt(t), so the way there would be long
    state["lr_over_max"].fill_(0.012)
    for _ in range(300):
        move_rate(optimizer, kind(-1.0))
    assert float(state["lr"]) == pytest.approx(0.01 * largest)
    for _ in range(300):
        move_rate(optimizer, kind(1.0))
    assert float(state["lr"]) > 0.02 * largest


def test_the_rate_falls_no_faster_than_one_over_the_root_of_the_steps() -> None:
    optimizer = Untuned([nn.Parameter(torch.ones(3))], 0.1)
    rates = []
    optimizer.param_groups[0]["rule_age"].fill_(10_000.0)
    for h in (1.0, *[-1.0] * 30_000):
        move_rate(optimizer, h)
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert rates[-1] / rates[1] == pytest.approx(0.5, rel=0.02)


def test_the_rate_warms_up_as_fast_as_the_slope_is_steep() -> None:
    """Along a slope that stays it is nearly 0.15 a step; along one that gets flat it is less."""
    rates = []
    for flatter in (1.0, 0.95):
        p = nn.Parameter(torch.ones(1000))
        optimizer = Untuned([p], base="sgd")
        for t in range(30):
            p.grad = torch.full((1000,), flatter**t)
            optimizer.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert rates[0] > 0.01 * math.exp(0.8 * 0.15 * 29)  # the average lags behind a rate that grows
    assert 0.01 < rates[1] < 0.25 * rates[0]


def test_a_start_that_is_too_small_climbs_to_the_first_rate_it_would_choose() -> None:
    p = nn.Parameter(torch.ones(10_000))
    optimizer = Untuned([p], 1e-5)
    generator = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(60):
        p.grad = 0.1 + torch.randn(10_000, generator=generator)
        optimizer.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    reached = next(t for t, rate in enumerate(rates) if rate >= 0.01)
    assert reached < 50
    assert optimizer.param_groups[0]["climb"] == 1


class Rows(nn.Module):
    """A recurrent network that reads eight rows of eight numbers and names one of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.out = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.rows(x)
        answer: Tensor = self.out(last[0])
        return answer


def test_the_rate_does_not_rise_so_far_that_a_recurrent_network_is_harmed() -> None:
    """A memory of 50 steps at first ends at 0.09 to 0.7, Adam at a rate of 0.03 at 0.001."""
    torch.manual_seed(0)
    classes = torch.randn(30, 8, 8)
    which = torch.randint(30, (1000,))
    x = (0.6 + 0.8 * torch.rand(1000, 1, 1)) * classes[which] + 0.7 * torch.randn(1000, 8, 8)
    model = Rows()
    optimizer = Untuned(model.parameters())
    for t in range(240):
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(t // 16))
        batch = order[t % 16 * 62 : (t % 16 + 1) * 62]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), which[batch] // 3).backward()
        optimizer.step()
    optimizer.eval()
    assert nn.functional.cross_entropy(model(x), which // 3).item() < 0.01
