"""Claimed runs, trained into the store: the one place that drives a training session.

Runs that are trained together have each its own files, as if each were alone.
"""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hypergradient.study.files import DISK_ERRORS
from hypergradient.study.run.checkpoint import read_checkpoint, write_checkpoint
from hypergradient.study.run.claim import append
from hypergradient.study.run.guard import GUARD_SECONDS, leave_if_alone
from hypergradient.study.run.outcome import outcome
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.evaluate import constant_loss
from hypergradient.study.train.start import start_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.claim import Claim
    from hypergradient.study.train.records import EpochRecord, State
    from hypergradient.study.train.session import Session


class ClaimedRun:
    """A run that this process trains, and its files in the store.

    Args:
        run: The run.
        claim: The right to train it.

    Attributes:
        records: The run's epochs so far, as its metrics file has them.
        saved: What its session saved in an earlier process, or None.
        failed: Whether something went wrong with the run's own files.
    """

    def __init__(self, run: Run, claim: Claim) -> None:
        self.run, self.claim = run, claim
        checkpoint = read_checkpoint(claim.checkpoint) or {"records": []}
        self.records = list(checkpoint["records"])
        self.saved: State | None = checkpoint.get("training")
        self.failed = False
        self.files = ExitStack()

    @property
    def place(self) -> tuple[int, int] | None:
        """The epoch and the step in it at which the run goes on, or None at its start."""
        return None if self.saved is None else (self.saved["epoch"], self.saved["made"])

    @contextmanager
    def on_its_own(self) -> Iterator[None]:
        """Let what goes wrong in the block fail this run, and none that is trained with it."""
        try:
            yield
        except Exception as error:  # the store keeps and shows it; the other runs go on
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            self.failed = True
            self.claim.fail(traceback.format_exc())

    def open(self, files: ExitStack) -> None:
        """Open the metrics file until the run ends, or until ``files`` are closed."""
        files.push(self.files)
        self.metrics = self.files.enter_context(self.claim.metrics(self.records))

    def write_record(self, record: EpochRecord) -> None:
        """Add an epoch's line to the metrics file."""
        self.records.append(append(self.metrics, record))

    def write_checkpoint(self, state: State) -> None:
        """Replace the run's checkpoint."""
        write_checkpoint(self.claim.checkpoint, {"records": self.records, "training": state})
        self.claim.got_further()

    def finish(self, session: Session, constant_loss: float) -> None:
        """Declare the run finished; its time is what its own epochs took."""
        self.files.close()
        seconds = sum(record["seconds"] for record in self.records)
        traits = session.traits(self.run)
        found = {
            "base": traits.base,
            "adaptive": traits.adaptive,
            "init_hash": session.init_hash,
            "constant_loss": constant_loss,
            **session.cost(),
        }
        self.claim.finish(outcome(self.run, self.records, seconds, session.kind, found))


def train_runs(
    claims: Sequence[tuple[Run, Claim]], data_dir: Path | None, checkpoint_seconds: float
) -> None:
    """Train claimed runs that belong together, each from its last checkpoint if it has one.

    Only runs whose checkpoints are at the same step can go on together. A kill between two
    checkpoints may part them; their numbers are the same in any company.

    Args:
        claims: The runs of one list of ``group_runs`` that this process has claimed.
        data_dir: Where data files are.
        checkpoint_seconds: Time between two checkpoints.
    """
    by_place: dict[tuple[int, int] | None, list[ClaimedRun]] = {}
    for run, claim in claims:
        claimed = ClaimedRun(run, claim)
        by_place.setdefault(claimed.place, []).append(claimed)
    for group in by_place.values():
        train_group(group, data_dir, checkpoint_seconds)


def train_group(
    group: Sequence[ClaimedRun], data_dir: Path | None, checkpoint_seconds: float
) -> None:
    """Train claimed runs that are at the same step of their epochs."""
    data = find_task(group[0].run.task).load(data_dir)
    with ExitStack() as files:
        for claimed in group:
            with claimed.on_its_own():
                claimed.open(files)
        members = {claimed.run.id: claimed for claimed in group if not claimed.failed}
        if not members:
            return
        states = [claimed.saved for claimed in members.values() if claimed.saved is not None]
        session = start_session([claimed.run for claimed in members.values()], data, states)
        baseline = constant_loss(group[0].run, data)
        for run, record, last in session.train(BetweenSteps(members, checkpoint_seconds)):
            claimed = members[run.id]
            if not claimed.failed:
                with claimed.on_its_own():
                    claimed.write_record(record)
                    if last:
                        claimed.finish(session, baseline)
            if all(each.failed for each in members.values()):
                return
            leave_if_alone()


class BetweenSteps:
    """What a session calls after each step: it writes checkpoints, and looks for the command.

    Args:
        members: The runs of the session by their ids.
        checkpoint_seconds: Time between two checkpoints.
    """

    def __init__(self, members: Mapping[str, ClaimedRun], checkpoint_seconds: float) -> None:
        self.members, self.checkpoint_seconds = members, checkpoint_seconds
        self.looked = self.saved = time.perf_counter()

    def __call__(self, session: Session) -> None:
        """Do what is due. The clock is read at each step, and all else now and then."""
        now = time.perf_counter()
        if now - self.saved >= self.checkpoint_seconds:
            for run_id, state in session.states().items():
                with self.members[run_id].on_its_own():
                    self.members[run_id].write_checkpoint(state)
            self.saved = time.perf_counter()
        if now - self.looked >= GUARD_SECONDS:
            self.looked = now
            leave_if_alone()
