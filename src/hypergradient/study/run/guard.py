"""How a worker process ends: when it is told to, and when the command that started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_DEATHS = 3
"""A run whose process was killed this often without getting further is given up as failed."""

CHECKPOINT_SECONDS = 5.0
"""Time between two checkpoints: what a run loses at most when its process is killed."""

PATIENCE_SECONDS = 10.0
"""How long a worker may take to end before it is killed."""

GUARD_SECONDS = 0.5
"""Time between two looks of a worker at whether the command that started it is there."""


BROKEN = 70
"""The exit code of a worker that cannot work, for a reason that is no run's own."""


class Leaving(SystemExit):
    """This worker ends because it was told to, and not because a run called ``sys.exit``."""


def is_of_the_run(error: BaseException) -> bool:
    """Return whether an error is a crash of the run that raised it, so that the others go on.

    Ctrl-C is none, unless this process ignores it: then the run raised it itself.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return not isinstance(error, Leaving)


def leave(*_: Any) -> NoReturn:
    """End this worker. It is the handler of SIGTERM.

    From here on the signal is ignored: a second one would only interrupt the clearing up.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Leaving(0)


def parent_is_gone() -> bool:
    """Return whether the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def leave_if_alone() -> None:
    """End this worker if the command that started it is gone. Trainings call it between steps."""
    if parent_is_gone():
        leave()


def watch(gone: Callable[[], bool]) -> None:
    """Wait until nobody needs this process any more, then end it, whatever it is doing.

    It runs in a thread of its own, as a training may be in a call that takes hours.
    """
    while not gone():
        time.sleep(GUARD_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_SECONDS)
    os._exit(1)  # a signal can be lost in a destructor, or wait for the end of a call
