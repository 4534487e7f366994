"""Train what is missing of a study: give the runs to a pool of workers until all are finished.

Workers share nothing but the store: each walks the runs and claims by lock what nobody has done
or is doing. So it does not matter how many there are, whose they are, or when one dies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypergradient.study.run.guard import CHECKPOINT_SECONDS
from hypergradient.study.run.local_pool import LocalPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.dask_pool import DaskPool
    from hypergradient.study.run.store import Store

POLL_SECONDS = 0.1

POLL_SHARE = 0.05
"""The part of a core that watching may take, when looking at many runs is slow."""


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
    cluster: str | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train what is missing of ``runs``, and return when all are finished, by whomever.

    Args:
        runs: The runs of a study.
        store: Where results are and go.
        workers: Processes to use.
        data_dir: Where data files are.
        cluster: The dask cluster to use instead, as ``--cluster`` names it.
        checkpoint_seconds: Time between two checkpoints of a run.
        report: Called several times a second.

    Raises:
        StudyError: Nothing can be written, the workers cannot work, or there is no such cluster.
    """
    unfinished = store.missing(runs)
    epochs = sum(run.epochs for run in runs)
    team = pool_for(cluster if unfinished else None, workers, store, data_dir, checkpoint_seconds)
    try:
        for run in unfinished:
            store.reopen(run)
        while True:
            began = time.monotonic()
            begun = store.begun()
            unfinished = [r for r in unfinished if r.id not in begun or not store.finished(r)]
            seen = sum(store.epochs_seen(run) for run in unfinished if run.id in begun)
            left = sum(run.epochs for run in unfinished) - seen
            looked = time.monotonic() - began
            report(Progress(len(runs), len(runs) - len(unfinished), epochs, epochs - left))
            if not unfinished:
                return
            team.keep_busy(unfinished)
            time.sleep(max(POLL_SECONDS, looked / POLL_SHARE))
    finally:
        team.stop()


def pool_for(
    cluster: str | None,
    workers: int,
    store: Store,
    data_dir: Path | None,
    checkpoint_seconds: float,
) -> LocalPool | DaskPool:
    """Return who trains: processes of this machine, or a dask cluster's."""
    if cluster is None:
        return LocalPool(workers, store, data_dir, checkpoint_seconds)
    from hypergradient.study.run.dask_pool import DaskPool  # noqa: PLC0415  (an extra)

    return DaskPool(cluster, workers, store, data_dir, checkpoint_seconds)
