"""Why a hypergradient loses its rate when batches are reshuffled, and what other signals see.

    python benchmarks/untuned.py [--epochs 60] [--picture docs/untuned.png]

On digits, an MLP 64-100-100-10 and Adam with 14 batches an epoch: the correlation of minibatch
noise by lag; two signals at constant rates; rules from two starts, with clean labels and with 20%
random ones. docs/reshuffling.md and docs/untuned.md quote what this prints (two minutes of one
core). Everything is scalar and slow on purpose.
"""

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn

from hypergradient import Untuned
from hypergradient.study.figures import style
from hypergradient.study.methods.ablations import Endless, OneStep
from hypergradient.study.tasks.data.load import load_data

BATCH, BATCHES = 100, 14
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NOISE = (0.0, 0.2)  # the share of labels drawn at random
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
STARTS = (1e-6, 1.0)
LONG = 10  # times the epochs: training that has long learnt all there is


class Problem:
    """A network as a function of one flat vector, and its data."""

    def __init__(self, noise: float) -> None:
        digits = load_data("digits")
        n, random = BATCH * BATCHES, np.random.default_rng(0)
        labels = digits.train_y[:n].copy()
        wrong = random.random(n) < noise
        labels[wrong] = random.integers(0, 10, wrong.sum())
        self.x = torch.from_numpy(digits.train_x[:n])
        self.y = torch.from_numpy(labels)

    def start(self, seed: int) -> Tensor:
        torch.manual_seed(seed)
        sizes = ((64, 100), (100, 100), (100, 10))
        self.layers = [nn.Linear(*s) for s in sizes]
        return nn.utils.parameters_to_vector(
            p for m in self.layers for p in m.parameters()
        ).detach()

    def loss(self, theta: Tensor, batch: Tensor | slice) -> Tensor:
        h, used = self.x[batch], 0
        for layer in self.layers:
            (rows, columns), h = layer.weight.shape, torch.relu(h) if used else h
            weight = theta[used : used + rows * columns].view(rows, columns)
            used += rows * columns
            h = nn.functional.linear(h, weight, theta[used : used + rows])
            used += rows
        return nn.functional.cross_entropy(h, self.y[batch])

    def gradient(self, theta: Tensor, batch: Tensor | slice) -> tuple[float, Tensor]:
        theta = theta.detach().requires_grad_()
        loss = self.loss(theta, batch)
        return loss.item(), torch.autograd.grad(loss, theta)[0]


def batches(seed: int, epochs: int, *, replace: bool) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n = BATCH * BATCHES
    for _ in range(epochs):
        order = (
            torch.randint(n, (n,), generator=generator)
            if replace
            else torch.randperm(n, generator=generator)
        )
        yield from order.split(BATCH)


@dataclass
class Adam:
    """u_t = m / (sqrt(v) + epsilon), bias-corrected; D_t is what it multiplies a gradient with."""

    m: Tensor
    v: Tensor
    t: int = 0

    def direction(self, g: Tensor) -> Tensor:
        self.t += 1
        self.m = BETA1 * self.m + (1 - BETA1) * g
        self.v = BETA2 * self.v + (1 - BETA2) * g * g
        return self.precondition(self.m / (1 - BETA1**self.t))

    def precondition(self, g: Tensor) -> Tensor:
        return g / ((self.v / (1 - BETA2**self.t)).sqrt() + EPSILON)


def dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a, b).item()


# Rules: a state that turns the moment before a step into the rate of that step.


@dataclass
class Moment:
    """What is known when the rate is chosen: f and g of the batch at theta, u_t, and u_{t-1}."""

    f: float
    g: Tensor
    u: Tensor
    w: Tensor  # D_t g_t: all that this batch's gradient will ever move, for a rate of one
    last: tuple[Tensor, Tensor] | None  # g_{t-1}, u_{t-1}
    loss: Callable[[float, Tensor], float]  # of the same batch, a rate along a direction away


