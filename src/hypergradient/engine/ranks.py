"""Parameters that are spread over processes: a step on what is here, and sums over all of it.

Each process steps on plain tensors, the parts of the parameters that it holds. All that the update
theta_t = theta_{t-1} - alpha_t u_t needs of the others are the sums that the rates share, <g, u>
and the squared norms: one small all-reduce carries those of a whole step. Who takes part:

- parameters that are DTensors (FSDP2, tensor parallelism): the ranks that hold different shards.
  Replicas count once, and where nothing is sharded nobody speaks;
- an optimizer with a `process_group` (ZeRO): its ranks, each with whole parameters of its own;
- plain tensors otherwise (one process, DistributedDataParallel): nobody. Equal gradients on all
  ranks make equal rates.

The all-reduce happens in each step, whatever gradients a rank has, so that no rank waits for one
which has none; and what was reduced is the same on all ranks, NaN included, so rates are, too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, distributed

from hypergradient.engine.dtensors import (
    is_dtensor,
    like_dtensor,
    local_part,
    ranks_along,
    sharded_dims,
)
from hypergradient.engine.rules import rule_of
from hypergradient.engine.stand_ins import wide
from hypergradient.engine.tensors import dense_gradient, descent_gradient, sum_of_squares

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

    from hypergradient.engine.base import Base
    from hypergradient.engine.state import StatefulOptimizer
    from hypergradient.engine.types import Group, State


def ranks_of(optimizer: StatefulOptimizer) -> Ranks | None:
    """Those with whom an optimizer shares its parameters; None where all that it needs is here."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    shards = [p for group in optimizer.param_groups for p in group["params"] if is_dtensor(p)]
    if shards and optimizer.process_group is not None:
        raise ValueError(
            "process_group is for optimizers that hold whole parameters, as those in a "
            "ZeroRedundancyOptimizer do; DTensor parameters know their ranks: leave it out"
        )
    if shards and any(group["differentiable"] for group in optimizer.param_groups):
        raise ValueError("differentiable=True does not go with DTensor parameters: leave it out")
    if shards or optimizer.process_group is not None:
        if any(group["granularity"] == "member" for group in optimizer.param_groups):
            raise ValueError("granularity='member' is for stacks that are whole on each rank")
        if shards and any(map(_needs_whole_tensors, optimizer.param_groups)):
            raise ValueError(
                "rule='hdm' with granularity='element' divides by the norm of a whole parameter, "
                "of which each rank has a part: use granularity='tensor', or another rule"
            )
        for group in optimizer.param_groups:
            base = optimizer.base_of(group)
            if base.needs_whole and any(is_dtensor(p) and sharded_dims(p) for p in group["params"]):
                raise ValueError(
                    f"base={base.name!r} makes a direction of a whole parameter, of which each "
                    "rank has a part: use base='adam', or DistributedDataParallel"
                )
        return Ranks(optimizer, shards)
    return None


def _needs_whole_tensors(group: Group) -> bool:
    """Whether an element's rate depends on all of its tensor."""
    return group["granularity"] == "element" and rule_of(group).form == "normalised"


