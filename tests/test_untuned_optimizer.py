"""How `Untuned` behaves as an optimizer: in loops, in groups, saved, compiled, with closures."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn

from hypergradient import Untuned
from hypergradient.engine.rules import RULES
from untuned_problem import Problem

BASES = ("adam", "sgd")
NUMBERS = tuple(RULES["relative"].memory)


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
        ({"base": "adams"}, "base='adams' is not one of adafactor, adagrad, adam, lion"),
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
