"""Where a run is in its epochs, and which batch comes next: the same for all methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergradient.study.tasks.registry import find_task

if TYPE_CHECKING:
    from hypergradient.study.declare.run import Run
    from hypergradient.study.tasks.data.base import Data


def epoch_order(run: Run, examples: int, epoch: int) -> Tensor:
    """Return the order in which an epoch (from 1) goes through the examples, for all methods."""
    generator = torch.Generator().manual_seed(run.derive_seed("batches", epoch))
    return torch.randperm(examples, generator=generator)


class EpochBatches:
    """Where a run is in its epochs, and its batches: the same for all that differ in the method.

    Args:
        run: What to do.
        data: The task's data, of which the run takes its subset.
    """

    def __init__(self, run: Run, data: Data) -> None:
        self.run, self.task = run, find_task(run.task)
        data = data.subset(run.train_examples, run.valid_examples)
        self.train_x, self.train_y, self.valid_x, self.valid_y = map(
            torch.from_numpy, (data.train_x, data.train_y, data.valid_x, data.valid_y)
        )
        self.steps = math.ceil(len(self.train_x) / run.batch_size)
        self.last_step = run.epochs * self.steps
        if run.until is not None:
            self.last_step = min(self.last_step, run.until.max_steps)
        self.begin_epoch(1)

    def begin_epoch(self, epoch: int) -> None:
        """Make ready for an epoch's first step."""
        self.epoch, self.made, self.seconds = epoch, 0, 0.0
        self.order = epoch_order(self.run, len(self.train_x), epoch)
        self.batches = torch.split(self.order, self.run.batch_size)
        self.augmentation = torch.Generator()
        self.augmentation.manual_seed(self.run.derive_seed("augmentation", epoch))

    @property
    def step(self) -> int:
        """Updates made so far."""
        return (self.epoch - 1) * self.steps + self.made

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the inputs and the classes of the next update."""
        chosen = self.batches[self.made]
        inputs = self.task.augment(self.train_x.index_select(0, chosen), self.augmentation)
        return inputs, self.train_y.index_select(0, chosen)
