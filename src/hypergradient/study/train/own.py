"""The training of a task with data, a loss, a step or metrics of a person's own."""

from __future__ import annotations

import math
import random
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hypergradient.study.tasks.data.batches import Batches
from hypergradient.study.tasks.losses import count_correct
from hypergradient.study.tasks.task import CROSS_ENTROPY
from hypergradient.study.tasks.to_device import to_device
from hypergradient.study.train.devices import arranged
from hypergradient.study.train.evaluate import VALIDATION_CHUNK, VALIDATION_NUMBERS
from hypergradient.study.train.metrics import MetricBuffer
from hypergradient.study.train.training import Training

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.utils.data import DataLoader

    from hypergradient.study.tasks.data.base import Data


PAIR = 2  # (inputs, targets)


class Randomness:
    """Random numbers of torch, NumPy and Python that are drawn apart from all others.

    What a ``Dataset`` draws is so the same for all methods, however many numbers a model draws in
    between, and is drawn again by a run that goes on in another process.

    Args:
        seed: What the numbers follow from.
    """

    def __init__(self, seed: int) -> None:
        self.torch = torch.Generator().manual_seed(seed).get_state()
        self.numpy = np.random.RandomState(seed % 2**32).get_state()
        self.python = random.Random(seed).getstate()  # noqa: S311  (no secret is drawn)

    # ruff: noqa: NPY002  (a person's code uses NumPy's global numbers)
    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Let all that the block draws be of these numbers."""
        before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)
        try:
            yield
        finally:
            self.torch, self.numpy = torch.get_rng_state(), np.random.get_state()
            self.python = random.getstate()
            torch.set_rng_state(before[0])
            np.random.set_state(before[1])
            random.setstate(before[2])


class OwnTraining(Training):
    """One run of a person's own task; see ``Training``.

    A batch is whatever the data give: the pair (inputs, targets) of data in memory, or what a
    ``DataLoader`` makes. It is moved to the device of the model's first parameter.
    """

    def take(self, data: Data | Batches) -> None:
        """Keep the data, and find how many steps an epoch has."""
        self.source = self.validation = None
        if isinstance(data, Batches):
            self.source, self.validation = data.loaders(self.run.batch_size)
            self.steps_per_epoch = len(self.source)
            self.examples_per_epoch = 0  # a loader does not say how many examples it has
        else:
            super().take(data)

    def shuffle(self, epoch: int) -> None:
        """Choose the epoch's batches: a loader's own order follows from the run's seed."""
        if self.source is None:
            super().shuffle(epoch)
            return
        self.unread: Iterator[Any] | None = None

    def new_metrics(self) -> MetricBuffer:
        """Return what collects losses and rates. No predictions are kept."""
        return MetricBuffer(self.steps_per_epoch, torch.empty(0, device=self.device))

    def next_batch(self) -> Any:
        """Return the batch of the next update, on the model's device."""
        if self.source is None:
            return self.on_device(self.batch())
        if self.unread is None:
            self.unread = read(self.source, self.run.derive_seed("batches", self.epoch))
            for _ in islice(self.unread, self.step_in_epoch):  # made by an earlier process
                pass
        return self.on_device(next(self.unread))

    def on_device(self, batch: Any) -> Any:
        """Return a batch with its tensors on the model's device, and images as the run says."""
        batch = moved(batch, next(self.model.parameters()).device)
        if self.run.channels_last and isinstance(batch, tuple | list) and len(batch) == PAIR:
            inputs, targets = batch
            return arranged(inputs, self.run) if isinstance(inputs, Tensor) else inputs, targets
        return batch

    def loss_of_batch(self) -> tuple[Tensor, Tensor]:
        """Return the loss of the next minibatch; what stands for outputs is not looked at."""
        loss, _ = self.loss_and_outputs(self.next_batch())
        return loss, loss

    def loss_and_outputs(self, batch: Any) -> tuple[Tensor, Any]:
        """Return a batch's mean loss, and the outputs; None where a step of one's own has them."""
        if self.task.training_step is not None:
            return self.task.training_step(self.model, batch), None
        inputs, targets = batch
        outputs = self.model(inputs)
        return self.loss(outputs, targets), outputs

    def on_first_batch(self) -> tuple[float, float]:
        """Return the loss and accuracy of the first minibatch, or of the whole training set."""
        most = None if self.run.whole_train_loss else 1
        return self.evaluate_batches(islice(self.train_batches(), most))

    def on_training_set(self, losses: Tensor) -> tuple[float, float]:
        """Return the epoch's training loss; the accuracy is only known of a whole set."""
        if self.run.whole_train_loss:
            return self.evaluate_batches(self.train_batches())
        return losses.mean().item(), math.nan

    def validate(self) -> tuple[float, float, dict[str, float]]:
        """Return the validation set's loss and accuracy, and the means of a person's metrics."""
        loss, accuracy, *metrics = self.means_over(self.valid_batches())
        return loss, accuracy, dict(zip(self.task.metrics, metrics, strict=True))

    def evaluate_part(self, examples: int) -> float:
        """Evaluate a few examples, and return which share of an epoch's evaluation that is."""
        if self.source is None:
            few = self.valid_x[:examples], self.valid_y[:examples]
            self.means_over([few])
            every = len(self.valid_y) + self.run.whole_train_loss * len(self.train_y)
            return len(few[1]) / every
        self.means_over(islice(self.valid_batches(), 1))
        validation = len(self.validation) if self.validation is not None else 1
        return 1 / (validation + self.run.whole_train_loss * self.steps_per_epoch)

    def evaluate_runs(self, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return the run's mean loss and accuracy over examples, as a list of one."""
        return [self.evaluate_batches([(x, y)])]

    def train_batches(self) -> Iterator[Any]:
        """Yield the batches of an epoch of the training set, in the order of the first."""
        if self.source is not None:
            yield from read(self.source, self.run.derive_seed("batches", 1))
        else:
            size = self.run.batch_size
            yield from zip(
                torch.split(self.train_x, size), torch.split(self.train_y, size), strict=True
            )

    def valid_batches(self) -> Iterator[Any]:
        """Yield the batches of the validation set, which are the same in every epoch."""
        if self.validation is not None:
            yield from read(self.validation, self.run.derive_seed("batches", 0))
        else:
            numbers = self.valid_x[0].numel()
            size = max(1, min(VALIDATION_CHUNK, VALIDATION_NUMBERS // max(1, numbers)))
            yield from zip(
                torch.split(self.valid_x, size), torch.split(self.valid_y, size), strict=True
            )

    def see_batches(self, most: int) -> None:
        """Give the model so many minibatches of the training set, for its batch norms."""
        for batch in islice(self.train_batches(), most):
            with self.precision:
                self.loss_and_outputs(self.on_device(batch))

    def evaluate_batches(self, batches: Iterable[Any]) -> tuple[float, float]:
        """Return the mean loss and the accuracy over batches."""
        loss, accuracy, *_ = self.means_over(batches)
        return loss, accuracy

    @torch.no_grad()
    def means_over(self, batches: Iterable[Any]) -> list[float]:
        """Return the mean loss, the accuracy and the metrics over batches, in evaluation mode.

        Batches count by their number of examples. The accuracy is NaN unless the loss is the
        built-in cross-entropy.
        """
        self.model.eval()
        totals, count = [0.0, 0.0, *(0.0 for _ in self.task.metrics)], 0
        for batch in batches:
            here = self.on_device(batch)
            with self.precision:
                loss, outputs = self.loss_and_outputs(here)
                values = [float(loss), self.accuracy(outputs, here)]
                arguments = (self.model, here) if outputs is None else (outputs, here[1])
                values += [float(metric(*arguments)) for metric in self.task.metrics.values()]
            weight = size_of(batch)
            totals = [total + weight * value for total, value in zip(totals, values, strict=True)]
            count += weight
        return [total / count for total in totals]

    def accuracy(self, outputs: Any, batch: Any) -> float:
        """Return the share of a batch that is classified correctly, NaN where it is not known."""
        if outputs is None or self.task.loss != CROSS_ENTROPY or batch[1].is_floating_point():
            return math.nan
        return float(count_correct(outputs, batch[1]).item() / batch[1].numel())


def read(loader: DataLoader[Any], seed: int) -> Iterator[Any]:
    """Yield the batches of a loader, all of whose random numbers follow from a seed."""
    randomness = Randomness(seed)
    for holder in (loader, loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
        if isinstance(generator := getattr(holder, "generator", None), torch.Generator):
            generator.manual_seed(seed)
    with randomness.drawn():
        batches = iter(loader)
    while True:
        with randomness.drawn():
            try:
                batch = next(batches)
            except StopIteration:
                return
        yield batch


def moved(batch: Any, device: torch.device) -> Any:
    """Return a batch with all tensors in it on a device."""
    if isinstance(batch, Tensor):
        return to_device(batch, device)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(moved(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def size_of(batch: Any) -> int:
    """Return how many examples a batch has: the length of the first tensor in it, or 1."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, dict) else batch
    if isinstance(parts, tuple | list) or isinstance(batch, dict):
        return next((size_of(part) for part in parts), 1)
    return 1
