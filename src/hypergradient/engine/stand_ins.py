"""What an average moves in the place of parameters that it cannot move as they are.

The moves of an average are small, and it keeps several tensors that differ by little. So where a
parameter has 16 bits, the state "theta" holds the same numbers in float32: that moves, and the
parameter is what it rounds to. All other states have its dtype. Complex parameters move as pairs of
reals, which are in the same memory.
"""

import torch
from torch import Tensor

from hypergradient.engine.tensors import HALF, as_real
from hypergradient.engine.types import State

STAND_INS = frozenset(
    {torch.float16, torch.bfloat16, torch.complex32, torch.complex64, torch.complex128}
)
"""The dtypes of parameters for which something else moves."""


def wide(p: Tensor) -> Tensor:
    """Return numbers as real ones of 32 bits or more; where they are, in the same memory."""
    real = as_real(p.detach())
    return real.float() if real.dtype.itemsize <= HALF else real


def theta_of(p: Tensor, state: State) -> Tensor:
    """Return what moves for a parameter, with the value that the parameter has now.

    Args:
        p: the parameter.
        state: its state, in which a copy in float32 is kept where it has 16 bits.
    """
    if not _is_copied(p):
        return as_real(p)
    if "theta" not in state:
        state["theta"] = wide(p)
    theta: Tensor = state["theta"]
    return theta.copy_(read(p, theta))


def read(p: Tensor, last: Tensor) -> Tensor:
    """Return a parameter's numbers; where they are those of `last`, rounded, then those of `last`.

    So what others write to a parameter of 16 bits is seen, and the rest keeps its precision.
    """
    if not _is_copied(p):
        return as_real(p)
    return torch.where(p == last.to(p.dtype), last, p.float())


def write(p: Tensor, theta: Tensor) -> None:
    """Let a parameter have the value of what moves for it."""
    as_real(p).copy_(theta)


def _is_copied(p: Tensor) -> bool:
    return as_real(p).dtype.itemsize <= HALF
