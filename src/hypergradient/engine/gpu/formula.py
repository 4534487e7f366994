"""A function of a few numbers, written down as the source of one kernel.

A rule is a hundred operations on single numbers, and so is what an average prepares for a step. On
a GPU each of them would be a launch. So the function is called once with tensors on the device
"meta", which have no values, and every operation that torch then makes becomes a line of Triton's
language. The function itself stays what it is: there is no second definition of a rule.

Each line computes in float64 and rounds to the dtype that torch's operation has. That is the
operation as IEEE 754 defines it, also for float32 (only exp, log and powers may differ by a digit).
"""

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Function = Callable[[list[Tensor]], Sequence[Tensor]]

TYPES = {torch.float32: "tl.float32", torch.float64: "tl.float64", torch.bool: "tl.int1"}

EXPRESSIONS = {
    "sub": "{0} - {1}",
    "rsub": "{1} - {0}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sqrt": "tl.sqrt({0})",
    "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",  # NaN stays
    "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})",
}
COMPARISONS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}
LOGIC = {
    "mul": "{0} & {1}",
    "bitwise_and": "{0} & {1}",
    "logical_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "logical_or": "{0} | {1}",
}
SAME = frozenset({"clone", "detach", "alias", "_to_copy", "copy_", "lift_fresh"})
CONSTANT = {"scalar_tensor": 0, "full": 1, "full_like": 1, "zeros_like": 0.0, "ones_like": 1.0}
"""Functions that make a constant: at which place it is given, or the constant, a float."""
POWERS = {2.0: "{0} * {0}", 3.0: "{0} * {0} * {0}", 0.5: "tl.sqrt({0})", -1.0: "1.0 / {0}"}


class UnknownOperationError(RuntimeError):
    """There is no line of a kernel for an operation."""


class Formula(NamedTuple):
    """A function as the source of a kernel.

    Attributes:
        source: of the kernel `numbers`.
        constants: that it reads, in float64.
    """

    source: str
    constants: "array[float]"


class Value(NamedTuple):
    """What a tensor of the call stands for: a variable of the kernel."""

    name: str
    dtype: torch.dtype
    shape: torch.Size


class Program:
    """The lines of a kernel, and what the tensors of the call stand for in it.

    Attributes:
        lines: assignments, one for each operation.
        constants: the numbers that they have beside tensors.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants = array("d")
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # or another tensor would have its id

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Write down what torch has done; a write in place gives a tensor a new value."""
        if not isinstance(out, Tensor):
            raise UnknownOperationError(name)
        expression = self._expression(name, args, dict(kwargs), out)
        self.assign(args[0] if name.endswith("_") else out, expression)

    def assign(self, tensor: Tensor, expression: str) -> None:
        """Let a tensor have the value of an expression, rounded to its dtype."""
        if tensor.dtype not in TYPES:
            raise UnknownOperationError(str(tensor.dtype))
        if tensor.dtype is torch.float32:
            expression = f"({expression}).to(tl.float32).to(tl.float64)"
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        self._values[id(tensor)] = Value(name, tensor.dtype, tensor.shape)
        self._alive.append(tensor)

    def value(self, tensor: Tensor) -> Value:
        """Return what a tensor stands for.

        Raises:
            UnknownOperationError: it follows from nothing that was recorded.
        """
        if id(tensor) not in self._values:
            raise UnknownOperationError("a tensor that was made elsewhere")
        return self._values[id(tensor)]

    def _constant(self, number: float, dtype: torch.dtype) -> str:
        if dtype is torch.float32:
            number = torch.tensor(number, dtype=torch.float64).float().item()
        self.constants.append(float(number))
        return f"c{len(self.constants) - 1}"

    def _operand(self, number: Any, dtype: torch.dtype) -> str:
        """Return a tensor or a Python number as an operand of an operation in a dtype."""
        if not isinstance(number, Tensor):
            return self._constant(number, dtype)
        value = self.value(number)
        if value.dtype is torch.bool and dtype is not torch.bool:
            return f"({value.name}).to(tl.float64)"
        if value.dtype is torch.float64 and dtype is torch.float32:
            return f"({value.name}).to(tl.float32).to(tl.float64)"
        return value.name

    def _expression(self, name: str, args: Any, kwargs: Any, out: Tensor) -> str:
        if name in CONSTANT:
            given = CONSTANT[name]
            return self._constant(given if isinstance(given, float) else args[given], out.dtype)
        if name in SAME:
            return self._operand(args[name == "copy_"], out.dtype)
        if name == "fill_":
            return self._operand(args[1], out.dtype)
        if name == "where" and len(args) == 3:  # noqa: PLR2004
            one, other = (self._operand(each, out.dtype) for each in args[1:])
            return f"tl.where({self.value(args[0]).name}, {one}, {other})"
        if name == "reciprocal":
            name, args = "div", (1.0, args[0])
        return self._arithmetic(name.removesuffix("_"), args, kwargs, out)

    def _arithmetic(self, name: str, args: Any, kwargs: Any, out: Tensor) -> str:
        if name == "clamp":
            return self._clamped(*args, **kwargs)
        if kwargs.pop("alpha", 1) != 1 or kwargs:
            raise UnknownOperationError(name)
        if out.dtype is torch.bool and name in LOGIC:
            return LOGIC[name].format(*(self.value(each).name for each in args))
        dtype = torch.result_type(*args) if len(args) > 1 else out.dtype
        if name == "pow":
            return self._power(args[0], args[1], dtype)
        operands = [self._operand(each, dtype) for each in args]
        if name == "add":
            return " + ".join(operands)
        if name in COMPARISONS:
            return f" {COMPARISONS[name]} ".join(operands)
        if name not in EXPRESSIONS:
            raise UnknownOperationError(name)
        return EXPRESSIONS[name].format(*operands)

    def _clamped(self, x: Any, low: Any = None, high: Any = None, **bounds: Any) -> str:
        expression = own = self._operand(x, x.dtype)
        for bound, sign in ((bounds.get("min", low), "<"), (bounds.get("max", high), ">")):
            if bound is not None:
                at = self._operand(bound, x.dtype)
                expression = f"tl.where({own} {sign} {at}, {at}, {expression})"
        return expression

    def _power(self, base: Any, exponent: Any, dtype: torch.dtype) -> str:
        if not isinstance(base, Tensor) and base > 0:
            log = self._constant(math.log(base), torch.float64)
            return f"tl.exp({log} * {self._operand(exponent, dtype)})"
        if isinstance(exponent, Tensor) or exponent not in POWERS:
            raise UnknownOperationError(f"{base} ** {exponent}")
        return POWERS[exponent].format(self._operand(base, dtype))


