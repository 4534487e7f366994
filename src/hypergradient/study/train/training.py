"""One run to records: the training loop that all methods share."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR

from hypergradient.study.methods.modes import has_modes, set_mode, step_function
from hypergradient.study.methods.registry import find_method
from hypergradient.study.methods.schedules import SCHEDULES
from hypergradient.study.methods.traits import Traits, traits_of
from hypergradient.study.tasks.losses import LOSSES
from hypergradient.study.tasks.task import CROSS_ENTROPY
from hypergradient.study.train.devices import (
    arranged,
    placed,
    precision,
    random_numbers,
    random_state,
    seeded,
    synchronize,
)
from hypergradient.study.train.evaluate import evaluate, first_not_finite
from hypergradient.study.train.groups import ONE_BY_ONE
from hypergradient.study.train.initial import weights_hash
from hypergradient.study.train.metrics import MetricBuffer
from hypergradient.study.train.records import EpochRecord, RunRecord, State
from hypergradient.study.train.session import Session, do_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypergradient.study.declare.run import Run
    from hypergradient.study.tasks.data.base import Data
    from hypergradient.study.tasks.data.batches import Batches

NORM_BATCHES = 50
"""Minibatches whose statistics batch norms take anew before an evaluation, where they must."""


def train(
    run: Run,
    model: nn.Module,
    data: Data,
    *,
    saved: State | None = None,
    after_step: Callable[[Training], None] = do_nothing,
) -> Iterator[EpochRecord]:
    """Train one run to its end, and yield its records: a shorthand for ``Training.train``."""
    for _, record, _ in Training(run, model, data, saved=saved).train(after_step):
        yield record


class Training(Session):
    """One run under way: everything that its next numbers depend on.

    Args:
        run: The run.
        model: The model to train, ``initial_model(run)``; it is changed in place.
        data: The task's data, of which the run uses its subset.
        saved: What ``state`` gave in an earlier process. The run goes on from there.
    """

    kind = ONE_BY_ONE

    def __init__(
        self, run: Run, model: nn.Module, data: Data | Batches, *, saved: State | None = None
    ) -> None:
        self.step_seconds: list[float] = []  # the mean of each epoch that this process trained
        super().__init__([run], data)
        self.init_hash = weights_hash(model)
        self.model, self.precision = placed(model, run), precision(run)
        self.optimizer = find_method(run.method).build(
            model.parameters(), run.hyper, run.weight_decay
        )
        set_mode(self.optimizer, training=True)
        self.advance = step_function(self.optimizer)
        self.schedule = self._schedule()
        self.loss = LOSSES[self.task.loss] if isinstance(self.task.loss, str) else self.task.loss
        self.began = time.perf_counter()
        self.resumed = saved is not None
        if saved is not None:
            self.restore(saved)

    def train(self, after_step: Callable[[Training], None] = do_nothing) -> Iterator[RunRecord]:
        """Train until the run has ended; see ``Session.train``.

        A loss that is not finite ends the run after the epoch in which it appears; the record says
        at which step. Within an epoch nothing is read back from the device, except for a run that
        ends at a loss.
        """
        if not self.resumed:
            yield RunRecord(self.run, self.before(), last=False)
        while self.runs:
            record = self.finish_epoch(after_step)
            last = self.over or record.diverged_at_step is not None
            if last:
                self.runs = []
            yield RunRecord(self.run, record, last)
            if not last:
                self.begin_epoch(self.epoch + 1)

    def states(self) -> dict[str, State]:
        """Return a snapshot of the run by its id."""
        return {self.run.id: self.state()}

    def traits(self, run: Run) -> Traits:
        """Return what the optimizer that trains the run is."""
        return find_method(run.method).known_traits or traits_of(self.optimizer)

    def _schedule(self) -> LambdaLR | None:
        if (factor := SCHEDULES[self.run.schedule]) is None:
            return None
        decay_steps = (self.run.decay_epochs or 0) * self.steps_per_epoch
        return LambdaLR(self.optimizer, lambda t: factor(t, decay_steps, self.total_steps))

    def begin_epoch(self, epoch: int) -> None:
        """Set everything to the state before the first step of an epoch."""
        super().begin_epoch(epoch)
        self.metrics = self.new_metrics()
        self.target_step: int | None = None
        self.dropout = seeded(self.device, self.run.derive_seed("dropout", epoch))

    def new_metrics(self) -> MetricBuffer:
        """Return what collects the losses, rates and predictions of an epoch."""
        return MetricBuffer(self.steps_per_epoch, self.train_y[: self.examples_per_epoch])

    @property
    def over(self) -> bool:
        """Whether the run has reached its target or made all its steps."""
        return self.step >= self.total_steps or self.target_step is not None

    def state(self) -> State:
        """Return what ``restore`` takes: a snapshot, which must be saved before the next step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "dropout": random_state(self.device),
            "epoch": self.epoch,
            "made": self.step_in_epoch,
            "target_step": self.target_step,
            **self.metrics.state(),
            "seconds": self.seconds + time.perf_counter() - self.began,
        }

    def cost(self) -> dict[str, float]:
        """Return the seconds of a step, the median over epochs, and the bytes of optimizer state.

        The bytes are those of a parameter, after the steps that were made.
        """
        tensors = [*tensors_in(self.optimizer.state)]
        for group in self.optimizer.param_groups:
            tensors += [each for each in group.values() if isinstance(each, Tensor)]
        size = sum(each.numel() * each.element_size() for each in tensors)
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        seconds = statistics.median(self.step_seconds) if self.step_seconds else math.nan
        return {"step_seconds": seconds, "state_bytes": size / max(1, parameters)}

    def restore(self, state: State) -> None:
        """Go back to where ``state`` was taken, in a training of the same run."""
        self.begin_epoch(state["epoch"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.augmentation.set_state(state["augmentation"])
        self.dropout = state["dropout"]
        self.step_in_epoch, self.target_step = state["made"], state["target_step"]
        self.seconds = state["seconds"]
        seen = min(self.step_in_epoch * self.run.batch_size, self.examples_per_epoch)
        self.metrics.restore(state, self.step_in_epoch, seen)

    def before(self) -> EpochRecord:
        """Return the record of the state before training."""
        began = time.perf_counter()
        train_loss, train_accuracy = self.on_first_batch()
        valid_loss, valid_accuracy, metrics = self.validate()
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
            metrics=metrics,
        )

    def on_first_batch(self) -> tuple[float, float]:
        """Return the loss and accuracy of the first minibatch, or of the whole training set."""
        first = self.order if self.run.whole_train_loss else self.order[: self.run.batch_size]
        return self.evaluate(self.train_x[first], self.train_y[first])

    def validate(self) -> tuple[float, float, dict[str, float]]:
        """Return the validation set's loss and accuracy, and the means of a person's metrics."""
        return *self.evaluate(self.valid_x, self.valid_y), {}

    def finish_epoch(self, after_step: Callable[[Training], None]) -> EpochRecord:
        """Train to the epoch's end and return its record."""
        self.began = time.perf_counter()
        with random_numbers(self.device, self.dropout):
            self.model.train()
            set_mode(self.optimizer, training=True)
            first = self.step_in_epoch
            last = min(self.steps_per_epoch, first + self.total_steps - self.step)
            while self.step_in_epoch < last and self.target_step is None:
                self.make_step()
                after_step(self)
        synchronize(self.device)
        if made := self.step_in_epoch - first:
            self.step_seconds.append((time.perf_counter() - self.began) / made)
        losses, rates = self.metrics.losses, self.metrics.rates
        set_mode(self.optimizer, training=False)
        if has_modes(self.optimizer):
            self.refresh_norms()
        train_loss, train_accuracy = self.on_training_set(losses)
        valid_loss, valid_accuracy, metrics = self.validate()
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
            diverged_at_step=first_not_finite(losses, valid_loss, self.step - self.step_in_epoch),
            target_step=self.target_step,
            metrics=metrics,
        )

    def on_training_set(self, losses: Tensor) -> tuple[float, float]:
        """Return the epoch's training loss and accuracy, by minibatch or of the whole set."""
        if self.run.whole_train_loss:
            return self.evaluate(self.train_x, self.train_y)
        if not self.metrics.classified:
            return losses.mean().item(), math.nan
        seen = self.train_y.index_select(0, self.order[: self.step_in_epoch * self.run.batch_size])
        hits = self.metrics.predictions == seen
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
        self.see_batches(NORM_BATCHES)

    def see_batches(self, most: int) -> None:
        """Give the model so many minibatches of the training set, for its batch norms."""
        for inputs in torch.split(self.train_x, self.run.batch_size)[:most]:
            with self.precision:
                self.model(arranged(inputs, self.run))

    def evaluate(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Return the mean loss and the accuracy over examples."""
        loss = self.task.loss if isinstance(self.task.loss, str) else CROSS_ENTROPY
        with self.precision:
            return evaluate(self.model, arranged(x, self.run), y, loss)

    def evaluate_runs(self, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return the run's mean loss and accuracy over examples, as a list of one."""
        return [self.evaluate(x, y)]

    def loss_of_batch(self) -> tuple[Tensor, Tensor]:
        """Return the loss of the next minibatch, and the model's outputs."""
        inputs, targets = self.batch()
        outputs = self.model(inputs)
        return self.loss(outputs, targets), outputs

    def make_step(self) -> None:
        """Make the next update."""
        self.optimizer.zero_grad()
        with self.precision:
            loss, outputs = self.loss_of_batch()
        torch.autograd.backward(loss)
        self.advance(loss)
        self.metrics.add(loss, outputs, self.optimizer)
        if self.schedule is not None:
            self.schedule.step()
        self.step_in_epoch += 1
        until = self.run.until
        if until is not None and loss.item() <= until.minibatch_loss:
            self.target_step = self.step


def tensors_in(state: Any) -> Iterator[Tensor]:
    """Yield the tensors of an optimizer's state: some authors keep lists beside the mappings."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for each in state.values():
            yield from tensors_in(each)
    elif isinstance(state, list | tuple):
        for each in state:
            yield from tensors_in(each)
