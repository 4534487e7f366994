"""What a dask worker does: it gives each task to a training process of its own.

There is a process for each task that runs at the same time, because torch has one random generator
a process. A process stays for the command's next tasks and keeps the data in memory. It claims runs
by the store's locks, like any other worker, so nothing is trained twice where dask hands out a task
twice. It ends when the dask worker, or the command that ordered the work, is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from hypergradient.study.declare.run import RESULTS_VERSION
from hypergradient.study.errors import StudyError
from hypergradient.study.files import DISK_ERRORS, cannot_write
from hypergradient.study.run.guard import (
    CHECKPOINT_SECONDS,
    PATIENCE_SECONDS,
    leave,
    parent_is_gone,
    watch,
)
from hypergradient.study.run.locks import is_free, locked
from hypergradient.study.run.worker import work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.store import Store

IDLE_SECONDS = 60.0
"""How long a training process waits for work before it ends and frees its memory."""


def torch_version() -> str:
    """Return torch's version without the part that names the build, such as +cpu."""
    return version("torch").partition("+")[0]


@dataclass(frozen=True)
class WorkOrder:
    """What a command asks of the workers, and what they must have in common with it.

    Attributes:
        store: Where results go.
        data_dir: Where data files are.
        checkpoint_seconds: Time between two checkpoints of a run.
        directory: Where the command runs; paths in the study are relative to it.
        torch: The command's version of torch.
        results_version: The command's ``RESULTS_VERSION``.
        id: A name for the order that no other has.
    """

    store: Store
    data_dir: Path | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    directory: Path = field(default_factory=Path.cwd)
    torch: str = field(default_factory=torch_version)
    results_version: int = RESULTS_VERSION
    id: str = field(default_factory=lambda: uuid4().hex[:16])

    @property
    def place(self) -> Path:
        """The file whose lock the command holds as long as it is there."""
        return self.store.folder / f".{self.id}.command"

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Hold the order's lock while the block runs: workers see by it that the command lives."""
        for old in self.store.folder.glob(".*.command"):
            if is_free(old):  # its command was killed
                old.unlink(missing_ok=True)
        with locked(self.place):
            try:
                yield
            finally:
                self.place.unlink(missing_ok=True)

    def has_ended(self) -> bool:
        """Return whether the command has ended, in whatever way."""
        return is_free(self.place)

    def refusal(self) -> str | None:
        """Return why this process cannot carry out the order, or None if it can."""
        if not self.place.exists():
            return f"there is no {self.place}: the results must be on a file system that all share"
        if self.has_ended():
            return (
                f"a lock that the command holds in {self.store.folder} is not seen: mount that "
                "file system with locks for all machines (NFS: without nolock or local_lock)"
            )
        if self.torch != torch_version():
            return f"it has torch {torch_version()} and the command {self.torch}: use the same"
        if self.results_version != RESULTS_VERSION:
            return "it has another version of hypergradient than the command: use the same"
        return None


class WorkerProcess:
    """A training process, and the pipe to it.

    Args:
        order: What the command asks of it.
    """

    def __init__(self, order: WorkOrder) -> None:
        self.order = order
        multiprocessing.current_process().daemon = False  # a daemon may have no children
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=run_worker_process, args=(theirs, order), daemon=True)
        self.process.start()
        theirs.close()

    def train(self, runs: Sequence[Run]) -> None:
        """Train runs, and return when they are finished, other workers have them, or it died.

        Raises:
            StudyError: This machine cannot do what is ordered, or nothing can be written.
        """
        try:
            self.pipe.send(list(runs))
            problem = self.pipe.recv()
        except (EOFError, OSError):  # it died or ended: the store has what it finished
            self.stop()
            return
        if problem:
            raise StudyError(problem)

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(PATIENCE_SECONDS)
        self.process.kill()
        self.process.join()


_idle: list[WorkerProcess] = []


def train_in_process(runs: Sequence[Run], order: WorkOrder) -> None:
    """Train runs in a process of this dask worker. This is the task that dask gives to it."""
    worker = take_idle(order) or WorkerProcess(order)
    try:
        worker.train(runs)
    finally:
        _idle.append(worker)


def take_idle(order: WorkOrder) -> WorkerProcess | None:
    """Take an idle process, and end those of other orders: the code may have changed since."""
    while True:
        try:
            worker = _idle.pop()
        except IndexError:
            return None
        if worker.order.id == order.id and worker.process.is_alive():
            return worker
        worker.stop()


def run_worker_process(pipe: Connection, order: WorkOrder) -> None:
    """Take runs from a pipe and train them; answer None, or what is wrong.

    This is what a ``WorkerProcess`` runs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)

    def gone() -> bool:
        return parent_is_gone() or order.has_ended()

    threading.Thread(target=watch, args=(gone,), daemon=True).start()
    with suppress(FileNotFoundError):
        os.chdir(order.directory)
    refusal = order.refusal()
    with suppress(EOFError, BrokenPipeError):  # the dask worker is gone
        while pipe.poll(IDLE_SECONDS):
            runs = pipe.recv()
            pipe.send(refusal or problem_with(runs, order))


def problem_with(runs: Sequence[Run], order: WorkOrder) -> str | None:
    """Train runs, and return None, or what keeps any run from being trained here."""
    try:
        for run in runs:
            if run.id != (here := type(run).model_validate(run.model_dump()).id):
                return f"{run.task} or {run.method} is another here: run {run.id} would be {here}"
        work(runs, order.store, order.data_dir, order.checkpoint_seconds)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return str(cannot_write(order.store.folder, error.errno))
    except (StudyError, ValueError) as error:
        return str(error)
    return None
