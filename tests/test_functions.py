"""The test functions: what is said of their minima is true, and their gradients are exact."""

import pytest
import torch

from hypergradient.functions import FUNCTIONS, Function

everywhere = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())


def lattice(function: Function, each_way: int) -> torch.Tensor:
    sides = [torch.linspace(*side, each_way, dtype=torch.float64) for side in function.box]
    return torch.cartesian_prod(*sides)


def minima(function: Function) -> torch.Tensor:
    return torch.tensor(function.minima, dtype=torch.float64)


@everywhere
def test_a_minimum_is_flat_and_curved_upwards(function):
    gradients = function.gradient(minima(function))
    scale = function.gradient(lattice(function, 20)).abs().max()
    assert gradients.abs().max() < 1e-13 * scale
    for minimum in minima(function):
        hessian = torch.autograd.functional.hessian(function, minimum)
        assert torch.linalg.eigvalsh(hessian).min() > 0


@everywhere
def test_nothing_in_the_box_is_lower_and_nothing_as_low_is_elsewhere(function):
    """Wherever f is nearly as low as at a minimum, a minimum is near."""
    points = lattice(function, 401)
    values, lowest = function(points), function(minima(function))
    assert torch.allclose(lowest, lowest[0], atol=1e-12, rtol=0)
    assert (values >= lowest[0] - 1e-12).all()
    low = points[values <= values.quantile(2e-4)]
    distances = torch.cdist(low, minima(function)).min(1).values
    assert distances.max() < 0.1 * (points.max() - points.min())
    nearest = torch.cdist(low, minima(function)).argmin(1)
    assert set(nearest.tolist()) == set(range(len(function.minima)))


@everywhere
def test_start_and_minima_are_in_the_box_and_apart(function):
    low, high = torch.tensor(function.box, dtype=torch.float64).T
    start = torch.tensor(function.start, dtype=torch.float64)
    for point in (start, *minima(function)):
        assert ((low < point) & (point < high)).all()
    assert (minima(function) - start).norm(dim=1).min() > 0.5


@everywhere
def test_gradients_are_the_difference_quotients(function):
    points, h = lattice(function, 7), 1e-6
    for i in range(2):
        aside = h * torch.eye(2, dtype=torch.float64)[i]
        quotient = (function(points + aside) - function(points - aside)) / (2 * h)
        exact = function.gradient(points)[:, i]
        assert torch.allclose(exact, quotient, rtol=1e-5, atol=1e-6 * exact.abs().max().item())


def test_values_published_elsewhere():
    """At the minima, Jamil and Yang 2013; at the start, Rosenbrock 1960."""
    expected = {"styblinski-tang": -78.33233, "mccormick": -1.91322, "goldstein-price": 3.0}
    for name, function in FUNCTIONS.items():
        value = function(minima(function)[0]).item()
        assert value == pytest.approx(expected.get(name, 0.0), abs=1e-5), name
    rosenbrock = FUNCTIONS["rosenbrock"]
    start = torch.tensor(rosenbrock.start, dtype=torch.float64)
    assert rosenbrock(start).item() == pytest.approx(24.2)


def test_any_shape_of_points():
    for function in FUNCTIONS.values():
        points = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
        assert function(points).shape == (3, 4)
        assert function.gradient(points).shape == (3, 4, 2)
        assert not points.requires_grad