@dataclass
class Ratio:
    """log alpha += c / sqrt(sum c^2), c = r + 0.2, r = <g_t, u_{t-1}> / <g_{t-1}, u_{t-1}>.

    Never above the Polyak step f / <g_t, u_t>, which the same batch's loss gives for nothing.
    With `every` the number of batches in an epoch it listens to the first step of each epoch only,
    where g_t and u_{t-1} are of different epochs and so their noise is uncorrelated.
    """

    alpha: float
    every: int = 1
    offset: float = 0.2
    squares: float = 0.0
    steps: int = -1

    def __call__(self, now: Moment) -> float:
        self.steps += 1
        if now.last is not None and self.steps % self.every == 0:
            before, u = now.last
            r = dot(now.g, u) / (dot(before, u) or math.inf)
            c = min(max(r, -1.0), 1.0) + self.offset
            self.squares += c * c
            self.alpha *= math.exp(c / math.sqrt(self.squares)) if c else 1.0
        slope = dot(now.g, now.u)
        if slope > 0 and now.f / slope < self.alpha:
            self.alpha = now.f / slope
        return self.alpha


@dataclass
class Probe:
    """log alpha += gain (A - A*), A = (f_B(theta) - f_B(theta - alpha d)) / (alpha <g, d>).

    A is 1 for a rate too small to feel curvature, 1/2 at the minimum of a quadratic along d, 0
    where the batch's loss is what it was (Armijo's ratio; line searches bound it: Vaswani et al.,
    2019). Only one batch is in it. d is the step's u, or w, all that this batch's gradient will
    ever move. A forward pass every `every` steps; at the first step as many as bracket the target.
    """

    alpha: float
    target: float
    along: str
    gain: float = 0.3
    every: int = 4
    steps: int = 0

    def measure(self, now: Moment) -> float:
        d = now.w if self.along == "w" else now.u
        if (slope := dot(now.g, d)) <= 0:
            return self.target  # momentum climbs: this batch says nothing
        a = (now.f - now.loss(self.alpha, d)) / (self.alpha * slope)
        return min(max(a, -1.0), 1.0) if math.isfinite(a) else -1.0

    def __call__(self, now: Moment) -> float:
        if self.steps == 0:  # by fours, until A passes its target: the start does not matter
            while self.measure(now) > self.target:
                self.alpha *= 4
            while self.alpha > 1e-9 and self.measure(now) < self.target:  # below, float32 sees 0
                self.alpha /= 4
        elif self.steps % self.every == 0 or self.steps < 20:
            self.alpha *= math.exp(self.gain * (self.measure(now) - self.target))
        self.steps += 1
        return self.alpha


@dataclass
class Constant:
    alpha: float

    def __call__(self, now: Moment) -> float:
        return self.alpha


@dataclass
class Run:
    loss: float = math.nan  # of the whole training set, at the last iterate
    average: float = math.nan  # at the average over about the last ninth of the steps
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # an epoch each
    cross: float = math.nan  # sum <g_t, u_{t-1}> / sum <g_{t-1}, u_{t-1}>
    same: float = math.nan  # the same with g_{t-1} measured again after its step


