"""How a worker process ends: when it is told to, and when the command that started it is gone."""

from __future__ import annotations

import multiprocessing
import signal
from typing import Any, NoReturn

MOST_DEATHS = 3
"""A run whose process was killed this often without getting further is given up as failed."""

CHECKPOINT_SECONDS = 5.0
"""What kill -9 can cost a run."""

PATIENCE_SECONDS = 10.0
"""How long a worker may take to leave."""

GUARD_SECONDS = 0.5
"""How often a worker looks whether its parent is still there."""


def leave(*_: Any) -> NoReturn:
    """End this worker; a second signal would only interrupt the clearing up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def leave_if_alone() -> None:
    """Leave if the command that started this worker is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        leave()
