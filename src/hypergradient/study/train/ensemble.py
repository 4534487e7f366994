"""Runs that share their batches, trained as one: a stack, whose parameters have a leading axis.

One pass over a batch and one step serve all members. That is several times faster where a model is
so small that launching operations and reading the batch are most of the work. The optimizers are
the package's own, with a rate for each member.

A member's numbers are, bit for bit, the same whoever else is in the stack, as long as there are two
members and two examples: so a lone member is trained beside a copy of itself.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hypergradient.study.import_by_name import import_object
from hypergradient.study.train.evaluate import first_not_finite
from hypergradient.study.train.groups import STACKED, EnsembleSpec, ensemble_spec
from hypergradient.study.train.initial import initial_model, weights_hash
from hypergradient.study.train.records import EpochRecord, RunRecord, State
from hypergradient.study.train.session import Session, do_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.optim import Optimizer

    from hypergradient.study.declare.run import Run
    from hypergradient.study.tasks.data.base import Data

CHUNK = 500
"""Examples evaluated at once."""

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
"""The activations that a stack can have."""

Index = slice | list[int]


def forward(layers: Sequence[nn.Module], parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return the members' logits, (members, batch, classes), for inputs that they share.

    Args:
        layers: Of one member's model.
        parameters: Weights and biases of its linear layers, each with a leading axis for members.
        inputs: Of shape (batch, features).
    """
    left, x = iter(parameters), inputs
    for layer in layers:
        if not isinstance(layer, nn.Linear):
            x = layer(x)
            continue
        weight = next(left)
        if x.dim() == inputs.dim():  # the batch itself: one product for all members
            x = (x @ weight.flatten(0, 1).t()).view(len(x), len(weight), -1)
            x = x.transpose(0, 1).contiguous()
        else:
            x = torch.bmm(x, weight.transpose(1, 2))
        if layer.bias is not None:  # on its own, so that each member's gradient is summed alike
            x = x + next(left).unsqueeze(1)
    return x


def layers_of(model: nn.Module, task: str) -> list[nn.Module]:
    """Return a model's layers, or raise a ``ValueError`` if it cannot be stacked."""
    layers = list(model) if isinstance(model, nn.Sequential) else [model]
    for layer in layers:
        if not isinstance(layer, (nn.Linear, *ELEMENTWISE)):
            raise ValueError(  # noqa: TRY004
                f"task {task}: stacked=True needs a model of nn.Linear and activations in an "
                f"nn.Sequential, and this one has {type(layer).__name__}: leave stacked at False"
            )
    return layers


def losses_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy of each member and example, (members, batch)."""
    repeated = classes.repeat(len(logits))
    return cross_entropy(logits.flatten(0, 1), repeated, reduction="none").view(len(logits), -1)


def build(seats: Sequence[EnsembleSpec], parameters: Sequence[Tensor]) -> Optimizer:
    """Return the optimizer of a stack with these members."""
    adaptive = next((own for own in seats if own.of_the_rate is not None), seats[0])
    optimizer: Optimizer = import_object(adaptive.optimizer)(
        parameters,
        granularity="member",
        lr=torch.tensor([own.lr for own in seats], dtype=torch.float64),
        hypergrad_lr=torch.tensor([own.hypergrad_lr for own in seats], dtype=torch.float64),
        **dict(adaptive.options),
        **dict(adaptive.of_the_rate or ()),
    )
    return optimizer


def pick(state: Any, index: Index) -> Any:
    """Return the state of some members: what has a leading axis is theirs, all else is shared."""
    if isinstance(state, Tensor):
        return state[index].clone() if state.dim() else state.clone()
    if isinstance(state, dict):
        return {key: pick(value, index) for key, value in state.items()}
    return [pick(value, index) for value in state] if isinstance(state, list) else state


def join(states: Sequence[Any]) -> Any:
    """Return the state of all members together, from the state of each."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(list(states)) if first.dim() else first.clone()
    if isinstance(first, dict):
        return {key: join([state[key] for state in states]) for key in first}
    if isinstance(first, list):
        return [join(parts) for parts in zip(*states, strict=True)]
    return first


def beside_another(members: list[Any]) -> list[Any]:
    """Return the members, a lone one twice."""
    return members * 2 if len(members) == 1 else members


