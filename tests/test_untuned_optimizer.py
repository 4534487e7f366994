"""The laws that make `Untuned` need no rate, and how it behaves as an optimizer."""

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hypergradient import Untuned
from hypergradient.engine.hypergradients import apply_rule
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.rules import RULES

BASES = ("adam", "sgd")
NUMBERS = tuple(RULES["relative"].memory)


def move_rate(optimizer: Untuned, h: float | Tensor) -> None:
    """Move the rate as a step with this hypergradient does."""
    for group in optimizer.param_groups:
        apply_rule(group, alpha_of(group), h, [group[name] for name in NUMBERS])


class Problem:
    """A small network on random data, its losses in float64."""

    def __init__(self, scale: float = 1.0, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.x = torch.randn(256, 8, dtype=torch.float64)
        self.y = torch.sin(self.x @ torch.randn(8, 1, dtype=torch.float64))
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        self.scale = scale

    def loss(self, rows: slice | Tensor = slice(None)) -> Tensor:
        return self.scale * nn.functional.mse_loss(self.model(self.x[rows]), self.y[rows])

    def train(self, optimizer: torch.optim.Optimizer, steps: int, *, first: int = 0) -> list[float]:
        rates = []
        for t in range(first, first + steps):
            order = torch.randperm(256, generator=torch.Generator().manual_seed(t // 8))
            optimizer.zero_grad()
            self.loss(order[t % 8 * 32 : (t % 8 + 1) * 32]).backward()
            optimizer.step()
            rates.append(float(optimizer.param_groups[0]["lr"]))
        return rates


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
    """Along a slope that stays it is nearly 0.2 a step; along one that gets flat it is less."""
    rates = []
    for flatter in (1.0, 0.8):
        p = nn.Parameter(torch.ones(1000))
        optimizer = Untuned([p], base="sgd")
        for t in range(30):
            p.grad = torch.full((1000,), flatter**t)
            optimizer.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert rates[0] > 0.01 * math.exp(0.8 * 0.2 * 29)  # the average lags behind a rate that grows
    assert 0.01 < rates[1] < 0.1 * rates[0]


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


def test_a_skipped_step_of_a_grad_scaler_changes_nothing() -> None:
    """GradScaler does not call `step` where gradients overflow."""
    problem = Problem()
    optimizer = Untuned(problem.model.parameters())
    problem.train(optimizer, 5)
    before = copy.deepcopy(optimizer.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer.zero_grad()
    scaler.scale(problem.loss() * math.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    after = optimizer.state_dict()
    assert after["param_groups"][0]["lr"] == before["param_groups"][0]["lr"]
    assert after["state"][0]["step"] == before["state"][0]["step"]


def test_the_order_of_parameters_does_not_matter() -> None:
    one, other = Problem(), Problem()
    rates = one.train(Untuned(one.model.parameters()), 100)
    others = other.train(Untuned(list(other.model.parameters())[::-1]), 100)
    assert rates == pytest.approx(others, rel=1e-9)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("way", ["saved", "copied"])
def test_training_goes_on_bit_for_bit(base: str, way: str) -> None:
    problem = Problem()
    optimizer = Untuned(problem.model.parameters(), base=base)
    problem.train(optimizer, 30)
    optimizer.eval()
    if way == "saved":
        file = io.BytesIO()
        torch.save((problem.model.state_dict(), optimizer.state_dict()), file)
        file.seek(0)
        model_state, optimizer_state = torch.load(file)
        other = Problem(seed=1)
        other.x, other.y = problem.x, problem.y
        other.model.load_state_dict(model_state)
        again = Untuned(other.model.parameters(), base=base)
        again.load_state_dict(optimizer_state)
    else:
        other, again = copy.deepcopy((problem, optimizer))
    for each in (optimizer, again):
        each.train()
    assert problem.train(optimizer, 30, first=30) == other.train(again, 30, first=30)
    for p, q in zip(problem.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_group_added_later_trains_at_the_rate_of_all() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Untuned([a])
    for p in (a, b):
        p.grad = torch.ones(2)
    optimizer.step()
    optimizer.add_param_group({"params": [b], "weight_decay": 0.1})
    optimizer.step()
    assert float(optimizer.param_groups[1]["lr"]) == float(optimizer.param_groups[0]["lr"])
    assert (b < 1).all()


def test_a_parameter_without_a_gradient_stays() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Untuned([a, b])
    for _ in range(3):
        a.grad = torch.ones(2)
        optimizer.step()
    optimizer.eval()
    assert b.tolist() == [1.0, 1.0]
    assert (a < 1).all()


def test_a_closure_runs_once_with_gradients_and_its_loss_is_returned() -> None:
    problem, calls = Problem(), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        calls.append(loss)
        return loss

    optimizer = Untuned(problem.model.parameters())
    assert optimizer.step(closure) is calls[0]  # type: ignore[arg-type]
    assert len(calls) == 1


def test_sparse_gradients_train() -> None:
    table = nn.Embedding(5, 3, sparse=True)
    dense = nn.Embedding(5, 3, _weight=table.weight.detach().clone())
    optimizers = [Untuned(each.parameters()) for each in (table, dense)]
    for rows in ([0, 1], [1, 4], [2, 2]):
        for each, optimizer in zip((table, dense), optimizers, strict=True):
            optimizer.zero_grad()
            each(torch.tensor(rows)).square().sum().backward()
            optimizer.step()
    assert torch.equal(table.weight, dense.weight)


def test_a_step_in_evaluation_mode_is_refused() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = Untuned([p])
    optimizer.eval()
    p.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match=r"optimizer\.train\(\)"):
        optimizer.step()
    assert p.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"betas": (0.0, 0.999)}, r"betas\[0\]=0.0"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]=1.0"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"weight_decay": math.inf}, "weight_decay=inf"),
        ({"base": "adams"}, "base='adams' is not one of adagrad, adam, lion"),
    ],
)
def test_options_out_of_their_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Untuned([nn.Parameter(torch.ones(1))], **options)  # type: ignore[arg-type]


def test_groups_and_parameters_that_cannot_be_are_refused_and_leave_nothing() -> None:
    optimizer = Untuned([nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=r"lr=0\.0 is not a finite number > 0"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.0})
    tiny = nn.Parameter(torch.ones(1).to(torch.float8_e4m3fn))
    with pytest.raises(ValueError, match=r"bfloat16 or more"):
        optimizer.add_param_group({"params": [tiny]})
    assert len(optimizer.param_groups) == 1


def test_torch_compile_takes_a_whole_training_step() -> None:
    """To what torch counts steps in, which is float32: 1 - 0.999^t is then right to 5e-5."""
    rates = []
    for compiled in (False, True):
        problem = Problem()
        optimizer = Untuned(problem.model.parameters())

        def train(problem: Problem = problem, optimizer: Untuned = optimizer) -> None:
            optimizer.zero_grad()
            problem.loss().backward()
            optimizer.step()

        run = torch.compile(train, backend="aot_eager") if compiled else train
        for _ in range(8):
            run()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    assert rates[1] == pytest.approx(rates[0], rel=1e-4)


def test_groups_share_one_rate_after_loading() -> None:
    """Bit for bit as without saving, and the groups' rates move together."""

    def train(optimizer: Untuned, params: list[nn.Parameter], steps: range) -> list[float]:
        rates = []
        for t in steps:
            noise = torch.Generator().manual_seed(t)
            for p in params:
                p.grad = p.detach() + 0.3 * torch.randn(p.shape, generator=noise)
            optimizer.step()
            first, second = (float(group["lr"]) for group in optimizer.param_groups)
            assert first == second
            rates.append(first)
        return rates

    def build(start: list[Tensor]) -> tuple[Untuned, list[nn.Parameter]]:
        params = [nn.Parameter(t.detach().clone()) for t in start]
        return Untuned([{"params": [p]} for p in params]), params

    optimizer, params = build([torch.ones(2), torch.ones(3)])
    train(optimizer, params, range(60))
    again, copies = build(list(params))
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    more = range(60, 120)
    assert train(again, copies, more) == train(optimizer, params, more)


def test_a_compiled_step_keeps_the_numbers_of_its_groups() -> None:
    """torch 2.13 loses what a graph writes to a 0-dim float64 input, unless through a view."""
    torch.compiler.reset()
    ends = []
    for compiled in (False, True):
        p = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
        optimizer = Untuned([p])
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        for t in range(5):
            p.grad = 2 * p.detach() + 0.1 * t
            step()
        group = optimizer.param_groups[0]
        assert float(group["average_step"]) == 5
        ends.append([float(group[name]) for name in ("lr", "average_weight", *NUMBERS)])
    assert ends[1] == pytest.approx(ends[0], rel=1e-3)


def test_with_closures_the_parameters_hold_the_average_between_steps() -> None:
    """So nobody has to call `train()`; the steps are those of y_t."""
    torch.manual_seed(0)
    x, y = torch.randn(40, 5), torch.randn(40, 1)
    models = [nn.Linear(5, 1) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    switching, closing = (Untuned(model.parameters()) for model in models)
    closing.eval()
    for _ in range(20):

        def closure(model: nn.Module = models[1]) -> float:
            closing.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss  # type: ignore[return-value]  # torch's closures return tensors

        loss = closing.step(closure)
        switching.zero_grad()
        wanted = nn.functional.mse_loss(models[0](x), y)
        wanted.backward()
        switching.step()
        with switching.averaged():
            torch.testing.assert_close([*models[1].parameters()], [*models[0].parameters()])
        torch.testing.assert_close(loss, wanted)
    assert closing.lr_summary() == pytest.approx(switching.lr_summary())


def test_a_closure_that_raises_leaves_the_average_in_the_parameters() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = Untuned([p])
    for _ in range(3):
        p.grad = torch.ones(2)
        optimizer.step()
    optimizer.eval()
    average = p.detach().clone()

    def closure() -> float:
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        optimizer.step(closure)
    torch.testing.assert_close(p.detach(), average)
    assert optimizer.param_groups[0]["training"] is False
