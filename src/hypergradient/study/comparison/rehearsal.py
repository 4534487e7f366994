"""One batch through a person's own task before any training, so that mistakes are said at once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from hypergradient.study.errors import OWN_CODE_RAISES, StudyError, as_one_line
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.losses import LOSSES
from hypergradient.study.tasks.task import CROSS_ENTROPY
from hypergradient.study.train.own import moved

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from hypergradient.study.tasks.data.batches import Batches
    from hypergradient.study.tasks.task import Task


def rehearse(task: Task, name: str, batch_size: int, place: str = "cpu") -> None:
    """Load the data, make the model, and compute a loss and its gradient on one batch.

    Args:
        task: The task.
        name: What errors call it.
        batch_size: Examples in the batch.
        place: The device.

    Raises:
        StudyError: Something of the task does not work; the text says what, and what to do.
    """
    data = task.load()
    batch = first_batch(data, batch_size, name)
    left = len(data.train_x) % batch_size if isinstance(data, Data) else 0
    model = attempt(f"{name}: model()", lambda: task.model(0))
    device = torch.device(place)
    model.to(device)
    with torch.random.fork_rng(devices=[]):
        loss, outputs = loss_of(task, name, model, moved(batch, device))
        check_loss(loss, name, task)
        attempt(f"{name}: the loss's backward()", loss.backward)
        if all(p.grad is None for p in model.parameters()):
            raise StudyError(f"{name}: the loss depends on no parameter of the model")
        if left and isinstance(data, Data):
            last = data.train_x[-left:], data.train_y[-left:]
            hint = f" for the last batch of an epoch, which has {left} examples of {batch_size}"
            attempt(
                f"{name}: the loss",
                lambda: loss_of(
                    task, name, model, moved(tuple(map(torch.as_tensor, last)), device)
                ),
                f"{hint}: choose another batch_size",
            )
        given = (model, batch) if task.training_step else (outputs, batch[1])
        for key in task.metrics:
            check_metric(task, key, moved(given, device), name)


def check_metric(task: Task, key: str, given: tuple[Any, Any], name: str) -> None:
    """Raise a ``StudyError`` if a metric of a person's own raises, or returns no number."""
    with torch.no_grad():
        attempt(
            f"{name}: metrics[{key!r}]",
            lambda: float(task.metrics[key](*given)),
            "; a metric returns one number",
        )


def first_batch(data: Data | Batches, batch_size: int, name: str) -> Any:
    """Return a batch as training sees it."""
    if isinstance(data, Data):
        return tuple(torch.as_tensor(part[:batch_size]) for part in (data.train_x, data.train_y))
    train, valid = data.loaders(batch_size)
    attempt(f"{name}: the validation data", lambda: next(iter(valid)))
    return attempt(f"{name}: the training data", lambda: next(iter(train)))


def loss_of(task: Task, name: str, model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Return the loss and the outputs of a batch."""
    if task.training_step is not None:
        step = task.training_step
        what = f"{name}: training_step(model, batch)"
        return attempt(what, lambda: step(model, batch), f" for a batch of {kind_of(batch)}"), None
    if not isinstance(batch, tuple | list) or len(batch) != 2:  # noqa: PLR2004
        raise StudyError(
            f"{name}: a batch is {kind_of(batch)} and not a pair (inputs, targets): write "
            "`def training_step(model, batch): ... return loss`"
        )
    inputs, targets = batch
    hint = f" for inputs of {kind_of(inputs)}"
    if isinstance(inputs, torch.Tensor) and not inputs.is_floating_point():
        hint += "; if they are numbers and not indices, make them float32"
    outputs = attempt(f"{name}: model(inputs)", lambda: model(inputs), hint)
    hint = f" for outputs of {kind_of(outputs)} and targets of {kind_of(targets)}"
    if task.loss == CROSS_ENTROPY:
        hint += "; it is the cross-entropy, of classes: for others write `loss = ...`"
    elif shape_of(outputs) == (*shape_of(targets), 1):
        hint += "; give targets of the shape of the outputs, such as y[:, None]"
    function = LOSSES[task.loss] if isinstance(task.loss, str) else task.loss

    def compute() -> Any:
        with warnings.catch_warnings():
            # torch broadcasts targets (n,) and outputs (n, 1) to (n, n), and only warns.
            warnings.filterwarnings("error", message="Using a target size")
            return function(outputs, targets)

    return attempt(f"{name}: the loss", compute, hint), outputs


def check_loss(loss: Any, name: str, task: Task) -> None:
    """Raise a ``StudyError`` if a loss is not one finite number that depends on the model."""
    made = "training_step" if task.training_step else "the loss"
    if not isinstance(loss, torch.Tensor):
        raise StudyError(f"{name}: {made} returns {type(loss).__name__}: return a tensor")
    if loss.numel() != 1 or loss.ndim:
        raise StudyError(f"{name}: {made} returns {kind_of(loss)}: return one number, its mean()")
    if not loss.requires_grad:
        raise StudyError(f"{name}: {made} has no gradient: do not detach it, nor use no_grad()")
    if not loss.isfinite():
        raise StudyError(f"{name}: {made} is {loss.item()} before any training: look at the data")


def attempt(what: str, function: Callable[[], Any], hint: str = "") -> Any:
    """Return what a person's function returns; what it raises becomes a ``StudyError``."""
    try:
        return function()
    except StudyError as error:
        raise StudyError(f"{error}{hint}") from error
    except OWN_CODE_RAISES as error:
        raise StudyError(f"{what} raises {as_one_line(error)}{hint}") from error


def shape_of(thing: Any) -> tuple[int, ...]:
    """Return the shape of a tensor, and that of no tensor as ()."""
    return tuple(thing.shape) if isinstance(thing, torch.Tensor) else ()


def kind_of(thing: Tensor | Any) -> str:
    """Return what a batch or a part of it is, in words."""
    if isinstance(thing, torch.Tensor):
        return f"shape {tuple(thing.shape)} {str(thing.dtype).removeprefix('torch.')}"
    if isinstance(thing, dict):
        return f"a dictionary of {', '.join(map(str, thing))}"
    if isinstance(thing, tuple | list):
        return f"a {type(thing).__name__} of {len(thing)}"
    return f"type {type(thing).__name__}"