class Ensemble(Session):
    """Runs under way together: each is a member, and a member leaves when its run ends.

    Args:
        runs: The runs of one list of ``group_runs``.
        data: The task's data, of which the runs use their subset.
        saved: What ``states`` gave of each run in earlier processes, all at the same step.
    """

    engine = STACKED

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
        self.parameters = [p.requires_grad_() for p in parameters]
        members = beside_another(self.runs)
        self.optimizer = build(
            [own for run in members if (own := ensemble_spec(run))], self.parameters
        )
        self.losses = torch.empty(len(members), self.steps_per_epoch)
        self.rates = torch.empty(len(members), self.steps_per_epoch)
        self.correct = torch.zeros(len(members), dtype=torch.int64)

    def _restore(self, place: State, members: State) -> None:
        """Go on from what ``_place`` and ``_members`` gave."""
        self._start(members["parameters"])
        self.optimizer.load_state_dict(members["optimizer"])
        self.losses, self.rates, self.correct = (members[n] for n in ("losses", "rates", "right"))
        self.step_in_epoch, self.seconds = place["made"], place["seconds"]
        self.augmentation.set_state(place["augmentation"])

    def _place(self) -> State:
        self._lap()
        place = {"epoch": self.epoch, "made": self.step_in_epoch, "seconds": self.seconds}
        return place | {"augmentation": self.augmentation.get_state()}

    def _members(self) -> State:
        own = {"losses": self.losses, "rates": self.rates, "right": self.correct}
        parameters = [p.detach() for p in self.parameters]
        return own | {"parameters": parameters, "optimizer": self.optimizer.state_dict()}

    def states(self) -> dict[str, State]:
        """Return a snapshot of each member by its id, to be saved before the next step."""
        place, members = self._place(), self._members()
        return {
            run.id: place | {"members": pick(members, slice(i, i + 1))}
            for i, run in enumerate(self.runs)
        }

    def keep(self, runs: Sequence[Run]) -> None:
        """Go on with some of the members."""
        if len(runs) == len(self.runs):
            return
        index = [self.runs.index(run) for run in runs]
        self.runs, place = list(runs), self._place()
        if runs:
            self._restore(place, pick(self._members(), beside_another(index)))

    def _lap(self) -> None:
        """Divide the time since the last lap among those who are there."""
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
        """Return the places of those whose last loss is at most their target."""
        if self.run.until is None or self.step_in_epoch == 0:
            return []
        there = (
            self.losses[: len(self.runs), self.step_in_epoch - 1] <= self.run.until.minibatch_loss
        )
        places: list[int] = there.nonzero().flatten().tolist()
        return places

    def _leave(self, places: list[int]) -> Iterator[RunRecord]:
        """Yield the last records of members at their target, who then leave."""
        runs = self.runs
        for run, record in zip([runs[i] for i in places], self._records(places), strict=True):
            yield RunRecord(run, replace(record, target_step=self.step), last=True)
        self.keep([run for i, run in enumerate(runs) if i not in places])

    def _end_epoch(self) -> Iterator[RunRecord]:
        """Yield everybody's record of the epoch; who has diverged or made all steps leaves."""
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
        """Return the records of members, of the epoch as far as it is."""
        valid = self.evaluate(places, self.valid_x, self.valid_y)
        train = self._on_training_set(places)
        self._lap()
        records = []
        for i, of_train, of_valid in zip(places, train, valid, strict=True):
            (train_loss, train_accuracy), (valid_loss, valid_accuracy) = of_train, of_valid
            losses, rates = (
                self.losses[i, : self.step_in_epoch],
                self.rates[i, : self.step_in_epoch],
            )
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
                diverged_at_step=first_not_finite(
                    losses, valid_loss, self.step - self.step_in_epoch
                ),
            )
            records.append(record)
        return records

    def _on_training_set(self, places: list[int]) -> list[tuple[float, float]]:
        """Return the epoch's training loss and accuracy of members, as their runs want them."""
        if self.run.whole_train_loss:
            return self.evaluate(places, self.train_x, self.train_y)
        seen = min(self.step_in_epoch * self.run.batch_size, len(self.train_y))
        losses = self.losses[:, : self.step_in_epoch]
        return [(losses[i].mean().item(), self.correct[i].item() / seen) for i in places]

    def evaluate_runs(self, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return each member's mean loss and accuracy over examples."""
        return self.evaluate([*range(len(self.runs))], x, y)

    @torch.no_grad()
    def evaluate(self, places: list[int], x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return the mean loss and the accuracy of some members over examples."""
        parameters = [p[beside_another(places)] for p in self.parameters]
        loss, correct = torch.zeros(len(parameters[0])), torch.zeros(len(parameters[0]))
        for inputs, classes in zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True):
            logits = forward(self.layers, parameters, inputs)
            loss += losses_of(logits, classes).sum(1)
            correct += (logits.argmax(2) == classes).sum(1)
        found = torch.stack([loss, correct], 1)[: len(places)] / len(y)
        return [(loss, accuracy) for loss, accuracy in found.tolist()]
