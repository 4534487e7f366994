"""A pool of dask workers: runs that are trained together are one task of theirs.

The scheduler chooses the worker of a task. The store's locks decide who may train a run, and its
files tell whether the run is finished. So workers may join and leave at any time, and it matters
little what dask says of a task: a run that is unfinished when its task ends is handed out again.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from distributed.scheduler import KilledWorker

import distributed as untyped
from hypergradient.study.errors import StudyError
from hypergradient.study.run.dask_local import local_cluster
from hypergradient.study.run.dask_worker import WorkOrder, train_in_process
from hypergradient.study.run.guard import MOST_DEATHS
from hypergradient.study.run.store import Store
from hypergradient.study.tasks.data.load import ENVIRONMENT_VARIABLE
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.groups import group_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hypergradient.study.declare.run import Run

distributed: Any = untyped

LOCAL = "local"

SCHEDULER_SECONDS = 10.0
"""How long a scheduler may take to answer, or to come back."""

WORKER_SECONDS = 10.0
"""How long to wait before telling a person that no worker has joined yet."""

REST_SECONDS = 1.0
"""How long a run that came back unfinished waits: most often another worker is training it."""

WINDOW = 1000
"""The most tasks that the scheduler has at a time."""


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C while the block runs, and for ever in the processes that it starts."""
    if current_thread() is not main_thread():  # only the main thread may set a signal's handler
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def connect(cluster: str, workers: int, resources: ExitStack) -> Any:
    """Return a client of a cluster.

    Args:
        cluster: "local", HOST:PORT, or the path of a scheduler file.
        workers: The size of a local cluster.
        resources: What closes the client, and a local cluster, when the command ends.

    Raises:
        StudyError: It names no cluster, or none that answers.
    """
    where: dict[str, Any]
    if cluster == LOCAL:
        scratch = Path(resources.enter_context(TemporaryDirectory(prefix="hypergradient-")))
        with interrupts_ignored():  # its processes must: Ctrl-C reaches them too
            local = local_cluster(workers, scratch)
        where = {"address": resources.enter_context(local)}
    elif re.fullmatch(r"(\w+://)?(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}", cluster):
        where = {"address": cluster}
    elif Path(cluster).is_file():
        where = {"scheduler_file": cluster}
    else:
        raise StudyError(
            f"--cluster {cluster!r} is not local, nor HOST:PORT, nor a scheduler file that is there"
        )
    found: Queue[Any] = Queue()

    def look() -> None:
        try:
            found.put(distributed.Client(**where, timeout=SCHEDULER_SECONDS, set_as_default=False))
        except Exception as error:  # noqa: BLE001  (whatever answers is not a scheduler)
            found.put(error)

    # dask would wait for ever where something accepts the connection and says nothing.
    Thread(target=look, daemon=True).start()
    try:
        client = found.get(timeout=1.5 * SCHEDULER_SECONDS)
    except Empty:
        client = TimeoutError()
    if isinstance(client, Exception):
        raise StudyError(
            f"no dask scheduler answers at {cluster} in {SCHEDULER_SECONDS:.0f} s: "
            "is it running, of this version of dask, and reachable from here?"
        ) from client
    return resources.enter_context(client)


