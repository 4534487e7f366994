"""The step of dense float32 parameters on the CPU, by a C function that reads each tensor once.

All else, and everything where there is no compiler, goes the eager way, which the C function
equals to rounding. A step takes two passes: `accumulate` before the rates move, and `descend`
after that. With the iterate `Average` the rate moves last, and one pass does both.
"""

import math
from array import array

import torch
from torch import Tensor

from hypergradient.engine import native_library
from hypergradient.engine.adam_direction import AdamDirection
from hypergradient.engine.base import stored_direction
from hypergradient.engine.param_step import Batches, ParamStep, UpdateRule
from hypergradient.engine.rules import RULES, additive
from hypergradient.engine.tensors import in_graph, same_layout
from hypergradient.engine.types import Direction

FLOAT = torch.float32
EPS = torch.finfo(FLOAT).eps
ONE = torch.ones((), dtype=torch.float32, device="cpu")
ROW, KERNEL_ARGS = 7, 22  # numbers in the structs of native.c
ACCUMULATE, DESCEND, AVERAGE = range(3)  # its passes
PLAIN = frozenset({Tensor, torch.nn.Parameter})  # subclasses may hold their numbers elsewhere


class NativeStep:
    """What the C function does in one step.

    Attributes:
        others: the parameters that it does not take, for `accumulate` of hypergradients.py.
        remaining: the parameters whose theta it does not move: `others`, and those whose states
            only torch's kernels can advance.
    """

    def __init__(self, batches: Batches) -> None:
        self.others: Batches = []
        self.remaining: Batches = []
        self._accepted: list[tuple[UpdateRule, int, Tensor]] = []  # elements, and a rate
        self._rows: list[int] = []  # the structs of native.c, one after the other
        self._arguments: list[float] = []  # one struct for each accepted batch
        self._descending: list[Tensor] = []
        self._counts: list[Tensor] = []  # the step counts of these
        if not usable():
            self.others = self.remaining = batches
            return
        for rule, steps in batches:
            self._accept(rule, steps)

    def accumulate(self) -> None:
        """Add up inner products, move element-wise rates, and keep each u_t that is kept.

        Where `descend` is to move theta, the states advance.
        """
        if not self._accepted:
            return
        self._call = Call(self._rows, self._arguments, len(self._accepted))
        sums = self._call.make(ACCUMULATE)
        for i, (rule, count, _) in enumerate(self._accepted):
            if (products := rule.products) is not None:
                own = sums[3 * i : 3 * i + (3 if products.norms else 1)]
                products.add(count, *(own if rule.scale is None else rule.scaled(own)))
        if self._counts:
            torch._foreach_add_(self._counts, ONE, alpha=1)  # a number is slower (torch 2.13)

    def descend(self) -> None:
        """Move theta, by rates that have moved since `accumulate`."""
        if not self._descending:
            return
        for i, (rule, _, alpha) in enumerate(self._accepted, 1):
            if rule.products is not None:
                self._call.arguments[KERNEL_ARGS * i - 1] = alpha.item()
        self._call.make(DESCEND)
        torch.autograd.graph.increment_version(self._descending)  # a backward pass may hold them

    def _accept(self, rule: UpdateRule, steps: list[ParamStep]) -> None:
        """Accept what is for the C function of parameters that move alike."""
        arguments = _kernel_args(rule, steps[0])
        if arguments is None:
            self.others.append((rule, steps))
            self.remaining.append((rule, steps))
            return
        elements, descends = rule.products is None, arguments[-2]
        index, count, others, remaining = len(self._accepted), 0, [], []
        absent = () if len(steps[0].memory) > 1 else (0,)
        for each in steps:
            p, grad, alpha, memory, _, state = each
            shaped = (grad, p, *memory[:2])
            pointers = _pointers((*shaped, alpha) if elements else shaped)
            if pointers is None:
                others.append(each)
                remaining.append(each)
                continue
            size = p.numel()
            count += size
            rates = pointers.pop() if elements else 0
            self._rows += (size, index, *pointers, *absent, rates)
            if not descends:
                remaining.append(each)
                continue
            self._descending.append(p)
            if "step" in state:
                self._counts.append(state["step"])
        if len(others) < len(steps):
            self._arguments += arguments
            self._accepted.append((rule, count, steps[0].alpha))
        if others:
            self.others.append((rule, others))
        if remaining:
            self.remaining.append((rule, remaining))


