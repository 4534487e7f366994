"""Optimizers of a test whose steps are made by the kernels alone, and what stands for an engine."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cases import ADAMW_DECAY, LR, Case, Gradients
from hypergradient.engine.gpu.recipes import Operands, RateStep, Recipe
from hypergradient.engine.gpu.step import StepKernels
from hypergradient.engine.gpu.tables import Tuning

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def recipe_of(case: Case, own: dict[str, Any], *, started: bool) -> Recipe:
    """The recipe of a group's options: `started` once there is a momentum buffer."""
    o = {"weight_decay": ADAMW_DECAY if case.decoupled else 0.0, **case.options, **own}
    options: dict[str, Any] = {
        "maximize": o.get("maximize", False),
        "l2": 0.0 if case.decoupled else o["weight_decay"],
        "norms": o["rule"] == "multiplicative",
        "multiplicative": o["rule"] == "multiplicative",
        "hypergrad_lr": o["hypergrad_lr"],
        "bounds": o.get("lr_bounds", (0.0, float("inf"))),
        "mean": o.get("reduction") == "mean",
    }
    if case.algorithm != "sgd":
        beta1, beta2 = o.get("betas", (0.9, 0.999))
        options["decay"] = o["weight_decay"] if case.decoupled else 0.0
        options |= {"betas": (beta1, beta2), "eps": o.get("eps", 1e-8)}
        return Recipe(first=(1 - beta1, beta1, 0.0), second=(1 - beta2, beta2), **options)
    mu, fresh = o.get("momentum", 0.0), 1 - o.get("dampening", 0.0) if started else 1.0
    if mu == 0:
        return Recipe(first=(1.0, 0.0, 0.0), **options)
    if o.get("nesterov"):  # u_t = g_t + mu b_t, where b_t = mu b_{t-1} + g_t
        return Recipe(first=(1 + mu, 0.0, mu**2), second=(fresh, mu), **options)
    return Recipe(first=(fresh, mu, 0.0), **options)


class ByKernels:
    """One of the table's optimizers, over groups of float32 (or narrower) parameters.

    Attributes:
        groups: the parameters.
        options: of each group.
    """

    def __init__(
        self,
        case: Case,
        groups: Sequence[Sequence[Tensor]],
        options: Sequence[dict[str, Any]],
        state_dtype: torch.dtype | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self.case, self.options = case, list(options)
        self.groups = [[p.detach().clone().to(DEVICE) for p in group] for group in groups]
        self.kernels = StepKernels(DEVICE, tuning)
        two = case.algorithm != "sgd" or "nesterov" in case.options
        dtype = {"dtype": state_dtype}
        self.states = {
            p: [torch.zeros_like(p, **dtype) for _ in range(1 + two)]
            for group in self.groups
            for p in group
        }
        self.steps = {p: torch.zeros((), device=DEVICE) for p in self.states}
        self.started: set[Tensor] = set()
        self.alphas: dict[Any, Tensor] = {}
        for i, (group, own) in enumerate(zip(self.groups, options, strict=True)):
            for p in group:
                shape = p.shape if own["granularity"] == "element" else ()
                key = i if own["granularity"] in {"global", "group"} else p
                at = own.get("lr", LR)
                self.alphas.setdefault(key, torch.full(shape, at, device=DEVICE))

    def rate(self, i: int, p: Tensor) -> Tensor:
        return self.alphas[i] if i in self.alphas else self.alphas[p]

    def load(self, gradients: Gradients) -> None:
        params, rates = [], []
        for i, group in enumerate(self.groups):
            own = self.options[i]
            for p, grad in zip(group, gradients[i], strict=True):
                if grad is None:
                    continue
                recipe = recipe_of(self.case, own, started=p in self.started)
                self.started.add(p)
                pool = {"global": "all", "group": i, "tensor": p, "element": None}
                key = pool[own["granularity"]]
                a, b = (*self.states[p], None)[:2]
                step = self.steps[p] if recipe.adam else None
                alpha = self.rate(i, p)
                params.append(Operands(p, grad.to(DEVICE), a, b, alpha, step, recipe, key))
                if own["granularity"] == "tensor":
                    rates.append(RateStep(alpha, key, recipe))
        active = {each.pool for each in params}
        for i, own in enumerate(self.options):
            key = {"global": "all", "group": i}.get(own["granularity"])
            if key in active and key is not None:
                rates.append(RateStep(self.alphas[i], key, recipe_of(self.case, own, started=True)))
        self.params = params
        self.kernels.load(params, rates)

    def step(self, gradients: Gradients) -> None:
        self.load(gradients)
        self.kernels.visit()
        self.kernels.move_rates()
        self.kernels.descend()

    def rates(self) -> list[list[Tensor]]:
        """The rate of every number of every parameter."""
        return [
            [self.rate(i, p).expand(p.shape) for p in group] for i, group in enumerate(self.groups)
        ]
