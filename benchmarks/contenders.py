"""Who is measured in `peers.py`: every optimizer a user could take instead, by its base update.

The floor is what the exact algorithm must move, in bytes a float32 parameter: each tensor is read
and written once, and once more on the other side of a number that all tensors decide, such as a
hypergradient or Prodigy's distance. States that do not depend on it move on the first side.

    SGD       p g                 read g p, write p                                             12
    SGD-HD    p g u               h: g u; then g p, write p u                                   24
    momentum  p g u               h: g u, write u; then p u, write p                            24
    Nesterov  p g v u             h: g v u, write v u; then p u, write p                        32
    Adam      p g m v             read all, write p m v                                         28
    Adam-HD   p g m v             h: g m v, write m v; then p m v, write p                      36
    AdamW-HD  p g m v             the same, and h: p, too                                       40
    Prodigy   p g m v s p0        distance: all, write m v s; then m v p, write p               52
    D-Adapt Adam, p g m v s       the distance counts from the next step on: all, write p m v s 36
    D-Adapt SGD,  p g s x0        the same: all, write p s                                      24
    Schedule-Free y z g (and v)   read all, write all but g                               20 (28)
    Untuned   y z m g (and v)     the same; before it g and v, for rms(u), with Adam      28 (44)
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from published import PublishedAdamHD, PublishedSGDHD
from torch import Tensor, nn

import hypergradient as ours

SMALL = 1e-6  # a rate that keeps the parameters of a thousand steps in range
BETA = 1e-12
MOMENTUM = {"momentum": 0.9}
NESTEROV = {"momentum": 0.9, "nesterov": True}
DECAY = {"weight_decay": 1e-2}

Parameters = list[nn.Parameter]
Step = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """An optimizer to measure.

    Attributes:
        kind: The base update, whose fused torch step is the unit.
        name: What the tables call it.
        family: "ours", "torch", "hypergradients" (of others) or "rate-free".
        make: From parameters that have their gradients to a function that makes a step.
        floor: Bytes a parameter that the exact algorithm moves, or None where unknown.
        package: What must be installed.
        whole: The function makes a whole training step, with the loss `linear_loss`.
    """

    kind: str
    name: str
    family: str
    make: Callable[[Parameters], Step]
    floor: int | None
    package: str | None = None
    whole: bool = False

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured here, or None."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed"
        return None


def optimizer(where: str, **options: Any) -> Callable[[Parameters], Step]:
    """Return what makes an optimizer given as ``package.module:Class``, imported when made."""

    def make(parameters: Parameters) -> Step:
        module, _, name = where.partition(":")
        made = getattr(importlib.import_module(module), name)(parameters, **options)
        if hasattr(made, "train"):  # Schedule-Free wants to be told
            made.train()
        return made.step  # type: ignore[no-any-return]

    return make


def own(kind: type[torch.optim.Optimizer], **options: Any) -> Callable[[Parameters], Step]:
    return lambda parameters: kind(parameters, lr=SMALL, **options).step  # type: ignore[call-arg]


def linear_loss(parameters: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """Return the cheapest loss with given gradients: the sum of all <theta, slope>."""
    pairs = zip(parameters, slopes, strict=True)
    return torch.stack([torch.dot(p.view(-1), c.view(-1)) for p, c in pairs]).sum()


def slopes_of(parameters: Parameters) -> list[Tensor]:
    """Return the parameters' gradients, taken from them."""
    slopes = [p.grad for p in parameters if p.grad is not None]
    for p in parameters:
        p.grad = None
    return slopes


def plain(parameters: Parameters) -> Step:
    """Return a training step without an optimizer, to subtract from a whole one."""
    slopes = slopes_of(parameters)

    def step() -> Tensor:
        for p in parameters:
            p.grad = None
        loss = linear_loss(list(parameters), slopes)
        loss.backward()
        return loss.detach()

    return step


def add(parameters: Parameters) -> Step:
    """Return an in-place add of the gradients, which moves 12 bytes a parameter: the measure."""

    def step() -> None:
        with torch.no_grad():
            for p in parameters:
                p.add_(p.grad, alpha=SMALL)

    return step


ADD_BYTES = 12


