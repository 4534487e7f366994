"""One run to records: the training loop shared by all methods. No files, no printing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR

from hypergradient.study import methods, tasks
from hypergradient.study.losses import LOSSES, of_a_constant, right
from hypergradient.study.notes import Notes
from hypergradient.study.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypergradient.study.data import Data
    from hypergradient.study.spec import Run

VALIDATION_CHUNK = 2000
"""Examples evaluated at once, at most, ..."""

VALIDATION_NUMBERS = 1_600_000
"""... and the input numbers they have together, to bound the memory that a large model needs."""

NORM_BATCHES = 50
"""Minibatches whose statistics batch norms take anew before an evaluation, where they must."""

State = dict[str, Any]
"""Tensors, numbers, texts, None, and lists and dicts of them: what ``torch.save`` keeps safely."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave; epoch 0 is the state before training.

    Attributes:
        epoch: Epochs trained so far; the last may be a part of one, where the run has reached its
            target or its last step.
        step: Updates made so far.
        train_loss: Mean of the epoch's minibatch losses, each before its update (as the sources
            report it); at epoch 0 the first minibatch's, evaluated as in validation. Of a run with
            ``whole_train_loss``, the mean over the whole training set, evaluated as in validation.
        train_accuracy: The same of the accuracies; NaN where targets are not classes.
        valid_loss: Mean loss over the validation set after the epoch.
        valid_accuracy: The validation set's share classified correctly.
        lr_mean: Mean of the learning rates that the epoch's steps used; at epoch 0 the initial.
        lr_min: The smallest of them.
        lr_max: The largest.
        seconds: Time that training and validation took.
        diverged_at_step: The first step, from 1, whose loss was not finite, or None.
        target_step: The first step, from 1, whose loss was at most the run's target, or None.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    lr_mean: float
    lr_min: float
    lr_max: float
    seconds: float
    diverged_at_step: int | None
    target_step: int | None = None


def initial_model(run: Run) -> nn.Module:
    """Return the run's model before training, the same for all methods."""
    return tasks.find(run.task).model(run.derive_seed("initialisation"))


def weights_hash(model: nn.Module) -> str:
    """Return the first 16 hex digits of the sha256 of the model's weights."""
    digest = sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()[:16]


def constant_loss(run: Run, data: Data) -> float:
    """Return the training loss of the best outputs that do not depend on the inputs."""
    targets = data.subset(run.train_examples, run.valid_examples).train_y
    return of_a_constant(torch.from_numpy(targets))


def epoch_order(run: Run, examples: int, epoch: int) -> Tensor:
    """Return the order in which an epoch (from 1) goes through the examples, for all methods."""
    generator = torch.Generator().manual_seed(run.derive_seed("batches", epoch))
    return torch.randperm(examples, generator=generator)


def nothing(_: Training) -> None:
    """Do nothing after a step."""


def train(
    run: Run,
    model: nn.Module,
    data: Data,
    *,
    saved: State | None = None,
    after_step: Callable[[Training], None] = nothing,
) -> Iterator[EpochRecord]:
    """Train ``model`` in place, yielding a record before training and after each epoch.

    A loss that is not finite ends the training after the epoch it appears in: the record says at
    which step. Within an epoch nothing is read back from the device, except for a run that ends
    at a loss.

    Args:
        run: What to do.
        model: ``initial_model(run)``.
        data: The task's data.
        saved: What ``Training.state`` gave in an earlier process: the training goes on from there,
            with the numbers it would have had, and the records that were yielded are left out.
        after_step: Called after each step, at which ``Training.state`` may be taken.
    """
    torch.set_num_threads(run.threads)
    training = Training(run, model, data)
    if saved is None:
        yield training.before()
    else:
        training.restore(saved)
    while True:
        record = training.finish_epoch(after_step)
        yield record
        if training.over or record.diverged_at_step is not None:
            return
        training.begin_epoch(training.epoch + 1)


class Course:
    """Where a run is in its epochs, and its batches: the same for all that differ in the method.

    Args:
        run: What to do.
        data: The task's data, of which the run takes its subset.
    """

    def __init__(self, run: Run, data: Data) -> None:
        self.run, self.task = run, tasks.find(run.task)
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


