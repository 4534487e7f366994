"""How long a study will take: a few steps of each task and method, measured, times the runs."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypergradient.study.errors import OWN_CODE_RAISES, StudyError, as_one_line
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.devices import synchronize
from hypergradient.study.train.groups import group_runs
from hypergradient.study.train.start import start_session

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.train.session import Session

PROBE_SECONDS = 0.5

PROBE_EXAMPLES = 500
"""What a probe evaluates."""


@dataclass(frozen=True)
class Cost:
    """What the missing runs of a task and method cost.

    Attributes:
        task: The task.
        method: The method.
        runs: Their number.
        step_seconds: What one update takes, measured; a share of the stack's, where there is one.
        run_seconds: What one run takes, at most, where it ends at a loss.
        valid_seconds: What one evaluation of a run takes.
        epoch_steps: Updates in an epoch.
    """

    task: str
    method: str
    runs: int
    step_seconds: float
    run_seconds: float
    valid_seconds: float = 0.0
    epoch_steps: int = 1


def costs(missing: Iterable[Run], data_dir: Path | None) -> list[Cost]:
    """Measure what the runs cost: about a second for each task and method.

    Args:
        missing: The runs to do.
        data_dir: Where data files are.

    Raises:
        StudyError: Data are missing or damaged.
    """
    alike: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in missing:
        alike[run.task, run.method].append(run)
    measured = []
    for (task, method), some in sorted(alike.items()):
        try:
            measured.append(probe(some, data_dir))
        except StudyError:
            raise
        except OWN_CODE_RAISES as error:
            raise StudyError(f"{task} with {method} raises {as_one_line(error)}") from error
    return measured


def probe(runs: list[Run], data_dir: Path | None) -> Cost:
    """Measure what runs of one task and method cost, by the first of them, or the first stack."""
    together = group_runs(runs)[0]
    run = together[0]
    session = start_session(together, find_task(run.task).load(data_dir))
    step_seconds = seconds_of_steps(session, PROBE_SECONDS) / len(together)
    began = time.perf_counter()
    share = session.evaluate_part(PROBE_EXAMPLES)
    valid_seconds = (time.perf_counter() - began) / len(together) / share
    epochs = -(-session.total_steps // session.steps_per_epoch)
    run_seconds = session.total_steps * step_seconds + (epochs + 1) * valid_seconds
    return Cost(
        run.task,
        run.method,
        len(runs),
        step_seconds,
        run_seconds,
        valid_seconds,
        session.steps_per_epoch,
    )


def duration(every: Iterable[Cost], workers: int) -> float:
    """Return the seconds that the runs take on that many workers."""
    every = list(every)
    total = sum(cost.runs * cost.run_seconds for cost in every)
    return max([total / workers, *(cost.run_seconds for cost in every)])


def in_words(seconds: float) -> str:
    """Return a time as a person says it."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}" if length > 60 else f"{seconds / 60:.0f} min"  # noqa: PLR2004
    return f"{seconds:.0f} s"


ROUNDS = 6
"""How often steps are measured of each method in turn."""

ROUND_SECONDS = 0.1


def step_costs(runs: Iterable[Run], data_dir: Path | None) -> dict[str, dict[str, float]]:
    """Measure a step of each method, in turn, in this process.

    What else runs on the machine slows now one and now another. So the methods take turns, and the
    fastest turn of each counts.

    Args:
        runs: Runs of one task; of each method the first is measured.
        data_dir: Where data files are.

    Returns:
        By method ``step_seconds``, and ``state_bytes`` where the session knows it.
    """
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.method, run)
    sessions = {
        method: start_session([run], find_task(run.task).load(data_dir))
        for method, run in first.items()
    }
    fastest = dict.fromkeys(sessions, float("inf"))
    for _ in range(ROUNDS):
        for method, session in sessions.items():
            fastest[method] = min(fastest[method], seconds_of_steps(session, ROUND_SECONDS))
    return {
        method: session.cost() | {"step_seconds": fastest[method]}
        for method, session in sessions.items()
    }


def seconds_of_steps(session: Session, seconds: float) -> float:
    """Make steps for some seconds, and return what one takes."""
    make_step(session)  # the first allocates memory that the others reuse
    steps, began = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - began < seconds:
        make_step(session)
        steps += 1
        synchronize(session.device)
    return (time.perf_counter() - began) / steps


def make_step(session: Session) -> None:
    """Make the next step, of a new epoch where one is over."""
    if session.step_in_epoch == session.steps_per_epoch:
        session.begin_epoch(session.epoch + 1)
    session.make_step()
