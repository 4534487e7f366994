"""Each run of a study that has ended is logged once, from its records on the disk.

The command that waits for the workers does it. So training knows nothing of it, it does not matter
which process has trained a run, and a study that is finished can still be logged.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import as_one_line
from hypergradient.study.files import as_file_name, open_own
from hypergradient.study.log.services import WRITE, RunLog, command_to_look
from hypergradient.study.run.locks import try_lock
from hypergradient.study.status import in_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hypergradient.study.declare.run import Run
    from hypergradient.study.log.services import ServiceName
    from hypergradient.study.run.store import Store

LOOK_SECONDS = 2.0
"""The time between two looks for runs that have ended."""

LOGGED = "logged.txt"
"""The ids of the runs that were logged, in the results folder's part of a service. Its lock is held
by the one command that logs at a time."""

_NO_CURVE = {"step", "diverged_at_step", "target_step"}


class Logger:
    """Logs the runs of a study that have ended.

    Args:
        runs: The runs.
        store: Their results.
        service: Where to log them.
        complain: Called with what is wrong with the service. Training goes on without it.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        store: Store,
        service: ServiceName,
        complain: Callable[[str], None],
    ) -> None:
        self.store, self.service, self.complain = store, service, complain
        self.folder = store.folder / service.value
        self.project = as_file_name(store.folder.resolve().name)
        self.left = list(runs)
        self.logged = 0
        self._looked = time.monotonic()

    def look(self) -> None:
        """Log what has ended since the last look, if that is some time ago."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.log_ended()
            self._looked = time.monotonic()

    def log_ended(self) -> None:
        """Log each run that has ended and was not logged, unless another command is at it."""
        begun = self.store.begun() if self.left else ()
        ended = [run for run in self.left if run.id in begun and self.store.whole(run)]
        if not ended:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open_own(self.folder / LOGGED, "a+b", buffering=0) as file:
                if not try_lock(file, fcntl.LOCK_EX):
                    return
                file.seek(0)
                known = set(file.read().decode(errors="replace").split())
                for run in ended:
                    if run.id not in known:
                        WRITE[self.service](self._as_log(run), self.folder)
                        file.write(f"{run.id}\n".encode())
                        self.logged += 1
                    self.left.remove(run)
        except Exception as error:  # noqa: BLE001  (another's package: hours of training must not end by it)
            self.left = []
            self.complain(
                f"{self.service.value} does not take the runs: {as_one_line(error)}; "
                "the same command logs the others"
            )

    def _as_log(self, run: Run) -> RunLog:
        name = in_full(run)
        rows = [(int(record["step"]), numbers_of(record)) for record in self.store.records(run)]
        status = self.store.status(run) or {}
        return RunLog(
            id=run.id,
            name=name,
            folder_name=f"{as_file_name(name)[:150]}-{run.id[:6]}",
            project=self.project,
            config=config_of(run, status),
            rows=rows,
        )


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch's record by their columns, without those that are null."""
    return {
        name: value
        for name, value in record.items()
        if name not in _NO_CURVE and isinstance(value, int | float)
    }


def config_of(run: Run, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run was declared to be and how it ended: a number or a text by each name."""
    declared = run.model_dump(mode="json", exclude_none=True)
    hyper = declared.pop("hyper")
    values = hyper | declared | {"run_id": run.id, "state": status.get("state")}
    return {k: v if isinstance(v, int | float | str) else str(v) for k, v in values.items()}


@contextmanager
def logging(
    runs: Sequence[Run],
    store: Store,
    service: ServiceName | None,
    say: Callable[[str], None],
    complain: Callable[[str], None],
) -> Iterator[Callable[[], None]]:
    """Give a function that logs what has ended, to be called now and then; at the end, the rest.

    Args:
        runs: The runs of a study.
        store: Their results.
        service: Where to log them; None: nowhere.
        say: Called with what was logged, and the command that shows it.
        complain: Called with what is wrong with the service.
    """
    if service is None:
        yield lambda: None
        return
    logger = Logger(runs, store, service, complain)
    yield logger.look
    logger.log_ended()
    shown = command_to_look(service, logger.folder, logger.project)
    say(f"{logger.logged} runs logged: {shown}")
