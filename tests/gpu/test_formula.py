"""Laws: a kernel made of a function computes it, for all rules, averages and schedules."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from stepping import DEVICE

from cases import BETAS
from hypergradient.engine import hypergradients
from hypergradient.engine.gpu import device, formula_kernels
from hypergradient.engine.gpu.formula_kernels import by_kernel
from hypergradient.engine.hypergradients import apply_rule
from hypergradient.engine.inner_products import InnerProducts
from hypergradient.engine.iterates import Average
from hypergradient.engine.rules import RULES, Rule, rule_of

# in the interpreter, NumPy warns of what a GPU does silently
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
HYPERGRADIENTS = (0.3, -0.2, 0.0, math.nan, 0.7, math.inf, -math.inf, -0.0, 1e-30, -1e30)
STEP_SIZES = [
    *BETAS.items(),
    ("additive", (1e-3, 1e-5)),
    ("multiplicative", (0.2, 1e-2, 1e-3)),
    ("adam", (2e-3, 1e-4)),
]
ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-4}  # 1 - 0.999^t cancels


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels compute what they can, on the CPU too."""
    monkeypatch.setattr(device, "usable", lambda where: where.type == DEVICE)


def group_of(rule: str, beta: Any, bounds: Any) -> dict[str, Any]:
    return {"rule": rule, "hypergrad_lr": beta, "lr_bounds": bounds, "differentiable": False}


def start(group: dict[str, Any], alpha: Tensor) -> tuple[Tensor, list[Tensor]]:
    alpha = alpha.to(DEVICE)
    return alpha, [torch.full_like(alpha, first) for first in rule_of(group).memory.values()]


