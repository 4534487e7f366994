"""Every optimizer x granularity x implementation x scheduler x compile x saving, on this torch.

    python scripts/smoke.py [--quick] [--only NAME]

It needs nothing but torch, so that it runs on any release of it (`make smoke`). A case trains a
small network in float32 for a few steps and holds the optimizer to these laws:

- a step leaves everything finite, and moves the parameters and the rates;
- the second step moves the rates by `hypergrad_lr` times the inner product of the gradient with
  (theta_0 - theta_1) / alpha_0, which is minus the derivative of the loss by the rate;
- with `hypergrad_lr=0` it makes the steps of torch's own optimizer, under the same scheduler;
- all implementations make the same steps;
- saved, loaded into a new optimizer and continued, it makes bitwise the same steps;
- compiled, it makes the same steps as not compiled.
"""

import argparse
import copy
import io
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler as schedulers

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, MuonHD, Untuned

STEPS = 6
LR, BETA = 0.02, 1e-3
MEMBERS = 2
GRANULARITIES = ("group", "global", "tensor", "element", "member")
IMPLEMENTATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "none": lambda _: None,
    "StepLR": lambda o: schedulers.StepLR(o, 2, gamma=0.5),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda t: (1 + t) ** -0.5),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(
        o, 2 * LR, total_steps=4 * STEPS, cycle_momentum=False
    ),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 2 * STEPS),
}
MOMENTUM = {"momentum": 0.9}


@dataclass(frozen=True)
class Entry:
    """One optimizer.

    Attributes:
        name: its line in the table.
        make: the class.
        options: the options of its base.
        torchs: the class of torch that it equals at `hypergrad_lr=0`, with the same options.
        kernels: whether it takes `foreach` and `fused`.
        bare: the base of the group of parameters that are no matrices, where it is another one.
    """

    name: str
    make: Any
    options: dict[str, Any] = field(default_factory=dict)
    torchs: Any = None
    kernels: bool = False
    bare: str | None = None

    @property
    def untuned(self) -> bool:
        """Whether it has no `hypergrad_lr` and one granularity."""
        return self.make is Untuned

    def build(self, problem: "Problem", **options: Any) -> Any:
        """Make the optimizer for the two groups of a problem."""
        own = {} if self.bare is None else {"base": self.bare}
        groups = [
            {"params": problem.matrices, **problem.options},
            {"params": problem.vectors, **problem.options, **own},
        ]
        lr = {} if self.untuned else {"lr": LR, "hypergrad_lr": BETA, "rule": "additive"}
        return self.make(groups, **{**lr, **self.options, **options})


ENTRIES = (
    Entry("SGDHD", SGDHD, {"weight_decay": 0.01}, torch.optim.SGD, kernels=True),
    Entry("SGDHD momentum", SGDHD, MOMENTUM, torch.optim.SGD, kernels=True),
    Entry("SGDHD Nesterov", SGDHD, {**MOMENTUM, "nesterov": True}, torch.optim.SGD, kernels=True),
    Entry("SGDHD classical", SGDHD, {**MOMENTUM, "classical": True}),
    Entry("AdamHD", AdamHD, {"weight_decay": 0.01}, torch.optim.Adam, kernels=True),
    Entry("AdamHD amsgrad", AdamHD, {"amsgrad": True}, torch.optim.Adam, kernels=True),
    Entry("AdamWHD", AdamWHD, {"weight_decay": 0.1}, torch.optim.AdamW, kernels=True),
    Entry(
        "AdamWHD amsgrad",
        AdamWHD,
        {"weight_decay": 0.1, "amsgrad": True},
        torch.optim.AdamW,
        kernels=True,
    ),
    Entry("MuonHD", MuonHD, {"adamw_lr": LR}),
    Entry("Hypergradient sgd", Hypergradient, {"base": "sgd"}, torch.optim.SGD),
    Entry("Hypergradient adam", Hypergradient, {"base": "adam"}, torch.optim.Adam),
    Entry("Hypergradient adamw", Hypergradient, {"base": "adamw"}, torch.optim.AdamW),
    Entry("Hypergradient amsgrad", Hypergradient, {"base": "amsgrad"}),
    Entry("Hypergradient nadam", Hypergradient, {"base": "nadam"}, torch.optim.NAdam),
    Entry("Hypergradient rmsprop", Hypergradient, {"base": "rmsprop"}, torch.optim.RMSprop),
    Entry("Hypergradient adagrad", Hypergradient, {"base": "adagrad"}, torch.optim.Adagrad),
    Entry("Hypergradient lion", Hypergradient, {"base": "lion"}),
    Entry("Hypergradient muon", Hypergradient, {"base": "muon"}, bare="adamw"),
    Entry("Untuned adam", Untuned, {"base": "adam"}),
    Entry("Untuned sgd", Untuned, {"base": "sgd"}),
    Entry("Untuned lion", Untuned, {"base": "lion"}),
)


