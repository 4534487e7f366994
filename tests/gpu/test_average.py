"""Laws: a step of `Untuned` by Triton's kernels is the eager one."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from stepping import DEVICE

from cases import parameters, problem
from hypergradient import Untuned
from hypergradient.engine import native_library
from hypergradient.engine.gpu.average import AverageKernels, AverageRate
from hypergradient.engine.gpu.recipes import AverageRecipe, AverageRule, ParamStep
from hypergradient.engine.gpu.tables import Tuning

# in the interpreter, NumPy warns of what a GPU does silently
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SHAPES = [[(41, 3), (), (1100,), (0, 3)]]


class ByKernels:
    """`Untuned` over some parameters, from its first rate on."""

    def __init__(
        self, start: list[Tensor], lr: float, recipe: AverageRecipe, tuning: Tuning | None = None
    ) -> None:
        self.y = [p.detach().float().clone().to(DEVICE) for p in start]
        self.z = [y.clone() for y in self.y]
        self.m, self.v = ([torch.zeros_like(y) for y in self.y] for _ in range(2))
        self.steps = [torch.zeros((), device=DEVICE) for _ in self.y]
        values = (lr, 1.0, 0.0, 1.0, 1.0, 0.0)
        self.rate = AverageRate(*(torch.tensor(x, device=DEVICE) for x in values))
        self.recipe = recipe
        self.kernels = AverageKernels(DEVICE, tuning)

    def step(self, gradients: list[Tensor], rule: AverageRule) -> None:
        params = [
            ParamStep(
                y,
                g.float().to(DEVICE),
                m,
                v if self.recipe.adam else None,
                z,
                step,
                self.recipe,
                None,
            )
            for y, g, m, v, z, step in zip(
                self.y, gradients, self.m, self.v, self.z, self.steps, strict=True
            )
        ]
        self.kernels.load(params, rule)
        self.kernels.descend(self.rate)
        self.kernels.move_rate(self.rate)


@pytest.mark.parametrize(
    "tuning", [Tuning(), Tuning(256, stages=2, parts=2)], ids=["one block", "several"]
)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("base", ["adam", "sgd"])
def test_it_is_the_eager_step(
    base: str, decay: float, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eager way is in float64; twenty steps, one with an outlier."""
    monkeypatch.setattr(native_library, "function", lambda: None)
    of = problem(5, torch.float64, steps=20, shapes=SHAPES, missing=0.0)
    of.gradients[15][0][2] *= 1e4
    (params,) = parameters(of.start)
    eagerly = Untuned(params, base=base, weight_decay=decay)
    recipe = AverageRecipe(0.93, 0.999 if base == "adam" else None, 1e-8, decay)
    ours: Any = None
    for (gradients,) in of.gradients:
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        if ours is None:  # the first rate is for the engine
            probe = Untuned(parameters(of.start)[0], base=base, weight_decay=decay)
            first_rate(probe, gradients)
            ours = ByKernels(of.start[0], probe.param_groups[0]["lr"].item(), recipe, tuning)
        eagerly.step()
        ours.step(gradients, AverageRule())
        rate = eagerly.param_groups[0]
        for name, number in ours.rate._asdict().items():
            wanted = rate["step" if name == "steps" else name]
            assert number.item() == pytest.approx(float(wanted), rel=1e-4), name
        for i, p in enumerate(params):
            state = eagerly.state[p]
            assert ours.steps[i] == state["step"]
            same(ours.y[i], p.detach())
            same(ours.z[i], state["z"])
            same(ours.m[i], state["directions"])
            if base == "adam":
                same(ours.v[i], state["exp_avg_sq"])


def first_rate(optimizer: Untuned, gradients: list[Tensor]) -> None:
    (group,) = optimizer.param_groups
    for p, g in zip(group["params"], gradients, strict=True):
        p.grad = g.clone()
    with torch.no_grad():
        optimizer._bound_first([optimizer._part(group, p) for p in group["params"]])


def same(got: Tensor, wanted: Tensor) -> None:
    """Up to roundings of z - y, where both are of the size of theta."""
    scale = max(wanted.abs().max().item() if wanted.numel() else 0.0, 1.0)
    torch.testing.assert_close(got.cpu().double(), wanted, rtol=0, atol=2e-5 * scale)


def test_a_gradient_that_is_not_finite_leaves_the_rate() -> None:
    recipe = AverageRecipe(0.93, 0.999, 1e-8)
    of = problem(6, torch.float32, steps=3, shapes=SHAPES, missing=0.0)
    ours = ByKernels(of.start[0], 1e-3, recipe)
    for (gradients,) in of.gradients[:2]:
        ours.step(gradients, AverageRule())
    before = ours.rate.lr.item()
    (gradients,) = of.gradients[2]
    gradients[0][0, 0] = torch.inf
    ours.step(gradients, AverageRule())
    assert ours.rate.lr.item() == before
    assert all(torch.isfinite(number) for number in ours.rate)


def test_the_trace_may_be_of_the_average_and_its_memory_may_grow() -> None:
    """m_t = mu_t (m_{t-1} + (x_t - x_{t-1}) / alpha_t), mu_t = 1 - 1 / max(2, t / 2)."""
    b, rule = 0.9, AverageRule(memory=0.5, memory_share=0.5, of_average=1.0)
    of = problem(7, torch.float32, steps=8, shapes=SHAPES, missing=0.0)
    ours = ByKernels(of.start[0], 1e-2, AverageRecipe(b, 0.999, 1e-8))
    xs, trace = [p.double() for p in of.start[0]], [torch.zeros_like(p) for p in of.start[0]]
    for t, (gradients,) in enumerate(of.gradients, 1):
        alpha, c = ours.rate.lr.item(), 1 / ours.rate.weight.item()
        ours.step(gradients, rule)
        mu = 1 - 1 / max(2, t / 2)
        for i, x in enumerate(xs):
            new = (1 - c) * x + c * ours.z[i].cpu().double()
            trace[i] = mu * (trace[i] + (new - x) / alpha)
            xs[i] = new
            same(ours.m[i], trace[i])
            same(ours.y[i], (1 - b) * ours.z[i].cpu().double() + b * new)
