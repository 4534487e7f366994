"""A step of the optimizers whose u_t does not need alpha_t: SGD, momentum, Adam and AdamW."""

from collections.abc import Hashable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from hypergradient.engine.gpu.device_tables import DeviceTables
from hypergradient.engine.gpu.recipes import Operands, RateStep
from hypergradient.engine.gpu.tables import POOL_FIELDS, Tuning

ADDING = 1024  # partial sums, or step counts, that a program takes at once


class DeviceKernels:
    """The tables and sums that the steps of one optimizer on one device have.

    Args:
        device: where all tensors are.
        tuning: how work is cut, if not as usual.
    """

    def __init__(self, device: torch.device | str, tuning: Tuning | None = None) -> None:
        self._tables = DeviceTables(torch.device(device), tuning or Tuning())
        self._kernels: Any = import_module("hypergradient.engine.gpu.kernels")

    def load(self, params: Sequence[Operands], rates: Sequence[RateStep] = ()) -> None:
        """Prepare a step.

        Args:
            params: all parameters that have a gradient.
            rates: the rates that `move_rates` is to move; one whose pool has no parameter stays.
                Rates of elements are not among them: they are the `alpha` of their parameters.
        """
        self._tables.load(params, rates)

    @property
    def pools(self) -> list[Hashable]:
        """The pools, in the order of the rows of `sums`."""
        return self._tables.pool_names

    @property
    def counts(self) -> list[int]:
        """How many elements each pool has."""
        return self._tables.plan.pools[2::POOL_FIELDS].tolist()

    def sums(self) -> Tensor:
        """<g, u>, <g, g>, <u, u> and the number of elements of each pool, in float64."""
        tables = self._tables
        with tables.active():
            if len(tables.sums):
                self._kernels.add_up[(len(tables.sums),)](
                    tables.pools,
                    tables.partials,
                    tables.sums,
                    NORMS=tables.plan.norms,
                    BLOCK=ADDING,
                )
        return tables.sums

    def _count_steps(self) -> None:
        tables = self._tables
        programs = -(-tables.n_steps // ADDING)
        if programs:
            self._kernels.count_steps[(programs,)](tables.steps, tables.n_steps, BLOCK=ADDING)


class StepKernels(DeviceKernels):
    """The launches of a step at which theta_t = theta_{t-1} - alpha_t u_t."""

    def visit(self) -> None:
        """Sum the inner products, advance the states, and move what has element-wise rates."""
        tables = self._tables
        with tables.active():
            for variant, chunks, programs in tables.launches:
                self._kernels.visit[(programs,)](
                    tables.rows,
                    tables.recipes,
                    chunks,
                    tables.partials,
                    tables.plan.chunk,
                    *(self._kernels.TYPES[dtype] for dtype in variant.types),
                    RATIO=variant.ratio,
                    HAS_B=variant.has_b,
                    ELEMENTS=variant.elements,
                    NORMS=tables.plan.norms,
                    ALIGNED=variant.aligned,
                    BLOCK=tables.tuning.block,
                    STAGES=tables.tuning.stages,
                    num_warps=tables.tuning.warps,
                )

    def move_rates(self, sums: Tensor | None = None) -> None:
        """Move the rates, and add 1 to the step counts of the parameters that descend.

        Args:
            sums: in the place of the visit's own, such as the totals of those of all ranks.
        """
        tables = self._tables
        with tables.active():
            programs = tables.n_rates + -(-tables.n_steps // ADDING)
            if programs:
                self._kernels.move_rates[(programs,)](
                    tables.rates,
                    tables.recipes,
                    tables.pools,
                    tables.partials,
                    tables.sums if sums is None else sums,
                    tables.steps,
                    tables.n_rates,
                    tables.n_steps,
                    RATE_TYPE=self._kernels.TYPES[tables.plan.rate_type],
                    NORMS=tables.plan.norms,
                    SUMMED=sums is not None,
                    BLOCK=ADDING,
                )

    def descend(self) -> None:
        """Move the parameters by rates that have moved since the visit."""
        tables = self._tables
        with tables.active():
            for variant, chunks, programs in tables.launches:
                if variant.elements or not variant.descends:
                    continue
                self._kernels.descend[(programs,)](
                    tables.rows,
                    tables.recipes,
                    chunks,
                    tables.plan.chunk,
                    *(self._kernels.TYPES[dtype] for dtype in variant.types[1:]),
                    RATIO=variant.ratio,
                    ALIGNED=variant.aligned,
                    BLOCK=tables.tuning.block,
                    STAGES=tables.tuning.stages,
                    num_warps=tables.tuning.warps,
                )
        torch.autograd.graph.increment_version(tables.moved)  # a backward pass may hold them
