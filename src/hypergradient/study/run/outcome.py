"""The status of a run that has been trained to its end."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.study.declare.run import Run
    from hypergradient.study.run.claim import Json


def outcome(run: Run, records: Sequence[Json], wall_seconds: float, kind: str, found: Json) -> Json:
    """Return what ``status.json`` says of a run that has been trained to its end.

    Args:
        run: The run.
        records: Its epochs.
        wall_seconds: The time that it took.
        kind: How it was trained, "stacked" or "one by one"; the column is called ``engine``.
        found: What else is known of it, by the names of the columns.
    """
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
        "engine": kind,
    }
