"""What is asked: the task of a file or of objects, and how large the comparison is to be."""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from hypergradient.study.comparison.declaration import declare
from hypergradient.study.declare.problems import meant
from hypergradient.study.errors import StudyError
from hypergradient.study.import_by_name import import_object, source_hash
from hypergradient.study.tasks.data.batches import Batches
from hypergradient.study.tasks.own import read_task
from hypergradient.study.tasks.registry import IN_PROCESS, TASKS, InProcess, find_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypergradient.study.comparison.budget import Size
    from hypergradient.study.tasks.task import Task


@dataclass(frozen=True)
class Question:
    """A comparison that is asked for.

    Attributes:
        task: The task's name or file.
        title: The page's heading.
        description: What is below it.
        size: The rates of the rival, the seeds and epochs.
        batch_size: Examples in a minibatch.
        weight_decay: That of all methods.
        contenders: What the rival is compared with.
        budget: The time that it may take, as a person writes it.
        workers: How many processes train at once.
        device: Where runs are trained.
    """

    task: str
    title: str
    description: str
    size: Size
    batch_size: int
    weight_decay: float
    contenders: tuple[str, ...]
    budget: str | None
    workers: int
    device: str

    def content(self, size: Size) -> dict[str, Any]:
        """Return the study of that size; see ``declaration.declare``."""
        made: dict[str, Any] = named_errors(
            lambda: declare(
                self.task,
                self.title,
                self.description,
                size,
                self.batch_size,
                self.weight_decay,
                self.contenders,
            )
        )
        return made if self.device == "cpu" else made | {"device": self.device}

    @property
    def key(self) -> str:
        """The first line of the study's file: what was asked for, so that it resumes as planned.

        A budget is measured once: measured again, it might give other runs.
        """
        own = source_hash(self.task) if self.task.endswith(".py") else ""
        limits = [self.budget, self.workers if self.budget else None]
        asked = json.dumps([self.content(self.size), own, *limits])
        return f"hypergradient compare {hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def is_asked_in(self, path: Path) -> bool:
        """Return whether a study's file is there that was written for the same question."""
        try:
            return path.read_text(encoding="utf-8").splitlines()[0] == f"# {self.key}"
        except (OSError, ValueError, IndexError):
            return False


@contextmanager
def named_task(
    file: str | Path | None, given: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the name of the task, and what its file says. A task of objects lives in the block."""
    if file is not None:
        name = str(file)
        if name in TASKS:
            yield name, {}
            return
        if not name.endswith(".py"):
            raise StudyError(f"{name} is neither a .py file nor a task; {meant(name, TASKS)}")
        if not Path(name).is_file():
            raise StudyError(
                f"there is no file {name}: write one like examples/compare_own_task.py"
            )
        yield name, named_errors(lambda: vars(import_object(name)))
        return
    name = "own task"
    task = named_errors(lambda: read_task(given, "compare()"))
    IN_PROCESS[name] = InProcess(task, uuid.uuid4().hex)
    try:
        yield name, {}
    finally:
        del IN_PROCESS[name]


def named_errors(function: Callable[[], Any]) -> Any:
    """Return what a function returns; a ``ValueError`` of it is one for the person."""
    try:
        return function()
    except ValueError as error:
        raise StudyError(str(error)) from error


def find(name: str) -> Task:
    """Return the task."""
    task: Task = named_errors(lambda: find_task(name))
    return task


def folder_of(name: str, out: str | Path | None) -> Path:
    """Return where results go."""
    if out is not None:
        return Path(out)
    if name in IN_PROCESS:
        return Path(tempfile.mkdtemp(prefix="hypergradient-compare-"))
    return Path("results") / f"compare-{Path(name).stem}"


def number_in(names: Mapping[str, Any], key: str, place: str) -> int | None:
    """Return a count that a file says, or None."""
    value = names.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise StudyError(f"{place}: {key} = {value!r} is not a count: write `{key} = 10`")
    return value


def own_batch_size(task: Task) -> int | None:
    """Return the batch size of a person's ``DataLoader``, which makes the batches itself."""
    data = task.load()
    if isinstance(data, Batches) and isinstance(data.train, DataLoader):
        size = data.train.batch_size or getattr(data.train.batch_sampler, "batch_size", None)
        return int(size) if size else 1
    return None


def description_of(names: Mapping[str, Any]) -> str:
    """Return the first paragraph of a file's docstring."""
    return " ".join(inspect.cleandoc(names.get("__doc__") or "").split("\n\n")[0].split())
