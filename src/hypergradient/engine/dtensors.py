"""Tensors that are spread over processes, and the process groups that know of them."""

from typing import Any

import torch
from torch import Tensor, distributed


def is_dtensor(tensor: Any) -> bool:
    """Return whether a tensor is spread over processes, in shards or in replicas."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return False
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - never for plain tensors

    return isinstance(tensor, DTensor)


def local_part(tensor: Any) -> Any:
    """Return what this process holds of a tensor, in the same memory."""
    if not is_dtensor(tensor):
        return tensor
    with torch.no_grad():
        part = tensor.to_local()
        return part.wait() if hasattr(part, "wait") else part


def like_dtensor(p: Any, part: Tensor) -> Tensor:
    """Return the DTensor, laid out as p is, of which this process holds `part`."""
    whole: Tensor = type(p).from_local(
        part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
    )
    return whole


def sharded_dims(p: Any) -> set[int]:
    """Return the dimensions of its mesh along which a DTensor is cut.

    Raises:
        ValueError: its value is a sum over ranks, and on no rank.
    """
    if any(placement.is_partial() for placement in p.placements):
        raise ValueError(
            f"a parameter with the placements {p.placements} has its value on no rank: "
            "shard or replicate it"
        )
    return {d for d, placement in enumerate(p.placements) if not placement.is_replicate()}


def ranks_along(mesh: Any, dims: set[int]) -> tuple[int, ...]:
    """Return the ranks whose mesh coordinates differ from this rank's in these dimensions only."""
    here = mesh.get_coordinate()
    if here is None:
        return ()
    index = tuple(slice(None) if d in dims else at for d, at in enumerate(here))
    return tuple(sorted(mesh.mesh[index].reshape(-1).tolist()))


def check_process_group(group: object) -> None:
    """Check the option `process_group`.

    Raises:
        ValueError: names the value and the remedy.
    """
    if group is None or (
        distributed.is_available() and isinstance(group, distributed.ProcessGroup)
    ):
        return
    raise ValueError(
        f"process_group={group!r} is not a process group that this rank belongs to, such as "
        "torch.distributed.group.WORLD, nor None"
    )