def train(
    problem: Problem,
    rule: Callable[[Moment], float],
    *,
    epochs: int,
    seed: int = 0,
    replace: bool = False,
    signals: bool = False,
) -> Run:
    """Adam under a rule; `signals` measures both ratios, every third step of the second half."""
    run, theta = Run(), problem.start(seed)
    adam, last, mean = Adam(torch.zeros_like(theta), torch.zeros_like(theta)), None, theta
    cross, same, slopes = 0.0, 0.0, 0.0
    for t, batch in enumerate(batches(seed + 1000, epochs, replace=replace)):
        f, g = problem.gradient(theta, batch)
        if signals and last is not None and t % 3 == 1 and t > epochs * BATCHES / 2:
            cross += dot(g, last[1])
        u = adam.direction(g)

        @torch.no_grad()
        def loss(alpha: float, w: Tensor, theta: Tensor = theta, batch: Tensor = batch) -> float:
            return problem.loss(theta - alpha * w, batch).item()

        alpha = rule(Moment(f, g, u, adam.precondition(g), last, loss))
        theta = theta - alpha * u
        last = (g, u)
        if signals and t % 3 == 0 and t + 1 > epochs * BATCHES / 2 and t + 1 < epochs * BATCHES:
            same += dot(problem.gradient(theta, batch)[1], u)
            slopes += dot(g, u)
        mean = mean + 9 / (t + 9) * (theta - mean)
        run.rates.append(alpha)
        if (t + 1) % BATCHES == 0:
            run.losses.append(problem.gradient(theta, slice(None))[0])
    run.loss = run.losses[-1]
    run.average = problem.gradient(mean, slice(None))[0]
    run.cross, run.same = (cross / slopes, same / slopes) if slopes else (math.nan, math.nan)
    return run


def train_untuned(problem: Problem, make: Callable[[list[Tensor]], Untuned], epochs: int) -> Run:
    """The package's own optimizer on the same problem and batches."""
    run, theta = Run(), nn.Parameter(problem.start(0))
    optimizer = make([theta])
    for t, batch in enumerate(batches(1000, epochs, replace=False)):
        theta.grad = problem.gradient(theta, batch)[1]
        optimizer.step()
        run.rates.append(optimizer.param_groups[0]["lr"].item())
        if (t + 1) % BATCHES == 0:
            run.losses.append(problem.gradient(theta, slice(None))[0])
    run.loss = run.losses[-1]
    optimizer.eval()
    run.average = problem.gradient(theta, slice(None))[0]
    return run


def noise_correlations(problem: Problem, *, replace: bool, lags: int, epochs: int) -> list[float]:
    """E <n_t, n_{t-k}> / E |n_t|^2 for k = 1 ... lags, n = minibatch gradient - full gradient.

    Along SGD's path at a rate so small that it hardly moves the full gradient.
    """
    theta, past = problem.start(0), deque[Tensor](maxlen=lags)
    products, norm, count = [0.0] * lags, 0.0, 0
    for batch in batches(7, epochs, replace=replace):
        g = problem.gradient(theta, batch)[1]
        n = g - problem.gradient(theta, slice(None))[1]
        if len(past) == lags:
            for k, before in enumerate(reversed(past)):
                products[k] += dot(n, before)
            norm += dot(n, n)
            count += 1
        past.append(n)
        theta = theta - 1e-3 * g
    return [p / norm for p in products]


def law(lag: int, m: int = BATCHES) -> float:
    """Two batches of one epoch have correlation -1/(M - 1); a share 1 - k/M of pairs are in one."""
    return -max(1 - lag / m, 0.0) / (m - 1)


def noise_part(m: int) -> float:
    """E <n_t, m_{t-1}> / E <n_{t-1}, m_{t-1}>: the ratio of Adam's rule where all is noise."""
    crossed = [law(k, m) for k in range(1, m)]
    above = sum((1 - BETA1) * BETA1 ** (k - 1) * c for k, c in enumerate(crossed, 1))
    below = (1 - BETA1) * (1 + sum(BETA1**k * c for k, c in enumerate(crossed, 1)))
    return above / below


RULES: dict[str, tuple[Callable[[float], Callable[[Moment], float]], bool]] = {
    "ratio, every step": (Ratio, False),
    "ratio, batches drawn with replacement": (Ratio, True),
    "ratio, first step of an epoch only": (lambda a: Ratio(a, every=BATCHES), False),
    "same-batch probe along w, A* = 0.25": (lambda a: Probe(a, 0.25, "w"), False),
    "same-batch probe along u, A* = 0.7": (lambda a: Probe(a, 0.7, "u"), False),
}


