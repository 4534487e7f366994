"""The part of the engine's step that the kernels make: which parameters they take, and when.

`DeviceStep` stands beside the C pass (native.py). The engine offers it each parameter; those that
it takes are in no batch. It moves the rates that nothing else shares and whose rule the kernels
know; for other rates it adds its sums to the engine's `InnerProducts`.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from hypergradient.engine.adam_direction import AdamDirection
from hypergradient.engine.base import KernelBase, StateUpdate
from hypergradient.engine.gpu import device as devices
from hypergradient.engine.gpu.average import AverageKernels
from hypergradient.engine.gpu.recipes import AverageRecipe, Operands, RateStep, Recipe
from hypergradient.engine.gpu.repeat import Repeat
from hypergradient.engine.gpu.step import StepKernels
from hypergradient.engine.inner_products import InnerProducts, Products, shared_rates
from hypergradient.engine.iterates import Average, AverageNumbers, LastIterate
from hypergradient.engine.learning_rate import alpha_of
from hypergradient.engine.param_step import ParamStep
from hypergradient.engine.rules import additive, beta_of, multiplicative, rule_of
from hypergradient.engine.types import Group, Number

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hypergradient.engine.state import StatefulOptimizer

KNOWN = (additive, multiplicative)
"""The rules that the kernels know."""


MANY = 1000  # recipes
SCALARS = 4  # of a group: alpha_t, the learned rate, c_t and mu_t


@dataclass
class Kept:
    """What an optimizer's steps on one device have in common; it is no part of its state."""

    kernels: StepKernels | AverageKernels
    recipes: dict[Recipe | AverageRecipe, Recipe | AverageRecipe]  # each only once
    last: Repeat | None = None


OF_OPTIMIZERS: "WeakKeyDictionary[Optimizer, dict[torch.device, Kept]]" = WeakKeyDictionary()


class Pool(NamedTuple):
    """Parameters of the kernels whose products go to one place, times one scale."""

    key: Hashable  # of the engine's products
    scale: Number | None


