"""The average of `Untuned`: seen, saved, and kept in a set that weights are put back into."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from hypergradient import Untuned


class Regression:
    """A small network on random data, and its loss."""

    def __init__(self, **options: object) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(512, 20)
        self.y = torch.sin(self.x[:, :1] + self.x[:, 1:2])
        self.model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
        self.optimizer = Untuned(self.model.parameters(), **options)

    def loss(self) -> float:
        with torch.no_grad():
            return nn.functional.mse_loss(self.model(self.x), self.y).item()

    def train(self, steps: int, after: Callable[[], object] = lambda: None) -> None:
        for _ in range(steps):
            rows = torch.randint(0, 512, (32,))
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(self.x[rows]), self.y[rows]).backward()
            self.optimizer.step()
            after()


def average_of(optimizer: Untuned, p: Tensor) -> Tensor:
    """Return x from y and z by the equation y = (1 - b) z + b x."""
    b = optimizer.param_groups[0]["interpolation"]
    return (p.detach() - (1 - b) * optimizer.state[p]["z"]) / b


def test_a_model_saved_in_the_block_is_the_average_and_training_goes_on() -> None:
    run = Regression()
    run.train(50)
    weight = run.model[0].weight
    y, x = weight.detach().clone(), average_of(run.optimizer, weight)
    with run.optimizer.averaged():
        saved = copy.deepcopy(run.model.state_dict())
        with run.optimizer.averaged():  # in evaluation mode it stays there
            pass
        assert torch.equal(weight, saved["0.weight"])
    assert torch.allclose(saved["0.weight"], x, atol=1e-6)
    assert not torch.allclose(saved["0.weight"], y, atol=1e-4)
    assert torch.allclose(weight, y, atol=1e-6)
    run.train(5)


def test_an_error_in_the_block_leaves_the_optimizer_training() -> None:
    run = Regression()
    run.train(3)
    with pytest.raises(ZeroDivisionError), run.optimizer.averaged():
        raise ZeroDivisionError
    run.train(1)


def test_batch_norms_see_the_average_by_torchs_own_helper() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 8) + 1
    y = torch.sin(x[:, :1])
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = Untuned(model.parameters())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 32, shuffle=True)
    for _ in range(30):
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
    with optimizer.averaged():
        update_bn(loader, model)
        hidden = model[0](x)
        assert torch.allclose(model[1].running_mean, hidden.mean(0), rtol=1e-3, atol=1e-3)
        model.eval()
        assert nn.functional.mse_loss(model(x), y).item() < 0.1


def test_weights_that_are_clamped_after_each_step_are_so_in_the_average() -> None:
    """Non-negative least squares, whose answer is (2, 1, 0, 0)."""
    torch.manual_seed(0)
    x = torch.randn(512, 4)
    y = x @ torch.tensor([2.0, 1.0, -1.0, 0.0])
    w = nn.Parameter(0.1 * torch.rand(4))
    optimizer = Untuned([w])
    for _ in range(600):
        optimizer.zero_grad()
        ((x @ w - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.project(lambda: w.clamp_(min=0))
    assert (w >= 0).all()
    assert float(optimizer.param_groups[0]["lr"]) < 1
    optimizer.eval()
    assert (w >= 0).all()
    assert ((x @ w - y) ** 2).mean() < 1.2


def test_weights_that_are_masked_after_each_step_stay_so_in_the_average() -> None:
    run = Regression()
    weight = run.model[0].weight
    mask = torch.rand(64, 20) < 0.2
    run.train(600, lambda: run.optimizer.project(lambda: weight.mul_(mask)))
    run.optimizer.eval()
    assert not weight[~mask].any()
    assert run.loss() < 0.3


def test_a_projection_that_changes_nothing_changes_nothing_but_rounding() -> None:
    ends = []
    for after in (lambda _: None, lambda optimizer: optimizer.project(lambda: None)):
        run = Regression()
        run.model.double()
        run.x, run.y = run.x.double(), run.y.double()
        run.train(30, lambda run=run, after=after: after(run.optimizer))
        ends.append(run.model[0].weight.detach())
    assert torch.allclose(*ends, rtol=1e-9, atol=1e-9)


def test_a_weight_that_is_held_has_no_part_in_the_hypergradient() -> None:
    w, held = nn.Parameter(torch.ones(2)), torch.ones(2)
    optimizer = Untuned([w])
    for t in range(5):
        w.grad = torch.tensor([1.0, 1.0 + t])
        optimizer.step()
        optimizer.project(lambda: w[1:].copy_(held[1:]))
    trace = optimizer.state[w]["direction_trace"]
    assert trace[0] > 1
    assert trace[1] == 0
    optimizer.eval()
    assert w[1] == 1


def test_a_foreign_write_is_noticed_once() -> None:
    run = Regression()
    with pytest.warns(UserWarning, match=r"optimizer\.project") as caught:
        run.train(150, lambda: run.model[0].weight.detach().clamp_(-1, 1))
    assert len(caught) == 1


def test_nobody_is_warned_of_evaluation_loading_and_projection() -> None:
    run = Regression()

    def harmless() -> None:
        with run.optimizer.averaged():
            run.loss()
        run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
        run.optimizer.project(lambda: run.model[0].weight.clamp_(-9, 9))

    run.train(12, harmless)