class NativeAverageStep:
    """The same for the iterate `Average`: `accumulate` makes the whole step."""

    def __init__(self, batches: Batches) -> None:
        self.others: Batches = []
        self._accepted: list[tuple[UpdateRule, int]] = []
        self._rows: list[int] = []
        self._arguments: list[float] = []
        self._moved: list[Tensor] = []
        self._counts: list[Tensor] = []
        if not usable():
            self.others = batches
        else:
            for rule, steps in batches:
                self._accept(rule, steps)
        self.remaining = self.others

    def accumulate(self) -> None:
        """Add up inner products, and move theta and all states."""
        if not self._accepted:
            return
        sums = Call(self._rows, self._arguments, len(self._accepted)).make(AVERAGE)
        for i, (rule, count) in enumerate(self._accepted):
            if rule.products is not None:
                rule.products.add(count, *rule.scaled(sums[3 * i : 3 * i + 3]))
        if self._counts:
            torch._foreach_add_(self._counts, ONE, alpha=1)
        torch.autograd.graph.increment_version(self._moved)

    def descend(self) -> None:
        """Do nothing: `accumulate` has moved theta."""

    def _accept(self, rule: UpdateRule, steps: list[ParamStep]) -> None:
        arguments = _average_args(rule, steps[0])
        count, others = 0, []
        index = len(self._accepted)
        for each in steps if arguments is not None else ():
            p, grad, _, memory, _, state = each
            pointers = _pointers((grad, p, memory[0], state.get("exp_avg_sq", p), state["z"]))
            if pointers is None:
                others.append(each)
                continue
            size = p.numel()
            count += size
            self._rows += (size, index, *pointers)
            self._moved.append(p)
            if "step" in state:
                self._counts.append(state["step"])
        if arguments is None:
            others = steps
        if len(others) < len(steps) and arguments is not None:
            self._arguments += arguments
            self._accepted.append((rule, count))
        if others:
            self.others.append((rule, others))


def usable() -> bool:
    """Return whether there is a C function, and nothing records what it would do."""
    return not in_graph() and native_library.function() is not None


class Call:
    """The arrays of a step that the C function works on."""

    def __init__(self, rows: list[int], arguments: list[float], count: int) -> None:
        self.rows, self.arguments = array("q", rows), array("d", arguments)
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


def _kernel_args(rule: UpdateRule, first: ParamStep) -> tuple[float, ...] | None:
    """Return the struct `KernelArgs` of native.c for this batch, or None if C cannot move it.

    The rate in it is that of the first parameter, as a batch has one rate or element-wise ones.
    """
    group, direction, products = rule.group, rule.direction, rule.products
    alpha, decay = first.alpha, group["weight_decay"]
    if (
        not (direction is stored_direction or type(direction) is AdamDirection)
        or (RULES[group["rule"]].update is not additive if products is None else alpha.dim())
        or isinstance(decay, Tensor)
        or not (alpha.is_cpu and first.p.is_cpu)
        or not first.memory
    ):
        return None
    now = 0.0 if products is None else alpha.item()  # element-wise rates have no one number
    scale, shift, decoupled = _adam_numbers(direction)
    left = 1 - decoupled * now
    if abs(left) <= EPS:  # see AdamDirection
        decoupled, left = 0.0, 1.0
    a, b, after = (0.0, 1.0, 0.0), (0.0, 1.0), stored_direction  # see StateUpdate
    descends = (
        rule.state_update is not None and group["hypergrad_lr"] != 0
    )  # at 0 a step is torch's
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
        *(products is not None and products.norms, group["hypergrad_lr"], low, high),
        *(descends, now),
    )


def _average_args(rule: UpdateRule, first: ParamStep) -> tuple[float, ...] | None:
    """Return the struct `AverageArgs` of native.c for this batch, or None if C cannot move it.

    C knows bases that take g_t, or g_t over the root of a mean of its squares.
    """
    group, update, alpha = rule.group, rule.state_update, first.alpha
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
    beta2 = update.second[1] if adam else 0.0
    learned, c, mu = (float(number) for number in rule.numbers)
    return (
        *(alpha.item(), 1 / learned, c, group["interpolation"], mu),
        *(adam, beta2, scale, eps, group["weight_decay"], rule.base.largest),
    )


def _adam_numbers(direction: Direction) -> tuple[float, float, float]:
    if type(direction) is AdamDirection:
        return float(direction.scale), float(direction.shift), float(direction.decay)
    return 1.0, 0.0, 0.0
