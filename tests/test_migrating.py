"""docs/migrating.md: what the published package computes, and what ours does instead."""

import itertools

import pytest
import torch
from torch import Tensor

from hypergradient import AdamHD

LR, BETA = 0.01, 1e-3


def published(params: list[Tensor], gradients: list[list[Tensor]]) -> float:
    """The published AdamHD: the rate moves inside the loop over tensors."""
    lr = LR
    state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]
    for t, gs in enumerate(gradients, start=1):
        for p, g, (m, v) in zip(params, gs, state, strict=True):
            if t > 1:
                u = m / (1 - 0.9 ** (t - 1)) / ((v / (1 - 0.999 ** (t - 1))).sqrt() + 1e-8)
                lr += BETA * float(torch.dot(g, u))
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.sub_(lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
    return lr


def ours(params: list[Tensor], gradients: list[list[Tensor]]) -> float:
    optimizer = AdamHD(params, lr=LR, hypergrad_lr=BETA)
    for gs in gradients:
        for p, g in zip(params, gs, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return float(optimizer.param_groups[0]["lr"])


def gradients(count: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    scales = (1.0, 3.0, 0.2)[:count]
    return [
        [s * (1 + torch.rand(2, generator=generator, dtype=torch.float64)) for s in scales]
        for _ in range(6)
    ]


def test_only_the_published_loop_depends_on_the_order() -> None:
    spread = {}
    for optimize in (published, ours):
        ends = []
        for order in itertools.permutations(range(3)):
            params = [torch.zeros(2, dtype=torch.float64) for _ in order]
            optimize(params, [[gs[i] for i in order] for gs in gradients(3)])
            ends.append(torch.stack([params[order.index(i)] for i in range(3)]))
        together = torch.stack(ends)
        spread[optimize.__name__] = float((together - together[0]).abs().max())
    assert spread["published"] > 1e-3
    assert spread["ours"] < 1e-12


def test_with_one_tensor_they_agree() -> None:
    """All but the place of the bias correction is the same; so is the path of the rate."""
    theirs, own = (torch.zeros(2, dtype=torch.float64) for _ in range(2))
    lr = published([theirs], gradients(1))
    assert ours([own], gradients(1)) == pytest.approx(lr, rel=1e-12)
    torch.testing.assert_close(own, theirs, rtol=1e-12, atol=0)
