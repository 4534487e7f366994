"""The step of dense float32 parameters on the CPU, by a C function that reads each tensor once.

All else, and everything where there is no compiler, goes the eager way, which the C function
equals to rounding. A step takes two passes: `accumulate` before the rates move, and `descend`
after that. With the iterate `Average` the rate moves last, and one pass does both.
"""

import math
from array import array
from typing import NamedTuple

import torch
from torch import Tensor

from hypergradient.engine import native_library
from hypergradient.engine.adam_direction import AdamDirection
from hypergradient.engine.base import stored_direction
from hypergradient.engine.hypergradients import accumulate
from hypergradient.engine.param_step import Batches, ParamStep, UpdateRule
from hypergradient.engine.rules import additive, beta_of, rule_of
from hypergradient.engine.tensors import in_graph, same_layout
from hypergradient.engine.types import Direction

FLOAT = torch.float32
EPS = torch.finfo(FLOAT).eps
ONE = torch.ones((), dtype=torch.float32, device="cpu")
ROW, KERNEL_ARGS = 8, 22  # numbers in the structs of native.c; the last one of a row is its own
ACCUMULATE, DESCEND, AVERAGE = range(3)  # its passes
PLAIN = frozenset({Tensor, torch.nn.Parameter})  # subclasses may hold their numbers elsewhere


class Accepted(NamedTuple):
    """A batch that the C function takes: how it moves, how many elements it has, and a rate."""

    rule: UpdateRule
    size: int
    alpha: Tensor


