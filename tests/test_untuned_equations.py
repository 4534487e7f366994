"""`Untuned` against a scalar loop of its equations, and its two ways to make a step."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hypergradient import Untuned
from hypergradient.engine.hypergradients import apply_rule
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.rules import RULES

BASES = ("adam", "sgd")
NUMBERS = tuple(RULES["relative"].memory)


def quadratic(n: int, seed: int) -> tuple[list[list[float]], list[float]]:
    """A positive definite matrix and a start, as numbers."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, n, generator=generator, dtype=torch.float64)
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    return (a @ a.T / n + 0.1 * torch.eye(n)).tolist(), start.tolist()


def length_by_hand(g: list[float], t: int, squares: list[float]) -> tuple[float, float]:
    """Of `engine/step_length.py`: s_t, and what h_t is divided by; r_t^2 joins the squares."""
    now, last = sum(gi * gi for gi in g) / len(g), squares[-1] if squares else 0.0
    window = max(min(t, 10), t / 5)
    squares.append(last + (min(now, 10 * last) - last) / window if last else now)
    factor = min(2.0, math.sqrt(squares[-1] / now)) if now else 1.0
    growth = math.sqrt(max(squares) / squares[0]) if squares[0] else 1.0
    return factor / max(1.0, growth / 10), math.sqrt(squares[-1]) or 1.0


def parted(numbers: list[float], cuts: tuple[int, ...]) -> list[list[float]]:
    ends = (*cuts, len(numbers))
    return [numbers[start:end] for start, end in zip((0, *cuts), ends, strict=True)]


def quiet(u: list[float]) -> list[float]:
    """A direction of one parameter, with a root mean square of 1 at most."""
    rms = math.sqrt(sum(ui * ui for ui in u) / len(u))
    return [ui / max(1.0, rms) for ui in u]


def by_hand(
    gradient: Callable[[list[float], int], list[float]],
    theta: list[float],
    steps: int,
    *,
    base: str,
    lr: float = 1.0,
    decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-12,
    shape: Callable[[int], float] = lambda _: 1.0,
    cuts: tuple[int, ...] = (),
) -> tuple[list[float], list[float], list[float]]:
    """The equations, a number at a time: y, x, and the learned rate of each step.

    The rate in use at step t is shape(t) times the learned one. Where it is 0 nothing is learned.
    Each part of theta between two cuts is a parameter.
    """
    n = len(theta)
    x, y, z = list(theta), list(theta), list(theta)
    v, m, squares = [0.0] * n, [0.0] * n, list[float]()
    alpha, first, largest, spread, total = lr, lr, 0.0, 0.0, 0.0
    rates, warming_up, climbing, k, age, steepest = [], True, False, 0, 0, 0.0
    for t in range(1, steps + 1):
        g = gradient(y, t)
        v = [betas[1] * vi + (1 - betas[1]) * gi * gi for vi, gi in zip(v, g, strict=True)]
        u = g
        if base == "adam":
            u = [
                gi / (math.sqrt(vi / (1 - betas[1] ** t)) + eps)
                for gi, vi in zip(g, v, strict=True)
            ]
            u = [ui for part in parted(u, cuts) for ui in quiet(part)]
        of_sgd = length_by_hand(g, t, squares)
        factor, unit = of_sgd if base == "sgd" else (1.0, 1.0)
        if t == 1:
            size = max(math.sqrt(sum(p * p for p in theta) / n), 1e-2)
            one = [gi / (abs(gi) + eps) if base == "adam" else gi for gi in g]
            first = 1e-2 * size / math.sqrt(sum(ui * ui for ui in one) / n)
            alpha = min(lr, first)
            climbing = alpha < first
        largest = max(largest, alpha)
        total += largest**2 * t**3
        c = largest**2 * t**3 / total
        u = [ui + decay * yi for ui, yi in zip(u, y, strict=True)]
        along = sum(gi * mi for gi, mi in zip(g, m, strict=True))
        h = alpha * along / unit
        used = shape(t) * alpha
        z = [zi - factor * used * ui for zi, ui in zip(z, u, strict=True)]
        new = [(1 - c) * xi + c * zi for xi, zi in zip(x, z, strict=True)]
        mu = 1 - 1 / max(10, 0.5 * t)
        m = [mu * (mi + (xi - ni) / alpha) for mi, xi, ni in zip(m, x, new, strict=True)]
        x, y = new, [(1 - betas[0]) * zi + betas[0] * xi for zi, xi in zip(z, new, strict=True)]
        rates.append(alpha)
        k += used != 0
        age += used != 0 and not climbing
        if k > 1 and used != 0:
            size = min(abs(h), 100 * spread) if spread > 0 else abs(h)
            share = max(0.5 * k, min(k - 1, 200))
            spread += (size - spread) / share
            ratio = max(-1.0, min(1.0, h / spread))
            warming_up = warming_up and (h >= 0 or climbing)
            falling = 0.5 / max(age, 1) * (1 + 200 / max(age, 1))
            eta = min(0.05, falling if ratio < 0 else 3 / k)
            slope = max(0.0, along) / unit / max(sum(0.9**i for i in range(1, k)), (k - 1) / 3)
            steepest = max(steepest, slope)
            left = slope / steepest if steepest > 0 else 1.0
            fastest = 0.4 * (ratio > 0) if climbing else 0.15 * left
            alpha *= math.exp((max(eta, fastest) if warming_up else eta) * ratio)
            alpha = max(alpha, 0.01 * largest)
            climbing = climbing and alpha < first
    return y, x, rates


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    base=st.sampled_from(BASES),
    decay=st.sampled_from((0.0, 0.1)),
    beta=st.sampled_from((0.5, 0.9)),
    lr=st.sampled_from((1e-4, 1.0)),
)
def test_it_is_its_equations(seed: int, base: str, decay: float, beta: float, lr: float) -> None:
    matrix, start = quadratic(4, seed)
    noise = torch.randn(40, 4, generator=torch.Generator().manual_seed(seed)).double().tolist()

    def gradient(theta: list[float], t: int) -> list[float]:
        rows = [sum(a * b for a, b in zip(row, theta, strict=True)) for row in matrix]
        return [r + 0.3 * e for r, e in zip(rows, noise[t - 1], strict=True)]

    y, x, rates = by_hand(
        gradient, start, 40, base=base, lr=lr, decay=decay, betas=(beta, 0.99), cuts=(1,)
    )
    a, b = (
        nn.Parameter(torch.tensor(part, dtype=torch.float64)) for part in (start[:1], start[1:])
    )
    optimizer = Untuned(
        [{"params": [a]}, {"params": [b]}], lr, (beta, 0.99), weight_decay=decay, base=base
    )
    for t in range(1, 41):
        if t > 1:
            assert optimizer.param_groups[1]["lr"].item() == pytest.approx(rates[t - 1], rel=1e-9)
        g = torch.tensor(gradient([*a.tolist(), *b.tolist()], t), dtype=torch.float64)
        a.grad, b.grad = g[:1], g[1:]
        optimizer.step()
    assert [*a.tolist(), *b.tolist()] == pytest.approx(y, rel=1e-8, abs=1e-10)
    optimizer.eval()
    assert [*a.tolist(), *b.tolist()] == pytest.approx(x, rel=1e-8, abs=1e-10)
    optimizer.train()
    assert [*a.tolist(), *b.tolist()] == pytest.approx(y, rel=1e-8, abs=1e-10)


