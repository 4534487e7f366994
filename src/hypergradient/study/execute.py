"""Missing runs to local workers: one process a core, each with torch's threads pinned.

Workers share nothing but the store: each walks the runs and claims by lock what nobody has done
or is doing. So it does not matter how many there are, whose they are, or when one dies.
"""

from __future__ import annotations

import multiprocessing
import platform
import signal
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from hypergradient.study import StudyError, data
from hypergradient.study.store import Claim, Store, append
from hypergradient.study.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from hypergradient.study.spec import Run

POLL_SECONDS = 0.1
MOST_DEATHS = 3
"""A run whose process was killed this often is given up as failed."""


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        runs: Runs in all.
        finished: Of them done, diverged or failed.
        epochs: Epochs of all runs.
        trained: Of them trained, or no longer needed.
    """

    runs: int
    finished: int
    epochs: int
    trained: int


def execute(
    runs: Sequence[Run],
    store: Store,
    *,
    workers: int,
    data_dir: Path | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train what is missing of ``runs``, and return when all are finished, by whomever.

    Args:
        runs: The runs of a study.
        store: Where results are and go.
        workers: Processes to use.
        data_dir: Where data files are.
        report: Called several times a second.
    """
    unfinished = store.missing(runs)
    for run in unfinished:
        store.reopen(run)
    epochs = sum(run.epochs for run in runs)
    team = Team(workers, store, data_dir)
    try:
        while True:
            unfinished = [run for run in unfinished if not store.finished(run)]
            left = sum(run.epochs - store.epochs_seen(run) for run in unfinished)
            report(Progress(len(runs), len(runs) - len(unfinished), epochs, epochs - left))
            if not unfinished:
                return
            team.keep_busy(unfinished)
            time.sleep(POLL_SECONDS)
    finally:
        team.stop()


class Team:
    """The worker processes of one command.

    Args:
        size: How many at most.
        store: Where results go.
        data_dir: Where data files are.
    """

    def __init__(self, size: int, store: Store, data_dir: Path | None) -> None:
        self.size = size
        self.store = store
        self.data_dir = data_dir
        self.processes: list[SpawnProcess] = []
        self.killed: list[SpawnProcess] = []  # since a run was last finished
        self.last_unfinished = 0

    def keep_busy(self, unfinished: Sequence[Run]) -> None:
        """Replace workers that were killed; when all have left, start anew on what is idle.

        A worker that finds nothing to claim leaves with code 0 and is not replaced.

        Raises:
            StudyError: A worker cannot work at all (a full disk, say), or each one is killed.
        """
        killed = [process for process in self.processes if process.exitcode]
        self.processes = [process for process in self.processes if process.exitcode is None]
        self.killed = [*(self.killed if self.last_unfinished == len(unfinished) else []), *killed]
        self.last_unfinished = len(unfinished)
        broken = any((process.exitcode or 0) > 0 for process in killed)
        if broken or len(self.killed) > MOST_DEATHS * (self.size + 1):
            codes = ", ".join(str(process.exitcode) for process in self.killed)
            raise StudyError(f"the workers cannot work: they ended with code {codes}")
        wanted = len(killed)
        if not self.processes:
            wanted = min(self.size, sum(self.store.idle(run) for run in unfinished))
        for _ in range(wanted):
            process = multiprocessing.get_context("spawn").Process(
                target=be_worker, args=(list(unfinished), self.store, self.data_dir), daemon=True
            )
            process.start()
            self.processes.append(process)

    def stop(self) -> None:
        """End the workers that are still there; what they were training stays unfinished."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def be_worker(runs: Sequence[Run], store: Store, data_dir: Path | None) -> None:
    """Be a worker process, which its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too
    signal.signal(signal.SIGTERM, leave)
    work(runs, store, data_dir)


def work(runs: Sequence[Run], store: Store, data_dir: Path | None) -> None:
    """Train each run that nobody has done or is doing, in this process."""
    for run in runs:
        with store.claim(run) as claim:
            if claim is None:
                continue
            if claim.deaths >= MOST_DEATHS:
                claim.fail(f"its process was killed {claim.deaths} times (out of memory?)")
                continue
            try:
                train_run(run, claim, data_dir)
            except Exception:  # noqa: BLE001  (kept and shown; the other runs go on)
                claim.fail(traceback.format_exc())


def leave(*_: Any) -> NoReturn:
    raise SystemExit(0)


def train_run(run: Run, claim: Claim, data_dir: Path | None) -> None:
    """Train one claimed run into the store; stop if the command that started us is gone."""
    import torch  # noqa: PLC0415  (2 s that only workers need)

    from hypergradient.study.train import initial_model, train, weights_hash  # noqa: PLC0415

    parent = multiprocessing.parent_process()
    began = time.perf_counter()
    torch.set_num_threads(run.threads)
    dataset = data.load(TASKS[run.task].dataset, data_dir)
    model = initial_model(run)
    init_hash = weights_hash(model)
    count, diverged_at_step = 0, None
    with claim.metrics() as metrics:
        for record in train(run, model, dataset):
            append(metrics, record)
            count += 1
            diverged_at_step = record.diverged_at_step
            if parent is not None and not parent.is_alive():
                leave()
    claim.finish(
        {
            "state": "done" if diverged_at_step is None else "diverged",
            "diverged_at_step": diverged_at_step,
            "records": count,
            "wall_seconds": time.perf_counter() - began,
            "init_hash": init_hash,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "threads": run.threads,
        }
    )
