"""The rule "hdm" is the method of Chu, Gao, Ye and Udell (2025), written here as in their paper.

    x_{k+1} = x_k - P_k g_k + beta_k (x_k - x_{k-1})

The hypergradients of P_k and beta_k are divided by |g_k|^2, and each moves by AdaGrad. P_k is a
number or a diagonal, which stays >= 0, and beta_k stays in [0, 0.9995]. Their null steps are left
out (LOG.md).
"""

import math

import pytest
import torch
from torch import Tensor

from hypergradient import SGDHD

pytestmark = pytest.mark.usefixtures("float64")

START, MOMENTUM, HIGHEST = 0.01, 0.95, 0.9995


def loss(x: Tensor) -> Tensor:
    """A quadratic of condition number 30 in turned coordinates, and a small quartic."""
    i = torch.arange(1, len(x) + 1, dtype=x.dtype)
    return (torch.outer(i, i).sin() @ x).square() @ torch.linspace(0.1, 3, len(x)) + (x**4).sum()


def gradient(x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf), leaf)
    return g


def by_the_paper(
    x: Tensor, steps: int, beta: float, kappa: float, *, diagonal: bool
) -> list[Tensor]:
    """The points x_1, x_2, ..., and beta_k beside each."""
    before, g = x, gradient(x)
    size = torch.full_like(x, START) if diagonal else torch.tensor(START)
    squares, momentum, of_momentum = torch.zeros_like(size), MOMENTUM, 0.0
    points = []
    for _ in range(steps):
        displacement = x - before
        after = x - size * g + momentum * displacement
        points.append(torch.cat([after, torch.tensor([momentum])]))
        new = gradient(after)
        h = new * g / g.dot(g) if diagonal else new.dot(g) / g.dot(g)
        squares = squares + h * h
        size = (size + beta * h / squares.sqrt()).clamp(min=0)
        h_momentum = -float(new.dot(displacement) / g.dot(g))
        of_momentum += h_momentum**2
        if of_momentum:
            momentum += kappa * h_momentum / math.sqrt(of_momentum)
        momentum = min(max(momentum, 1e-7), HIGHEST)
        before, x, g = x, after, new
    return points


@pytest.mark.parametrize("granularity", ["global", "group", "tensor", "element"])
@pytest.mark.parametrize("kappa", [0.003, 5.0])  # of which the second runs into both bounds
def test_it_is_the_method_of_the_paper(granularity: str, kappa: float) -> None:
    x = torch.linspace(-1, 1, 6)
    expected = by_the_paper(x, 30, 0.003, kappa, diagonal=granularity == "element")
    p = x.clone().requires_grad_()
    optimizer = SGDHD(
        [p],
        START,
        momentum=MOMENTUM,
        classical=True,
        hypergrad_lr=0.003,
        rule="hdm",
        granularity=granularity,  # type: ignore[arg-type]
        learn={"momentum": kappa},
    )
    momenta = []
    for point in expected:
        optimizer.zero_grad()
        torch.autograd.backward(loss(p))
        optimizer.step()
        momenta.append(optimizer.param_groups[0]["momentum"])
        own = torch.cat([p.detach(), torch.tensor([momenta[-1]])])
        torch.testing.assert_close(own, point, rtol=1e-9, atol=1e-12)
    if kappa > 0.1:
        assert {1e-7, HIGHEST} <= set(momenta)
    else:
        assert len(set(momenta)) > len(momenta) / 2


def test_the_norm_is_that_of_the_parameter_in_chunks_and_whole() -> None:
    """A parameter of more than one chunk has the same rates where its memory has gaps."""
    big = torch.linspace(-1, 1, 600_000).sin().reshape(3, -1)[:, ::2]
    ends = []
    for p in (big.contiguous(), big):  # the second is walked whole
        p.requires_grad_()
        other = torch.zeros((), requires_grad=True)
        optimizer = SGDHD([p, other], 0.01, rule="hdm", granularity="element", hypergrad_lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward((p.sin().sum() + p.square().sum()) * (1 + other))
            optimizer.step()
        ends.append(optimizer.state[p]["lr"])
    assert ends[0].std() > 0
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=0)