class Ranks:
    """The ranks that share an optimizer's parameters; entered, it steps on the local parts."""

    def __init__(self, optimizer: StatefulOptimizer, shards: Sequence[DTensor]) -> None:
        self._optimizer = optimizer
        self._group: ProcessGroup | None = optimizer.process_group
        self._device: str | None = None
        self._holders = {p: ranks_along(p.device_mesh, sharded_dims(p)) for p in shards}
        self._elsewhere: set[Tensor] = set()  # local parts that another rank counts
        self.rms: dict[Tensor, Tensor] = {}  # of the directions that are bounded, in a step
        if shards:
            self._device = shards[0].device_mesh.device_type
            self._members, self._group = _members(optimizer, shards)

    def pools(self, group: Group) -> bool:
        """Whether the rates of a group follow from sums over the ranks."""
        whole = not self._holders  # then a rate of a tensor is where all of the tensor is
        alone = ("element", "tensor") if whole else ("element",)
        return self._group is not None and group["granularity"] not in alone

    def counts(self, group: Group, p: Tensor) -> bool:
        """Whether this rank adds its part of p: of replicas, one does."""
        return p not in self._elsewhere or not self.pools(group)

    def measure(self) -> None:
        """Find rms(u_t) of each parameter whose directions are bounded, over all ranks.

        Called at the start of a step, in which the states have not moved yet. Where ranks hold
        replicas, the squares and their number are multiples by the same factor.
        """
        groups = self._optimizer.param_groups if self._holders else ()
        sums: dict[Hashable, Tensor] = {}
        for group in groups:
            base = self._optimizer.base_of(group)
            if not math.isinf(base.max_rms):
                for p in group["params"]:
                    sums[p] = _squares(base, group, p, self._optimizer.state.get(p, {}))
        for p, total in self.total(sums).items():
            self.rms[cast("Tensor", p)] = (total[0] / total[1].clamp(min=1)).sqrt()

    def total(self, sums: dict[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Add up what each rank has summed, 1-D tensors: all together, in one all-reduce."""
        if not sums or self._group is None:
            return sums
        flat = torch.cat([*sums.values()])
        flat = flat if self._device is None else flat.to(self._device)
        distributed.all_reduce(flat, group=self._group)
        parts = torch.split(flat, [t.numel() for t in sums.values()])
        return dict(zip(sums, parts, strict=True))

    def __enter__(self) -> Self:
        """Put local parts in the place of DTensors, of their gradients and states, too."""
        optimizer, state = self._optimizer, self._optimizer.state
        self._params = [group["params"] for group in optimizer.param_groups]
        self._state = state
        if not self._holders:
            return self
        self._parts = {
            p: self._localize(group, p) for group in optimizer.param_groups for p in group["params"]
        }
        local: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self._given: dict[Tensor, dict[str, Any]] = {}  # the local parts of states
        for p, part in self._parts.items():
            if p in state:
                own = {name: local_part(value) for name, value in state[p].items()}
                local[part] = state[p] if part is p else own
                self._given[part] = {**own}
            if self._members[0] not in self._holders.get(p, (distributed.get_rank(),)):
                self._elsewhere.add(part)
        for group, params in zip(optimizer.param_groups, self._params, strict=True):
            group["params"] = [self._parts[p] for p in params]
        optimizer.state = local
        return self

    def _localize(self, group: Group, p: Any) -> Any:
        # A rate of a tensor moves on all ranks, so it is needed where there is no gradient, too.
        moves = p.grad is not None or (group["granularity"] == "tensor" and p.requires_grad)
        if moves and not self._state[p]:
            self._state[p].update(self._optimizer.initial_state(group, p))
        if p not in self._holders:
            return p
        part: Tensor = local_part(p)
        if p.grad is not None:
            same = p.grad.placements == p.placements
            part.grad = local_part(p.grad if same else p.grad.redistribute(placements=p.placements))
        return part

    def __exit__(self, *_: object) -> None:
        """Put the DTensors back, with what the step has added to their states, or replaced."""
        if not self._holders:
            return
        state, self._optimizer.state = self._optimizer.state, self._state
        for group, params in zip(self._optimizer.param_groups, self._params, strict=True):
            group["params"] = params
        for p, part in self._parts.items():
            given = self._given.get(part, {})
            for name, value in state.get(part, {}).items():
                if part is p:
                    self._state[p][name] = value
                elif value is not given.get(name):
                    spread = value.shape == part.shape
                    self._state[p][name] = like_dtensor(p, value) if spread else value


def _squares(base: Base, group: Group, p: Tensor, state: State) -> Tensor:
    """Return <u_t, u_t> and the number of elements of what is here, without moving the state."""
    if p.grad is None:
        return torch.zeros(2, dtype=torch.float64, device=p.device)
    theta = wide(p)
    own = base.init(theta)
    copies = {name: state[name].clone() if name in state else own[name] for name in own}
    g = descent_gradient(group, wide(dense_gradient(p)), theta)
    u = base.direction(g, theta, copies, group)
    squares = sum_of_squares(u).double()
    return torch.stack([squares, torch.full_like(squares, u.numel())])


def _members(
    optimizer: StatefulOptimizer, shards: Sequence[DTensor]
) -> tuple[tuple[int, ...], ProcessGroup | None]:
    """The ranks to sum over, in order, and their process group; none where nothing is divided."""
    dims: dict[DeviceMesh, set[int]] = {}
    for p in shards:
        dims.setdefault(p.device_mesh, set()).update(sharded_dims(p))
    fibers = {mesh: ranks_along(mesh, of_mesh) for mesh, of_mesh in dims.items()}
    widest = max(fibers, key=lambda mesh: len(fibers[mesh]))
    members = fibers[widest]
    for ranks in fibers.values():
        if not set(ranks) <= set(members):
            raise ValueError(
                f"parameters are sharded over the ranks {list(members)} and {list(ranks)}, of "
                "which neither includes the other: give each kind an optimizer of its own"
            )
    if len(members) <= 1:
        return members or (distributed.get_rank(),), None
    if len(dims[widest]) == 1:
        return members, widest.get_group(*dims[widest])
    if len(members) == distributed.get_world_size():
        return members, distributed.group.WORLD
    made = optimizer.__dict__.setdefault("_rank_groups", {})
    if members not in made:
        made[members] = distributed.new_group(list(members), use_local_synchronization=True)
    return members, made[members]