def gdtuo(name: str, **options: Any) -> Callable[[Parameters], Step]:
    """Return what makes whole steps of gradient-descent-the-ultimate-optimizer.

    Its hypergradient comes out of the backward pass, through the graph of the step before, so it
    has no step of its own to measure. A real network's backward pass costs more under
    ``create_graph``; this loss leaves that out, in its favour.
    """

    def make(parameters: Parameters) -> Step:
        from gradient_descent_the_ultimate_optimizer import gdtuo as package  # noqa: PLC0415

        slopes = slopes_of(parameters)
        module = nn.ParameterList(parameters)
        base = getattr(package, name)(alpha=SMALL, optimizer=package.SGD(BETA), **options)
        wrapper = package.ModuleWrapper(module, optimizer=base)
        wrapper.initialize()

        def step() -> Tensor:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of gradients of tensors that are not leaves
                wrapper.begin()
                loss = linear_loss(list(module), slopes)
                wrapper.zero_grad()
                loss.backward(create_graph=True)
                wrapper.step()
            return loss.detach()

        return step

    return make


def torch_three(kind: str, cls: type, floor: int, **options: Any) -> list[Contender]:
    """Return torch's fused (the unit, and so the first), default and foreach steps."""
    choices = {"fused": {"fused": True}, "default": {}, "foreach": {"foreach": True}}
    return [
        Contender(kind, f"torch {name}", "torch", own(cls, **options, **choice), floor)
        for name, choice in choices.items()
    ]


def sgd(kind: str, floors: tuple[int, int], **options: Any) -> list[Contender]:
    """Return torch's, ours and the published SGD of one kind."""
    return [
        *torch_three(kind, torch.optim.SGD, floors[0], **options),
        Contender(kind, "SGDHD", "ours", own(ours.SGDHD, hypergrad_lr=BETA, **options), floors[1]),
        Contender(
            kind,
            "published",
            "hypergradients",
            own(PublishedSGDHD, hypergrad_lr=BETA, **options),
            floors[1],
        ),
    ]


GDTUO = "gradient_descent_the_ultimate_optimizer"
STILL = {"growth_rate": 1.0}  # a constant gradient would let the distance grow for ever
ADAPT, FREE = "dadaptation", "schedulefree"

CONTENDERS = (
    *sgd("SGD", (12, 24)),
    Contender("SGD", "Untuned", "ours", own(ours.Untuned, base="sgd"), 28),
    Contender("SGD", "gdtuo", "hypergradients", gdtuo("SGD"), 24, GDTUO, whole=True),
    Contender(
        "SGD", "D-Adaptation", "rate-free", optimizer(f"{ADAPT}:DAdaptSGD", **STILL), 24, ADAPT
    ),
    Contender(
        "SGD",
        "Schedule-Free",
        "rate-free",
        optimizer(f"{FREE}:SGDScheduleFree", lr=SMALL),
        20,
        FREE,
    ),
    *sgd("SGD, momentum", (20, 24), **MOMENTUM),
    Contender(
        "SGD, momentum", "gdtuo", "hypergradients", gdtuo("SGD", mu=0.9), 24, GDTUO, whole=True
    ),
    *sgd("SGD, Nesterov", (20, 32), **NESTEROV),
    *torch_three("Adam", torch.optim.Adam, 28),
    Contender("Adam", "AdamHD", "ours", own(ours.AdamHD, hypergrad_lr=BETA), 36),
    Contender("Adam", "Untuned", "ours", own(ours.Untuned), 44),
    Contender("Adam", "published", "hypergradients", own(PublishedAdamHD, hypergrad_lr=BETA), 36),
    Contender("Adam", "gdtuo", "hypergradients", gdtuo("AdamBaydin"), 36, GDTUO, whole=True),
    Contender(
        "Adam", "D-Adaptation", "rate-free", optimizer(f"{ADAPT}:DAdaptAdam", **STILL), 36, ADAPT
    ),
    *torch_three("AdamW", torch.optim.AdamW, 28, **DECAY),
    Contender("AdamW", "AdamWHD", "ours", own(ours.AdamWHD, hypergrad_lr=BETA, **DECAY), 40),
    Contender(
        "AdamW",
        "Prodigy",
        "rate-free",
        optimizer("prodigyopt:Prodigy", **STILL, **DECAY),
        52,
        "prodigyopt",
    ),
    Contender(
        "AdamW",
        "Prodigy, pytorch-optimizer",
        "rate-free",
        optimizer("pytorch_optimizer:Prodigy", **STILL, **DECAY),
        52,
        "pytorch_optimizer",
    ),
    Contender(
        "AdamW",
        "Schedule-Free",
        "rate-free",
        optimizer(f"{FREE}:AdamWScheduleFree", lr=SMALL, **DECAY),
        28,
        FREE,
    ),
    Contender(
        "AdamW",
        "Prodigy + Schedule-Free",
        "rate-free",
        optimizer("prodigyplus:ProdigyPlusScheduleFree", **DECAY),
        None,  # its factored second moments leave no simple count
        "prodigyplus",
    ),
)
"""All that are measured, the unit of each kind first."""
