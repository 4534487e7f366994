"""The worker processes that one command starts on this machine."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from hypergradient.study.errors import StudyError
from hypergradient.study.files import DISK_ERRORS, cannot_write
from hypergradient.study.run.guard import BROKEN, MOST_DEATHS, PATIENCE_SECONDS
from hypergradient.study.run.worker import run_worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.store import Store


class LocalPool:
    """The worker processes of one command; see ``Pool``.

    Args:
        size: The most processes at a time.
        store: Where results go.
        data_dir: Where data files are.
        checkpoint_seconds: Time between two checkpoints of a run.
    """

    def __init__(
        self, size: int, store: Store, data_dir: Path | None, checkpoint_seconds: float
    ) -> None:
        self.size = size
        self.store = store
        self.data_dir = data_dir
        self.checkpoint_seconds = checkpoint_seconds
        self.processes: list[SpawnProcess] = []
        self.killed: list[SpawnProcess] = []  # since a run was last finished
        self.last_unfinished = 0

    def keep_busy(self, unfinished: Sequence[Run]) -> None:
        """Replace workers that were killed, and start new ones when all have left.

        A worker that finds nothing to claim leaves with code 0 and is not replaced. When all have
        left, there is one new worker for each unfinished run that no process is training.

        Raises:
            StudyError: A worker cannot work at all (a full disk, say), or each one is killed.
        """
        for process in self.processes:
            if process.exitcode in DISK_ERRORS:
                raise cannot_write(self.store.folder, process.exitcode)
        killed = [process for process in self.processes if process.exitcode]
        self.processes = [process for process in self.processes if process.exitcode is None]
        self.killed = [*(self.killed if self.last_unfinished == len(unfinished) else []), *killed]
        self.last_unfinished = len(unfinished)
        broken = any(process.exitcode == BROKEN for process in killed)
        if broken or len(self.killed) > MOST_DEATHS * (self.size + 1):
            codes = ", ".join(str(process.exitcode) for process in self.killed)
            raise StudyError(f"the workers cannot work: they ended with code {codes}")
        wanted = len(killed)
        if not self.processes:
            wanted = min(self.size, sum(self.store.idle(run) for run in unfinished))
        for _ in range(wanted):
            work = (list(unfinished), self.store, self.data_dir, self.checkpoint_seconds)
            process = multiprocessing.get_context("spawn").Process(
                target=run_worker, args=work, daemon=True
            )
            process.start()
            self.processes.append(process)

    def stop(self) -> None:
        """End the workers; what they were training stays unfinished."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(PATIENCE_SECONDS)
            process.kill()  # a signal can be lost in a destructor
            process.join()