LABELS = {"OneStep": "Untuned, memory of one step", "Untuned": "Untuned, memory of half of all"}


def picture(correlations: dict[str, list[float]], paths: dict[str, Run], target: Path) -> None:
    with mpl.rc_context(style.STYLE):
        figure = style.blank((style.PAGE, 2.3))
        noise, rate = figure.subplots(1, 2)
        lags = range(1, len(correlations["reshuffled"]) + 1)
        for name, values in correlations.items():
            noise.plot(lags, values, "o", markersize=3, label=name)
        noise.plot(lags, [law(k) for k in lags], color="black", label="-(1 - k/M) / (M - 1)")
        noise.set(xlabel="lag k in steps", title="Correlation of minibatch noise, M = 14")
        for name, run in paths.items():
            rate.plot(run.rates, label=name.removeprefix("package, "))
        rate.set(yscale="log", xlabel="step", title="Rate, 20% random labels", ylim=(1e-12, None))
        noise.legend(loc="lower right", fontsize=5.5)
        rate.legend(loc="lower left", fontsize=5.5)
        figure.savefig(target, dpi=200)


def long_training(problem: Problem, epochs: int) -> None:
    print(f"{epochs} epochs: final loss, highest of the last three quarters, last rate")
    runs = {"0.01": train(problem, Constant(1e-2), epochs=epochs)}
    for optimizer in (Endless, Untuned):
        runs[optimizer.__name__] = train_untuned(problem, optimizer, epochs)
    for name, run in runs.items():
        worst = max(run.losses[len(run.losses) // 4 :])
        print(f"  {name}: {run.loss:.2g} {worst:.2g} {run.rates[-1]:.2g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    print("ratio where all is noise, by batches an epoch:")
    print("  " + "  ".join(f"{m}: {noise_part(m):.2f}" for m in (5, 14, 50, 100, 500)))
    noisy = Problem(0.2)
    correlations = {
        name: noise_correlations(noisy, replace=replace, lags=20, epochs=arguments.epochs // 2)
        for name, replace in (("reshuffled", False), ("with replacement", True))
    }
    print("correlation of minibatch noise by lag: law, reshuffled, with replacement")
    for k, (without, with_) in enumerate(zip(*correlations.values(), strict=True), 1):
        print(f"  {k:2d} {law(k):7.3f} {without:7.3f} {with_:7.3f}")

    for noise in NOISE:
        problem = Problem(noise)
        print(f"\n{noise:.0%} random labels, {arguments.epochs} epochs")
        print("constant rate: final loss, of the tail average, slope ratio on next, on same batch")
        for alpha in RATES:
            run = train(problem, Constant(alpha), epochs=arguments.epochs, signals=True)
            print(f"  {alpha:g}: {run.loss:.2g} {run.average:.2g} {run.cross:.2f} {run.same:.2f}")
        print("rule, start: final loss, of the tail average, last rate")
        paths = {}  # those of noisy labels, the last ones, are drawn
        for name, (rule, replace) in RULES.items():
            for start in STARTS:
                run = train(problem, rule(start), epochs=arguments.epochs, replace=replace)
                print(
                    f"  {name}, {start:g}: {run.loss:.2g} {run.average:.2g} {run.rates[-1]:.2g}",
                    flush=True,
                )
                if start == 1.0 and name.startswith("ratio"):
                    paths[name] = run
        for optimizer in (OneStep, Untuned):
            run = train_untuned(problem, optimizer, arguments.epochs)
            name = optimizer.__name__
            print(f"  {name}: {run.loss:.2g} {run.average:.2g} {run.rates[-1]:.2g}", flush=True)
            paths[f"package, {LABELS[name]}"] = run
        long_training(problem, LONG * arguments.epochs)
    if arguments.picture:
        picture(correlations, paths, arguments.picture)


if __name__ == "__main__":
    main()