class DeviceStep:
    """The parameters of one step that kernels move, on one device.

    Args:
        optimizer: whose step it is.
        device: where it takes parameters.
        products: those of the rates that the engine moves, to be added to.
        alone: whether all parameters are in this process. If not the engine moves all rates.
    """

    def __init__(
        self,
        optimizer: "StatefulOptimizer",
        device: torch.device,
        products: Products,
        *,
        alone: bool,
    ) -> None:
        self._device, self._products, self._alone = device, products, alone
        self._average = average = type(optimizer.iterate) is Average
        self._groups = optimizer.param_groups
        kept = OF_OPTIMIZERS.setdefault(optimizer, {})
        if device not in kept:
            kept[device] = Kept((AverageKernels if average else StepKernels)(device), {})
        self._optimizer, self._kept = optimizer, kept[device]
        self._kernels, self._known_recipes = self._kept.kernels, self._kept.recipes
        self._rates: list[RateStep] = []
        self._params: list[Operands] = []
        self._pools: dict[Hashable, Pool] = {}
        self._moves: dict[tuple[int, bool], tuple[Recipe | AverageRecipe, bool] | None] = {}
        self._scalars: list[Tensor] = []  # rows for `AverageKernels.descend`
        self._averaged: list[Group] = []  # whose rows they are

    @classmethod
    def of(
        cls, optimizer: "StatefulOptimizer", products: Products, *, alone: bool
    ) -> "DeviceStep | None":
        """Return the part of a step for kernels; None if no kernel can be of use."""
        for group in optimizer.param_groups:
            for first in group["params"][:1]:
                if devices.usable(first.device):
                    known = type(optimizer.iterate) in (LastIterate, Average)
                    return cls(optimizer, first.device, products, alone=alone) if known else None
        return None

    def take(
        self,
        group: Group,
        base: object,
        each: ParamStep,
        key: Hashable,
        numbers: AverageNumbers | None,
    ) -> bool:
        """Take a parameter, if the kernels can move it.

        Args:
            group: its options.
            base: what makes its directions.
            each: the parameter.
            key: that of the products of its rate; None for rates of elements.
            numbers: what the iterate has prepared for the group.

        Returns:
            Whether the kernels take it.
        """
        p, grad, alpha, memory, _, state, rms = each
        if rms is not None:  # the kernel would take that of the part that is here
            return False
        kind = id(group), "momentum_buffer" in state
        if kind not in self._moves:
            self._moves[kind] = self._move(group, base, numbers, started=kind[1])
        move = self._moves[kind]
        if move is None:
            return False
        recipe, logarithmic = move
        pool = (key, id(group)) if logarithmic else key
        step = state.get("step")
        if self._average:
            own = Operands(
                p, grad, memory[0], state.get("exp_avg_sq"), state["z"], step, recipe, pool
            )
        else:
            second = memory[1] if len(memory) > 1 else None
            own = Operands(p, grad, memory[0], second, alpha, step, recipe, pool)
        if not devices.takes(own, self._device, elements=key is None or self._average):
            return False
        if pool not in self._pools:
            scale = alpha if numbers is None else numbers.of_h
            self._pools[pool] = Pool(key, scale if logarithmic else None)
        self._params.append(own)
        return True

    def _move(
        self, group: Group, base: object, numbers: AverageNumbers | None, *, started: bool
    ) -> tuple[Recipe | AverageRecipe, bool] | None:
        """Return the recipe of a group, and whether its h is by log alpha."""
        recipe = self._recipe(group, base, numbers, started=started)
        if recipe is None:
            return None
        if len(self._known_recipes) > MANY:  # an option moves in every step
            self._known_recipes.clear()
        known = self._known_recipes.setdefault(recipe, recipe)
        return known, rule_of(group).form == "logarithmic"

    def accumulate(self) -> None:
        """Add up inner products, and advance the states; on an average, move theta too."""
        if not self._params:
            return
        kernels = self._kernels
        if isinstance(kernels, AverageKernels):
            kernels.load(self._params)
            self._average_by(kernels)
            self._keep(kernels)
            return
        self._rates = [*self._moving()] if self._alone else []
        kernels.load(self._params, self._rates)
        kernels.visit()
        self._add({rate.pool for rate in self._rates})

    def _average_by(self, kernels: AverageKernels) -> None:
        """Move theta, and add up the products."""
        kernels.descend(torch.stack(self._scalars).view(-1, SCALARS))
        self._add(set())

    def descend(self) -> None:
        """Move the rates that are for a kernel, and theta by them."""
        if self._params and isinstance(self._kernels, StepKernels):
            self._kernels.move_rates()
            self._kernels.descend()
            self._keep(self._kernels)

    def repeat(self, move_rates: Callable[[Products, None], None]) -> bool:
        """Make the step as the last one was made, if nothing but gradients has changed.

        Args:
            move_rates: moves the rates by products, where the kernels do not.

        Returns:
            Whether the step has been made.
        """
        last, self._kept.last = self._kept.last, None
        if (
            not self._alone
            or last is None
            or devices.capturing(self._device)
            or not last.make(self._optimizer)
        ):
            return False
        self._kept.last, kernels = last, self._kernels
        if isinstance(kernels, AverageKernels):
            self._repeat_average(kernels, last)
            move_rates(self._products, None)
        else:
            kernels.visit()
            kernels.move_rates()
            kernels.descend()
        return True

    def _repeat_average(self, kernels: AverageKernels, last: Repeat) -> None:
        scales: dict[int, Number] = {}
        begun = {id(group): self._optimizer.begin(group) for group in self._groups}
        for group in last.averaged:
            if (numbers := begun[id(group)]) is not None:
                self._add_scalars(group, numbers)
                scales[id(group)] = numbers.of_h
        for name, (key, scale) in last.pools.items():
            logarithmic = scale is not None and isinstance(name, tuple)
            self._pools[name] = Pool(key, scales[name[1]] if logarithmic else None)
        self._average_by(kernels)

    def _keep(self, kernels: StepKernels | AverageKernels) -> None:
        """Let the next step repeat this one, if the kernels have made it whole."""
        moved = {None, *(rate.pool for rate in self._rates)}
        shared = set() if self._average else self._pools.keys() - moved
        with_gradient = [p for group in self._groups for p in group["params"] if p.grad is not None]
        taken = {id(each.theta) for each in self._params}
        whole = len(with_gradient) == len(taken) and all(id(p) in taken for p in with_gradient)
        if whole and not shared and not devices.capturing(self._device):
            self._kept.last = Repeat(
                self._optimizer, kernels, self._params, self._rates, self._averaged, self._pools
            )

    def _add(self, moved: set[Hashable]) -> None:
        """Add the sums of the pools whose rates the engine moves."""
        left = {name: pool for name, pool in self._pools.items() if pool.key is not None}
        if not left.keys() - moved:
            return
        norms = any(rule_of(group).needs_norms for group in self._groups)
        kernels, sums = self._kernels, self._kernels.sums()
        for name, count, row in zip(kernels.pools, kernels.counts, sums.unbind(), strict=True):
            if name in left and name not in moved:
                gu, gg, uu, _ = row.unbind()
                key, scale = left[name]
                own = self._products.setdefault(key, InnerProducts(norms=norms))
                scaled = gu if scale is None else gu * scale
                own.add(count, *((scaled, gg, uu) if own.norms else (scaled,)))

    def _moving(self) -> Iterator[RateStep]:
        """Yield the rates that a kernel can move: all that share a pool, by known rules."""
        of_pool: dict[Hashable, list[tuple[Tensor, Recipe | None]]] = {}
        for group in self._groups:
            recipe = _rate_recipe(group)
            for key, alpha in shared_rates(self._optimizer, group):
                of_pool.setdefault(key, []).append((alpha, recipe))
        for key, rates in of_pool.items():
            if key in self._pools and key not in self._products:
                known = [RateStep(alpha, key, recipe) for alpha, recipe in rates if recipe]
                if len(known) == len(rates):
                    yield from known

    def _recipe(
        self, group: Group, base: object, numbers: AverageNumbers | None, *, started: bool
    ) -> Recipe | AverageRecipe | None:
        """Return how parameters of a group move, or None if the kernels cannot move them so.

        The biases that an `AdamDirection` corrects are taken for those of the group's `betas`, as
        the kernels compute them anew from the step count, which is on the device.
        """
        update = _update_of(group, base, started=started)
        if update is None:
            return None
        adam, decay = type(update.direction) is AdamDirection, float(group["weight_decay"])
        decoupled = decay if group["decoupled_weight_decay"] else 0.0
        l2 = decay - decoupled
        if self._average:
            max_rms = base.max_rms if isinstance(base, KernelBase) else math.inf
            plain = update.first == (1.0, 0.0, 0.0) and (adam or math.isinf(max_rms))
            if not plain or l2 or group["maximize"] or numbers is None:
                return None
            self._add_scalars(group, numbers)
            beta2, eps = (update.second[1], group["eps"]) if adam else (None, 0.0)
            at = len(self._averaged) - 1
            return AverageRecipe(group["interpolation"], at, beta2, eps, decoupled, max_rms)
        rate = _rate_recipe(group)
        if (decoupled and not adam) or (group["granularity"] == "element" and rate is None):
            return None
        return (rate or NO_RATE)._replace(
            maximize=bool(group["maximize"]),
            l2=l2,
            first=update.first,
            second=update.second,
            betas=tuple(group["betas"]) if adam else None,
            eps=group["eps"] if adam else 0.0,
            decay=decoupled,
            norms=rule_of(group).needs_norms,
        )

    def _add_scalars(self, group: Group, numbers: AverageNumbers) -> None:
        row = numbers.used(alpha_of(group)), numbers.learned, numbers.c, numbers.mu
        self._scalars += [self._scalar(number) for number in row]
        self._averaged.append(group)

    def _scalar(self, number: Number) -> Tensor:
        """Return a number on the device, without a copy from the host, which would wait."""
        if isinstance(number, Tensor):
            return number.to(self._device, torch.float32)
        return torch.full((), number, dtype=torch.float32, device=self._device)


