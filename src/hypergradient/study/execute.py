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
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from hypergradient.study import StudyError, tasks
from hypergradient.study.files import FULL, cannot_write
from hypergradient.study.store import Claim, Json, Store, append
from hypergradient.study.units import ONE_BY_ONE, seat, units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from hypergradient.study.cluster import Crew
    from hypergradient.study.spec import Run
    from hypergradient.study.train import Training

POLL_SECONDS = 0.1
POLL_SHARE = 0.05
"""The part of a core that watching may take, when looking at many runs is slow."""

MOST_DEATHS = 3
"""A run whose process was killed this often without getting further is given up as failed."""

CHECKPOINT_SECONDS = 5.0
"""What kill -9 can cost a run."""

PATIENCE_SECONDS = 10.0
"""How long a worker may take to leave."""

GUARD_SECONDS = 0.5
"""How often a worker looks whether its parent is still there."""


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
    team = team_for(cluster if unfinished else None, workers, store, data_dir, checkpoint_seconds)
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


def team_for(
    cluster: str | None,
    workers: int,
    store: Store,
    data_dir: Path | None,
    checkpoint_seconds: float,
) -> Team | Crew:
    """Return who trains: processes of this machine, or a dask cluster's."""
    if cluster is None:
        return Team(workers, store, data_dir, checkpoint_seconds)
    from hypergradient.study.cluster import Crew  # noqa: PLC0415  (an extra)

    return Crew(cluster, workers, store, data_dir, checkpoint_seconds)


class Team:
    """The worker processes of one command.

    Args:
        size: How many at most.
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
        """Replace workers that were killed; when all have left, start anew on what is idle.

        A worker that finds nothing to claim leaves with code 0 and is not replaced.

        Raises:
            StudyError: A worker cannot work at all (a full disk, say), or each one is killed.
        """
        for process in self.processes:
            if process.exitcode in FULL:
                raise cannot_write(self.store.folder, process.exitcode)
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
            work = (list(unfinished), self.store, self.data_dir, self.checkpoint_seconds)
            process = multiprocessing.get_context("spawn").Process(
                target=be_worker, args=work, daemon=True
            )
            process.start()
            self.processes.append(process)

    def stop(self) -> None:
        """End the workers that are still there; what they were training stays unfinished."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join(PATIENCE_SECONDS)
            process.kill()  # a signal can be lost in a destructor
            process.join()


def be_worker(
    runs: Sequence[Run], store: Store, data_dir: Path | None, checkpoint_seconds: float
) -> None:
    """Be a worker process, which its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too
    signal.signal(signal.SIGTERM, leave)
    try:
        work(runs, store, data_dir, checkpoint_seconds)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise SystemExit(error.errno) from error  # for the parent, who says it once
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving already


def work(
    runs: Sequence[Run],
    store: Store,
    data_dir: Path | None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train each run that nobody has done or is doing, in this process.

    Units that another worker has begun to claim are left to it at first, so that two who come at
    one time do not part them.
    """
    suspects = {run.id for run in runs if store.deaths(run) >= MOST_DEATHS - 1}
    every = units(runs, alone=suspects)
    for unit, whole in [(unit, True) for unit in every] + [(unit, False) for unit in every]:
        with ExitStack() as held:
            if claims := claims_of(unit, store, held, whole=whole):
                train_claimed(claims, store, data_dir, checkpoint_seconds)


def claims_of(
    unit: Sequence[Run], store: Store, held: ExitStack, *, whole: bool
) -> list[tuple[Run, Claim]]:
    """Claim the runs of a unit until ``held`` ends, or none if it shall be whole and is not."""
    claims: list[tuple[Run, Claim]] = []
    for run in unit:
        if store.finished(run):
            continue
        claim = held.enter_context(store.claim(run))
        if claim is None and whole and not claims:
            break
        if claim is not None and claim.deaths >= MOST_DEATHS:
            claim.fail(f"its process was killed {claim.deaths} times (out of memory?)")
        elif claim is not None:
            claims.append((run, claim))
    return claims


def train_claimed(
    claims: Sequence[tuple[Run, Claim]],
    store: Store,
    data_dir: Path | None,
    checkpoint_seconds: float,
) -> None:
    """Train claimed runs that belong together; a crash is theirs, and is kept and shown."""
    from hypergradient.study.together import train_together  # noqa: PLC0415  (it loads torch)

    try:
        if seat(claims[0][0]) is None:
            ((run, claim),) = claims
            train_run(run, claim, data_dir, checkpoint_seconds)
        else:
            train_together(claims, data_dir, checkpoint_seconds)
    except Exception as error:  # (the other runs go on)
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        for run, claim in claims:
            if not store.finished(run):
                claim.fail(traceback.format_exc())


def leave(*_: Any) -> NoReturn:
    """End this worker; a second signal would only interrupt the clearing up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def leave_if_alone() -> None:
    """Leave if the command that started this worker is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        leave()


def train_run(
    run: Run, claim: Claim, data_dir: Path | None, checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> None:
    """Train one claimed run into the store, from its last checkpoint if it has one."""
    import torch  # noqa: PLC0415  (2 s that only workers need)

    from hypergradient.study import checkpoint  # noqa: PLC0415
    from hypergradient.study.train import (  # noqa: PLC0415
        constant_loss,
        initial_model,
        train,
        weights_hash,
    )

    torch.set_num_threads(run.threads)
    task = tasks.find(run.task)
    dataset = task.load(data_dir)
    model = initial_model(run)
    init_hash = weights_hash(model)
    saved = checkpoint.read(claim.checkpoint) or {"records": [], "wall_seconds": 0.0}
    records = list(saved["records"])
    looked = kept = time.perf_counter()
    began = kept - saved["wall_seconds"]

    def after_step(training: Training) -> None:
        nonlocal looked, kept
        now = time.perf_counter()
        if now - kept >= checkpoint_seconds:
            progress = {"records": records, "wall_seconds": now - began}
            checkpoint.write(claim.checkpoint, progress | {"training": training.state()})
            claim.got_further()
            kept = time.perf_counter()
        if now - looked >= GUARD_SECONDS:
            looked = now
            leave_if_alone()

    with claim.metrics(records) as metrics:
        for record in train(
            run, model, dataset, saved=saved.get("training"), after_step=after_step
        ):
            records.append(append(metrics, record))
            leave_if_alone()
    found = {"init_hash": init_hash, "constant_loss": constant_loss(run, dataset)}
    claim.finish(ending(run, records, time.perf_counter() - began, ONE_BY_ONE, found))


def ending(
    run: Run, records: Sequence[Json], wall_seconds: float, engine: str, found: Json
) -> Json:
    """Return the status of a run that has been trained to its end, with what else was found."""
    last = records[-1]
    diverged = last["diverged_at_step"] is not None
    return {
        "state": "diverged" if diverged else "done",
        "diverged_at_step": last["diverged_at_step"],
        "steps_to_target": last["target_step"],
        "records": len(records),
        "wall_seconds": wall_seconds,
        **found,
        "torch": version("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": run.threads,
        "engine": engine,
    }
