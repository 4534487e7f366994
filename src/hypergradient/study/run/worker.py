"""A worker process: it claims runs that nobody has done or is doing, and trains them."""

from __future__ import annotations

import signal
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypergradient.study.files import DISK_ERRORS
from hypergradient.study.run.guard import CHECKPOINT_SECONDS, MOST_DEATHS, leave
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
    """Be a worker process, which its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too
    signal.signal(signal.SIGTERM, leave)
    try:
        work(runs, store, data_dir, checkpoint_seconds)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
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
    every = group_runs(runs, alone=suspects)
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
    """Train claimed runs that belong together. If they crash, the store keeps why and shows it."""
    # It loads torch, which takes 2 s, and the command imports this module only to start workers.
    from hypergradient.study.run.train_runs import train_runs  # noqa: PLC0415

    try:
        train_runs(claims, data_dir, checkpoint_seconds)
    except Exception as error:  # the worker goes on with the other runs
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        for run, claim in claims:
            if not store.finished(run):
                claim.fail(traceback.format_exc())
