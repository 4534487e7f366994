"""Groups: `lr` is a factor on one learned rate, groups come later or are empty, or learn alone."""

from typing import Any

import pytest
import torch
from torch import nn

from hypergradient import SGDHD, AdamHD, Untuned


class Two:
    """A body and a head, and their loss."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 1)
        self.x = torch.randn(64, 4)
        self.y = self.x.sum(1, keepdim=True)

    def loss(self) -> torch.Tensor:
        return nn.functional.mse_loss(self.head(torch.tanh(self.body(self.x))), self.y)

    def train(self, optimizer: torch.optim.Optimizer, steps: int) -> list[list[float]]:
        """Return the rates of the groups after each step."""
        rates = []
        for _ in range(steps):
            optimizer.zero_grad()
            self.loss().backward()
            optimizer.step()
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
        return rates


@pytest.mark.parametrize("factor", [0.1, 1.0, 16.0])
def test_the_rate_of_a_group_is_a_factor_on_one_learned_rate(factor: float) -> None:
    """LoRA+'s ratio of 16, a backbone's tenth, layer-wise decay: all are factors."""
    two = Two()
    groups = [
        {"params": two.body.parameters(), "lr": factor},
        {"params": two.head.parameters()},
    ]
    optimizer = Untuned(groups)
    rates = two.train(optimizer, 40)
    assert all(body == pytest.approx(factor * head, rel=1e-9) for body, head in rates)
    assert len({head for _, head in rates}) > 20


def test_the_factors_are_relative_to_the_rate_of_the_optimizer() -> None:
    one, other = Two(), Two()
    ratio = [1e-4, 1e-3]
    optimizers = [
        Untuned(
            [
                {"params": two.body.parameters(), "lr": lr * ratio[0]},
                {"params": two.head.parameters(), "lr": lr * ratio[1]},
            ],
            lr=lr * ratio[1],
        )
        for two, lr in ((one, 1.0), (other, 1e3))
    ]
    for two, optimizer in zip((one, other), optimizers, strict=True):
        for body, head in two.train(optimizer, 10):
            assert body == pytest.approx(0.1 * head, rel=1e-9)


@pytest.mark.parametrize("kind", [SGDHD, AdamHD, Untuned])
def test_a_group_may_come_in_mid_training_at_a_tenth_of_the_rate_in_use(kind: type[Any]) -> None:
    """So Lightning's BackboneFinetuning adds it."""
    two = Two()
    optimizer = kind(two.head.parameters())
    two.train(optimizer, 5)
    before = float(optimizer.param_groups[0]["lr"])
    optimizer.add_param_group(
        {"params": two.body.parameters(), "lr": optimizer.param_groups[0]["lr"] / 10}
    )
    assert float(optimizer.param_groups[1]["lr"]) == pytest.approx(before / 10)
    weight = two.body.weight.detach().clone()
    rates = two.train(optimizer, 20)
    if kind is Untuned:
        assert all(body == pytest.approx(head / 10, rel=1e-9) for head, body in rates)
    assert not torch.equal(two.body.weight, weight)


def test_the_average_of_a_later_group_begins_with_it() -> None:
    """Else its average would stay near its start for as long as the others have trained."""
    two = Two()
    optimizer = Untuned(two.head.parameters())
    two.train(optimizer, 200)
    optimizer.add_param_group({"params": two.body.parameters()})
    start = two.body.weight.detach().clone()
    two.train(optimizer, 20)
    z = optimizer.state[two.body.weight]["z"].clone()
    optimizer.eval()
    moved, far = (two.body.weight - start).norm(), (z - start).norm()
    assert moved > 0.2 * far


@pytest.mark.parametrize("kind", [SGDHD, AdamHD, Untuned])
def test_an_empty_first_group_is_no_harm(kind: type[Any]) -> None:
    """A model without biases has no parameters for the group without weight decay."""
    two = Two()
    optimizer = kind(
        [
            {"params": [], "weight_decay": 0.0},
            {"params": two.head.parameters(), "weight_decay": 0.1},
        ]
    )
    before = two.loss().item()
    two.train(optimizer, 50)
    assert two.loss().item() < before
    alone = Two()
    other = kind([{"params": alone.head.parameters(), "weight_decay": 0.1}])
    alone.train(other, 50)
    assert torch.equal(alone.head.weight, two.head.weight)


def test_a_rate_for_each_group_is_learned_by_itself() -> None:
    """With `granularity="group"` a group trains as it does under an optimizer of its own."""
    both, parts = Two(), Two()
    optimizer = Untuned(
        [{"params": both.body.parameters()}, {"params": both.head.parameters()}],
        granularity="group",
    )
    alone = [Untuned(parts.body.parameters()), Untuned(parts.head.parameters())]
    for _ in range(30):
        both.train(optimizer, 1)
        parts.body.zero_grad()
        parts.head.zero_grad()
        parts.loss().backward()
        for each in alone:
            each.step()
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    assert rates == [float(each.param_groups[0]["lr"]) for each in alone]
    assert rates[0] != rates[1]
    assert torch.equal(both.body.weight, parts.body.weight)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert both.train(optimizer, 5)[-1][0] != rates[0]
