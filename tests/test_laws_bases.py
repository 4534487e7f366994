"""Laws of bases, shipped ones and a person's own: h is the derivative, and a beta of 0 is torch's.

The case table (cases.py) has bases beside the named optimizers, so that all other laws hold for
them, too: groups, members, bounds, decay, copies, checkpoints, gradient scalers, and odd numbers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import BETAS, GRANULARITIES, LR, MEMBERS, grouped, stacked
from hypergradient import Base, Hypergradient
from own_bases import Lion, Softened, TwoMeans
from pairwise import pairs
from reference import FORMS, RULES, Options, Rate, Scalar, direction, gradient, over_squares
from test_laws_derivative import KEYS, loss

pytestmark = pytest.mark.usefixtures("float64")

STEPS = 5
MATRICES = (((3, 2), (2, 4)), ((4, 3), (1, 2)))  # which every base can move
Directions = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Entry:
    """A base, and who else knows its direction: an optimizer of torch, or the scalar loops."""

    name: str
    base: Base | str
    options: dict[str, Any] = field(default_factory=dict)
    torchs: Any = None
    torch_options: dict[str, Any] | None = None  # where they are not `options`
    scalar: Options | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def decoupled(self) -> bool:
        lion_or_so = self.scalar is not None and self.scalar.decoupled_weight_decay
        return self.name in {"adamw", "nadam", "muon"} or lion_or_so

    def directions(self, start: Sequence[Tensor]) -> Directions:
        return self._by_loops(start) if self.torchs is None else self._by_torch(start)

    def _by_torch(self, start: Sequence[Tensor]) -> Directions:
        """u_t is the way of torch's optimizer at a rate of 1, decay included."""
        params = [theta.detach().clone() for theta in start]
        options = self.options if self.torch_options is None else self.torch_options
        optimizer = self.torchs(params, lr=1.0, **options)

        def ways(thetas: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
            for p, theta, g in zip(params, thetas, gradients, strict=True):
                p.copy_(theta)
                p.grad = g.clone()
            optimizer.step()
            return [theta - p for theta, p in zip(thetas, params, strict=True)]

        return ways

    def _by_loops(self, start: Sequence[Tensor]) -> Directions:
        assert self.scalar is not None
        own = self.scalar
        scalars = [[Scalar(0.0, Rate(0.0), own) for _ in range(p.numel())] for p in start]

        def ways(thetas: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
            found = []
            for of_p, theta, g in zip(scalars, thetas, gradients, strict=True):
                for s, number, slope in zip(
                    of_p, theta.flatten().tolist(), g.flatten().tolist(), strict=True
                ):
                    s.theta = number
                    s.g = gradient(s, slope)
                found.append(torch.tensor([direction(s) for s in of_p]).view(theta.shape))
            return found

        return ways


def loops(algorithm: str, **options: Any) -> Options:
    return Options(algorithm=algorithm, lr=LR, hypergrad_lr=0.0, **options)


L2 = {"weight_decay": 0.1}
DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}
NESTEROV = {"momentum": 0.9, "nesterov": True}
SHORT = {"betas": (0.5, 0.9)}
TORCHS = (
    Entry("sgd", "sgd", {**NESTEROV, **L2}, torch.optim.SGD),
    Entry("adam", "adam", {**L2}, torch.optim.Adam),
    Entry("adamw", "adamw", {**L2}, torch.optim.AdamW),
    Entry(
        "amsgrad",
        "amsgrad",
        {"betas": (0.5, 0.9)},
        torch.optim.Adam,
        {"amsgrad": True, "betas": (0.5, 0.9)},
    ),
    Entry("nadam", "nadam", DECOUPLED, torch.optim.NAdam),
    Entry("rmsprop", "rmsprop", {"alpha": 0.9, "maximize": True, **L2}, torch.optim.RMSprop),
    Entry("adagrad", "adagrad", {"eps": 0.1, **L2}, torch.optim.Adagrad),
    Entry("muon", "muon", {**L2, "momentum": 0.9}, torch.optim.Muon),
)


def adafactor_of_torch(params: list[Tensor], lr: float, **options: Any) -> torch.optim.Optimizer:
    """torch's Adafactor with a rate of `lr`: its own is relative to the parameters' size."""
    small, size = 1e-4, lr * 1e4  # the rate is size * min(small, 1 / sqrt(step))
    return torch.optim.Adafactor(params, lr=small, eps=(1e-15, size), weight_decay=0.0, **options)


NO_ELEMENTS = ("muon", "adafactor")  # a number moves by what others do, so that no stack is one
ENTRIES = (
    *TORCHS,
    Entry("adafactor", "adafactor", {"beta2_decay": -0.6}, adafactor_of_torch),
    Entry("lion", "lion", L2, scalar=loops("lion", betas=(0.9, 0.99), **DECOUPLED)),
    Entry("own-lion", Lion(), {}, scalar=loops("lion", betas=(0.9, 0.99))),
    Entry("own-without-state", Softened(), {}, scalar=loops("softened", **L2)),
    Entry("own-two-states", TwoMeans(), L2, scalar=loops("twomeans", **DECOUPLED)),
)


def matrices(granularity: str = "group", seed: int = 3) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [stacked(group, granularity) for group in MATRICES]
    return [
        [torch.randn(shape, generator=generator).requires_grad_() for shape in group]
        for group in shapes
    ]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


def rate_of(optimizer: Any, group: dict[str, Any], p: Tensor) -> Tensor:
    rate = optimizer.state.get(p, {}).get("lr", group["lr"]).as_subclass(Tensor)
    if group["granularity"] == "member":
        rate = rate.view(-1, *(1,) * (p.dim() - 1))
    return rate.expand(p.shape).clone()


@pairs(
    lambda entry, granularity, **_: entry.name not in NO_ELEMENTS or granularity != "member",
    entry=ENTRIES,
    granularity=GRANULARITIES,
    rule=BETAS,
)
def test_the_rate_moves_by_minus_the_derivative(entry: Entry, granularity: str, rule: str) -> None:
    """h is autograd's derivative through theta - alpha u_t, with u_t from torch or the loops."""
    groups = matrices(granularity)
    params = [p for group in groups for p in group]
    optimizer = Hypergradient(
        grouped(groups, [{"lr": 0.05}, {"lr": 0.03}]),
        base=entry.base,
        **entry.options,
        hypergrad_lr=BETAS[rule],
        rule=rule,
        granularity=granularity,
        lr_bounds=None,
    )
    keys = [
        KEYS[granularity](i, j, k, k * MEMBERS // p.numel())
        for i, group in enumerate(groups)
        for j, p in enumerate(group)
        for k in range(p.numel())
    ]
    ways = entry.directions(params)
    owners = [group for group in optimizer.param_groups for _ in group["params"]]

    def rates() -> Tensor:
        return flat([rate_of(optimizer, g, p) for g, p in zip(owners, params, strict=True)])

    tensors = [i for i, p in enumerate(params) for _ in range(p.numel())]
    expected = Expected(rule, keys, tensors if granularity == "element" else keys, rates())
    u, slopes = torch.zeros(len(keys)), torch.zeros(len(keys))  # u_0 = 0
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(loss(flat(params)))
        thetas = [p.detach().clone() for p in params]
        gradients = [p.grad.clone() for p in params if p.grad is not None]
        optimizer.step()
        torch.testing.assert_close(
            rates(),
            expected.move(-slopes, descent(entry, thetas, gradients), u),
            rtol=1e-11,
            atol=1e-14,
        )
        used, theta = rates(), flat(thetas)
        u = flat(ways(thetas, gradients))
        torch.testing.assert_close(flat(params).detach(), theta - used * u, rtol=1e-12, atol=1e-13)
        slopes = derivative(entry, rule, theta, used, u, keys)
    assert slopes.abs().max() > 0, "a derivative of 0 shows nothing"


def descent(entry: Entry, thetas: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """g_t, with the sign of maximize and L2 decay."""
    g = flat(gradients) * (-1 if entry.options.get("maximize") else 1)
    own = entry.options.get("weight_decay", 0.1 if entry.name == "own-without-state" else 0.0)
    return g if entry.decoupled else g + own * flat(thetas)


def derivative(
    entry: Entry, rule: str, theta: Tensor, used: Tensor, u: Tensor, keys: list[Any]
) -> Tensor:
    """Return d loss / d alpha of each number's pool, or by log alpha for the rule "relative"."""
    shifts = {key: torch.zeros((), requires_grad=True) for key in keys}
    shift = torch.stack([shifts[key] for key in keys])
    rate = used * shift.exp() if rule == "relative" else used + shift
    moved = theta - rate * u
    objective = -loss(moved) if entry.options.get("maximize") else loss(moved)
    own = entry.options.get("weight_decay", 0.1 if entry.name == "own-without-state" else 0.0)
    if not entry.decoupled:
        objective = objective + own / 2 * moved.square().sum()
    slopes = dict(zip(shifts, torch.autograd.grad(objective, list(shifts.values())), strict=True))
    return torch.stack([slopes[key] for key in keys])


class Expected:
    """The rates that follow from derivatives, by the rules as scalars."""

    def __init__(self, rule: str, keys: list[Any], norms: list[Any], start: Tensor) -> None:
        self.rule, self.keys, self.norms = rule, keys, norms
        self.rates = [Rate(alpha) for alpha in start.tolist()]

    def move(self, h: Tensor, g: Tensor, u: Tensor) -> Tensor:
        beta = BETAS[self.rule]
        for i, (rate, key) in enumerate(zip(self.rates, self.keys, strict=True)):
            pool = torch.tensor([k == key for k in self.keys])
            own = float(h[i])
            if FORMS[self.rule] == "cosine":
                own = over_squares(own, float(g[pool].norm() * u[pool].norm()))
            elif FORMS[self.rule] == "normalised":
                of = torch.tensor([k == self.norms[i] for k in self.norms])
                own = over_squares(own, float(u[of].square().sum()))
            moved = RULES[self.rule](rate, own, beta)
            rate.value = moved if own else rate.value
        return torch.tensor([rate.value for rate in self.rates])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("entry", TORCHS, ids=str)
def test_without_a_beta_a_base_is_torchs(entry: Entry, dtype: torch.dtype) -> None:
    """To rounding, under a scheduler, and with a group that has options of its own."""
    start = [[p.detach().to(dtype) for p in group] for group in matrices()]
    ours, theirs = ([[p.clone().requires_grad_() for p in g] for g in start] for _ in range(2))
    own = [{"lr": 0.05}, {"lr": 0.02, "weight_decay": 0.3}]
    known = entry.options if entry.torch_options is None else entry.torch_options
    optimizers = (
        Hypergradient(grouped(ours, own), base=entry.base, **entry.options, hypergrad_lr=0.0),
        entry.torchs(grouped(theirs, own), **known),
    )
    schedulers = [torch.optim.lr_scheduler.StepLR(o, 3, 0.5) for o in optimizers]
    generator = torch.Generator().manual_seed(1)
    eps = torch.finfo(dtype).eps
    for _ in range(10):
        for x, y in zip(flat_groups(ours), flat_groups(theirs), strict=True):
            x.grad = torch.randn(x.shape, generator=generator).to(dtype)
            y.grad = x.grad.clone()
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        for x, y in zip(flat_groups(ours), flat_groups(theirs), strict=True):
            torch.testing.assert_close(x, y, rtol=32 * eps, atol=32 * eps)


def flat_groups(groups: list[list[Tensor]]) -> list[Tensor]:
    return [p for group in groups for p in group]


def test_each_group_may_have_a_base_of_its_own() -> None:
    """One optimizer for all is as many optimizers, bit for bit."""
    bases: list[tuple[Base | str, dict[str, Any]]] = [
        ("adam", {"betas": (0.5, 0.9)}),
        (Lion(), {"betas": (0.8, 0.9)}),
        ("muon", {"momentum": 0.9}),
        (TwoMeans(), {"fast": 0.3}),
    ]
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, generator=generator) for _ in bases]
    together, apart = ([nn_parameter(x) for x in start] for _ in range(2))
    groups = [
        {"params": [p], "base": base, **own} for p, (base, own) in zip(together, bases, strict=True)
    ]
    one = Hypergradient(groups, lr=0.01, hypergrad_lr=1e-3)
    many = [
        Hypergradient([p], base=base, **own, lr=0.01, hypergrad_lr=1e-3)
        for p, (base, own) in zip(apart, bases, strict=True)
    ]
    for _ in range(5):
        for p, q in zip(together, apart, strict=True):
            p.grad = torch.randn(3, 4, generator=generator)
            q.grad = p.grad.clone()
        one.step()
        for each in many:
            each.step()
    for p, q, group, each in zip(together, apart, one.param_groups, many, strict=True):
        assert torch.equal(p, q)
        assert float(group["lr"]) == float(each.param_groups[0]["lr"]) != 0.01


def nn_parameter(x: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(x.clone())


@pytest.mark.parametrize("granularity", ["global", "group", "tensor"])
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name != "muon"], ids=str)
def test_complex_parameters_are_pairs_of_reals(entry: Entry, granularity: str) -> None:
    generator = torch.Generator().manual_seed(4)
    start = torch.randn(3, 2, 2, generator=generator)
    whole = torch.view_as_complex(start.clone()).requires_grad_()
    parts = start.clone().requires_grad_()
    optimizers = [
        Hypergradient(
            [p], base=entry.base, **entry.options, lr=LR, hypergrad_lr=1e-3, granularity=granularity
        )
        for p in (whole, parts)
    ]
    for _ in range(5):
        parts.grad = torch.randn(3, 2, 2, generator=generator)
        whole.grad = torch.view_as_complex(parts.grad.clone())
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(torch.view_as_real(whole.detach()), parts.detach())
    one, other = (optimizer.lr_summary()["median"] for optimizer in optimizers)
    assert one == pytest.approx(other)
    assert not math.isclose(one, LR)
