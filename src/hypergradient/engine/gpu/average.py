"""A step on an average: y, z, v and the trace m move in one pass."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from hypergradient.engine.gpu.step import DeviceKernels
from hypergradient.engine.gpu.tables import Tuning


class AverageKernels(DeviceKernels):
    """The launches of a step of parameters whose iterate is an `Average`.

    Their recipes are `AverageRecipe`s.
    """

    def __init__(self, device: torch.device | str, tuning: Tuning | None = None) -> None:
        super().__init__(device, tuning)
        self._average: Any = import_module("hypergradient.engine.gpu.average_kernels")

    def descend(self, scalars: Tensor) -> None:
        """Move y, z, v and m, sum three products, and add 1 to the step counts.

        Args:
            scalars: one row a group, in float32: alpha_t, the learned rate, c_t and mu_t.
        """
        tables = self._tables
        with tables.active():
            for variant, chunks, programs in tables.launches:
                cut = {
                    "ALIGNED": variant.aligned,
                    "BLOCK": tables.tuning.block,
                    "STAGES": tables.tuning.stages,
                    "num_warps": tables.tuning.warps,
                }
                if variant.ratio:
                    self._average.square[(programs,)](
                        tables.rows,
                        tables.recipes,
                        chunks,
                        tables.partials,
                        tables.plan.chunk,
                        **cut,
                    )
                self._average.average[(programs,)](
                    tables.rows,
                    tables.recipes,
                    scalars,
                    chunks,
                    tables.partials,
                    tables.plan.chunk,
                    ADAM=variant.ratio,
                    **cut,
                )
            self._count_steps()
        torch.autograd.graph.increment_version(tables.moved)  # a backward pass may hold them