@dataclass(frozen=True)
class Case:
    """One way to use an optimizer."""

    granularity: str = "group"
    implementation: str = "default"
    scheduler: str = "none"
    compiler: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The keywords that ask for it."""
        return {"granularity": self.granularity, **IMPLEMENTATIONS[self.implementation]}


class Problem:
    """A network of two matrices and two vectors, or stacks of them, one a member."""

    def __init__(self, granularity: str) -> None:
        self.granularity = granularity
        members = granularity == "member"
        random = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random)

        def parameter(*shape: int) -> Tensor:
            full = (MEMBERS, *(1,) * (2 - len(shape)), *shape) if members else shape
            return normal(*full).div(2).requires_grad_()

        self.inputs, self.targets = normal(16, 4), normal(16, 1)
        self.matrices = [parameter(4, 5), parameter(5, 1)]
        self.vectors = [parameter(5), parameter(1)]
        rate = torch.linspace(LR, LR / 2, MEMBERS)
        self.options: dict[str, Any] = {"lr": rate} if members else {}

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of the optimizer's."""
        return [*self.matrices, *self.vectors]

    def backward(self) -> None:
        """Compute the gradients of the loss, summed over members."""
        for p in self.parameters:
            p.grad = None
        (w1, w2), (b1, b2) = self.matrices, self.vectors
        out = torch.tanh(self.inputs @ w1 + b1) @ w2 + b2
        loss = (out - self.targets).square().sum() / len(self.targets)
        loss.backward()  # type: ignore[no-untyped-call]


class Training:
    """An optimizer at work on a problem, under a scheduler."""

    def __init__(self, entry: Entry, case: Case, make: Callable[[Problem], Any]) -> None:
        self.entry, self.case = entry, case
        self.problem = Problem(case.granularity)
        self.optimizer = make(self.problem)
        self.scheduler = SCHEDULERS[case.scheduler](self.optimizer)
        self.step = self.optimizer.step
        if case.compiler is not None:
            torch.compiler.reset()
            self.step = torch.compile(self.optimizer.step, backend=case.compiler)

    def run(self, steps: int = STEPS) -> "Training":
        """Train."""
        for _ in range(steps):
            self.problem.backward()
            self.step()
            if self.scheduler is not None:
                self.scheduler.step()
        return self

    def rates(self) -> list[Tensor]:
        """Return the rate of each parameter, shaped like it."""
        found = []
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                own = self.optimizer.state.get(p, {})
                rate = own.get("lr", group["lr"]).detach().as_subclass(Tensor).float()
                if group["granularity"] == "member":
                    rate = rate.view(-1, *(1,) * (p.dim() - 1))
                found.append(rate.expand(p.shape).clone())
        return found

    def values(self) -> list[Tensor]:
        """Return copies of the parameters."""
        return [p.detach().clone() for p in self.problem.parameters]

    def continued(self, make: Callable[[Problem], Any]) -> "Training":
        """Save everything, and go on with what is loaded into new objects."""
        file = io.BytesIO()
        torch.save(self.optimizer.state_dict(), file)
        file.seek(0)
        other = Training(self.entry, self.case, make)
        with torch.no_grad():
            for p, saved in zip(other.problem.parameters, self.values(), strict=True):
                p.copy_(saved)
        if self.scheduler is not None:
            other.scheduler.load_state_dict(copy.deepcopy(self.scheduler.state_dict()))
        other.optimizer.load_state_dict(torch.load(file, weights_only=True))
        return other


class BrokenLawError(AssertionError):
    """A law does not hold."""