class NativeStep:
    """What the C function does in one step.

    Attributes:
        others: the parameters that it does not take. They go the eager way.
        remaining: the parameters whose theta it does not move: `others`, and those whose states
            only torch's kernels can advance.
        accepted: the batches that it takes: how they move, their elements, and a rate.
        rows: the structs of native.c, one for each parameter.
        tensors: for each row the gradient, the parameter, and the others of its struct.
        arguments: one struct for each accepted batch.
        moving: the parameters whose theta it moves.
        counts: the step counts of these.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches  # C reads their tensors, some of which nobody else holds
        self.others: Batches = []
        self.remaining: Batches = []
        self.accepted: list[Accepted] = []
        self.rows: array[int]
        self.tensors: list[tuple[Tensor, ...]] = []
        self.arguments: list[float] = []
        self.moving: list[Tensor] = []
        self.counts: list[Tensor] = []
        if not usable():
            self.others = self.remaining = batches
            return
        self.rows = array("q")
        for rule, steps in batches:
            self._accept(rule, steps)

    @staticmethod
    def struct(rule: UpdateRule, alpha: Tensor) -> tuple[float, ...] | None:
        """Return the struct of a batch, or None if C cannot move it.

        Args:
            rule: how its parameters move.
            alpha: their one rate, or the rates of the first one's elements.
        """
        return _kernel_args(rule, alpha)

    @staticmethod
    def moves(_struct: tuple[float, ...]) -> bool:
        """Return whether C moves theta, by the struct of a batch."""
        return bool(_struct[-2])

    def accumulate(self) -> None:
        """Add up inner products, move element-wise rates, and keep each u_t that is kept.

        Where `descend` is to move theta, the states advance.
        """
        if self.accepted:
            self._call = self._make(ACCUMULATE)
        if self.others:
            accumulate(self.others)

    def descend(self) -> None:
        """Move theta, by rates that have moved since `accumulate`."""
        if not self.moving:
            return
        for i, (rule, _, alpha) in enumerate(self.accepted, 1):
            if rule.products is not None:
                self._call.arguments[KERNEL_ARGS * i - 1] = alpha.item()
        self._call.make(DESCEND)
        torch.autograd.graph.increment_version(self.moving)  # a backward pass may hold them

    def _accept(self, rule: UpdateRule, steps: list[ParamStep]) -> None:
        """Accept what is for the C function of parameters that move alike."""
        first = steps[0]
        struct = self.struct(rule, first.alpha) if first.memory and first.p.is_cpu else None
        if struct is None:
            self.others.append((rule, steps))
            self.remaining.append((rule, steps))
            return
        shaped: list[tuple[Tensor, ...]] = [(s.grad, s.p, *s.memory[:2]) for s in steps]
        if rule.products is None:  # a rate for each element; where there is no b, C reads none
            shaped = [(*own[:3], own[-1], s.alpha) for own, s in zip(shaped, steps, strict=True)]
        moves = self.moves(struct)
        others = self._take(rule, steps, struct, shaped, moves=moves)
        if others or not moves:
            self.remaining.append((rule, others if moves else steps))

    def _take(
        self,
        rule: UpdateRule,
        steps: list[ParamStep],
        struct: tuple[float, ...],
        shaped: list[tuple[Tensor, ...]],
        *,
        moves: bool,
    ) -> list[ParamStep]:
        """Write the structs of a batch.

        Args:
            rule: how its parameters move.
            steps: its parameters.
            struct: that of the batch.
            shaped: for each parameter the gradient, itself, and the other tensors of its struct.
            moves: whether C moves theta.

        Returns:
            The parameters that C does not take.
        """
        index, count, others = len(self.accepted), 0, []
        absent = (0,) * (ROW - 2 - len(shaped[0]))  # no tensor, and a place for rms(u_t)
        for each, tensors in zip(steps, shaped, strict=True):
            pointers = _pointers(tensors)
            if pointers is None:
                others.append(each)
                continue
            size = each.p.numel()
            count += size
            self.rows.extend((size, index, *pointers, *absent))
            self.tensors.append(tensors)
            if moves:
                self.moving.append(each.p)
                if "step" in each.state:
                    self.counts.append(each.state["step"])
        if len(others) < len(steps):
            self.arguments += struct
            self.accepted.append(Accepted(rule, count, steps[0].alpha))
        if others:
            self.others.append((rule, others))
        return others

    def _make(self, which: int) -> "Call":
        """Make a pass that gives sums, and add them to the products."""
        call = Call(self.rows, self.arguments, len(self.accepted))
        sums = call.make(which)
        for i, (rule, count, _) in enumerate(self.accepted):
            if (products := rule.products) is not None:
                own = sums[3 * i : 3 * i + (3 if products.norms else 1)]
                products.add(count, *rule.scaled(own))
        if self.counts:
            torch._foreach_add_(self.counts, ONE, alpha=1)  # a number is slower (torch 2.13)
        return call


class NativeAverageStep(NativeStep):
    """The same for the iterate `Average`: `accumulate` makes the whole step."""

    @staticmethod
    def struct(rule: UpdateRule, alpha: Tensor) -> tuple[float, ...] | None:
        """Return the struct of a batch, or None if C cannot move it."""
        return _average_args(rule, alpha)

    @staticmethod
    def moves(_struct: tuple[float, ...]) -> bool:
        """Return that C moves theta."""
        return True

    def accumulate(self) -> None:
        """Add up inner products, and move theta and all states."""
        if self.accepted:
            self._make(AVERAGE)
            torch.autograd.graph.increment_version(self.moving)

    def descend(self) -> None:
        """Do nothing: `accumulate` has moved theta."""

    def _accept(self, rule: UpdateRule, steps: list[ParamStep]) -> None:
        struct, others = self.struct(rule, steps[0].alpha), steps
        parts = any(each.rms is not None for each in steps)  # C takes the rms of what is here
        if struct is not None and not parts:
            shaped: list[tuple[Tensor, ...]] = [
                (s.grad, s.p, s.memory[0], s.state.get("exp_avg_sq", s.p), s.state["z"])
                for s in steps
            ]
            others = self._take(rule, steps, struct, shaped, moves=True)
        else:
            self.others.append((rule, steps))
        if others:
            self.remaining.append((rule, others))


def usable() -> bool:
    """Return whether there is a C function, and nothing records what it would do."""
    return not in_graph() and native_library.function() is not None


class Call:
    """The arrays of a step that the C function works on."""

    def __init__(self, rows: "array[int]", arguments: list[float], count: int) -> None:
        self.rows, self.arguments = rows, array("d", arguments)
        self.sums = array("d", bytes(24 * count))  # three for each batch
        at = [numbers.buffer_info()[0] for numbers in (self.rows, self.arguments, self.sums)]
        self._call = len(rows) // ROW, *at, torch.get_num_threads(), native_library.threads()

    def make(self, which: int) -> "array[float]":
        """Make a pass; return the sums.

        Raises:
            MemoryError: there is no memory for the sums of a step.
        """
        if native_library.function()(which, *self._call):
            raise MemoryError("no memory for the sums of a step")
        return self.sums


def _pointers(tensors: tuple[Tensor, ...]) -> list[int] | None:
    """Return where numbers are, if they are float32, on the CPU, dense and in one order.

    Args:
        tensors: the gradient, the parameter, and what else is shaped like it.
    """
    size, contiguous, pointers = tensors[1].numel(), True, []
    try:
        for t in tensors:
            if t.dtype is not FLOAT or type(t) not in PLAIN or t.numel() != size or not t.is_cpu:
                return None
            if not t.is_contiguous():
                contiguous = False
            pointers.append(t.data_ptr())
    except RuntimeError:  # a tensor without memory of its own, such as torch.func's
        return None
    if tensors[0].is_neg() or tensors[1].is_inference():
        return None
    return pointers if contiguous or same_layout(tensors) else None


def _kernel_args(rule: UpdateRule, alpha: Tensor) -> tuple[float, ...] | None:
    """Return the struct `KernelArgs` of native.c for this batch, or None if C cannot move it.

    The rate in it is that of the first parameter, as a batch has one rate or element-wise ones.
    """
    group, direction, products = rule.group, rule.direction, rule.products
    decay = group["weight_decay"]
    if (
        not (direction is stored_direction or type(direction) is AdamDirection)
        or (rule_of(group).update is not additive if products is None else alpha.dim())
        or isinstance(decay, Tensor)
        or not alpha.is_cpu
    ):
        return None
    now = 0.0 if products is None else alpha.item()  # element-wise rates have no one number
    scale, shift, decoupled = _adam_numbers(direction)
    left = 1 - decoupled * now
    if abs(left) <= EPS:  # see AdamDirection
        decoupled, left = 0.0, 1.0
    a, b, after = (0.0, 1.0, 0.0), (0.0, 1.0), stored_direction  # see StateUpdate
    descends = rule.state_update is not None and beta_of(group) != 0  # at 0 a step is torch's
    if rule.state_update is not None and descends:
        a, b, after = rule.state_update
    elif rule.direction_coefficients is not None:
        fresh, buffer = rule.direction_coefficients
        a = fresh, 0.0, buffer
    low, high = group["lr_bounds"] or (-math.inf, math.inf)
    return (
        -1.0 if group["maximize"] else 1.0,
        0.0 if group["decoupled_weight_decay"] else decay,
        *(direction is not stored_direction, scale, shift, decoupled, 1 / left),
        *(*_adam_numbers(after), 1.0),
        *a,
        *b,
        *(products is not None and products.norms, beta_of(group), low, high),
        *(descends, now),
    )


def _average_args(rule: UpdateRule, alpha: Tensor) -> tuple[float, ...] | None:
    """Return the struct `AverageArgs` of native.c for this batch, or None if C cannot move it.

    C knows bases that take g_t, or g_t over the root of a mean of its squares.
    """
    group, update = rule.group, rule.state_update
    if (
        update is None
        or rule.numbers is None
        or update.first != (1.0, 0.0, 0.0)
        or alpha.dim()
        or not alpha.is_cpu
        or rule.products is None
        or group["maximize"]
        or isinstance(group["weight_decay"], Tensor)
        or (group["weight_decay"] and not group["decoupled_weight_decay"])
    ):
        return None
    adam = type(update.direction) is AdamDirection
    scale, eps, _ = _adam_numbers(update.direction)
    if not adam and not math.isinf(rule.base.max_rms):
        return None
    beta2 = update.second[1] if adam else 0.0
    numbers = rule.numbers
    learned, c, mu = float(numbers.learned), float(numbers.c), float(numbers.mu)
    return (
        *(float(numbers.used(alpha.item())), 1 / learned, c, group["interpolation"], mu),
        *(adam, beta2, scale, eps, group["weight_decay"], rule.base.max_rms),
    )


def _adam_numbers(direction: Direction) -> tuple[float, float, float]:
    if type(direction) is AdamDirection:
        return float(direction.scale), float(direction.shift), float(direction.decay)
    return 1.0, 0.0, 0.0
