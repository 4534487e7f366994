"""Train the missing runs of a study: keep a pool of workers busy until all runs are finished.

Workers share nothing but the store. Each goes through the runs and claims, by a lock, those that
nobody has finished or is training. So it does not matter how many workers there are, which command
started them, or when one dies.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypergradient.study.errors import StudyError
from hypergradient.study.run.guard import CHECKPOINT_SECONDS
from hypergradient.study.run.local_pool import LocalPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.pool import Pool
    from hypergradient.study.run.store import Store

POLL_SECONDS = 0.1

POLL_SHARE = 0.05
"""The share of a core that watching may take where it is slow to look at many runs."""


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        runs: The number of runs.
        finished: How many of them are done, diverged or failed.
        epochs: The number of epochs of all runs.
        trained: How many of them are trained, or no longer needed.
        latest: The task and the training loss of the last epoch that was trained, in words.
    """

    runs: int
    finished: int
    epochs: int
    trained: int
    latest: str = ""


def execute(
    runs: Sequence[Run],
    store: Store,
    *,
    workers: int,
    data_dir: Path | None = None,
    cluster: str | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train the missing runs, and return when all are finished, by this command or another.

    Args:
        runs: The runs of a study.
        store: Where results are, and where new ones go.
        workers: How many processes to use.
        data_dir: Where data files are.
        cluster: The dask cluster to use instead, as ``--cluster`` names it.
        checkpoint_seconds: Time between two checkpoints of a run.
        report: Called with the progress several times a second.

    Raises:
        StudyError: Nothing can be written, the workers cannot work, or there is no such cluster.
    """
    unfinished = store.missing(runs)
    for run in unfinished:
        store.refuse_link(run)
    pool = pool_for(cluster if unfinished else None, workers, store, data_dir, checkpoint_seconds)
    try:
        for run in unfinished:
            store.reopen(run)
        while True:
            began = time.monotonic()
            unfinished = still_unfinished(unfinished, store)
            now = look(runs, unfinished, store)
            looked = time.monotonic() - began
            report(now)
            if not unfinished:
                return
            pool.keep_busy(unfinished)
            time.sleep(max(POLL_SECONDS, looked / POLL_SHARE))
    finally:
        pool.stop()


def still_unfinished(runs: Sequence[Run], store: Store) -> list[Run]:
    """Return the runs that are not finished."""
    begun = store.begun()
    return [run for run in runs if run.id not in begun or not store.finished(run)]


def look(runs: Sequence[Run], unfinished: Sequence[Run], store: Store) -> Progress:
    """Return how far a study is.

    Args:
        runs: All its runs.
        unfinished: Those of them that were not finished at the last look.
        store: Its results.
    """
    begun = store.begun()
    left = [run for run in unfinished if run.id not in begun or not store.finished(run)]
    seen = sum(store.epochs_seen(run) for run in left if run.id in begun)
    epochs = sum(run.epochs for run in runs)
    trained = epochs - (sum(run.epochs for run in left) - seen)
    latest = latest_loss([run for run in left if run.id in begun], store)
    return Progress(len(runs), len(runs) - len(left), epochs, trained, latest)


def latest_loss(under_way: Sequence[Run], store: Store) -> str:
    """Return the task and the training loss of the last epoch that runs have written, in words."""
    run = max(under_way, key=store.written_at, default=None)
    if run is None:
        return ""
    with suppress(StudyError, OSError):
        for record in store.records(run)[-1:]:
            loss = record.get("train_loss")
            return f"{run.task}: training loss {'-' if loss is None else format(loss, '.3g')}"
    return ""


def pool_for(
    cluster: str | None,
    workers: int,
    store: Store,
    data_dir: Path | None,
    checkpoint_seconds: float,
) -> Pool:
    """Return the pool that trains: processes of this machine, or a dask cluster's workers."""
    if cluster is None:
        return LocalPool(workers, store, data_dir, checkpoint_seconds)
    from hypergradient.study.run.dask_pool import DaskPool  # noqa: PLC0415  (an extra)

    return DaskPool(cluster, workers, store, data_dir, checkpoint_seconds)