class Training(Course):
    """A run under way, between two steps of an epoch: all that its next numbers depend on.

    Args:
        run: What to do.
        model: Its model.
        data: The task's data, of which the run takes its subset.
    """

    def __init__(self, run: Run, model: nn.Module, data: Data) -> None:
        super().__init__(run, data)
        self.model = model
        self.optimizer = methods.find(run.method).build(
            model.parameters(), run.hyper, run.weight_decay
        )
        methods.set_mode(self.optimizer, training=True)
        self.advance = methods.stepper(self.optimizer)
        self.schedule = self._schedule()
        self.loss = LOSSES[self.task.loss]

    def _schedule(self) -> LambdaLR | None:
        if (factor := SCHEDULES[self.run.schedule]) is None:
            return None
        decay_steps = (self.run.decay_epochs or 0) * self.steps
        return LambdaLR(self.optimizer, lambda t: factor(t, decay_steps, self.last_step))

    def begin_epoch(self, epoch: int) -> None:
        """Make ready for an epoch's first step."""
        super().begin_epoch(epoch)
        self.notes = Notes(self.steps, self.train_y)
        self.target_step: int | None = None
        dropout = torch.Generator().manual_seed(self.run.derive_seed("dropout", epoch))
        self.dropout = dropout.get_state()

    @property
    def over(self) -> bool:
        """Whether no step is to follow."""
        return self.step >= self.last_step or self.target_step is not None

    def state(self) -> State:
        """Return what ``restore`` takes: a snapshot, to be saved before the next step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "dropout": torch.get_rng_state(),
            "epoch": self.epoch,
            "made": self.made,
            "target_step": self.target_step,
            **self.notes.state(),
            "seconds": self.seconds + time.perf_counter() - self.began,
        }

    def restore(self, state: State) -> None:
        """Go back to where ``state`` was taken, in a training of the same run."""
        self.begin_epoch(state["epoch"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.augmentation.set_state(state["augmentation"])
        self.dropout = state["dropout"]
        self.made, self.target_step = state["made"], state["target_step"]
        self.seconds = state["seconds"]
        seen = min(self.made * self.run.batch_size, len(self.train_y))
        self.notes.restore(state, self.made, seen)

    def before(self) -> EpochRecord:
        """Return the record of the state before training."""
        began = time.perf_counter()
        first = self.order if self.run.whole_train_loss else self.order[: self.run.batch_size]
        train_loss, train_accuracy = self.evaluate(self.train_x[first], self.train_y[first])
        valid_loss, valid_accuracy = self.evaluate(self.valid_x, self.valid_y)
        lr = float(self.optimizer.param_groups[0].get("lr", math.nan))
        return EpochRecord(
            epoch=0,
            step=0,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            lr_mean=lr,
            lr_min=lr,
            lr_max=lr,
            seconds=time.perf_counter() - began,
            diverged_at_step=None,
        )

    def finish_epoch(self, after_step: Callable[[Training], None]) -> EpochRecord:
        """Train to the epoch's end and return its record."""
        self.began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.dropout)
            self.model.train()
            methods.set_mode(self.optimizer, training=True)
            last = min(self.steps, self.made + self.last_step - self.step)
            while self.made < last and self.target_step is None:
                self.make_step()
                after_step(self)
        losses, rates = self.notes.losses, self.notes.rates
        methods.set_mode(self.optimizer, training=False)
        if methods.has_modes(self.optimizer):
            self.refresh_norms()
        train_loss, train_accuracy = self.on_training_set(losses)
        valid_loss, valid_accuracy = self.evaluate(self.valid_x, self.valid_y)
        return EpochRecord(
            epoch=self.epoch,
            step=self.step,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            lr_mean=rates[:, 0].mean().item(),
            lr_min=rates[:, 1].min().item(),
            lr_max=rates[:, 2].max().item(),
            seconds=self.seconds + time.perf_counter() - self.began,
            diverged_at_step=first_not_finite(losses, valid_loss, self.step - self.made),
            target_step=self.target_step,
        )

    def on_training_set(self, losses: Tensor) -> tuple[float, float]:
        """Return the epoch's training loss and accuracy, as the run wants them."""
        if self.run.whole_train_loss:
            return self.evaluate(self.train_x, self.train_y)
        if self.train_y.is_floating_point():
            return losses.mean().item(), math.nan
        seen = self.train_y.index_select(0, self.order[: self.made * self.run.batch_size])
        hits = self.notes.answers == seen
        return losses.mean().item(), hits.sum().item() / seen.numel()

    @torch.no_grad()
    def refresh_norms(self) -> None:
        """Let batch norms see the weights that are evaluated, as Schedule-Free's authors advise."""
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)]
        if not norms:
            return
        self.model.eval()
        for norm in norms:
            norm.train()
        for inputs in torch.split(self.train_x, self.run.batch_size)[:NORM_BATCHES]:
            self.model(inputs)

    def evaluate(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Return the mean loss and the accuracy over examples."""
        return evaluate(self.model, x, y, self.task.loss)

    def make_step(self) -> None:
        """Make the next update."""
        inputs, targets = self.batch()
        self.optimizer.zero_grad()
        outputs = self.model(inputs)
        loss = self.loss(outputs, targets)
        torch.autograd.backward(loss)
        self.advance(loss)
        self.notes.add(loss, outputs, self.optimizer)
        if self.schedule is not None:
            self.schedule.step()
        self.made += 1
        until = self.run.until
        if until is not None and loss.item() <= until.minibatch_loss:
            self.target_step = self.step


@torch.no_grad()
def evaluate(
    model: nn.Module, x: Tensor, y: Tensor, loss: str = tasks.CROSS_ENTROPY
) -> tuple[float, float]:
    """Return the mean loss and the accuracy over examples, in evaluation mode."""
    model.eval()
    total, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    chunk = max(1, min(VALIDATION_CHUNK, VALIDATION_NUMBERS // x[0].numel()))
    for inputs, targets in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True):
        outputs = model(inputs)
        total += LOSSES[loss](outputs, targets, reduction="sum")
        hits = hits + right(outputs, targets)
    return total.item() / y.numel(), hits.item() / y.numel()


def first_not_finite(losses: Tensor, valid_loss: float, before: int) -> int | None:
    """Return the step, from 1 over the whole training, at which the loss stopped being finite.

    Args:
        losses: The epoch's minibatch losses.
        valid_loss: The validation loss after it, which the last update can spoil on its own.
        before: Steps made in the epochs before.
    """
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        return before + int(bad[0].item()) + 1
    return None if math.isfinite(valid_loss) else before + len(losses)
