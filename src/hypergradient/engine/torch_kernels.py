"""The second half of a step, theta_t = theta_{t-1} - alpha_t u_t, by torch's own kernels."""

from collections.abc import Sequence
from inspect import signature

import torch
from torch import Tensor

from hypergradient.engine.base import KernelBase
from hypergradient.engine.numbers import as_float
from hypergradient.engine.param_step import ParamStep
from hypergradient.engine.tensors import HALF, gradient_of, same_layout
from hypergradient.engine.types import Group

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def descend_by_kernel(
    base: KernelBase, group: Group, alpha: Tensor, steps: Sequence[ParamStep]
) -> None:
    """Move parameters of one group at one rate: by torch's fused kernel wherever that is right.

    torch's fused kernels on the CPU walk parameter, gradient and state in the order of memory
    whatever their strides (torch 2.13), so their layouts must agree.
    """
    may_fuse = _may_fuse(group)
    fused: list[ParamStep] = []
    others: list[ParamStep] = []
    for each in steps:
        use = may_fuse and each.aligned and _fusible(base, each.p)
        (fused if use else others).append(each)
    for members, use in ((fused, True), (others, False)):
        if members:
            params = [each.p for each in members]
            grads = [gradient_of(p) for p in params]
            lr = alpha if use else as_float(alpha)
            options = {**group, "fused": use, "lr": lr}
            base.descend(options, params, grads, [each.state for each in members])


def direction_by_kernel(base: KernelBase, group: Group, each: ParamStep, g: Tensor) -> Tensor:
    """Return u_t: what the kernel makes of zeros at the rate -1.

    The fused kernel counts in float32 where others have an eps of 0, in float16. But it rounds by
    the place in a tensor, and members of an ensemble must not depend on their place, so they take
    it only in 16 bits.
    """
    p = each.p
    u = torch.zeros_like(p)
    placeless = group["granularity"] == "element" or p.dtype.itemsize <= HALF
    may_fuse = _may_fuse(group) and placeless and each.aligned
    fused = may_fuse and _fusible(base, p) and same_layout((p, u, g))
    bare = {"lr": -1.0, "weight_decay": 0.0, "maximize": False, "fused": fused}
    base.descend({**group, **bare}, [u], [g], [each.state])
    return u


def has_fused(p: Tensor) -> bool:
    """Return whether torch has fused kernels for a parameter."""
    return p.is_floating_point() and (p.is_cpu or p.device.type in FUSED_DEVICES)


def wants_fused(group: Group) -> bool:
    """Return whether a group is for fused kernels: by a person's wish, or for want of another."""
    return bool(group["fused"]) or (group["fused"] is None and group["foreach"] is None)


def check_by_torch(optimizer: type[torch.optim.Optimizer], group: Group) -> None:
    """Let the constructor of a torch optimizer refuse options that it refuses.

    Raises:
        ValueError: torch's.
    """
    accepted = (signature(optimizer).parameters.keys() & group.keys()) - {"params"}
    options = {name: group[name] for name in accepted}
    if group["granularity"] == "member":  # torch's takes one rate, and ours are checked
        options["lr"] = 0.0
    optimizer([torch.zeros(())], **options)


def _may_fuse(group: Group) -> bool:
    recorded = group["differentiable"] or torch.compiler.is_compiling()
    return wants_fused(group) and not recorded


def _fusible(base: KernelBase, p: Tensor) -> bool:
    half_on_cpu = p.is_cpu and p.dtype.itemsize <= HALF
    return has_fused(p) and (base.fused_takes_halves or not half_on_cpu)
