"""A step of the optimizers whose u_t does not need alpha_t: SGD, momentum, Adam and AdamW."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from hypergradient.engine.gpu.device_tables import DeviceTables
from hypergradient.engine.gpu.recipes import ParamStep, RateStep
from hypergradient.engine.gpu.tables import Tuning

ADDING = 1024  # partial sums, or step counts, that a program takes at once


class StepKernels:
    """The launches of one optimizer's steps on one device.

    Args:
        device: where all tensors are.
        tuning: how work is cut, if not as usual.
    """

    def __init__(self, device: torch.device | str, tuning: Tuning | None = None) -> None:
        self._tables = DeviceTables(torch.device(device), tuning or Tuning())
        self._kernels: Any = import_module("hypergradient.engine.gpu.kernels")

    def load(self, params: Sequence[ParamStep], rates: Sequence[RateStep]) -> None:
        """Prepare a step.

        Args:
            params: all parameters that have a gradient.
            rates: all rates that move by a rule; one whose pool has no parameter stays. Rates of
                elements are not among them: they are the `alpha` of their parameters.
        """
        self._tables.load(params, rates)

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

    def sums(self) -> Tensor:
        """<g, u>, <g, g>, <u, u> and the number of elements of each pool, in float64.

        One row a pool: those of the rates, in the order in which `load` met them, then others.
        """
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
