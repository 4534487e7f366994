"""The tasks by name, and how a person's own is found."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from hypergradient.study.errors import OWN_CODE_RAISES, as_one_line
from hypergradient.study.import_by_name import import_object, is_reference, source_hash
from hypergradient.study.tasks.task import CROSS_ENTROPY, SQUARES, Task

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["CROSS_ENTROPY", "IN_PROCESS", "SQUARES", "TASKS", "InProcess", "Task", "find_task"]

NARROW = "-narrow"
"""The suffix of tasks whose networks have fewer channels and no dropout, to fit a laptop."""

NARROWER = 8
"""By how much the number of channels is divided in those networks."""

TASKS = {
    "digits-logreg": Task("digits", "mlp", (64, 10), stacked=True),
    "digits-mlp": Task("digits", "mlp", (64, 100, 100, 10), stacked=True),
    "mnist-logreg": Task("mnist", "mlp", (784, 10), stacked=True),
    "mnist-mlp": Task("mnist", "mlp", (784, 1000, 1000, 10)),
    "cifar10-vgg16": Task("cifar10", "vgg16", augmentation="flip-and-crop"),
    "cifar10-resnet18": Task("cifar10", "resnet18", augmentation="flip-and-crop"),
    f"cifar10-vgg16{NARROW}": Task("cifar10", "vgg16", (10, NARROWER, False), "flip-and-crop"),
    f"cifar10-resnet18{NARROW}": Task("cifar10", "resnet18", (10, NARROWER), "flip-and-crop"),
    # Those of Chandra et al. (2022): with weights of each run's own, and with those of the paper.
    "mnist-tanh": Task("mnist-pixels", "tanh-mlp", (784, 128, 10), shuffled=False),
    "mnist-tanh-published": Task("mnist-pixels", "tanh-mlp", (784, 128, 10, 0x42), shuffled=False),
    # Language models, each of whose steps has windows of a text that it has not seen before.
    "topics-lm": Task("topics", "character-transformer", (64, 32, 64, 4, 2), resampled=True),
    "library-gpt2-small": Task(
        "library", "character-transformer", (256, 1024, 768, 12, 12), resampled=True
    ),
    # Small ones of many kinds, of the study "untuned".
    "noisy-digits-mlp": Task("noisy-digits", "mlp", (64, 100, 100, 10), stacked=True),
    "mnist-mlp-100": Task("mnist", "mlp", (784, 100, 10)),
    "mnist-cnn": Task("mnist", "cnn", (4,)),
    "breast-cancer-mlp": Task("breast-cancer", "mlp", (30, 50, 50, 2), stacked=True),
    "diabetes-mlp": Task("diabetes", "mlp", (10, 50, 50, 1), loss=SQUARES),
    "digits-autoencoder": Task("digits-to-themselves", "mlp", (64, 32, 8, 32, 64), loss=SQUARES),
    "digits-gru": Task("digits", "rows", (8, 32)),
    "mnist1d-cnn": Task("mnist1d", "cnn1d", (25,)),
    "cifar10-resnet18-tiny": Task("cifar10-part", "narrow-resnet18", (4, 2)),
    "character-transformer": Task("characters", "character-transformer", (64, 32, 32, 2, 1)),
    "word-bags": Task("words", "bag-of-words", (2000, 32, 10)),
    "next-word": Task("next-words", "word-to-word", (1000, 32)),
    "matrix-factorisation": Task("ratings", "factors", (200, 200, 8), loss=SQUARES),
}
"""The tasks by name. Adding one here is all it takes."""


def mnist_100() -> Task:
    """Return the task of the study network-mnist, which has it under this name in its runs' ids."""
    return TASKS["mnist-mlp-100"]


class InProcess(NamedTuple):
    """A task of objects that live in this process only, such as those of a notebook.

    Attributes:
        task: The task.
        token: What stands for it in the ids of runs: nobody else has it, as objects can change.
    """

    task: Task
    token: str


IN_PROCESS: dict[str, InProcess] = {}
"""Such tasks by name."""


def find_task(name: str) -> Task:
    """Return a task by its name, or a person's own.

    A person's own is a file that says what its task is (``path/to/file.py``, see ``tasks.own``), or
    a function that returns a ``Task`` (``path/to/file.py:function``).

    Raises:
        ValueError: There is none, or what there is does not return a ``Task``.
    """
    if name in IN_PROCESS:
        return IN_PROCESS[name].task
    if not is_reference(name):
        return TASKS[name]
    if name.endswith(".py"):
        return task_of_module(import_object(name), name)
    return task_of_function(name)


@cache
def task_of_module(module: ModuleType, name: str) -> Task:
    """Return the task that a file says; there is one of each, so that its data are loaded once."""
    from hypergradient.study.tasks.own import read_task  # noqa: PLC0415  (it imports torch, 2 s)

    return read_task(vars(module), name)


def task_of_function(name: str) -> Task:
    """Return the task that a person's function makes."""
    make = import_object(name)
    try:
        task = make()
    except OWN_CODE_RAISES as error:
        raise ValueError(f"{name} raises {as_one_line(error)}") from error
    if not isinstance(task, Task):
        raise ValueError(f"{name} returns {task!r}, which is no hypergradient.study.tasks.Task")  # noqa: TRY004
    return task


def task_identity(name: str) -> dict[str, Any]:
    """Return what determines a task's results, ready for JSON. It is a part of a run's id."""
    if is_reference(name):
        return {"source": source_hash(name)}
    if name in IN_PROCESS:
        return {"in process": IN_PROCESS[name].token}
    own = asdict(TASKS[name])
    later = {  # fields that tasks did not have at first
        "stacked": False,
        "loss": CROSS_ENTROPY,
        "training_step": None,
        "metrics": {},
        "shuffled": True,
        "resampled": False,
    }
    return {key: value for key, value in own.items() if key not in later or value != later[key]}
