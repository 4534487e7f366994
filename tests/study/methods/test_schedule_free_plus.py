"""ScheduleFree+ is what its equations say, and what its authors' code does."""

import importlib
import io
import math

import pytest
import torch
from torch import nn

from hypergradient.study.methods.schedule_free_plus import ScheduleFreePlus
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import train
from tests.study.methods.test_baselines import make, numbers

STEPS = 40


def problem(dtype=torch.float64):
    """Two parameters, and their least squares with noise that depends on the step."""
    generator = torch.Generator().manual_seed(0)
    parameters = [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in ((3, 2), 4)
    ]
    noise = torch.randn(STEPS, 10, generator=generator, dtype=dtype)

    def loss(step):
        whole = torch.cat([p.flatten() for p in parameters])
        scale = torch.arange(1, 11, dtype=dtype)
        return (scale * (whole - 1 - 0.3 * noise[step]) ** 2).sum()

    return parameters, loss


def trained(optimizer, parameters, loss, step):
    path = []
    optimizer.train()
    for t in range(STEPS):
        optimizer.zero_grad()
        value = loss(t)
        value.backward()
        step(value.detach())
        path.append(torch.cat([p.detach().flatten() for p in parameters]))
    return path


def test_it_is_a_slow_loop_over_numbers():
    parameters, loss = problem()
    optimizer = ScheduleFreePlus(parameters, lr=0.7, betas=(0.8, 0.95), averaging=0.6)
    path = trained(optimizer, parameters, loss, lambda value: optimizer.step(loss=value))

    own, loss = problem()
    z = torch.cat([p.detach().flatten() for p in own]).tolist()
    x, mean, square = [*z], [0.0] * 10, [0.0] * 10
    largest = weights = 0.0
    for t in range(STEPS):
        value = loss(t)
        for p in own:
            p.grad = None
        value.backward()
        g = torch.cat([p.grad.flatten() for p in own]).tolist()
        ahead = 0.6 * sum(g[i] * (z[i] - x[i]) for i in range(10))
        size = math.sqrt(math.pi / 2) * sum(abs(each) for each in g)
        alpha = 0.7 * max(0.0, value.item() + ahead) / size
        largest = max(largest, alpha)
        weights += largest**2
        for i in range(10):
            mean[i] = 0.8 * mean[i] + 0.2 * g[i]
            square[i] = 0.95 * square[i] + 0.05 * g[i] ** 2
            corrected = math.sqrt(square[i] / (1 - 0.95 ** (t + 1))) + 1e-8
            z[i] -= alpha * mean[i] / (1 - 0.8 ** (t + 1)) / corrected
            x[i] += largest**2 / weights * (z[i] - x[i])
        y = torch.tensor([0.6 * x[i] + 0.4 * z[i] for i in range(10)], dtype=torch.float64)
        assert torch.allclose(path[t], y, rtol=1e-10, atol=1e-12)
        with torch.no_grad():
            own[0].copy_(y[:6].view(3, 2))
            own[1].copy_(y[6:])
    optimizer.eval()
    evaluated = torch.cat([p.detach().flatten() for p in parameters])
    assert torch.allclose(evaluated, torch.tensor(x, dtype=torch.float64), rtol=1e-10)
    assert not torch.allclose(evaluated, path[-1])
    optimizer.train()
    assert torch.equal(torch.cat([p.detach().flatten() for p in parameters]), path[-1])


def test_it_is_the_code_of_its_authors():
    try:
        theirs = importlib.import_module("schedulefree.adamc_schedulefree_plus_paper")
    except ModuleNotFoundError:
        pytest.skip("schedulefree.adamc_schedulefree_plus_paper is not in the released package")
    (mine, loss), (others, other_loss) = problem(), problem()
    optimizer, reference = ScheduleFreePlus(mine), theirs.AdamCScheduleFreePlusPaper(others)
    path = trained(optimizer, mine, loss, lambda value: optimizer.step(loss=value))
    expected = trained(reference, others, other_loss, reference.step_func)
    for own, their in zip(path, expected, strict=True):
        assert torch.allclose(own, their, rtol=1e-10, atol=1e-12)
    optimizer.eval()
    reference.eval()
    for p, q in zip(mine, others, strict=True):
        assert torch.allclose(p, q, rtol=1e-10)


def test_it_trains_in_a_study_and_goes_on_to_the_bit():
    run, kept = make("ScheduleFree+"), []
    dataset = find_task(run.task).load()

    def keep(training):
        if training.step == 5:
            file = io.BytesIO()
            torch.save(training.state(), file)
            kept.append(file.getvalue())

    records = list(train(run, initial_model(run), dataset, after_step=keep))
    saved = torch.load(io.BytesIO(kept[0]), weights_only=True)
    rest = numbers(train(run, initial_model(run), dataset, saved=saved))
    assert rest == numbers(records)[-len(rest) :]
    assert records[-1].train_loss < records[0].train_loss
    assert 0 < records[-1].lr_mean < 1  # the Polyak step, and not the factor on it


def test_what_it_cannot_do_is_said():
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="lr is 0; the factor on the Polyak step"):
        ScheduleFreePlus([p], lr=0)
    optimizer = ScheduleFreePlus([p])
    with pytest.raises(TypeError, match="needs the loss"):
        optimizer.step()
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"call train\(\) first"):
        optimizer.step(loss=torch.ones(()))


def test_a_closure_gives_the_loss_and_no_gradient_moves_nothing():
    p = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = ScheduleFreePlus([p])

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first
    at = p.detach().clone()
    optimizer.zero_grad()
    optimizer.step(loss=torch.ones(()))
    assert torch.equal(p, at)
