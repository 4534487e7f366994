"""A person's own task: what a file says of its model, data, loss and metrics.

A file has these names, of which the first two are needed:

- ``model``: a function without arguments, or a class, that returns an ``nn.Module``;
- ``data``: a function without arguments that returns the training data, or the pair of training
  and validation data. Each is a pair (inputs, targets) of tensors, NumPy arrays or data frames of
  numbers, a ``Dataset`` or a ``DataLoader``. Without validation data a fixed fifth is held out;
- ``loss``: a function of (outputs, targets) that returns the mean loss of a batch; by default the
  cross-entropy;
- ``training_step``: a function of (model, batch) that returns the mean loss, in place of ``loss``;
- ``metrics``: a dictionary of functions of (outputs, targets), or of (model, batch) where there is
  a ``training_step``; their means over the validation set are recorded.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hypergradient.study.tasks.data.base import SEED, Data, DataError, split
from hypergradient.study.tasks.data.batches import Batches, Source, length_of, split_source
from hypergradient.study.tasks.task import CROSS_ENTROPY, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMS = (
    "data returns train, or the pair (train, valid); each is a pair (inputs, targets) of tensors "
    "or arrays, a Dataset or a DataLoader"
)

REMEDIES = {
    "model": "def model(): return torch.nn.Sequential(...)",
    "data": "def data(): return inputs, targets",
}
"""What to write for a name that a file lacks."""

RESERVED = ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy")


def read_task(names: Mapping[str, Any], place: str) -> Task:
    """Return the task that a file's names say.

    Args:
        names: The file's names, or the arguments of ``compare`` in a notebook.
        place: Where they are, for errors.

    Raises:
        ValueError: A name is missing or is not what it should be; the text says what to write.
    """
    for name, remedy in REMEDIES.items():
        if names.get(name) is None:
            raise ValueError(f"{place} has no {name}: write `{remedy}`")
    loss, step = names.get("loss"), names.get("training_step")
    if loss is not None and step is not None:
        raise ValueError(f"{place} has both loss and training_step: keep one of them")
    check_function(place, "loss", loss, "outputs, targets")
    check_function(place, "training_step", step, "model, batch")
    metrics = names.get("metrics")
    if metrics is None:
        metrics = {}
    if not isinstance(metrics, Mapping):
        kind = type(metrics).__name__
        raise wrong(place, f"metrics is {kind}: write `metrics = {{'accuracy': function}}`")
    for name, metric in metrics.items():
        arguments = "model, batch" if step is not None else "outputs, targets"
        check_function(place, f"metrics[{name!r}]", metric, arguments)
        if not str(name).isidentifier() or name in RESERVED:
            raise ValueError(f"{place}: the metric {name!r} needs another name, such as 'my_error'")
    return Task(
        dataset=loader_of(names["data"], place),
        network=builder_of(names["model"], place),
        loss=CROSS_ENTROPY if loss is None else loss,
        training_step=step,
        metrics=dict(metrics),
    )


def wrong(place: str, text: str) -> ValueError:
    """Return the error that says what is wrong with a person's file."""
    return ValueError(f"{place}: {text}")


def check_function(place: str, name: str, given: Any, arguments: str) -> None:
    """Raise a ``ValueError`` if something is given that is no function of those arguments."""
    if given is None:
        return
    example = f"{name.partition('[')[0]} is a function of ({arguments})"
    if not callable(given):
        raise wrong(place, f"{name} is {type(given).__name__}: {example}")
    try:
        inspect.signature(given).bind(*filter(None, arguments.split(", ")))
    except TypeError as error:
        raise ValueError(f"{place}: {name}: {error}: {example}") from error
    except ValueError:  # a built-in function that does not say
        return


def builder_of(given: Any, place: str) -> Callable[[], nn.Module]:
    """Return a function that makes the model."""
    if isinstance(given, nn.Module):
        return lambda: copy.deepcopy(given)
    check_function(place, "model", given, "")

    def build() -> nn.Module:
        made = given()
        if not isinstance(made, nn.Module):
            raise DataError(f"{place}: model() returns {type(made).__name__}, not an nn.Module")
        if not any(p.requires_grad for p in made.parameters()):
            raise DataError(f"{place}: model() has no parameter to train: set requires_grad")
        return made

    return build