def hypergradient_of_step(step: int, like: Tensor) -> Tensor:
    """Some that are special, then random ones, whose size changes from step to step."""
    if step < len(HYPERGRADIENTS):
        return torch.full_like(like, HYPERGRADIENTS[step])
    generator = torch.Generator().manual_seed(step)
    random = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return (random * 10 ** (step % 7 - 3)).to(like)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("bounds", "shape"),
    [((0.0, math.inf), ()), ((0.048, 0.053), (300,)), (None, ())],
    ids=["positive", "tight, many", "unbounded"],
)
@pytest.mark.parametrize(("rule", "beta"), STEP_SIZES, ids=str)
def test_rates_and_memories_are_the_eager_ones(
    rule: str, beta: Any, bounds: Any, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    group = group_of(rule, beta, bounds)
    rates = torch.full(shape, 0.05, dtype=dtype)
    (ours, memory), (eager, eager_memory) = (start(group, rates.clone()) for _ in range(2))
    for traced in (True, False) if RULES[rule].uses_trace else (False,):
        for step in range(20):  # the special ones, and as many others
            h = hypergradient_of_step(step, ours)
            apply_rule(group, ours, h, memory, traced=traced)
            wanted = hypergradients._moved(group, [eager, h, *eager_memory], traced=traced)
            eager, *eager_memory = wanted
            for got, number in zip([ours, *memory], wanted, strict=True):
                torch.testing.assert_close(
                    got, number, rtol=ROUNDING[dtype], atol=0, equal_nan=True
                )
    assert formula_kernels._known  # it was no eager step that was compared with itself


@pytest.mark.usefixtures("kernels")
def test_the_rule_is_that_of_floats_too() -> None:
    """The eager way of float64 tensors, and so the kernel, is Python's arithmetic."""
    for rule, beta in STEP_SIZES:
        group = group_of(rule, beta, (0.0, math.inf))
        alpha = torch.tensor(0.05, dtype=torch.float64)
        (ours, memory), (own, own_memory) = (start(group, alpha.clone()) for _ in range(2))
        own, own_memory = own.cpu(), [m.cpu() for m in own_memory]
        for step in range(50):
            h = hypergradient_of_step(step, own)
            apply_rule(group, ours, h.to(DEVICE), memory)
            apply_rule(group, own, h.item(), own_memory)
        for got, number in zip([ours, *memory], [own, *own_memory], strict=True):
            assert got.item() == pytest.approx(number.item(), rel=1e-10), rule


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_an_average_prepares_a_step_as_the_eager_one_does(dtype: torch.dtype) -> None:
    """Under a schedule, which also reaches 0, and rates that rise and fall; by two factors."""
    iterate, pairs = Average(), []
    for reference in (0.5, 0.25):
        first = {"lr": 1e-30, "scheduled_lr": reference, "learned_scale": 1e-30 / reference}
        first |= iterate.group_numbers
        pair: list[dict[str, Any]] = [
            {n: torch.tensor(x, dtype=dtype, device=DEVICE) for n, x in first.items()}
            | {"reference_lr": reference, "differentiable": False}
            for _ in range(2)
        ]
        pairs.append(pair)
    for step in range(30):
        factor = max(math.cos(step / 4), 0.0)  # 0 from the 7th step to the 18th
        for pair in pairs:
            for group in pair:
                group["scheduled_lr"].fill_(group["reference_lr"] * factor)
                group["lr"].fill_(1e-3 * factor * (1 + math.sin(step / 3)))
            ours, eager = iterate.begin(pair[0]), iterate._begin(pair[1])
            for name in ("learned", "c", "mu"):
                got, wanted = (float(getattr(each, name)) for each in (ours, eager))
                assert got == pytest.approx(wanted, rel=ROUNDING[dtype])
            for name in iterate.group_numbers:
                numbers = (group[name] for group in pair)
                torch.testing.assert_close(*numbers, rtol=ROUNDING[dtype], atol=0)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("rule", ["additive", "multiplicative", "hdm", "relative"])
def test_a_hypergradient_is_made_of_sums(
    rule: str, reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {**group_of(rule, 0.1, None), "reduction": reduction}
    generator = torch.Generator().manual_seed(0)
    for parts in (1, 2, 3):
        products = InnerProducts(norms=RULES[rule].needs_norms)
        for _ in range(parts):
            terms = torch.randn(3 if products.norms else 1, generator=generator).double().abs()
            products.add(parts + 3, *terms.to(DEVICE).unbind())
        ours = products.hypergradient(group)
        with monkeypatch.context() as context:
            context.setattr(device, "usable", lambda _: False)
            eager = products.hypergradient(group)
        torch.testing.assert_close(ours, eager, rtol=1e-6, atol=0)
    assert any(key[0][0] == rule_of(group).form for key in formula_kernels._known)


@pytest.mark.usefixtures("kernels")
def test_members_have_a_beta_each() -> None:
    betas = torch.tensor([1e-3, 0.0, 2e-3], dtype=torch.float64, device=DEVICE)
    group = group_of("additive", betas, (0.0, math.inf))
    alpha, h = torch.full_like(betas, 0.05), torch.tensor([1.0, 1.0, -1.0], device=DEVICE)
    before = len(formula_kernels._known)
    apply_rule(group, alpha, h.double(), [])
    assert alpha.tolist() == pytest.approx([0.051, 0.05, 0.048], rel=1e-15)
    assert len(formula_kernels._known) == before + 1


def functions() -> dict[str, Callable[[list[Tensor]], list[Tensor]]]:
    """Functions of two numbers x and y, of which a kernel has the operations."""

    def in_place(numbers: list[Tensor]) -> list[Tensor]:
        x, y = numbers
        x.mul_(2).add_(y)
        y.copy_(x)
        x.fill_(3.0)
        return [x, y]

    return {
        "in place": in_place,
        "bounds": lambda n: [n[0].clamp(min=0.5), n[1].clamp(max=torch.inf)],
        "largest": lambda n: [torch.maximum(*n), torch.minimum(n[1], n[0])],
        "powers": lambda n: [0.9 ** n[0] + n[1] ** 3, 1 / n[0] + n[1].abs() ** 0.5],
        "logic": lambda n: [n[0] * ((n[1] > 0) & n[0].isfinite() | (n[1] == 1)), 1 - n[1]],
        "roots": lambda n: [n[0].abs().sqrt().log(), -n[1].exp()],
        "made anew": lambda n: [torch.zeros_like(n[0]) + n[1], torch.full_like(n[1], 0.1)],
    }


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", functions())
def test_operations_are_those_of_torch(name: str) -> None:
    function = functions()[name]
    for pair in [(0.3, -0.7), (math.nan, 2.0), (5.0, math.nan), (-math.inf, 1.0), (-0.5, -3.0)]:
        x, y = (torch.tensor(number, dtype=torch.float32, device=DEVICE) for number in pair)
        results = torch.empty(2, device=DEVICE).unbind()
        assert by_kernel(name, function, [x, y], results)
        wanted = function([x.clone(), y.clone()])
        for got, number in zip(results, wanted, strict=True):
            torch.testing.assert_close(got, number, rtol=2e-7, atol=0, equal_nan=True)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "update",
    [
        lambda alpha, h, _: alpha + h.sin(),
        lambda alpha, h, beta: alpha + beta * h if h.item() > 0 else alpha,
        lambda alpha, h, _: alpha + torch.stack([h, h]).sum(0),
    ],
    ids=["no such operation", "asks for a number", "other shapes"],
)
def test_a_rule_that_no_kernel_has_is_eager(
    update: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "own", Rule(update))
    group = group_of("own", 0.1, None)
    alpha, h = (torch.tensor(number, device=DEVICE) for number in (1.0, 0.5))
    wanted = update(alpha, h, 0.1)
    apply_rule(group, alpha, h, [])
    assert alpha == wanted


@pytest.mark.usefixtures("kernels")
def test_another_number_in_an_option_needs_no_other_kernel() -> None:
    alpha, h = (torch.tensor(number, device=DEVICE) for number in (1.0, 0.5))
    apply_rule(group_of("additive", 0.1, None), alpha, h, [])
    before = formula_kernels._kernel.cache_info().misses
    apply_rule(group_of("additive", 0.2, None), alpha, h, [])
    assert alpha.item() == pytest.approx(1.15)
    assert formula_kernels._kernel.cache_info().misses == before


def test_nothing_is_launched_where_there_are_no_kernels() -> None:
    x = torch.ones(())
    assert not by_kernel("cpu", lambda n: n, [x], [x]) or DEVICE != "cpu"
