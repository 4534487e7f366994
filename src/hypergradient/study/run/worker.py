"""A worker process: it claims runs that nobody has done or is doing, and trains them."""

from __future__ import annotations

import signal
import threading
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypergradient.study.files import DISK_ERRORS
from hypergradient.study.run.guard import (
    BROKEN,
    CHECKPOINT_SECONDS,
    MOST_DEATHS,
    is_of_the_run,
    leave,
    parent_is_gone,
    watch,
)
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.groups import group_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.claim import Claim
    from hypergradient.study.run.store import Store


def run_worker(
    runs: Sequence[Run], store: Store, data_dir: Path | None, checkpoint_seconds: float
) -> None:
    """Train runs until none is left to claim. This is what a process of ``LocalPool`` runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too
    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=watch, args=(parent_is_gone,), daemon=True).start()
    try:
        work(runs, store, data_dir, checkpoint_seconds)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            traceback.print_exc()
            raise SystemExit(BROKEN) from error
        raise SystemExit(error.errno) from error  # the pool tells the person, once
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(BROKEN) from error
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving already


def work(
    runs: Sequence[Run],
    store: Store,
    data_dir: Path | None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train, in this process, each run that nobody has finished or is training.

    The first time through, a worker leaves alone the groups that another has begun to claim, so
    that two workers that start at the same time do not share a group between them. The second
    time, it claims what is left of any group.

    Args:
        runs: The runs.
        store: Where results go.
        data_dir: Where data files are.
        checkpoint_seconds: Time between two checkpoints of a run.
    """
    runs = fail_without_task(runs, store)
    suspects = {run.id for run in runs if store.deaths(run) >= MOST_DEATHS - 1}
    groups = group_runs(runs, alone=suspects)
    for group, whole in [(each, True) for each in groups] + [(each, False) for each in groups]:
        with ExitStack() as locks:
            if claims := claims_of(group, store, locks, whole=whole):
                train_claimed(claims, store, data_dir, checkpoint_seconds)


def fail_without_task(runs: Sequence[Run], store: Store) -> list[Run]:
    """Fail the runs whose task cannot be found here, and return the others.

    A person's file may be edited while a study runs.
    """
    broken = {}
    for task in dict.fromkeys(run.task for run in runs):
        try:
            find_task(task)
        except (KeyError, ValueError):
            broken[task] = traceback.format_exc()
    for run in runs:
        if run.task in broken:
            with store.claim(run) as claim:
                if claim is not None:
                    claim.fail(broken[run.task])
    return [run for run in runs if run.task not in broken]


def claims_of(
    group: Sequence[Run], store: Store, locks: ExitStack, *, whole: bool
) -> list[tuple[Run, Claim]]:
    """Claim the unfinished runs of a group.

    Args:
        group: Runs that are trained together.
        store: Where results go.
        locks: What holds the claims until it is closed.
        whole: Claim nothing if another process trains the group's first unfinished run.

    Returns:
        Each claimed run and its claim.
    """
    claims: list[tuple[Run, Claim]] = []
    for run in group:
        if store.finished(run):
            continue
        claim = locks.enter_context(store.claim(run))
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
    """Train claimed runs that belong together. If they crash, the store keeps why and shows it."""
    # It loads torch, which takes 2 s, and the command imports this module only to start workers.
    from hypergradient.study.run.train_runs import train_runs  # noqa: PLC0415

    try:
        train_runs(claims, data_dir, checkpoint_seconds)
    except BaseException as error:  # the worker goes on with the other runs
        if not is_of_the_run(error):
            raise
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        for run, claim in claims:
            if not store.finished(run):
                claim.fail(traceback.format_exc())