SHAPES: dict[str, Callable[[int], float]] = {
    "linear warm-up and decay": lambda t: min(t / 10, (40 - t) / 30),  # 0 at the last step
    "from zero": lambda t: (t - 1) / 40,
    "on and off": lambda t: float(t % 7 != 0),
    "down and up": lambda t: 0.5 + 0.5 * math.cos(0.5 * t),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_multiplies_the_learned_rate(name: str, base: str) -> None:
    """The rate in use is s_t times the learned one, and both are those of the equations."""
    matrix, start = quadratic(4, 3)
    shape = SHAPES[name]

    def gradient(theta: list[float], t: int) -> list[float]:
        return [sum(a * b for a, b in zip(row, theta, strict=True)) + math.sin(t) for row in matrix]

    y, x, rates = by_hand(gradient, start, 40, base=base, shape=shape)
    p = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = Untuned([p], betas=(0.9, 0.999), base=base)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: shape(t + 1))
    for t in range(1, 41):
        if t > 1:
            used = optimizer.param_groups[0]["lr"].item()
            assert used == pytest.approx(shape(t) * rates[t - 1], rel=1e-9, abs=1e-15)
        p.grad = torch.tensor(gradient(p.tolist(), t), dtype=torch.float64)
        optimizer.step()
        schedule.step()
    assert p.tolist() == pytest.approx(y, rel=1e-8, abs=1e-10)
    optimizer.eval()
    assert p.tolist() == pytest.approx(x, rel=1e-8, abs=1e-10)


@settings(max_examples=30)
@given(st.lists(st.floats(width=32), max_size=30), st.integers(1, 10_000))
def test_the_rate_moves_by_numbers_as_by_tensors(hs: list[float], t: int) -> None:
    rates = []
    for kind in (float, torch.tensor):
        optimizer = Untuned([nn.Parameter(torch.ones(3))], 0.1)
        state = optimizer.param_groups[0]
        state["rule_step"].fill_(t)
        for h in hs:
            apply_rule(state, alpha_of(state), kind(h), [state[name] for name in NUMBERS])
        rates.append([float(state[name]) for name in ("lr", *NUMBERS)])
    assert rates[0] == pytest.approx(rates[1], rel=1e-9)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_c_function_is_the_eager_way(
    base: str, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large and odd sizes, strides that are not the usual ones, and a parameter it cannot take."""
    ends = []
    for native in (True, False):
        with monkeypatch.context() as patch:
            if not native:
                patch.setattr("hypergradient.engine.native_library.function", lambda: None)
            torch.manual_seed(0)
            params = [
                nn.Parameter(torch.randn(3, 5)),
                nn.Parameter(torch.randn(70_001)),
                nn.Parameter(torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)),
                nn.Parameter(torch.randn(7, dtype=torch.float64)),
                nn.Parameter(torch.randn(0)),
            ]
            optimizer = Untuned(params, base=base, weight_decay=decay)
            for _ in range(20):
                for p in params:
                    p.grad = 2 * p.detach() + torch.randn(p.shape).to(p)
                optimizer.step()
            ends.append((params, float(optimizer.param_groups[0]["lr"])))
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-5)
    for p, q in zip(ends[0][0], ends[1][0], strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-6)
