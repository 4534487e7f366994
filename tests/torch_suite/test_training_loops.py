"""The ways people drive an optimizer: scaled, accumulated, clipped, averaged, one a parameter."""

from typing import Any

import pytest
import torch
from entries import HD, IMPLEMENTATIONS, Candidate, Problem, assert_same
from torch import Tensor, nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

KERNELS = [name for name in IMPLEMENTATIONS if name != "differentiable"]
GRANULARITIES = ("global", "group", "tensor", "element")
BETA = 1e-6

every = pytest.mark.parametrize("name", HD)
in_every_kernel = pytest.mark.parametrize("implementation", KERNELS)


def build(name: str, implementation: str, params: Any, **options: Any) -> Any:
    return Candidate(name, implementation, 0, "live").ours(params, hypergrad_lr=BETA, **options)


def everything(problem: Problem, optimizer: Any) -> list[Tensor]:
    """All that a step may change: parameters, rates and state."""
    found = [torch.as_tensor(group["lr"]) for group in optimizer.param_groups]
    for p in problem.params:
        found += [p, *(v for v in optimizer.state[p].values() if isinstance(v, Tensor))]
    return [t.detach().clone() for t in found]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@in_every_kernel
@every
def test_a_grad_scaler_changes_nothing(name: str, implementation: str, granularity: str) -> None:
    """h sees the gradients unscaled, in the fused kernel too: scales are powers of two."""
    scaled, plain = Problem(), Problem()
    theirs = build(name, implementation, plain.params, granularity=granularity)
    ours = build(name, implementation, scaled.params, granularity=granularity)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for _ in range(4):
        plain.backward()
        theirs.step()
        ours.zero_grad()
        scaler.scale(scaled.loss()).backward()
        scaler.step(ours)
        scaler.update()
        assert_same(everything(scaled, ours), everything(plain, theirs), rtol=0, atol=0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@in_every_kernel
@every
def test_a_skipped_step_changes_nothing(name: str, implementation: str, granularity: str) -> None:
    problem = Problem()
    optimizer = build(name, implementation, problem.params, granularity=granularity)
    problem.train(optimizer, steps=3)
    before = everything(problem, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer.zero_grad()
    scaler.scale(problem.loss() * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0
    assert_same(everything(problem, optimizer), before, rtol=0, atol=0)


@in_every_kernel
@every
def test_accumulated_gradients_are_their_sum(name: str, implementation: str) -> None:
    whole, parts = Problem(), Problem()
    ours, theirs = (build(name, implementation, p.params) for p in (parts, whole))
    for _ in range(4):
        whole.backward()
        theirs.step()
        ours.zero_grad()
        for share in (0.25, 0.75):
            (share * parts.loss()).backward()
        ours.step()
        assert_same(everything(parts, ours), everything(whole, theirs), rtol=1e-4, atol=1e-4)


@in_every_kernel
@every
def test_a_clipped_gradient_is_what_the_rate_sees(name: str, implementation: str) -> None:
    """As if the loss had been that much smaller."""
    clipped, reference = Problem(), Problem()
    ours, theirs = (build(name, implementation, p.params) for p in (clipped, reference))
    for _ in range(4):
        clipped.backward()
        norm = nn.utils.clip_grad_norm_(clipped.params, 1.0)
        ours.step()
        assert norm > 1
        reference.backward()
        for p in reference.params:
            assert p.grad is not None
            p.grad.mul_(1 / (norm + 1e-6))
        theirs.step()
        assert_same(everything(clipped, ours), everything(reference, theirs))


@in_every_kernel
@every
def test_in_the_backward_pass_with_one_optimizer_a_parameter(
    name: str, implementation: str
) -> None:
    """Each parameter then has a rate of its own, as with granularity="tensor"."""
    hooked, plain = Problem(), Problem()
    optimizers = {p: build(name, implementation, [p]) for p in hooked.params}

    def step(p: Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in hooked.params:
        p.register_post_accumulate_grad_hook(step)
    together = build(name, implementation, plain.params, granularity="tensor")
    for _ in range(4):
        hooked.loss().backward()
        plain.train(together, steps=1)
        assert all(p.grad is None for p in hooked.params)
        assert_same(hooked.params, plain.params)
        rates = [torch.as_tensor(optimizers[p].param_groups[0]["lr"]) for p in hooked.params]
        assert_same(rates, [together.state[p]["lr"] for p in plain.params])
    assert rates[0] != rates[1]


@every
def test_averages_of_weights_come_beside_it(name: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1), torch.randn(8, 3)
    optimizer = build(name, "default", model.parameters())
    mean = AveragedModel(model)
    moving = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    seen = []
    for _ in range(4):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        mean.update_parameters(model)
        moving.update_parameters(model)
        seen.append(model.weight.detach().clone())
    assert_same([mean.module.weight], [torch.stack(seen).mean(0)])
    ema = seen[0]
    for weight in seen[1:]:
        ema = 0.5 * ema + 0.5 * weight
    assert_same([moving.module.weight], [ema])


@every
def test_swalr_anneals_to_its_own_rate(name: str) -> None:
    problem, other = Problem(), Problem()
    ours = Candidate(name, "default", 0, "zero").ours(problem.params)
    theirs = Candidate(name, "default", 0, "zero").theirs(other.params)
    for each_problem, optimizer in ((problem, ours), (other, theirs)):
        each_problem.train(optimizer, [SWALR(optimizer, swa_lr=0.05, anneal_epochs=3)], steps=6)
    rates = [float(o.param_groups[0]["lr"]) for o in (ours, theirs)]
    assert rates[0] == pytest.approx(rates[1]) == 0.05
    assert_same(problem.params, other.params)
