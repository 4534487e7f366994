"""One run to records: the training loop shared by all methods. No files, no printing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hypergradient.study.methods import METHODS
from hypergradient.study.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

    from hypergradient.study.data import Data
    from hypergradient.study.spec import Run

VALIDATION_CHUNK = 2000
"""Examples evaluated at once, to bound the memory that a large model needs."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave; epoch 0 is the state before training.

    Attributes:
        epoch: Epochs trained so far.
        step: Updates made so far.
        train_loss: Mean of the epoch's minibatch losses, each before its update (as the sources
            report it); at epoch 0 the first minibatch's.
        train_accuracy: The same of the minibatch accuracies.
        valid_loss: Mean loss over the validation set after the epoch.
        valid_accuracy: The validation set's share classified correctly.
        lr_mean: Mean of the learning rates that the epoch's steps used; at epoch 0 the initial.
        lr_min: The smallest of them.
        lr_max: The largest.
        seconds: Time that training and validation took.
        diverged_at_step: The first step, from 1, whose loss was not finite, or None.
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


def initial_model(run: Run) -> nn.Module:
    """Return the run's model before training, the same for all methods."""
    return TASKS[run.task].model(run.derive_seed("initialisation"))


def weights_hash(model: nn.Module) -> str:
    """Return the first 16 hex digits of the sha256 of the model's weights."""
    digest = sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()[:16]


def epoch_order(run: Run, examples: int, epoch: int) -> Tensor:
    """Return the order in which an epoch (from 1) goes through the examples, for all methods."""
    generator = torch.Generator().manual_seed(run.derive_seed("batches", epoch))
    return torch.randperm(examples, generator=generator)


def train(run: Run, model: nn.Module, data: Data) -> Iterator[EpochRecord]:
    """Train ``model`` in place, yielding a record before training and after each epoch.

    A loss that is not finite ends the training after the epoch it appears in: the record says at
    which step. Within an epoch nothing is read back from the device.

    Args:
        run: What to do.
        model: ``initial_model(run)``.
        data: The task's data.
    """
    torch.set_num_threads(run.threads)
    train_x, train_y, valid_x, valid_y = map(
        torch.from_numpy, (data.train_x, data.train_y, data.valid_x, data.valid_y)
    )
    optimizer = METHODS[run.method].build(model.parameters(), run.hyper, run.weight_decay)
    examples = len(train_x)
    steps = math.ceil(examples / run.batch_size)

    began = time.perf_counter()
    first = epoch_order(run, examples, epoch=1)[: run.batch_size]
    train_loss, train_accuracy = evaluate(model, train_x[first], train_y[first])
    valid_loss, valid_accuracy = evaluate(model, valid_x, valid_y)
    lr = float(optimizer.param_groups[0]["lr"])
    yield EpochRecord(
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

    losses, rates = torch.empty(steps), torch.empty(steps, 3)
    answers = torch.empty(examples, dtype=torch.int64)  # the class given to each, as it was seen
    for epoch in range(1, run.epochs + 1):
        began = time.perf_counter()
        order = epoch_order(run, examples, epoch)
        chunks = zip(
            torch.split(order, run.batch_size), torch.split(answers, run.batch_size), strict=True
        )
        for step, (chosen, answer) in enumerate(chunks):
            optimizer.zero_grad()
            logits = model(train_x.index_select(0, chosen))
            loss = cross_entropy(logits, train_y.index_select(0, chosen))
            torch.autograd.backward(loss)
            optimizer.step()
            losses[step] = loss.detach()
            torch.argmax(logits.detach(), 1, out=answer)
            note_rates(rates[step], optimizer)
        valid_loss, valid_accuracy = evaluate(model, valid_x, valid_y)
        diverged_at_step = first_not_finite(losses, valid_loss, before=(epoch - 1) * steps)
        yield EpochRecord(
            epoch=epoch,
            step=epoch * steps,
            train_loss=losses.mean().item(),
            train_accuracy=(answers == train_y[order]).sum().item() / examples,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            lr_mean=rates[:, 0].mean().item(),
            lr_min=rates[:, 1].min().item(),
            lr_max=rates[:, 2].max().item(),
            seconds=time.perf_counter() - began,
            diverged_at_step=diverged_at_step,
        )
        if diverged_at_step is not None:
            return


def note_rates(row: Tensor, optimizer: Optimizer) -> None:
    """Write the mean, least and largest of the rates just used into ``row``, on the device."""
    own = [state["lr"].flatten() for state in optimizer.state.values() if "lr" in state]
    if own:
        every = torch.cat(own)
        torch.stack([every.mean(), every.min(), every.max()], out=row)
    else:
        row[:] = optimizer.param_groups[0]["lr"]


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the mean loss and the accuracy over examples, without training."""
    loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    x_chunks, y_chunks = torch.split(x, VALIDATION_CHUNK), torch.split(y, VALIDATION_CHUNK)
    for inputs, classes in zip(x_chunks, y_chunks, strict=True):
        logits = model(inputs)
        loss += cross_entropy(logits, classes, reduction="sum")
        correct += (logits.argmax(1) == classes).sum()
    return loss.item() / len(y), correct.item() / len(y)


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
