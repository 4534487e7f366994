"""Classic functions of two variables on which to watch an optimizer, each with its known minima.

A `Function` is called with a tensor of points, any shape with 2 as its last dimension, and is
differentiable. Formulas and minima: Jamil and Yang, "A literature survey of benchmark functions for
global optimisation problems", 2013, and the source that each names. The starts are ours where the
source has none: outside the minimum's own bowl where there is such a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

Point = tuple[float, float]


@dataclass(frozen=True)
class Function:
    """A function of two variables, to minimise.

    Attributes:
        title: What to call it.
        formula: f(x, y) as text.
        value: f itself, of two tensors of one shape, x and y, elementwise.
        start: Where to start from.
        box: (lowest x, highest x), (lowest y, highest y) of the region to look at.
        minima: The global minima.
        source: Where it is from.

    Example:
        >>> from hypergradient.functions import FUNCTIONS
        >>> beale = FUNCTIONS["beale"]
        >>> beale(torch.tensor(beale.minima))
        tensor([0.])
    """

    title: str
    formula: str
    value: Callable[[Tensor, Tensor], Tensor]
    start: Point
    box: tuple[Point, Point]
    minima: tuple[Point, ...]
    source: str

    def __call__(self, points: Tensor) -> Tensor:
        """The function's values at ``points``, (..., 2) -> (...)."""
        return self.value(points[..., 0], points[..., 1])

    def gradient(self, points: Tensor) -> Tensor:
        """The exact gradients at ``points``, by automatic differentiation, (..., 2) -> (..., 2)."""
        variable = points.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self(variable).sum(), variable)
        return gradient


def _beale(x: Tensor, y: Tensor) -> Tensor:
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _himmelblau(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def _booth(x: Tensor, y: Tensor) -> Tensor:
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


def _three_hump_camel(x: Tensor, y: Tensor) -> Tensor:
    return 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2


def _rastrigin(x: Tensor, y: Tensor) -> Tensor:
    return 20 + x**2 + y**2 - 10 * (torch.cos(2 * pi * x) + torch.cos(2 * pi * y))


def _styblinski_tang(x: Tensor, y: Tensor) -> Tensor:
    return (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y) / 2


def _quadratic(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + 100 * y**2) / 2


def _mccormick(x: Tensor, y: Tensor) -> Tensor:
    return torch.sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1


def _goldstein_price(x: Tensor, y: Tensor) -> Tensor:
    near = 19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2
    far = 18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2
    return (1 + (x + y + 1) ** 2 * near) * (30 + (2 * x - 3 * y) ** 2 * far)


_TANG = -2.903534027771177  # the lowest root of 4 x^3 - 32 x + 5

FUNCTIONS = {
    "beale": Function(
        title="Beale",
        formula="(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        value=_beale,
        start=(-2.0, -1.0),
        box=((-4.5, 4.5), (-4.5, 4.5)),
        minima=((3.0, 0.5),),
        source="Beale 1958; start: Fischer 2020",
    ),
    "rosenbrock": Function(
        title="Rosenbrock",
        formula="(1 − x)² + 100 (y − x²)²",
        value=_rosenbrock,
        start=(-1.2, 1.0),
        box=((-2.0, 2.0), (-1.0, 3.0)),
        minima=((1.0, 1.0),),
        source="Rosenbrock 1960, with its start",
    ),
    "himmelblau": Function(
        title="Himmelblau",
        formula="(x² + y − 11)² + (x + y² − 7)²",
        value=_himmelblau,
        start=(-0.5, -1.0),
        box=((-5.0, 5.0), (-5.0, 5.0)),
        minima=(
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        source="Himmelblau 1972",
    ),
    "booth": Function(
        title="Booth",
        formula="(x + 2y − 7)² + (2x + y − 5)²",
        value=_booth,
        start=(-8.0, -4.0),
        box=((-10.0, 10.0), (-10.0, 10.0)),
        minima=((1.0, 3.0),),
        source="Jamil and Yang 2013",
    ),
    "three-hump-camel": Function(
        title="Three-hump camel",
        formula="2x² − 1.05x⁴ + x⁶/6 + xy + y²",
        value=_three_hump_camel,
        start=(-0.8, 1.8),
        box=((-2.5, 2.5), (-2.5, 2.5)),
        minima=((0.0, 0.0),),
        source="Jamil and Yang 2013",
    ),
    "rastrigin": Function(
        title="Rastrigin",
        formula="20 + x² + y² − 10 (cos 2πx + cos 2πy)",
        value=_rastrigin,
        start=(-1.7, 2.3),
        box=((-3.0, 3.0), (-3.0, 3.0)),
        minima=((0.0, 0.0),),
        source="Rastrigin 1974",
    ),
    "styblinski-tang": Function(
        title="Styblinski–Tang",
        formula="(x⁴ − 16x² + 5x + y⁴ − 16y² + 5y) / 2",
        value=_styblinski_tang,
        start=(-0.2, -4.5),
        box=((-5.0, 5.0), (-5.0, 5.0)),
        minima=((_TANG, _TANG),),
        source="Styblinski and Tang 1990",
    ),
    "quadratic": Function(
        title="Ill-conditioned quadratic",
        formula="(x² + 100y²) / 2, of condition number 100",
        value=_quadratic,
        start=(-9.0, 1.0),
        box=((-10.0, 10.0), (-4.0, 4.0)),
        minima=((0.0, 0.0),),
        source="the textbook's example of a narrow valley",
    ),
    "mccormick": Function(
        title="McCormick",
        formula="sin(x + y) + (x − y)² − 1.5x + 2.5y + 1",
        value=_mccormick,
        start=(1.8, -2.2),
        box=((-1.5, 4.0), (-3.0, 4.0)),
        minima=((0.5 - pi / 3, -0.5 - pi / 3),),
        source="McCormick 1976",
    ),
    "goldstein-price": Function(
        title="Goldstein–Price",
        formula="[1 + (x + y + 1)² (19 − 14x + 3x² − 14y + 6xy + 3y²)]"
        " · [30 + (2x − 3y)² (18 − 32x + 12x² + 48y − 36xy + 27y²)]",
        value=_goldstein_price,
        start=(-0.6, -1.8),
        box=((-2.0, 2.0), (-2.0, 2.0)),
        minima=((0.0, -1.0),),
        source="Goldstein and Price 1971",
    ),
}
"""The functions by name."""
