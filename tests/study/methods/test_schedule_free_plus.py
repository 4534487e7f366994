"""ScheduleFree+ is what its equations say, and what its authors' code does."""

import importlib
import math

import pytest
import torch
from test_baselines import goes_on_to_the_bit, make
from torch import nn

from hypergradient.study.methods.schedule_free_plus import ScheduleFreePlus

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
    records = goes_on_to_the_bit(make("ScheduleFree+"))
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


# AdamCScheduleFreePlusPaper at its defaults, of github.com/facebookresearch/schedule_free at commit
# 70785b53e778, on `recorded_loss` in float64: by step the loss, the rate ("scheduled_lr") and the
# first number of y. At the end x.
RECORDED = [
    (0.0580696608259, 0.0463811550359, -1.04638114468),
    (0.000399182959307, 0.00364682254626, -1.04819814214),
    (0.0205291412426, 0.0245639765491, -1.05652661929),
    (0.0833646017928, 0.0532569228695, -1.07041461019),
    (0.17229239834, 0.0733164488357, -1.07805573572),
    (0.259700492329, 0.089715956356, -1.06680160445),
    (0.336483036426, 0.103397097583, -1.03819304155),
    (0.406716185566, 0.117415149206, -0.994386789081),
    (0.47431205418, 0.137061687841, -0.932548673045),
    (0.538681324765, 0.170099207197, -0.841950725123),
    (0.596716159337, 0.233465420623, -0.694825837518),
    (0.644711473687, 0.26905466737, -0.532457097837),
]
AVERAGE = [-0.564464389588, -0.460227986555, 0.0181850545832, 2.01211766847, 0.0484163238033]


def recorded_loss(a, b, t):
    """A loss that is not convex, and another one at each step."""
    x = torch.tensor([0.5, -1.0 + 0.1 * t], dtype=torch.float64)
    return (torch.tanh(a @ x + b) - torch.tensor([0.3, -0.2], dtype=torch.float64)).square().sum()


def test_it_goes_the_way_that_was_recorded_of_its_authors_code():
    start = torch.linspace(-1.0, 1.5, 4, dtype=torch.float64).reshape(2, 2)
    a, b = nn.Parameter(start), nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    optimizer = ScheduleFreePlus([{"params": [a]}, {"params": [b]}])
    for t, (loss, rate, first) in enumerate(RECORDED):
        optimizer.zero_grad()
        here = recorded_loss(a, b, t)
        here.backward()
        optimizer.step(loss=here.detach())
        assert here.item() == pytest.approx(loss, rel=1e-9)
        assert optimizer.param_groups[1]["rate"] == pytest.approx(rate, rel=1e-9)
        assert a[0, 0].item() == pytest.approx(first, rel=1e-9)
    optimizer.eval()
    assert [*a.flatten().tolist(), *b.tolist()] == pytest.approx(AVERAGE, rel=1e-9)
