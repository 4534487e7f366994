"""The tables of a step on the device, which follow what is loaded."""

from array import array
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.gpu import tables
from hypergradient.engine.gpu.device import active
from hypergradient.engine.gpu.recipes import Operands, RateStep
from hypergradient.engine.gpu.tables import (
    CHUNK_FIELDS,
    POOL_FIELDS,
    RATE_FIELDS,
    Plan,
    Tuning,
    Variant,
)
from hypergradient.engine.gpu.upload import Uploads

TOTALS = 4  # <g, u>, <g, g>, <u, u> and the number of elements


class Launch(NamedTuple):
    """The chunks of the parameters that one launch of a kernel moves, on the device."""

    variant: Variant
    chunks: Tensor
    programs: int


class DeviceTables:
    """The tables of one optimizer on one device.

    What follows from sizes, types and recipes alone is laid out once. The tables of addresses are
    small; they are uploaded again when a gradient is elsewhere.

    Attributes:
        rows: of the parameters.
        rates: rows of the rates, of which there are `n_rates`.
        steps: addresses of the step counts to advance, of which there are `n_steps`.
        recipes: their numbers.
        pools: their partial sums and numbers of elements, in the order of `pool_names`.
        launches: one for each variant of the kernels.
        partials: where each chunk's sums go.
        sums: where each pool's go, where they are wanted before the rates move.
        plan: the host's side of these.
        moved: the parameters that a step moves.
        tuning: how work is cut.
    """

    rows: Tensor
    rates: Tensor
    steps: Tensor
    n_rates: int
    n_steps: int
    recipes: Tensor
    pools: Tensor
    pool_names: list[Hashable]
    launches: list[Launch]
    partials: Tensor
    sums: Tensor
    plan: Plan
    moved: list[Tensor]

    def __init__(self, device: torch.device, tuning: Tuning) -> None:
        self._device = device
        self.tuning = tuning
        self._uploads = Uploads(device)
        self._key: list[Any] = []  # what the tables were made from
        self._plan_key: list[Any] = []
        self._captured: list[Tensor] = []

    def load(self, params: Sequence[Operands], rates: Sequence[RateStep]) -> None:
        """Follow the parameters and rates of the next step."""
        where = [tables.addresses_of(each) for each in params]
        sizes = [each.theta.numel() for each in params]
        names = [*(rate.pool for rate in rates), *(each.pool for each in params)]
        pools = tables.number(names)
        self.pool_names = list(dict.fromkeys(names))
        recipes = [*(rate.recipe for rate in rates), *(each.recipe for each in params)]
        key = [where, sizes, pools, recipes, [rate.alpha.data_ptr() for rate in rates]]
        capturing = self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if key == self._key and not capturing:
            return
        types = [tables.types_of(each) for each in params]
        aligned = [tables.is_aligned(each, at) for each, at in zip(params, where, strict=True)]
        plan_key = [sizes, pools, recipes, types, aligned]
        if plan_key != self._plan_key:
            variants = [
                tables.variant_of(each, types[i], aligned=aligned[i])
                for i, each in enumerate(params)
            ]
            self._lay_out(tables.plan_of(sizes, variants, pools, params, rates, self.tuning))
            self._plan_key = plan_key
        self._point(*tables.rows_of(sizes, where, params, rates, self.plan))
        self.moved = [each.theta for each in params if each.recipe.descends]
        self._key = [] if capturing else key  # tables in a graph are there only once it has run
        if capturing:  # the graph goes on reading these
            self._captured += (self.partials, self.sums, self.recipes, self.pools)
            self._captured += (launch.chunks for launch in self.launches)

    def _lay_out(self, plan: Plan) -> None:
        put, device = self._uploads.put, self._device
        self.plan = plan
        self.recipes, self.pools = put(plan.recipes), put(plan.pools)
        self.launches = [
            Launch(each.variant, put(each.chunks), len(each.chunks) // CHUNK_FIELDS)
            for each in plan.launches
        ]
        self.partials = torch.empty(plan.partials, 3, device=device)
        pools = len(plan.pools) // POOL_FIELDS
        self.sums = torch.zeros(pools, TOTALS, dtype=torch.float64, device=device)

    def _point(self, rows: "array[int]", rates: "array[int]", steps: "array[int]") -> None:
        """Upload the tables that hold addresses, as one."""
        self.n_rates, self.n_steps = len(rates) // RATE_FIELDS, len(steps)
        every, starts = array("q"), []
        for part in (rows, rates, steps):
            starts.append(len(every))
            every += part
            every += array("q", [0] * (len(every) % 2))  # Triton compiles anew for odd addresses
        table = self._uploads.put(every)
        self._uploads.set_aside(every)
        self.rows, self.rates, self.steps = (table[start:] for start in starts)

    def active(self) -> AbstractContextManager[Any]:
        """The device as the current one, to which Triton launches."""
        return active(self._device)
