"""Walk over large tensors in pieces that stay in cache.

The inner product of a gradient with a direction that must first be computed (Adam's ratio, a
decayed gradient) would need temporaries as large as the model. Piece by piece they take a
megabyte, and what one operation writes the next one finds in cache.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

PIECE = 1 << 17  # elements: half a megabyte of float32; more is no faster by much on a CPU,
LAUNCHED = 1 << 22  # and elsewhere each piece costs launches; 16 MB stay in an accelerator's cache
HALF = 2  # bytes an element


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield aligned pieces of tensors of one shape; to write to a piece is to write to its tensor.

    Where the tensors share a dense memory layout (contiguous, channels_last, ...) pieces are 1-D,
    of at most `PIECE` elements on the CPU, `LAUNCHED` elsewhere; otherwise, beside rates of
    members, which broadcast, and where operations are recorded, the tensors come whole. A 0-dim
    tensor among larger ones comes with every piece. Complex tensors are walked as pairs of reals,
    as torch's own optimizers do.
    """
    if tensors[0].is_complex():
        tensors = tuple(as_real(t) for t in tensors)
    shape = tensors[0].shape
    cut = [t for t in tensors if t.shape == shape]
    by_member = any(t.dim() and t.shape != shape for t in tensors)
    if in_graph() or not shape or by_member or not same_layout(cut):
        yield tensors
        return
    order = None if cut[0].is_contiguous() else _memory_order(cut[0])
    flat = tuple(_flat(t, order) if t.shape == shape else t for t in tensors)
    size = PIECE if cut[0].is_cpu else LAUNCHED
    if cut[0].numel() <= size:
        yield flat
    else:
        cuts = (torch.split(t, size) if t.dim() else repeat(t) for t in flat)
        yield from zip(*cuts, strict=False)


def in_graph() -> bool:
    """Whether operations are recorded, so that what they read must not be written to."""
    return torch.compiler.is_compiling() or torch.is_grad_enabled()


def same_layout(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors of one shape visit dense memory in one order."""
    for t in tensors:
        if not t.is_contiguous():
            break
    else:
        return True
    first = tensors[0]
    if any(t.stride() != first.stride() for t in tensors):
        return False
    return first.permute(_memory_order(first)).is_contiguous()


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> as a 0-dim tensor, accumulated in float32 or better."""
    if a.dtype.itemsize <= HALF:  # a float16 sum of squares overflows at 65504
        a, b = a.float(), b.float()
    return torch.dot(a, b) if a.dim() == 1 and b.dim() == 1 else (a * b).sum()


def inner_by_member(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> for each index of their leading axis, accumulated in float32 or better."""
    if a.dtype.itemsize <= HALF:
        a, b = a.float(), b.float()
    return (a * b).reshape(len(a), -1 if a.numel() else 0).sum(1)


def as_real(tensor: Tensor) -> Tensor:
    """A complex tensor as pairs of reals; a real one as it is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _flat(tensor: Tensor, order: list[int] | None) -> Tensor:
    return (tensor if order is None else tensor.permute(order)).view(-1)


def _memory_order(tensor: Tensor) -> list[int]:
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