def check(entry: Entry, case: Case) -> None:
    """Hold one optimizer to the laws, in one case.

    Raises:
        BrokenLawError: names the law.
    """

    def make(problem: Problem) -> Any:
        return entry.build(problem, **case.options)

    start = Problem(case.granularity).parameters
    trained = Training(entry, case, make).run()
    finite = [bool(t.isfinite().all()) for t in (*trained.values(), *trained.rates())]
    _demand("all is finite", all(finite))
    _demand("all parameters move", not any(map(torch.equal, trained.values(), start)))
    default = Training(entry, Case(case.granularity, scheduler=case.scheduler), make_default(entry))
    _demand_close("as by default", trained, default.run().values())
    if case.compiler is not None:  # the other laws hold of what it equals
        return
    half = Training(entry, case, make).run(STEPS // 2)
    resumed = half.continued(make).run(STEPS - STEPS // 2)
    same = [*map(torch.equal, trained.values(), resumed.values())]
    same += map(torch.equal, trained.rates(), resumed.rates())
    _demand("saved, loaded and continued bitwise", all(same))
    if entry.untuned:
        _demand("the average is another point", _switches(trained))
        return
    if case.scheduler == "none":
        _check_derivative(entry, case, make)
    _check_torchs(entry, case)


def make_default(entry: Entry) -> Callable[[Problem], Any]:
    """Return what makes an optimizer by default, for the granularity of a problem."""

    def make(problem: Problem) -> Any:
        return entry.build(problem, granularity=problem.granularity)

    return make


def _switches(trained: Training) -> bool:
    """Whether `eval` and `train` go to the average and back."""
    before = trained.values()
    trained.optimizer.eval()
    average = trained.values()
    trained.optimizer.train()
    back = all(map(torch.allclose, trained.values(), before))
    return back and not any(map(torch.equal, average, before))


def _check_derivative(entry: Entry, case: Case, make: Callable[[Problem], Any]) -> None:
    training = Training(entry, case, make)
    rates, start = training.rates(), training.values()
    theta = training.run(1).values()
    directions = [(t0 - t1) / rate for t0, t1, rate in zip(start, theta, rates, strict=True)]
    training.run(1)
    gradients = [p.grad for p in training.problem.parameters if p.grad is not None]
    if entry.torchs in (torch.optim.SGD, torch.optim.Adam):  # whose decay is a part of g
        decay = entry.options.get("weight_decay", 0.0)
        gradients = [g + decay * t1 for g, t1 in zip(gradients, theta, strict=True)]
    h = [g * u for g, u in zip(gradients, directions, strict=True)]
    if case.granularity == "tensor":
        h = [each.sum().expand_as(each) for each in h]
    elif case.granularity != "element":
        count = len(training.problem.matrices)
        by_member = case.granularity == "member"
        totals = [e.flatten(1).sum(1) if by_member else e.sum() for e in h]
        sums = [sum(totals[:count]), sum(totals[count:])]
        if case.granularity == "global":
            sums = [sum(sums)] * 2
        chosen = [sums[i >= count] for i in range(len(h))]
        h = [
            (s.view(-1, *(1,) * (e.dim() - 1)) if by_member else s).expand_as(e)
            for s, e in zip(chosen, h, strict=True)
        ]
    for before, after, each in zip(rates, training.rates(), h, strict=True):
        wanted = (before + BETA * each).clamp(min=0)
        close = torch.allclose(after, wanted, rtol=1e-3, atol=1e-6)
        _demand("the rate moves by its derivative", close and not torch.equal(before, after))


def _check_torchs(entry: Entry, case: Case) -> None:
    if entry.torchs is None or case.granularity == "member":
        return
    options = {k: v for k, v in entry.options.items() if k != "base"}
    kernel = IMPLEMENTATIONS[case.implementation]

    def make(problem: Problem) -> Any:
        return entry.build(problem, **case.options, hypergrad_lr=0.0)

    def make_torchs(problem: Problem) -> Any:
        return entry.torchs(problem.parameters, lr=LR, **options, **kernel)

    theirs = Training(entry, Case(case.granularity, scheduler=case.scheduler), make_torchs).run()
    _demand_close("torch's own at 0", Training(entry, case, make).run(), theirs.values())


def _demand(law: str, holds: bool) -> None:
    if not holds:
        raise BrokenLawError(law)


def _demand_close(law: str, training: Training, wanted: list[Tensor]) -> None:
    pairs = zip(training.values(), wanted, strict=True)
    _demand(law, all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs))


def cases(entry: Entry, *, quick: bool) -> Iterator[Case]:
    """Yield the cases of an optimizer."""
    granularities = ("group", "global") if entry.untuned else GRANULARITIES
    if entry.bare is not None:  # a stack of vectors is no matrix
        granularities = tuple(g for g in granularities if g != "member")
    kernels = tuple(IMPLEMENTATIONS) if entry.kernels else ("default",)
    if quick:
        yield from (Case("group", kernel, "LambdaLR") for kernel in kernels)
        yield from (Case(granularity) for granularity in granularities)
        return
    yield from map(Case, *zip(*product(granularities, kernels, SCHEDULERS), strict=True))
    yield Case("group", compiler="eager")
    yield from (Case(granularity, compiler="aot_eager") for granularity in granularities)


def main() -> int:
    """Check all cases, and print a line for each optimizer; 1 where a law is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="few cases, and none compiled")
    parser.add_argument("--only", default="", help="optimizers whose name holds this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}\n")
    print("| optimizer | cases | passed | failed |\n|---|---|---|---|")
    broken: list[str] = []
    for entry in ENTRIES:
        if arguments.only not in entry.name:
            continue
        count: Counter[str] = Counter()
        for case in cases(entry, quick=arguments.quick):
            reason = outcome(entry, case)
            count["passed" if reason is None else "failed"] += 1
            if reason is not None:
                broken.append(f"{entry.name}, {case}: {reason}")
        print(
            f"| {entry.name} | {count.total()} | {count['passed']} | {count['failed']} |",
            flush=True,
        )
    print("\n".join(["", *broken]))
    return 1 if broken else 0


def outcome(entry: Entry, case: Case) -> str | None:
    """Return what is wrong in a case, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(entry, case)
    except Exception as error:  # noqa: BLE001 - whatever a release of torch raises is a finding
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


if __name__ == "__main__":
    sys.exit(main())