NO_RATE = Recipe(maximize=False, l2=0.0, first=(0.0, 1.0, 0.0))
"""The recipe of a rate that the engine moves."""


def _update_of(group: Group, base: object, *, started: bool) -> StateUpdate | None:
    """Return how the state advances; None if options ask for more than the kernels can do."""
    named = group.get("foreach") is not None or group.get("fused") is not None
    numbers = (group["weight_decay"], beta_of(group), *group.get("betas", ()))
    if (
        not isinstance(base, KernelBase)
        or named
        or any(isinstance(number, Tensor) for number in numbers)
        or beta_of(group) == 0  # then a step is torch's
        or group["granularity"] == "member"
        or group["product"] != "direction"
        or group["differentiable"]
        or group["learn"]  # u_{t-1} was made with other betas
        or base.iterate(group) is not None
    ):
        return None
    return base.state_update(group, float(started))


def _rate_recipe(group: Group) -> Recipe | None:
    """Return how a group's rates move; None if the kernels do not know the rule."""
    rule, beta = rule_of(group), group["hypergrad_lr"]
    if rule.update not in KNOWN or isinstance(beta, Tensor):
        return None
    return NO_RATE._replace(
        multiplicative=rule.form == "cosine",
        hypergrad_lr=float(beta),
        bounds=group["lr_bounds"],
        mean=group["reduction"] == "mean",
    )
