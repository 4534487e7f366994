"""Functions that take floats or tensors alike, so that a rule is written once for both."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from hypergradient.engine.types import Number


def as_float(scalar: Tensor) -> Number:
    """Return a 0-dim tensor on the CPU as a float; others, and those in a graph, as they are."""
    if scalar.is_cpu and not (scalar.requires_grad or is_dynamo_compiling()):
        return scalar.item()
    return scalar


def assign(place: Tensor, value: Any) -> None:
    """Write a float or a tensor into a tensor.

    torch.compile loses what is written to a 0-dim float64 tensor on the CPU that a graph has as an
    input (torch 2.13 with AOTAutograd). It keeps what is written through a view.
    """
    if not isinstance(value, Tensor):
        place.fill_(value)
    elif is_dynamo_compiling():
        place.unsqueeze(0).copy_(value.unsqueeze(0))
    else:
        place.copy_(value)


def where(condition: Any, one: Any, other: Any) -> Any:
    """Return `one` where the condition holds and `other` elsewhere."""
    if isinstance(condition, Tensor):
        return torch.where(condition, one, other)
    return one if condition else other


def exp(x: Any) -> Any:
    """Return e to the power of x."""
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def isfinite(x: Any) -> Any:
    """Return whether x is neither infinite nor NaN."""
    return x.isfinite() if isinstance(x, Tensor) else math.isfinite(x)


def larger(x: Any, y: Any) -> Any:
    """Return the larger of two numbers; y where x is NaN."""
    return where(x > y, x, y)


def smaller(x: Any, y: Any) -> Any:
    """Return the smaller of two numbers; y where x is NaN."""
    return where(x < y, x, y)


def total(terms: Sequence[Number]) -> Number:
    """Return the sum: of floats a float; of tensors one, in float64 on the CPU, else float32."""
    devices = [t.device for t in terms if isinstance(t, Tensor)]
    if not devices:
        return sum(terms)
    device = devices[0]
    dtype = dtype_of_total(device)
    return torch.stack([torch.as_tensor(t, device=device, dtype=dtype) for t in terms]).sum(0)


def dtype_of_total(device: torch.device) -> torch.dtype:
    """Return the precision of rates, and of sums for them, on a device."""
    return torch.float64 if device.type == "cpu" else torch.float32


def cosine(gu: Number, gg: Number, uu: Number) -> Number:
    """Return <g, u> / (|g| |u|), and zero where a norm is zero.

    Squares that underflow make the norms too small. What is then no cosine must not move a rate,
    so the result is clipped to [-1, 1], and NaN stays NaN.
    """
    norms = gg**0.5 * uu**0.5
    if isinstance(norms, Tensor):
        return torch.where(norms == 0, 0.0, gu / norms).clamp(-1.0, 1.0)
    ratio = gu / norms if norms else 0.0
    return ratio if math.isnan(ratio) else min(max(ratio, -1.0), 1.0)


def cosine_of_elements(g: Tensor, u: Tensor) -> Tensor:
    """Return the cosine of two numbers: 1, -1 or 0, whatever their size; NaN if not finite."""
    return g.sign() * u.sign() + (g - g) + (u - u)
