"""Where the kernels can be used."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from hypergradient.engine.gpu.recipes import Operands
from hypergradient.engine.tensors import in_graph, same_layout

FLOATS = frozenset({torch.float32, torch.bfloat16, torch.float16})
PLAIN = frozenset({Tensor, torch.nn.Parameter})  # subclasses may hold their numbers elsewhere

log = logging.getLogger(__name__)


@cache
def installed() -> bool:
    """Whether Triton is there, and is not turned off."""
    if os.environ.get("HYPERGRADIENT_TRITON", "1") == "0":
        return False
    try:
        import_module("triton")
    except ImportError as reason:
        log.info("steps are eager on CUDA: Triton cannot be had (%s)", reason)
        return False
    return True


def usable(device: torch.device) -> bool:
    """Whether there are kernels for a device, and nothing records what they would do."""
    return device.type == "cuda" and not in_graph() and installed()


def capturing(device: torch.device) -> bool:
    """Whether launches go into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def active(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one, to which Triton launches."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def takes(each: Operands, device: torch.device, *, elements: bool) -> bool:
    """Whether a parameter is for the kernels: dense floats in one memory order on the device.

    Args:
        each: the parameter.
        device: where all must be.
        elements: whether `alpha` is shaped like the parameter.

    Returns:
        Whether it is. Step counts must be float32; for what is refused there is the eager way.
    """
    theta, grad, a, b, alpha, step, recipe, _ = each
    size, index, contiguous = theta.numel(), theta.get_device(), True
    if theta.device != device or grad.is_neg() or theta.is_inference():
        return False
    shaped = [theta, grad, a] if b is None else [theta, grad, a, b]
    if elements:
        shaped.append(alpha)
    elif alpha.dim() or alpha.get_device() != index or type(alpha) not in PLAIN:
        return False
    for t in shaped:
        if (
            t.dtype not in FLOATS
            or type(t) not in PLAIN
            or t.numel() != size
            or t.get_device() != index
        ):
            return False
        if not t.is_contiguous():
            contiguous = False
    if recipe.adam and (
        step is None or step.dtype is not torch.float32 or step.get_device() != index
    ):
        return False
    return contiguous or same_layout(shaped)
