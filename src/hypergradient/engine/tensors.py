"""Gradients, inner products, and a walk over large tensors in chunks that stay in cache.

The inner product of a gradient with a direction that must first be computed (Adam's ratio, a
decayed gradient) would need temporaries as large as the model. Chunk by chunk they take half a
megabyte, and what one operation writes the next one finds in cache.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

from hypergradient.engine.types import Group

CPU_CHUNK = 1 << 17  # elements: half a megabyte of float32; more is hardly faster on a CPU
DEVICE_CHUNK = 1 << 22  # on an accelerator each chunk costs launches; 16 MB stay in its cache
ROW = 4096  # elements: torch adds up as many in one thread
HALF = 2  # bytes of an element in a 16-bit dtype


def gradient_of(p: Tensor) -> Tensor:
    """Return the gradient of a parameter that has one."""
    assert p.grad is not None  # noqa: S101 - callers pass parameters with gradients
    return p.grad


def dense_gradient(p: Tensor) -> Tensor:
    """Return the gradient of a parameter as a dense tensor."""
    grad = gradient_of(p)
    return grad.to_dense() if grad.is_sparse else grad


def with_gradient(group: Group) -> list[Tensor]:
    """Return the parameters of a group that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


def descent_gradient(group: Group, grad: Tensor, theta: Tensor) -> Tensor:
    """Return g_t, the gradient of what is minimised, with L2 decay; p.grad is never written to."""
    g = -grad if group["maximize"] else grad
    decay = group["weight_decay"]
    if group["decoupled_weight_decay"]:
        return g
    if isinstance(decay, Tensor):
        return g + decay * theta.clone()  # the graph may hold theta, which is about to move
    return g.add(theta, alpha=decay) if decay != 0 else g


def chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield aligned chunks of tensors of one shape; to write to a chunk writes to its tensor.

    Where the tensors share a dense memory layout (contiguous, channels_last, ...) chunks are 1-D,
    of at most `CPU_CHUNK` elements on the CPU and `DEVICE_CHUNK` elsewhere. Otherwise the tensors
    come whole, and so they do beside rates of members, which broadcast, and where operations are
    recorded. A 0-dim tensor among larger ones comes with every chunk. Complex tensors are walked
    as pairs of reals, as torch's own optimizers do.
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
    size = CPU_CHUNK if cut[0].is_cpu else DEVICE_CHUNK
    if cut[0].numel() <= size:
        yield flat
    else:
        cuts = (torch.split(t, size) if t.dim() else repeat(t) for t in flat)
        yield from zip(*cuts, strict=False)


def in_graph() -> bool:
    """Return whether operations are recorded, so that what they read must not be written to."""
    return torch.compiler.is_compiling() or torch.is_grad_enabled()


def same_layout(tensors: Sequence[Tensor]) -> bool:
    """Return whether tensors of one shape visit dense memory in one order."""
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
    """Return <a, b> as a 0-dim tensor, accumulated in float32 or better."""
    if a.dtype.itemsize <= HALF:  # a float16 sum of squares overflows at 65504
        a, b = a.float(), b.float()
    return torch.dot(a, b) if a.dim() == 1 and b.dim() == 1 else (a * b).sum()


def sum_of_squares(t: Tensor) -> Tensor:
    """Return <t, t>, in an order of additions that does not depend on the number of threads.

    Rows are added up whole, each by one thread, then their sums.
    """
    squares = as_real(t).to(torch.promote_types(as_real(t).dtype, torch.float32)).square().flatten()
    while squares.numel() > ROW:
        whole = squares.numel() // ROW * ROW
        rows, rest = squares[:whole].view(-1, ROW), squares[whole:]
        squares = torch.cat([rows.sum(1), rest.sum().unsqueeze(0)])
    return squares.sum()


def bounded(u: Tensor, max_rms: float, rms: Tensor | None = None) -> Tensor:
    """Return u / max(1, rms(u) / max_rms), with the root mean square over the whole tensor.

    A NaN among its numbers leaves the others as they are.

    Args:
        u: the tensor.
        max_rms: what the root mean square is at most.
        rms: the root mean square, where u is a part of a tensor.
    """
    if rms is None:
        rms = torch.linalg.vector_norm(u) / math.sqrt(max(u.numel(), 1))
    return u / torch.where(rms > max_rms, rms / max_rms, 1.0).to(u.dtype)


def version_of(t: Tensor) -> int:
    """Return how often a tensor has been written to, as torch counts it."""
    return t._version  # noqa: SLF001 - it has no other name


def inner_by_member(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> for each index of their leading axis, accumulated in float32 or better."""
    if a.dtype.itemsize <= HALF:
        a, b = a.float(), b.float()
    return (a * b).reshape(len(a), -1 if a.numel() else 0).sum(1)


def as_real(tensor: Tensor) -> Tensor:
    """Return a complex tensor as pairs of reals, and a real one as it is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _flat(tensor: Tensor, order: list[int] | None) -> Tensor:
    return (tensor if order is None else tensor.permute(order)).view(-1)


def _memory_order(tensor: Tensor) -> list[int]:
    return sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
