"""The steps of `Untuned` on SGD have the length of usual gradients: engine/step_length.py."""

import math

import pytest
import torch
from torch import Tensor, nn

from hypergradient import Untuned
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.step_length import FIRST, GROWTH, LONGEST, OUTLIER, SHARE

N = 50


class Descent:
    """One parameter, and steps along random gradients of a given length."""

    def __init__(self, count: int = 1, **options: str) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.params = [nn.Parameter(torch.ones(N, dtype=torch.float64)) for _ in range(count)]
        self.optimizer = Untuned([{"params": [p]} for p in self.params], base="sgd", **options)

    def unit(self) -> Tensor:
        """A direction of length 1."""
        g = torch.randn(N, generator=self.generator, dtype=torch.float64)
        return g / g.norm()

    def step(self, *lengths: float) -> list[float]:
        """Make a step; return how far each z has moved, over its rate."""
        groups = self.optimizer.param_groups
        rates = [alpha_of(group).item() for group in groups]
        states = [self.optimizer.state[p] for p in self.params]
        before = [state["z"].clone() if state else None for state in states]
        for p, length in zip(self.params, lengths, strict=True):
            p.grad = length * self.unit()
        self.optimizer.step()
        return [
            math.nan if z is None else (state["z"] - z).norm().item() / rate
            for state, z, rate in zip(states, before, rates, strict=True)
        ]


def usual(steps: int = 30, length: float = 1.0) -> Descent:
    """One that has seen gradients of one length."""
    descent = Descent()
    for _ in range(steps):
        descent.step(length)
    return descent


def test_a_gradient_of_any_length_moves_as_far_as_a_usual_one() -> None:
    assert usual().step(1.0) == pytest.approx([1.0])
    assert usual().step(0.6) == pytest.approx([1.0], rel=0.1)
    most = math.sqrt(1 + (OUTLIER - 1) / FIRST)  # by what one gradient makes the mean larger
    for length in (10.0, 1e6):
        assert 1.0 < usual().step(length)[0] <= most


def test_steps_do_not_grow_with_gradients_beyond_ten_times_the_first() -> None:
    """A converged network that goes on: its first gradient is tiny, and so was its minimum."""
    descent = usual(1, length=1e-6)
    ways = [descent.step(length)[0] for length in 10 ** torch.linspace(-6, 3, 300).double()]
    assert ways[30] > 2e-6
    assert max(ways) == pytest.approx(GROWTH * 1e-6, rel=0.01)
    assert ways[-1] == pytest.approx(GROWTH * 1e-6, rel=0.2)


def test_near_a_minimum_it_is_sgd_at_twice_the_rate() -> None:
    descent = usual()
    for length in (0.3, 1e-3, 1e-12):
        assert descent.step(length) == pytest.approx([LONGEST * length])


def test_an_outlier_is_forgotten() -> None:
    descent = usual(100)
    descent.step(1e6)
    for _ in range(100):
        length = descent.step(1.0)
    assert length == pytest.approx([1.0], abs=0.2)


def test_what_is_usual_follows_the_last_fifth() -> None:
    """After gradients of length 1, others of length 3: r^2 goes to 9 as 1 - (t / t_0)^-5."""
    descent = usual(100)
    for _ in range(100):
        descent.step(3.0)
    mean = N * descent.optimizer.param_groups[0]["gradient_square"].item()
    assert mean == pytest.approx(9 - 8 * 2 ** (-1 / SHARE), rel=0.01)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_is_not_counted(bad: float) -> None:
    descent = usual()
    before = descent.optimizer.param_groups[0]["gradient_square"].item()
    descent.step(bad)
    assert descent.optimizer.param_groups[0]["gradient_square"].item() == before


def test_gradients_of_zero_change_nothing() -> None:
    descent = Descent()
    for _ in range(3):
        descent.step(0.0)
    assert descent.params[0].tolist() == [1.0] * N
    assert descent.step(2.0) == pytest.approx([2.0])  # the first that is another number


@pytest.mark.parametrize("granularity", ["global", "group"])
def test_groups_have_one_length_where_they_have_one_rate(granularity: str) -> None:
    descent = Descent(2, granularity=granularity)
    for _ in range(30):
        descent.step(1.0, 2.0)
    one, other = descent.step(1.0, 20.0)
    if granularity == "group":
        assert one == pytest.approx(1.0)
        assert other < 3.0
    else:
        assert other == pytest.approx(20 * one)  # the whole gradient is bounded


def test_adam_has_no_such_number() -> None:
    optimizer = Untuned([nn.Parameter(torch.ones(2))])
    assert "gradient_square" not in optimizer.param_groups[0]
