"""Where the kernels can be used."""

import logging
import os
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from hypergradient.engine.gpu.recipes import ParamStep
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


def takes(each: ParamStep, device: torch.device) -> bool:
    """Whether a parameter is for the kernels: dense floats in one memory order on the device.

    They also want rates and step counts in float32. For what is refused there is the eager way.
    """
    theta, elements = each.theta, each.pool is None
    wide = [theta, each.grad, each.a]
    if each.b is not None:
        wide.append(each.b)
    if elements:
        wide.append(each.alpha)
    scalars = [t for t in (each.step, None if elements else each.alpha) if t is not None]
    return (
        all(type(t) in PLAIN and t.device == device for t in (*wide, *scalars))
        and all(t.shape == theta.shape and t.dtype in FLOATS for t in wide)
        and all(t.numel() == 1 and t.dtype is torch.float32 for t in scalars)
        and each.alpha.dtype is torch.float32
        and not (each.grad.is_neg() or theta.is_inference())
        and (each.step is not None or not each.recipe.adam)
        and same_layout(wide)
    )
