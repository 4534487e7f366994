"""Laws of torch's test_optim.py: for-loop, foreach and fused agree; learning rates as tensors."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from entries import INFOS, Candidate, Problem, assert_same, each
from torch import Tensor, nn
from torch.testing import assert_close

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DEFAULTS = {torch.float64: torch.float64, torch.float16: torch.float32}  # to torch's step counts


def tolerance(candidate: Candidate, law: str, dtype: torch.dtype) -> dict[str, float]:
    """What torch's entry allows in its own law, where that is more than the dtype's default."""
    usual = {
        torch.float64: (1e-7, 1e-7),
        torch.float32: (1.3e-6, 1e-5),
        torch.bfloat16: (1.6e-2, 1e-5),
        torch.float16: (1e-3, 1e-5),
    }
    rtol, atol = usual[dtype]
    for decorator in INFOS[candidate.name].decorators:
        if decorator.test_name == law:
            allowed = decorator.decorators[0].d.get(dtype)
            # torch gives Adam's float64 more with an lr tensor on an accelerator only
            if allowed is not None and decorator.active_if is True:
                rtol, atol = max(rtol, allowed.rtol), max(atol, allowed.atol)
    return {"rtol": rtol, "atol": atol}


def network(dtype: torch.dtype) -> tuple[nn.Sequential, list[Tensor], Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1), nn.Sigmoid()).to(dtype)
    alone = torch.rand((), dtype=dtype, requires_grad=True)
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=dtype).reshape(3, 2)
    return model, [*model.parameters(), alone], x


def assert_matches_for_loop(
    candidate: Candidate, dtype: torch.dtype, law: str, step: torch.dtype | None = None
) -> None:
    """Seven steps, of which one has no gradients and two leave a layer out."""
    within = tolerance(candidate, law, dtype)
    loop = replace(candidate, implementation="for-loop")
    models, params, optimizers = [], [], []
    for each_one in (loop, candidate):
        model, own, x = network(dtype)
        models.append(model)
        params.append(own)
        optimizers.append(replace(each_one, dtype=dtype).ours(own))
    for t in range(7):
        for model, own, optimizer in zip(models, params, optimizers, strict=True):
            optimizer.zero_grad()
            model[2].requires_grad_(t not in {3, 4})
            if t != 2:
                model(x).sum().backward()
                own[-1].grad = torch.full_like(own[-1], 0.3)
            optimizer.step()
        assert_close(
            *(torch.as_tensor(o.param_groups[0]["lr"]) for o in optimizers), rtol=1e-3, atol=1e-9
        )
        for p, q in zip(*params, strict=True):
            assert_close(q, p, **within)
            q.data.copy_(p.data)  # so that a difference is not amplified by the next steps
            theirs, ours = (o.state[leaf] for o, leaf in zip(optimizers, (p, q), strict=True))
            assert theirs.keys() == ours.keys()
            for name, wanted in theirs.items():
                if wanted is None:
                    assert ours[name] is None
                    continue
                assert_close(ours[name], wanted, **within)
                ours[name].copy_(wanted)
                if name == "step" and step is not None:
                    assert ours[name].dtype == wanted.dtype == step


@each(without=["for-loop", "differentiable", "fused"])
def test_foreach_matches_for_loop(candidate: Candidate) -> None:
    assert_matches_for_loop(candidate, torch.float64, "test_foreach_matches_forloop")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@each(without=["for-loop", "differentiable", "foreach", "default"])
def test_fused_matches_for_loop(candidate: Candidate, dtype: torch.dtype) -> None:
    assert_matches_for_loop(candidate, dtype, "test_fused_matches_forloop")


@pytest.mark.parametrize("default", DEFAULTS, ids=str)
@each(without=["for-loop", "differentiable", "fused", "default"])
def test_default_dtype_works(candidate: Candidate, default: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        law = "test_foreach_matches_forloop"
        assert_matches_for_loop(candidate, torch.float64, law, DEFAULTS[default])
    finally:
        torch.set_default_dtype(before)


@each(without=["for-loop", "differentiable"])
def test_dtypes_mix(candidate: Candidate) -> None:
    """torch's law of mixed dtypes, which gives five times the tolerance of one operation.

    It takes seven steps for foreach, and one for fused.
    """
    generator = torch.Generator().manual_seed(0)
    start = [torch.rand(2, 3, generator=generator).to(dtype) for dtype in FLOATS]
    loop = replace(candidate, implementation="for-loop")
    found = []
    for each_one in (loop, candidate):
        params = [p.clone().requires_grad_() for p in start]
        for p in params:
            p.grad = (p.detach() / 2).clone()
        optimizer = each_one.ours(params)
        for _ in range(7 if candidate.implementation == "foreach" else 1):
            optimizer.step()
        found.append(params)
    for p, q in zip(*found, strict=True):
        within = tolerance(candidate, "", p.dtype)
        assert_close(q, p, **{name: 5 * value for name, value in within.items()})


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@each()
def test_lr_may_be_a_tensor(candidate: Candidate, shape: tuple[int, ...]) -> None:
    """Equal to the float, as torch's is, or refused as torch refuses it."""
    numbered, tensored = Problem(), Problem()
    lr = torch.full(shape, 1e-3)
    plain = candidate.ours(numbered.params, lr=1e-3)
    if candidate.options.get("foreach") and "betas" in plain.defaults:  # torch's Adam's own limit
        for build in (candidate.theirs, candidate.ours):
            with pytest.raises(ValueError, match="lr as a Tensor is not supported"):
                build(tensored.params, lr=lr)
        return
    optimizer = candidate.ours(tensored.params, lr=lr)
    for _ in range(5):
        numbered.train(plain, steps=1)
        tensored.train(optimizer, steps=1)
        assert_same(tensored.params, numbered.params)
    assert torch.equal(lr, torch.full(shape, 1e-3))


@pytest.mark.parametrize("name", INFOS)
def test_fused_refuses_parameters_on_meta(name: str) -> None:
    candidate = Candidate(name, "fused", 0, "live")
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1))
        for build in (candidate.theirs, candidate.ours):
            optimizer: Any = build(model.parameters())
            for p in model.parameters():
                p.grad = torch.rand_like(p)
            with pytest.raises(RuntimeError, match="`fused=True` requires all the params"):
                optimizer.step()
    optimizer.zero_grad()
    optimizer.step()  # without gradients there is nothing to refuse


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_capturable_on_the_cpu_is_as_torch_has_it(name: str) -> None:
    found = []
    for build in ("theirs", "ours"):
        problem = Problem()
        candidate = Candidate(name, "for-loop", 0, "zero")
        try:
            problem.train(getattr(candidate, build)(problem.params, capturable=True), steps=3)
        except (AssertionError, RuntimeError) as error:
            found.append(str(error))
        else:
            found.append("works")
    assert found[0] == found[1]