class DaskPool:
    """The workers of a dask cluster, for one command; see ``Pool``.

    Args:
        cluster: As ``--cluster`` names it.
        workers: The size of a local cluster.
        store: Where results go, on a file system that the workers share.
        data_dir: Where data files are, for the workers; by default the folder that
            ``HYPERGRADIENT_DATA_DIR`` names here.
        checkpoint_seconds: Time between two checkpoints of a run.

    Raises:
        StudyError: There is no such cluster.
    """

    def __init__(
        self,
        cluster: str,
        workers: int,
        store: Store,
        data_dir: Path | None,
        checkpoint_seconds: float,
    ) -> None:
        for name in ("", ".client", ".nanny", ".scheduler", ".worker", ".core", ".comm"):
            logging.getLogger(f"distributed{name}").setLevel(logging.CRITICAL)
        named = data_dir or os.environ.get(ENVIRONMENT_VARIABLE)
        store.folder.mkdir(parents=True, exist_ok=True)
        self.cluster = cluster
        self.order = WorkOrder(
            Store(store.folder.resolve()), Path(named).resolve() if named else None
        )
        self.order = replace(self.order, checkpoint_seconds=checkpoint_seconds)
        with ExitStack() as resources:  # they are closed if this fails
            self.client = connect(cluster, workers, resources)
            resources.enter_context(self.order.in_force())
            self.resources = resources.pop_all()
        self.began = time.monotonic()
        self.needs: dict[str, float] | None = None
        self.has_workers = self.told = False
        self.futures: dict[tuple[str, ...], Any] = {}  # the tasks, by the ids of their runs
        self.rest_until: dict[str, float] = {}
        self.handed_out = 0
        self.killed = 0  # how often dask gave up tasks since a run was last finished
        self.last_unfinished = 0

    def keep_busy(self, unfinished: Sequence[Run]) -> None:
        """Take back the tasks that have ended, and hand out the runs that are in no task.

        Raises:
            StudyError: The scheduler is gone, or the workers cannot work.
        """
        if self.client.status in {"closing", "closed"}:
            raise StudyError(
                f"the dask scheduler {self.cluster} is gone, with {len(unfinished)} runs to do: "
                "the same command resumes, once there is one again"
            )
        if self.client.status != "running":
            return  # the client looks for the scheduler, which may come back
        if len(unfinished) != self.last_unfinished:
            self.last_unfinished, self.killed = len(unfinished), 0
        with suppress(OSError):  # the connection broke at this moment
            if self.workers_have_joined():
                self.take_back()
                self.hand_out(unfinished)

    def workers_have_joined(self) -> bool:
        """Return whether any worker has joined yet.

        If the first ones have GPUs, each task needs one. A person is told once of a long wait.
        """
        if not self.has_workers:
            workers = self.client.scheduler_info()["workers"].values()
            self.has_workers = bool(workers)
            if any(worker["resources"].get("GPU") for worker in workers):
                self.needs = {"GPU": 1}
            if (
                not self.has_workers
                and not self.told
                and time.monotonic() - self.began > WORKER_SECONDS
            ):
                self.told = True
                print(f"no worker has joined {self.cluster} yet; waiting", flush=True)
        return self.has_workers

    def take_back(self) -> None:
        """Release the tasks that have ended, so that dask never runs them again."""
        killed = None
        for ids, future in list(self.futures.items()):
            if not future.done():
                continue
            del self.futures[ids]
            self.rest_until |= dict.fromkeys(ids, time.monotonic() + REST_SECONDS)
            if future.status == "error":
                error = future.exception()
                if not isinstance(error, KilledWorker):
                    raise StudyError(f"a worker of {self.cluster} cannot work: {error}")
                killed = error  # the store counts the deaths of a run's processes
            future.release()
        self.killed += killed is not None
        if self.killed > MOST_DEATHS:
            raise StudyError(f"the workers of {self.cluster} die again and again: {killed}")

    def hand_out(self, unfinished: Sequence[Run]) -> None:
        """Make tasks of the runs that are in none, ordered by data set."""
        now = time.monotonic()
        taken = {run_id for ids in self.futures for run_id in ids}
        ready = [
            run
            for run in unfinished
            if run.id not in taken and self.rest_until.get(run.id, 0) <= now
        ]
        if not ready or len(self.futures) > WINDOW // 2:
            return
        datasets = {name: find_task(name).dataset for name in {run.task: 0 for run in unfinished}}
        order = list(dict.fromkeys(datasets.values()))
        ready.sort(key=lambda run: order.index(datasets[run.task]))
        groups = group_runs(ready)[: WINDOW - len(self.futures)]
        keys = [f"train-{self.order.id}-{self.handed_out + i}" for i in range(len(groups))]
        self.handed_out += len(groups)
        futures = self.client.map(
            train_in_process,
            groups,
            order=self.order,
            key=keys,
            pure=False,
            resources=self.needs,
        )
        for group, future in zip(groups, futures, strict=True):
            self.futures[tuple(run.id for run in group)] = future

    def stop(self) -> None:
        """Leave the cluster; what its workers were training stays unfinished."""
        self.resources.close()
