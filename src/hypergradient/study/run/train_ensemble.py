"""Claimed runs of a stack, trained into the store: each has its own files, as if it were alone."""

from __future__ import annotations

import time
import traceback
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from hypergradient.study.run.checkpoint import read_checkpoint, write_checkpoint
from hypergradient.study.run.claim import append
from hypergradient.study.run.guard import GUARD_SECONDS, leave_if_alone
from hypergradient.study.run.outcome import outcome
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.evaluate import constant_loss
from hypergradient.study.train.groups import STACKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.claim import Claim, Json
    from hypergradient.study.train.records import EpochRecord, State


class Member:
    """A run of the stack, and its place in the store.

    Args:
        run: The run.
        claim: The right to train it.
    """

    def __init__(self, run: Run, claim: Claim) -> None:
        self.run, self.claim = run, claim
        saved = read_checkpoint(claim.checkpoint) or {"records": []}
        self.records = list(saved["records"])
        self.training: State | None = saved.get("training")
        self.failed = False
        self.files = ExitStack()

    @property
    def place(self) -> tuple[int, int] | None:
        """Where it is in its epochs, or None at the start."""
        if self.training is None:
            return None
        return self.training["epoch"], self.training["made"]

    @contextmanager
    def on_its_own(self) -> Iterator[None]:
        """Keep what goes wrong with its files to this member."""
        try:
            yield
        except Exception:  # noqa: BLE001  (kept and shown; the other members go on)
            self.failed = True
            self.claim.fail(traceback.format_exc())

    def open(self, files: ExitStack) -> None:
        """Open its metrics until it ends, or ``files`` are closed."""
        files.push(self.files)
        self.metrics = self.files.enter_context(self.claim.metrics(self.records))

    def note(self, record: EpochRecord) -> None:
        """Add an epoch's line."""
        self.records.append(append(self.metrics, record))

    def finish(self, found: Json) -> None:
        """Declare it finished; its time is its share of the stack's."""
        self.files.close()
        seconds = sum(record["seconds"] for record in self.records)
        self.claim.finish(outcome(self.run, self.records, seconds, STACKED, found))

    def keep(self, training: State) -> None:
        """Write its checkpoint."""
        write_checkpoint(self.claim.checkpoint, {"records": self.records, "training": training})
        self.claim.got_further()


def train_ensemble(
    claims: Sequence[tuple[Run, Claim]], data_dir: Path | None, checkpoint_seconds: float
) -> None:
    """Train claimed runs that stack, those first whose checkpoints are at one step.

    Their numbers are the same in any company, so it does not matter that a kill between two
    checkpoints parts them.
    """
    apart: dict[tuple[int, int] | None, list[Member]] = {}
    for run, claim in claims:
        member = Member(run, claim)
        apart.setdefault(member.place, []).append(member)
    for members in apart.values():
        train_members(members, data_dir, checkpoint_seconds)


def train_members(
    members: Sequence[Member], data_dir: Path | None, checkpoint_seconds: float
) -> None:
    """Train claimed runs that are at one step of their epochs."""
    dataset = find_task(members[0].run.task).load(data_dir)
    looked = kept = time.perf_counter()

    def after_step(stack: Ensemble) -> None:
        nonlocal looked, kept
        now = time.perf_counter()
        if now - kept >= checkpoint_seconds:
            for run_id, training in stack.states().items():
                with seated[run_id].on_its_own():
                    seated[run_id].keep(training)
            kept = time.perf_counter()
        if now - looked >= GUARD_SECONDS:
            looked = now
            leave_if_alone()

    with ExitStack() as files:
        for member in members:
            with member.on_its_own():
                member.open(files)
        seated: dict[str, Any] = {m.run.id: m for m in members if not m.failed}
        if not seated:
            return
        saved = [m.training for m in seated.values() if m.training is not None]
        stack = Ensemble([m.run for m in seated.values()], dataset, saved)
        constant = constant_loss(members[0].run, dataset)
        found = {"init_hash": stack.init_hash, "constant_loss": constant}
        for run, record, last in stack.train(after_step):
            member = seated[run.id]
            if not member.failed:
                with member.on_its_own():
                    member.note(record)
                    if last:
                        member.finish(found)
            leave_if_alone()
