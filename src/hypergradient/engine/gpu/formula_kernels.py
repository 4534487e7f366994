"""Launches the kernels of functions of a few numbers, which formula.py writes."""

import linecache
import logging
from collections.abc import Hashable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.gpu import device as devices
from hypergradient.engine.gpu.formula import Function, record
from hypergradient.engine.gpu.upload import Uploads

FLOATS = frozenset({torch.float32, torch.float64})
MANY = 1000  # formulas; an option that moves in every step makes as many
BLOCK, WARPS = 256, 4  # of tensors; a single number takes one warp

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A kernel, and the constants that it reads, on the device."""

    kernel: Any
    constants: Tensor


_known: dict[Hashable, Prepared | None] = {}
_captured: list[Tensor] = []  # constants that CUDA graphs go on reading


def by_kernel(
    key: Hashable, function: Function, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> bool:
    """Compute a function of numbers on a device in one launch, if that can be.

    Args:
        key: what the function depends on beside the inputs.
        function: takes tensors like the inputs, to which it may write, and returns the results. It
            is called once for each key, with tensors that have no values.
        inputs: contiguous tensors: 0-dim, or of one shape.
        outputs: what the results are written to; they may be among the inputs.

    Returns:
        Whether the results have been written.
    """
    device = inputs[0].device
    if not devices.usable(device):
        return False
    tensors = [*inputs, *outputs]
    shapes = {t.shape for t in tensors if t.dim()}
    if len(shapes) > 1 or any(
        t.device != device or t.dtype not in FLOATS or not t.is_contiguous() for t in tensors
    ):
        return False
    pointers = {id(t): t for t in tensors}
    places = {own: i for i, own in enumerate(pointers)}
    where = [places[id(t)] for t in tensors]
    kinds = tuple((t.dtype, t.dim() > 0) for t in tensors)
    name = key, device, kinds, tuple(where), len(inputs)
    if name not in _known:
        if devices.capturing(device):
            return False  # constants cannot be brought there now
        _known[name] = _prepare(function, inputs, outputs, where)
    prepared = _known[name]
    if prepared is None:
        return False
    if devices.capturing(device):
        _captured.append(prepared.constants)
    count = max(t.numel() for t in tensors)
    _launch(prepared, [*pointers.values()], count, scalars=not shapes)
    return True


def _prepare(
    function: Function, inputs: Sequence[Tensor], outputs: Sequence[Tensor], where: Sequence[int]
) -> Prepared | None:
    if len(_known) > MANY:
        _known.clear()
    try:
        formula = record(function, inputs, outputs, where)
    except RuntimeError as reason:
        log.info("numbers are computed one operation after another: %s", reason)
        return None
    constants = Uploads(inputs[0].device).put(formula.constants)
    return Prepared(_kernel(formula.source), constants)


@cache
def _kernel(source: str) -> Any:
    """Compile a kernel; Triton reads its source again, as that of a function in a file."""
    triton, language = import_module("triton"), import_module("triton.language")
    name = f"<hypergradient formula {hash(source):x}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    space: dict[str, Any] = {"tl": language, "__name__": __name__}
    exec(compile(source, name, "exec"), space)  # noqa: S102 - our own source
    numbers = space["numbers"]
    arguments = list(numbers.__code__.co_varnames[: numbers.__code__.co_argcount])
    return triton.jit(do_not_specialize=arguments[:-1])(numbers)


def _launch(prepared: Prepared, pointers: list[Tensor], count: int, *, scalars: bool) -> None:
    block, warps = (1, 1) if scalars else (BLOCK, WARPS)
    with devices.active(pointers[0].device):
        prepared.kernel[(-(-count // block),)](
            *pointers, prepared.constants, count, BLOCK=block, num_warps=warps
        )