def loader_of(given: Any, place: str) -> Callable[[Path | None], Data | Batches]:
    """Return a function that loads the data, with the same random numbers in every process."""

    def load(_: Path | None) -> Data | Batches:
        is_source = isinstance(given, Dataset | DataLoader)
        made = with_fixed_randomness(given) if callable(given) and not is_source else given
        try:
            return as_data(made)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error

    load.__name__ = "data"
    return load


def with_fixed_randomness(function: Callable[[], Any]) -> Any:
    """Return what a function returns. A split that it draws is the same in all processes."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (a person's code uses these)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            random.seed(SEED)
            np.random.seed(SEED)  # noqa: NPY002
            return function()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def as_data(given: Any) -> Data | Batches:
    """Return data of any of the forms that a file can give.

    Raises:
        DataError: They are of another form, or inputs and targets do not fit.
    """
    if isinstance(given, Data | Batches):
        return given
    train, valid = parts_of(given)
    if isinstance(train, tuple):
        x, y = train
        if valid is None:
            return split(x, y)
        if isinstance(valid, tuple):
            return Data(x, y, *valid)
        raise DataError(f"{type(valid).__name__} validates what arrays train: give arrays for both")
    if valid is None:
        return split_source(train)
    if isinstance(valid, tuple):
        raise DataError("arrays validate what batches train: give a Dataset or DataLoader for both")
    for source in (train, valid):
        length_of(source)
    return Batches(train, valid)


def parts_of(given: Any) -> tuple[Any, Any]:
    """Return training and validation data: each a pair of tensors or a source; None is no data."""
    if isinstance(given, Dataset | DataLoader):
        return given, None
    parts = list(given) if isinstance(given, tuple | list) else []
    if len(parts) == 2 and all(map(is_array, parts)):  # noqa: PLR2004  (inputs and targets)
        return pair_of(parts), None
    if len(parts) == 4 and all(map(is_array, parts)):  # noqa: PLR2004
        return pair_of(parts[:2]), pair_of(parts[2:])
    if len(parts) == 2:  # noqa: PLR2004
        return source_or_pair(parts[0]), source_or_pair(parts[1])
    found = f"{type(given).__name__} of {len(parts)}" if parts else type(given).__name__
    raise DataError(f"{FORMS}; not a {found}")


def source_or_pair(part: Any) -> Source | tuple[torch.Tensor, torch.Tensor]:
    """Return the training data, or the validation data."""
    if isinstance(part, Dataset | DataLoader):
        return part
    if isinstance(part, tuple | list) and len(part) == 2 and all(map(is_array, part)):  # noqa: PLR2004
        return pair_of(part)
    raise DataError(f"{FORMS}; a part of it is a {type(part).__name__}")


def is_array(part: Any) -> bool:
    """Return whether something is a tensor, a NumPy array or can become one."""
    return hasattr(part, "__array__") and not isinstance(part, Dataset | DataLoader)


def pair_of(parts: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets as tensors on the CPU.

    Floating-point numbers of 64 bits become float32, and integers int64.
    """
    x, y = (as_tensor(part) for part in parts)
    if not len(x) or len(x) != len(y):
        raise DataError(f"{len(x)} inputs and {len(y)} targets: give one target to each input")
    return x, y


def as_tensor(part: Any) -> torch.Tensor:
    """Return an array as a tensor of float32, int64 or its own smaller floating-point type."""
    tensor = part if isinstance(part, torch.Tensor) else tensor_of(np.asarray(part))
    if tensor.ndim == 0:
        raise DataError("a single number is no data: give arrays of examples")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        return tensor.float() if tensor.dtype == torch.float64 else tensor
    return tensor if tensor.is_complex() else tensor.long()


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Return a NumPy array as a tensor, or raise a ``DataError`` if it is not of numbers."""
    if array.dtype.kind in "OUSMm":
        raise DataError(
            f"an array of {array.dtype} is no data: make columns of text or dates numbers, such as "
            "classes counted from 0"
        )
    return torch.as_tensor(array if array.flags.writeable else array.copy())
