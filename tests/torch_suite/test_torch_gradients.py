"""Laws of torch's test_optim.py: complex parameters and sparse gradients."""

import pytest
import torch
from entries import BETAS, INFOS, Candidate, candidates, each
from torch import Tensor
from torch.testing import assert_close

SOLUTION = torch.ones(2)


def rosenbrock(point: Tensor) -> Tensor:
    x, y = point
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def rosenbrock_gradient(point: Tensor) -> Tensor:
    x, y = point.detach()
    return torch.stack((-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)))


def as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


@each(without=["fused", "differentiable"])
def test_complex_parameters_are_pairs_of_reals(candidate: Candidate) -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator)

    wanted = [((10, 5), torch.complex64), ((10,), torch.complex64), ((10, 5), torch.float32)]
    complexes = [normal(*w).requires_grad_() for w in wanted]
    reals = [as_real(p).detach().clone().requires_grad_() for p in complexes]
    optimizers = [candidate.ours(complexes), candidate.ours(reals)]
    for _ in range(5):
        for p, q, w in zip(complexes, reals, wanted, strict=True):
            p.grad = normal(*w)
            q.grad = as_real(p.grad).clone()
        for optimizer in optimizers:
            optimizer.step()
        for p, q in zip(complexes, reals, strict=True):
            assert_close(as_real(p.detach()), q.detach())
        assert_close(*(torch.as_tensor(o.param_groups[0]["lr"]) for o in optimizers))


@each(without=["fused", "differentiable"])
def test_complex_parameters_are_their_parts(candidate: Candidate) -> None:
    start = torch.tensor([0.4 + 0.3j, -0.2 + 0.5j])
    whole = start.clone().requires_grad_()
    real, imaginary = (part.clone().requires_grad_() for part in (start.real, start.imag))
    together, apart = candidate.ours([whole]), candidate.ours([real, imaginary])
    for _ in range(5):
        together.zero_grad()
        apart.zero_grad()
        with torch.no_grad():  # so that differences are not amplified by the next steps
            real.copy_(whole.real)
            imaginary.copy_(whole.imag)
        rosenbrock(whole).abs().backward()
        rosenbrock(torch.complex(real, imaginary)).abs().backward()
        together.step()
        apart.step()
        assert_close(whole.detach().real, real.detach())
        assert_close(whole.detach().imag, imaginary.detach())


def sparse_gradient(point: Tensor, coordinate: int) -> Tensor:
    """One coordinate's gradient, in two entries of an uncoalesced tensor."""
    g = rosenbrock_gradient(point)[coordinate]
    indices = torch.tensor([[coordinate, coordinate]])
    return torch.sparse_coo_tensor(
        indices, torch.stack([g / 4, g - g / 4]), (2,), check_invariants=True
    )


def dense_gradient(point: Tensor, coordinate: int) -> Tensor:
    return rosenbrock_gradient(point) * torch.eye(2, dtype=point.dtype)[coordinate]


@pytest.mark.parametrize("scheduled", [False, True], ids=["plain", "scheduled"])
@pytest.mark.parametrize("maximize", [False, True], ids=["minimize", "maximize"])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "default"])
def test_sparse_gradients_are_dense_ones(
    implementation: str, beta: str, maximize: bool, scheduled: bool
) -> None:
    """With the rate and scheduler of torch's entry, coordinate by coordinate (so h is 0)."""
    options, builders = INFOS["SGD"].metadata_for_sparse
    candidate = Candidate("SGD", implementation, 0, beta)
    points, optimizers, schedulers = [], [], []
    for _ in range(2):
        dtypes = (torch.float32, torch.float64)
        points.append([torch.full((2,), 1.5, dtype=dtype).requires_grad_() for dtype in dtypes])
        optimizers.append(candidate.ours(points[-1], **{**options, "maximize": maximize}))
        schedulers += [build(optimizers[-1]) for build in builders if scheduled]
    began = [p.detach().clone() for p in points[0]]
    for t in range(4 if maximize else 200):  # upwards the function has no end
        for own, optimizer, gradient in zip(
            points, optimizers, (sparse_gradient, dense_gradient), strict=True
        ):
            for p in own:
                p.grad = gradient(p, 1 - t % 2)
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        for p, q in zip(*points, strict=True):
            assert_close(p, q, atol=5e-6, rtol=5e-6)
    for p, start in zip(points[0], began, strict=True):
        if maximize:
            assert rosenbrock(p) > rosenbrock(start)
        else:
            assert p.detach().dist(SOLUTION.to(p.dtype)) < start.dist(SOLUTION.to(p.dtype))


@pytest.mark.parametrize("granularity", ["global", "group", "tensor", "element"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=["sgd", "momentum"])
@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "fused", "default"])
def test_sparse_gradients_move_the_rate_as_dense_ones_do(
    implementation: str, options: dict[str, float], granularity: str
) -> None:
    tokens = torch.tensor([[0, 2, 2], [4, 0, 1]])
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = torch.nn.Embedding(5, 3, sparse=sparse)
        candidate = Candidate("SGD", implementation, 0, "live")
        optimizer = candidate.ours(
            table.parameters(), lr=0.01, hypergrad_lr=1e-4, granularity=granularity, **options
        )
        for _ in range(10):
            optimizer.zero_grad()
            table(tokens).square().sum().backward()
            optimizer.step()
        summary = optimizer.lr_summary()  # type: ignore[attr-defined]
        found.append((table.weight.detach(), torch.tensor(list(summary.values()))))
    assert_close(*found)
    assert found[0][1][-1] > 0.0101


@pytest.mark.parametrize("candidate", candidates(names=["Adam", "AdamW"]), ids=str)
def test_adam_refuses_sparse_gradients_as_torchs_does(candidate: Candidate) -> None:
    messages = []
    for build in (candidate.theirs, candidate.ours):
        p = torch.ones(2, requires_grad=True)
        p.grad = sparse_gradient(p, 0)
        with pytest.raises(RuntimeError) as caught:
            build([p]).step()
        messages.append(str(caught.value))
        assert torch.equal(p, torch.ones(2))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("beta", BETAS)
def test_fused_sgd_takes_sparse_gradients_too(beta: str) -> None:
    """torch's refuses them; ours takes the kernel that can."""
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.eye(2)[0].to_sparse()
    Candidate("SGD", "fused", 0, beta).ours([p]).step()
    assert p.tolist() == [pytest.approx(0.999), 1.0]
