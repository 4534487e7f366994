"""Runs that share their batches, trained as one: an ensemble.

One pass over a batch and one step serve all members. This is several times faster than training
them one after another where a model is so small that launching operations and reading the batch
are most of the work. The optimizers are the package's own, with a learning rate for each member.
A member's numbers do not depend on the other members: see ``members``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergradient.study.methods.registry import find_method
from hypergradient.study.train.evaluate import first_not_finite
from hypergradient.study.train.groups import STACKED, ensemble_spec
from hypergradient.study.train.initial import initial_model, weights_hash
from hypergradient.study.train.members import (
    beside_another,
    build,
    forward,
    join,
    layers_of,
    losses_of,
    members_of,
    pick,
)
from hypergradient.study.train.records import EpochRecord, RunRecord, State
from hypergradient.study.train.session import Session, do_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hypergradient.study.declare.run import Run
    from hypergradient.study.methods.traits import Traits
    from hypergradient.study.tasks.data.base import Data

CHUNK = 500
"""Examples that are evaluated at once."""


class Ensemble(Session):
    """Runs under way together: each is a member, and a member leaves when its run ends.

    Args:
        runs: The runs of one list of ``group_runs``.
        data: The task's data, of which the runs use their subset.
        saved: What ``states`` gave of each run in earlier processes, all at the same step.
    """

    kind = STACKED

    def __init__(self, runs: Sequence[Run], data: Data, saved: Sequence[State] = ()) -> None:
        super().__init__(runs, data)
        self.resumed = bool(saved)
        model = initial_model(self.run)
        self.init_hash = weights_hash(model)
        self.layers = layers_of(model, self.run.task)
        self.began = time.perf_counter()
        if saved:
            self.begin_epoch(saved[0]["epoch"])
            members = join([state["members"] for state in saved])
            self._restore(saved[0], pick(members, beside_another([*range(len(runs))])))
        else:
            copies = max(2, len(runs))
            self._start([p.detach().repeat(copies, *(1,) * p.dim()) for p in model.parameters()])

    def _start(self, parameters: Sequence[Tensor]) -> None:
        """Make the optimizer and empty metrics for the members that there are."""
        self.parameters = [p.to(self.device).requires_grad_() for p in parameters]
        members = beside_another(self.runs)
        specs = [spec for run in members if (spec := ensemble_spec(run))]
        self.optimizer = build(specs, self.parameters)
        shape = len(members), self.steps_per_epoch
        self.losses = torch.empty(shape, device=self.device)
        self.rates = torch.empty(shape, device=self.device)
        self.correct = torch.zeros(len(members), dtype=torch.int64, device=self.device)

    def _restore(self, place: State, members: State) -> None:
        """Go on from what ``_place`` and ``_members`` gave."""
        self._start(members["parameters"])
        self.optimizer.load_state_dict(members["optimizer"])
        self.losses, self.rates, self.correct = (
            members[name].to(self.device) for name in ("losses", "rates", "right")
        )
        self.step_in_epoch, self.seconds = place["made"], place["seconds"]
        self.augmentation.set_state(place["augmentation"])

    def _place(self) -> State:
        """Return the part of a snapshot that all members share."""
        self._lap()
        place = {"epoch": self.epoch, "made": self.step_in_epoch, "seconds": self.seconds}
        return place | {"augmentation": self.augmentation.get_state()}

    def _members(self) -> State:
        """Return the members' part of a snapshot; "right" is what checkpoints call the correct."""
        metrics = {"losses": self.losses, "rates": self.rates, "right": self.correct}
        parameters = [p.detach() for p in self.parameters]
        return metrics | {"parameters": parameters, "optimizer": self.optimizer.state_dict()}

    def states(self) -> dict[str, State]:
        """Return a snapshot of each member by its run's id; see ``Session.states``."""
        place, members = self._place(), self._members()
        return {
            run.id: place | {"members": pick(members, slice(i, i + 1))}
            for i, run in enumerate(self.runs)
        }

    def traits(self, run: Run) -> Traits:
        """Return what a member's own optimizer is; the ensemble's is another one."""
        return find_method(run.method).traits(run.hyper)

    def keep(self, runs: Sequence[Run]) -> None:
        """Go on with some of the members: the others leave."""
        if len(runs) == len(self.runs):
            return
        index = [self.runs.index(run) for run in runs]
        self.runs, place = list(runs), self._place()
        if runs:
            self._restore(place, pick(self._members(), beside_another(index)))

    def _lap(self) -> None:
        """Divide the time since the last call among the members, and count their share."""
        now = time.perf_counter()
        self.seconds += (now - self.began) / len(self.runs)
        self.began = now

    def train(self, after_step: Callable[[Ensemble], None] = do_nothing) -> Iterator[RunRecord]:
        """Train until the last member has left; see ``Session.train``."""
        if not self.resumed:
            yield from self._before()
        while self.runs:
            if reached := self._reached():
                yield from self._leave(reached)
            elif self.step_in_epoch < self.steps_per_epoch and self.step < self.total_steps:
                self.make_step()
                after_step(self)
            else:
                yield from self._end_epoch()
                self.begin_epoch(self.epoch + 1)
                self.correct.zero_()

    def make_step(self) -> None:
        """Make the next update of each member."""
        inputs, classes = self.batch()
        self.optimizer.zero_grad()
        logits = forward(self.layers, self.parameters, inputs)
        losses = losses_of(logits, classes).mean(1)
        torch.autograd.backward(losses.sum())
        self.optimizer.step()
        self.losses[:, self.step_in_epoch] = losses.detach()
        self.rates[:, self.step_in_epoch] = self.optimizer.param_groups[0]["lr"]
        self.correct += (logits.detach().argmax(2) == classes).sum(1)
        self.step_in_epoch += 1

    def _reached(self) -> list[int]:
        """Return the places of the members whose last loss is at most their target."""
        if self.run.until is None or self.step_in_epoch == 0:
            return []
        last = self.losses[: len(self.runs), self.step_in_epoch - 1]
        places: list[int] = (last <= self.run.until.minibatch_loss).nonzero().flatten().tolist()
        return places

    def _leave(self, places: list[int]) -> Iterator[RunRecord]:
        """Yield the last records of members that have reached their target; they then leave."""
        runs = self.runs
        for run, record in zip([runs[i] for i in places], self._records(places), strict=True):
            yield RunRecord(run, replace(record, target_step=self.step), last=True)
        self.keep([run for i, run in enumerate(runs) if i not in places])

    def _end_epoch(self) -> Iterator[RunRecord]:
        """Yield each member's record of the epoch; one that diverged or made all steps leaves."""
        over, stay = self.step >= self.total_steps, []
        for run, record in zip(self.runs, self._records([*range(len(self.runs))]), strict=True):
            last = over or record.diverged_at_step is not None
            yield RunRecord(run, record, last)
            stay += [] if last else [run]
        self.keep(stay)

    def _before(self) -> Iterator[RunRecord]:
        """Yield the records of the state before training, which is the same for all."""
        first = self.order if self.run.whole_train_loss else self.order[: self.run.batch_size]
        (train,) = self.evaluate([0], self.train_x[first], self.train_y[first])
        (valid,) = self.evaluate([0], self.valid_x, self.valid_y)
        self._lap()
        for run, lr in zip(self.runs, self.optimizer.param_groups[0]["lr"].tolist(), strict=False):
            record = EpochRecord(0, 0, *train, *valid, lr, lr, lr, self.seconds, None)
            yield RunRecord(run, record, last=False)
        self.seconds = 0.0

    def _records(self, places: list[int]) -> list[EpochRecord]:
        """Return some members' records of the epoch so far."""
        valid = self.evaluate(places, self.valid_x, self.valid_y)
        train = self._on_training_set(places)
        self._lap()
        steps_before = self.step - self.step_in_epoch
        records = []
        for i, of_train, of_valid in zip(places, train, valid, strict=True):
            (train_loss, train_accuracy), (valid_loss, valid_accuracy) = of_train, of_valid
            losses = self.losses[i, : self.step_in_epoch]
            rates = self.rates[i, : self.step_in_epoch]
            record = EpochRecord(
                epoch=self.epoch,
                step=self.step,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                valid_loss=valid_loss,
                valid_accuracy=valid_accuracy,
                lr_mean=rates.mean().item(),
                lr_min=rates.min().item(),
                lr_max=rates.max().item(),
                seconds=self.seconds,
                diverged_at_step=first_not_finite(losses, valid_loss, steps_before),
            )
            records.append(record)
        return records

    def _on_training_set(self, places: list[int]) -> list[tuple[float, float]]:
        """Return some members' training loss and accuracy, by minibatch or of the whole set."""
        if self.run.whole_train_loss:
            return self.evaluate(places, self.train_x, self.train_y)
        seen = min(self.step_in_epoch * self.run.batch_size, self.examples_per_epoch)
        losses = self.losses[:, : self.step_in_epoch]
        return [(losses[i].mean().item(), self.correct[i].item() / seen) for i in places]

    def evaluate_runs(self, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return each member's mean loss and accuracy over examples."""
        return self.evaluate([*range(len(self.runs))], x, y)

    @torch.no_grad()
    def evaluate(self, places: list[int], x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return the mean loss and the accuracy of some members over examples."""
        parameters = [members_of(p, beside_another(places)) for p in self.parameters]
        loss, correct = torch.zeros(2, len(parameters[0]), device=x.device).unbind()
        for inputs, classes in zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True):
            logits = forward(self.layers, parameters, inputs)
            loss += losses_of(logits, classes).sum(1)
            correct += (logits.argmax(2) == classes).sum(1)
        found = torch.stack([loss, correct], 1)[: len(places)] / len(y)
        return [(loss, accuracy) for loss, accuracy in found.tolist()]
