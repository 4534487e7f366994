"""An average of 16-bit parameters is that of float32 ones, rounded; of complex ones, of pairs."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from hypergradient import Untuned

HALVES = (torch.bfloat16, torch.float16)
SHAPES = ((6, 4), (4,), ())


def start(dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def give(params: list[nn.Parameter], t: int) -> None:
    """Give gradients that 16 bits hold, so that they are the same in float32."""
    generator = torch.Generator().manual_seed(100 + t)
    for p in params:
        g = torch.randn(p.shape, generator=generator).bfloat16().to(p.dtype)
        p.grad = 0.5 * g + 0.5 * torch.sign(g)


def theta(optimizer: Untuned, p: Tensor) -> Tensor:
    value: Tensor = optimizer.state[p]["theta"]
    return value


@pytest.mark.parametrize("base", ["adam", "sgd", "adafactor", "lion"])
@pytest.mark.parametrize("dtype", HALVES)
def test_it_moves_as_float32_does_and_is_rounded(dtype: torch.dtype, base: str) -> None:
    halves = start(dtype)
    wholes = [nn.Parameter(p.detach().float()) for p in halves]
    ours, wanted = (Untuned(params, base=base, weight_decay=0.01) for params in (halves, wholes))
    for t in range(30):
        give(halves, t)
        for p, q in zip(halves, wholes, strict=True):
            assert p.grad is not None
            q.grad = p.grad.float()
        ours.step()
        wanted.step()
        for p, q in zip(halves, wholes, strict=True):
            assert torch.equal(theta(ours, p), q)
            assert torch.equal(p, q.to(dtype))
    ours.eval()
    wanted.eval()
    assert all(torch.equal(p, q.to(dtype)) for p, q in zip(halves, wholes, strict=True))


@pytest.mark.parametrize("dtype", HALVES)
def test_saving_and_evaluating_lose_nothing(dtype: torch.dtype) -> None:
    params = start(dtype)
    optimizer = Untuned(params)
    for t in range(5):
        give(params, t)
        optimizer.step()
    again = [nn.Parameter(p.detach().clone()) for p in params]
    other = Untuned(again)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    copied = copy.deepcopy(optimizer)
    assert [p.dtype for p in copied.param_groups[0]["params"]] == [dtype] * len(params)
    optimizer.eval()
    optimizer.train()
    for t in range(5, 10):
        for each, own in ((optimizer, params), (other, again)):
            give(own, t)
            each.step()
    for p, q in zip(params, again, strict=True):
        torch.testing.assert_close(theta(optimizer, p), theta(other, q), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_what_others_write_is_seen(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.linspace(-1, 1, 8).to(dtype))
    q = nn.Parameter(p.detach().float())
    optimizer, wanted = Untuned([p]), Untuned([q])
    for t in range(6):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        optimizer.step()
        wanted.step()
        if t == 3:
            with torch.no_grad():
                p[0] = q[0] = 5.0
    assert torch.equal(theta(optimizer, p), q)
    for _ in range(20):
        p.grad = torch.ones_like(p)
        optimizer.step()
        optimizer.project(lambda: p.clamp_(min=0))
        assert p.min() >= 0
    optimizer.eval()
    assert p.min() >= 0
    assert optimizer.state[p]["z"].min() >= 0


def test_a_model_that_becomes_bfloat16_later_trains_on() -> None:
    model = nn.Linear(3, 1)
    optimizer = Untuned(model.parameters())
    model.weight.grad, model.bias.grad = torch.ones(1, 3), torch.ones(1)
    optimizer.step()
    model.bfloat16()
    before = model.weight.detach().clone()
    for _ in range(5):
        model.weight.grad = torch.ones(1, 3, dtype=torch.bfloat16)
        model.bias.grad = torch.ones(1, dtype=torch.bfloat16)
        optimizer.step()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("base", ["adam", "sgd", "adafactor", "lion"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_parameters_move_as_pairs_of_reals(dtype: torch.dtype, base: str) -> None:
    generator = torch.Generator().manual_seed(1)
    first, target = torch.randn(2, 5, 2, generator=generator).to(dtype.to_real())
    ours = nn.Parameter(torch.view_as_complex(first.clone()))
    pairs = nn.Parameter(first.clone())
    optimizers = [Untuned([p], base=base) for p in (ours, pairs)]
    for _ in range(30):
        for p, optimizer in zip((ours, pairs), optimizers, strict=True):
            optimizer.zero_grad()
            real = torch.view_as_real(p) if p.is_complex() else p
            (real - target).square().sum().backward()
            optimizer.step()
            optimizer.project(lambda p=p: p.mul_(1.0))
    assert torch.equal(torch.view_as_real(ours.detach()), pairs.detach())
    for optimizer in optimizers:
        optimizer.eval()
    assert torch.equal(torch.view_as_real(ours.detach()), pairs.detach())
    assert (pairs - target).abs().max() < (first - target).abs().max()


@pytest.mark.parametrize("dtype", HALVES)
def test_the_state_of_adam_in_16_bits_is_taken_over(dtype: torch.dtype) -> None:
    params = start(dtype)
    adam = torch.optim.AdamW(params, lr=1e-3)
    for t in range(3):
        give(params, t)
        adam.step()
    optimizer = Untuned(params)
    optimizer.load_state_dict(adam.state_dict())
    give(params, 3)
    optimizer.step()
    for p in params:
        own = optimizer.state[p]
        assert {own[name].dtype for name in ("theta", "z", "exp_avg_sq")} == {torch.float32}
        assert own["step"].item() == 4


def test_a_network_in_bfloat16_trains_as_in_float32() -> None:
    """Real data: scikit-learn's digits, on which one in bfloat16 by plain rounding stands still."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, labels = (torch.as_tensor(part) for part in datasets.load_digits(return_X_y=True))
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).to(dtype)
        inputs = (x / 16).to(dtype)
        optimizer = Untuned(model.parameters())
        for epoch in range(15):
            order = torch.randperm(1500, generator=torch.Generator().manual_seed(epoch))
            for batch in order.split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[batch]).float(), labels[batch]).backward()
                optimizer.step()
        optimizer.eval()
        with torch.no_grad():
            own = model(inputs[:1500]).float()
            losses[dtype] = nn.functional.cross_entropy(own, labels[:1500]).item()
    print(losses)
    assert losses[torch.bfloat16] < max(1.3 * losses[torch.float32], 0.02)
