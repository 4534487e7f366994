"""Where a run is in its epochs, and which batch comes next: the same for all methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.devices import arranged

if TYPE_CHECKING:
    from hypergradient.study.declare.run import Run
    from hypergradient.study.tasks.data.batches import Batches


def epoch_order(run: Run, examples: int, epoch: int) -> Tensor:
    """Return the order in which an epoch (from 1) goes through the examples, for all methods."""
    if not find_task(run.task).shuffled:
        return torch.arange(examples)
    generator = torch.Generator().manual_seed(run.derive_seed("batches", epoch))
    return torch.randperm(examples, generator=generator)


class EpochBatches:
    """A run's place in its epochs and the batches that follow.

    Runs that differ only in their method have the same batches, in the same order.

    Args:
        run: The run whose task, batch size, epochs and seeds are used.
        data: The task's data, of which the run uses its subset. Only ``OwnTraining`` takes batches.

    Attributes:
        epoch: The current epoch, from 1.
        step_in_epoch: Updates made in the current epoch.
        examples_per_epoch: Examples that a whole epoch sees.
        steps_per_epoch: Updates in a whole epoch.
        total_steps: Updates in the whole run, unless it reaches its target earlier.
        seconds: Time that the current epoch has taken in earlier processes.
    """

    def __init__(self, run: Run, data: Data | Batches) -> None:
        self.run, self.task = run, find_task(run.task)
        self.device = torch.device(run.device)
        part = None if self.task.resampled else run.train_examples
        self.take(data.subset(part, run.valid_examples))
        self.total_steps = run.epochs * self.steps_per_epoch
        if run.steps is not None:
            self.total_steps = min(self.total_steps, run.steps)
        if run.until is not None:
            self.total_steps = min(self.total_steps, run.until.max_steps)
        self.begin_epoch(1)

    def take(self, data: Data | Batches) -> None:
        """Keep the data, and find how many steps an epoch has."""
        if not isinstance(data, Data):
            raise TypeError(f"{type(data).__name__} is no data in memory")
        self.train_x, self.train_y, self.valid_x, self.valid_y = (
            torch.as_tensor(part).to(self.device)
            for part in (data.train_x, data.train_y, data.valid_x, data.valid_y)
        )
        every = len(self.train_x)
        self.examples_per_epoch = min(self.run.train_examples or every, every)
        self.steps_per_epoch = math.ceil(self.examples_per_epoch / self.run.batch_size)

    def begin_epoch(self, epoch: int) -> None:
        """Set everything to the state before the first step of an epoch."""
        self.epoch, self.step_in_epoch, self.seconds = epoch, 0, 0.0
        self.shuffle(epoch)
        self.augmentation = torch.Generator()
        self.augmentation.manual_seed(self.run.derive_seed("augmentation", epoch))

    def shuffle(self, epoch: int) -> None:
        """Choose the epoch's batches."""
        order = epoch_order(self.run, len(self.train_x), epoch)
        self.order = order[: self.examples_per_epoch].to(self.device)
        self.batches = torch.split(self.order, self.run.batch_size)

    @property
    def step(self) -> int:
        """Updates made in all epochs so far."""
        return (self.epoch - 1) * self.steps_per_epoch + self.step_in_epoch

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the inputs and the targets of the next update."""
        chosen = self.batches[self.step_in_epoch]
        inputs = self.task.augment(self.train_x.index_select(0, chosen), self.augmentation)
        return arranged(inputs, self.run), self.train_y.index_select(0, chosen)
