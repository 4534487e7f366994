"""Results on disk: one directory a run id, never half-written and safe against kill -9.

``runs/ID/`` holds ``run.json`` (the run), ``metrics.jsonl`` (a line an epoch, appended while it
trains), ``checkpoint.pt`` of a longer run (see ``checkpoint``; removed when it ends),
``status.json`` (renamed into place when it ends: that is what finished means), ``traceback.txt``
of a run that failed, and ``lock``, held by the process that trains it: the operating system frees
it when that process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hypergradient.study import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from hypergradient.study.spec import Run
    from hypergradient.study.train import EpochRecord

Json = dict[str, Any]


def to_json(content: Json) -> str:
    """Return one line of strict JSON: numbers that are not finite become null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }
    return json.dumps(finite, allow_nan=False)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there with all its text or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> Json | None:
    """Return a JSON object, or None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class Claim:
    """The right to train a run, held by this process.

    Attributes:
        folder: The run's directory.
        deaths: How many processes were killed that held it since it last got further.
        lock: The lock file.
    """

    folder: Path
    deaths: int
    lock: IO[bytes]

    @property
    def checkpoint(self) -> Path:
        """Where the run's checkpoint is or goes."""
        return self.folder / "checkpoint.pt"

    @contextmanager
    def metrics(self, records: Iterable[Json] = ()) -> Iterator[IO[str]]:
        """Open the run's metrics with those of ``records``; on the disk when the block ends."""
        with (self.folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(to_json(record) + "\n" for record in records)
            file.flush()
            yield file
            file.flush()
            os.fsync(file.fileno())

    def got_further(self) -> None:
        """Forget the deaths before: what is saved now need not be done again."""
        self.lock.truncate(1)

    def finish(self, status: Json) -> None:
        """Declare the run finished. After this it is never trained again."""
        write_whole(self.folder / "status.json", to_json(status))
        self.checkpoint.unlink(missing_ok=True)

    def fail(self, traceback: str) -> None:
        """Keep why the run crashed; the next command tries it again."""
        write_whole(self.folder / "traceback.txt", traceback)
        error = traceback.strip().splitlines()[-1]
        write_whole(self.folder / "status.json", to_json({"state": "failed", "error": error}))


def append(metrics: IO[str], record: EpochRecord) -> Json:
    """Add an epoch's line, visible to other processes at once, and return what it says."""
    line = to_json(asdict(record))
    metrics.write(line + "\n")
    metrics.flush()
    content: Json = json.loads(line)
    return content


class Store:
    """The results in a folder, shared by any number of processes.

    Args:
        folder: The folder; a study's runs are in its ``runs``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folder_of(self, run: Run) -> Path:
        """Return the run's directory, which may not exist yet."""
        return self.folder / "runs" / run.id

    def finished(self, run: Run) -> bool:
        """Return whether the run has ended: done, diverged or failed."""
        return (self.folder_of(run) / "status.json").exists()

    def status(self, run: Run) -> Json | None:
        """Return how the run ended, or None if it has not."""
        return read_json(self.folder_of(run) / "status.json")

    def records(self, run: Run) -> list[Json]:
        """Return the run's epochs; a torn last line, of a process that was killed, is left out.

        Raises:
            StudyError: Another line is damaged.
        """
        path = self.folder_of(run) / "metrics.jsonl"
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    raise StudyError(
                        f"{path}: line {number} is damaged; delete the file"
                    ) from error
        return records

    def epochs_seen(self, run: Run) -> int:
        """Return how many epochs a run that is training has behind it."""
        with suppress(OSError):
            return max(0, (self.folder_of(run) / "metrics.jsonl").read_bytes().count(b"\n") - 1)
        return 0

    def leftovers(self, run: Run) -> dict[str, list[Path]]:
        """Return the files of a run that nobody needs, by why; none where it is being trained."""
        folder = self.folder_of(run)
        if not folder.is_dir() or not self.idle(run):
            return {}
        files = [path for path in folder.iterdir() if path.name != "lock"]
        status = self.status(run)
        if status is not None and status.get("state") == "failed":
            return {"failed": files}
        if self.finished(run) and not self.whole(run):
            return {"damaged": files}
        if not self.finished(run):
            return {"unfinished": files} if files else {}
        spare = [path for path in files if path.suffix in {".pt", ".partial"}]
        return {"done, with spare files": spare} if spare else {}

    def remove(self, run: Run, files: Iterable[Path]) -> None:
        """Remove files of a run unless it is being trained; the lock file stays for its users."""
        with self.lock(run) as lock:
            if lock:
                lock.truncate(0)
                for path in sorted(files, key=lambda path: path.name != "status.json"):
                    path.unlink(missing_ok=True)

    def whole(self, run: Run) -> bool:
        """Return whether the run is done or diverged with all its epochs readable."""
        status = self.status(run)
        if status is None or status.get("state") not in {"done", "diverged"}:
            return False
        with suppress(StudyError):
            return len(self.records(run)) == status.get("records")
        return False

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Return the runs to train: not finished, failed at an earlier time, or damaged since."""
        return [run for run in runs if not self.whole(run)]

    def reopen(self, run: Run) -> None:
        """Forget how a run ended, so that it is trained again; not one that is being trained."""
        with self.lock(run) as lock:
            if lock and not self.whole(run):
                lock.truncate(0)
                (self.folder_of(run) / "status.json").unlink(missing_ok=True)

    def idle(self, run: Run) -> bool:
        """Return whether no process is training the run."""
        if not self.folder_of(run).is_dir():
            return True
        with self.lock(run) as lock:
            return lock is not None

    def deaths(self, run: Run) -> int:
        """Return how often a run's process was killed since it got further, if it is idle."""
        with suppress(OSError):
            return (self.folder_of(run) / "lock").stat().st_size
        return 0

    @contextmanager
    def lock(self, run: Run) -> Iterator[IO[bytes] | None]:
        """Hold the run's lock file while the block runs, or give None if another process does."""
        folder = self.folder_of(run)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("ab", buffering=0) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield lock

    @contextmanager
    def claim(self, run: Run) -> Iterator[Claim | None]:
        """Claim a run for this process, or give None if it is finished or another's.

        The lock file's length is the number of claims that ended by no more than the death of
        their process: a byte is added first and removed when the block ends in any other way.
        """
        if self.finished(run):
            yield None
            return
        with self.lock(run) as lock:
            if lock is None or self.finished(run):
                yield None
                return
            deaths = os.fstat(lock.fileno()).st_size
            lock.write(b"x")
            folder = self.folder_of(run)
            write_whole(folder / "run.json", json.dumps(run.model_dump(mode="json"), indent=1))
            try:
                yield Claim(folder, deaths, lock)
            finally:
                lock.truncate(0)
