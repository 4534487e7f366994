"""Laws of torch's tests of `differentiable=True`: derivatives through a step are right."""

from typing import Any

import pytest
import torch
from entries import HD, Candidate, candidates
from torch import Tensor
from torch.autograd import gradcheck

DIFFERENTIABLE = [
    candidate
    for candidate in candidates(without=["for-loop", "foreach", "fused", "default"])
    if "lr" not in candidate.options  # given here
]
BETA = 1e-2  # live enough for the derivative through the rate to be seen


def numbers(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()


def primed_state(candidate: Candidate) -> dict[str, Any]:
    """The state after some steps, as constants."""
    p = numbers(10, seed=10).detach()
    optimizer = candidate.ours([p], hypergrad_lr=0.0)
    for seed in range(primed_steps(candidate)):
        p.grad = numbers(10, seed=11 + seed).detach()
        optimizer.step()
    return dict(optimizer.state[p])


def led_to(candidate: Candidate, start: Tensor, gradients: list[Tensor], **options: Any) -> Any:
    """Where steps from `start` lead, as a function of it, the gradients and the options."""
    p = start.clone()
    optimizer = candidate.ours([p], hypergrad_lr=BETA if candidate.live else 0.0, **options)
    for name, value in primed_state(candidate).items():
        optimizer.state[p][name] = value
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    state = optimizer.state[p].values()
    return (p, *(v for v in state if isinstance(v, Tensor) and v.requires_grad))


def primed_steps(candidate: Candidate) -> int:
    """How many steps to leave out of the graph: torch's law is one step from a given state.

    Several steps need no less where torch's own class does not write to a buffer that the graph
    holds, as it does with momentum and amsgrad.
    """
    return 2 if {"momentum", "amsgrad"} & candidate.options.keys() else 0


def inputs(candidate: Candidate) -> list[Tensor]:
    """Where to start, and the gradients of the steps."""
    return [numbers(10, seed=seed) for seed in range(2 if primed_steps(candidate) else 4)]


@pytest.mark.parametrize("candidate", DIFFERENTIABLE, ids=str)
def test_steps_are_differentiable(candidate: Candidate) -> None:
    def run(start: Tensor, *gradients: Tensor) -> Any:
        return led_to(candidate, start, list(gradients), lr=0.9)

    assert gradcheck(run, tuple(inputs(candidate)))


@pytest.mark.parametrize("candidate", DIFFERENTIABLE, ids=str)
def test_steps_are_differentiable_by_the_learning_rate(candidate: Candidate) -> None:
    start, *gradients = (t.detach() for t in inputs(candidate))
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def run(lr: Tensor) -> Any:
        return led_to(candidate, start, gradients, lr=lr)

    assert gradcheck(run, (lr,))


@pytest.mark.parametrize("name", HD)
@pytest.mark.parametrize("beta", ["zero", "live"])
def test_steps_are_differentiable_by_the_weight_decay(name: str, beta: str) -> None:
    candidate = Candidate(name, "differentiable", 0, beta)
    start, *gradients = (t.detach() for t in inputs(candidate))
    decay = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def run(weight_decay: Tensor) -> Any:
        return led_to(candidate, start, gradients, weight_decay=weight_decay)

    assert gradcheck(run, (decay,))


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("beta", ["zero", "live"])
def test_steps_are_differentiable_by_the_betas(name: str, beta: str) -> None:
    candidate = Candidate(name, "differentiable", 0, beta)
    start, *gradients = (t.detach() for t in inputs(candidate))
    betas = [torch.tensor(b, dtype=torch.float64, requires_grad=True) for b in (0.8, 0.9)]

    def run(*betas: Tensor) -> Any:
        return led_to(candidate, start, gradients, betas=betas)

    assert gradcheck(run, tuple(betas))