class Recorder(TorchDispatchMode):
    """Lets a program know of every operation."""

    program: Program

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Let torch call a function, and write it down."""
        out = func(*args, **(kwargs or {}))
        self.program.call(func.overloadpacket.__name__, args, kwargs or {}, out)
        return out


def record(
    function: Function, inputs: Sequence[Tensor], outputs: Sequence[Tensor], where: Sequence[int]
) -> Formula:
    """Return the formula of a function.

    Args:
        function: takes tensors like the inputs, to which it may write, and returns one for each
            output.
        inputs: its arguments. Those that are not 0-dim have one shape.
        outputs: what its results are written to; they may be among the inputs.
        where: which pointer of the kernel is each input's, and then each output's.

    Raises:
        RuntimeError: there is an operation that no kernel has, or the function asks for a number.
    """
    program, recorder, count = Program(), Recorder(), len(inputs)
    recorder.program = program
    stand_ins = [torch.empty_like(each, device="meta") for each in inputs]
    for stand_in, at in zip(stand_ins, where, strict=False):
        own = f"x{at} + at, mask=inside, other=0.0" if stand_in.dim() else f"x{at}"
        program.assign(stand_in, f"tl.load({own}).to(tl.float64)")
    with recorder:
        results = function(stand_ins)
    stores = [
        _store(program.value(result), output, f"x{at}")
        for result, output, at in zip(results, outputs, where[count:], strict=True)
    ]
    read = [f"c{i} = tl.load(constants + {i})" for i in range(len(program.constants))]
    head = ["at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)", "inside = at < n"]
    lines = "".join(f"\n    {line}" for line in (*head, *read, *program.lines, *stores))
    pointers = "".join(f"x{i}, " for i in sorted({*where}))
    source = f"def numbers({pointers}constants, n, BLOCK: tl.constexpr):{lines}\n"
    return Formula(source, program.constants)


def _store(value: Value, output: Tensor, pointer: str) -> str:
    if value.shape != output.shape or value.dtype is torch.bool:
        raise UnknownOperationError(f"a result of {value.shape} for {output.shape}")
    rounded = f"{value.name}.to({pointer}.dtype.element_ty)"
    if output.dim():
        return f"tl.store({pointer} + at, {rounded}, mask=inside)"
    return f"tl.store({pointer}, {rounded})"
