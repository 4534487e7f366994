"""A step of `Untuned`: y, z, v and the trace m move in one pass, and the rate after that."""

from array import array
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.gpu.device_tables import DeviceTables
from hypergradient.engine.gpu.recipes import AverageRule, ParamStep
from hypergradient.engine.gpu.step import ADDING
from hypergradient.engine.gpu.tables import Tuning
from hypergradient.engine.gpu.upload import Uploads


class AverageRate(NamedTuple):
    """The one rate of `Untuned` and its state: tensors in float32, 0-dim, on the device.

    Names are those of the state in untuned.py. `steps` is the number of steps taken, which
    is a tensor because a graph could not read a number of the host.
    """

    lr: Tensor
    relative: Tensor
    spread: Tensor
    weight: Tensor
    rising: Tensor
    steps: Tensor


class AverageKernels:
    """The launches of one `Untuned` optimizer's steps on one device.

    Args:
        device: where all tensors are.
        tuning: how work is cut, if not as usual.
    """

    def __init__(self, device: torch.device | str, tuning: Tuning | None = None) -> None:
        self._device = torch.device(device)
        self._tables = DeviceTables(self._device, tuning or Tuning())
        self._uploads = Uploads(self._device)
        self._rule = AverageRule()
        self._numbers = self._uploads.put(array("d", self._rule))
        self._kernels: Any = import_module("hypergradient.engine.gpu.average_kernels")

    def load(self, params: Sequence[ParamStep], rule: AverageRule) -> None:
        """Prepare a step.

        Args:
            params: all parameters that have a gradient, with an `AverageRecipe` each. The engine
                must have bounded the first rate already.
            rule: how the rate moves.
        """
        self._tables.load(params, [])
        if rule != self._rule:
            self._rule, self._numbers = rule, self._uploads.put(array("d", rule))

    def descend(self, rate: AverageRate) -> None:
        """Move y, z, v and m, and sum <g_t, m_{t-1}>."""
        tables = self._tables
        with tables.active():
            for variant, chunks, programs in tables.launches:
                self._kernels.average[(programs,)](
                    tables.rows,
                    tables.recipes,
                    self._numbers,
                    chunks,
                    tables.partials,
                    tables.plan.chunk,
                    rate.lr,
                    rate.weight,
                    rate.steps,
                    ADAM=variant.ratio,
                    ALIGNED=variant.aligned,
                    BLOCK=tables.tuning.block,
                    STAGES=tables.tuning.stages,
                    num_warps=tables.tuning.warps,
                )
        torch.autograd.graph.increment_version(tables.moved)  # a backward pass may hold them

    def move_rate(self, rate: AverageRate) -> None:
        """Move the rate, its state and all step counts."""
        tables = self._tables
        with tables.active():
            programs = 1 + -(-tables.n_steps // ADDING)
            self._kernels.move_rate[(programs,)](
                self._numbers,
                tables.partials,
                tables.steps,
                *rate,
                tables.plan.partials,
                tables.n_steps,
                BLOCK=ADDING,
            )
