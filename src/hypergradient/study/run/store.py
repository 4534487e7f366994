"""Results on disk: one directory a run id, never half-written and safe against kill -9.

A run's directory ``runs/ID/`` has these files:

- ``run.json``: the run.
- ``metrics.jsonl``: a line for each epoch, added while the run is trained.
- ``checkpoint.pt``: the last checkpoint of a longer run (see ``checkpoint``), removed at its end.
- ``status.json``: how the run ended, with the sha256 of status and metrics. It is renamed into
  place: a run is finished when this file is there.
- ``traceback.txt``: why a run failed.
- ``lock``: the process that trains the run holds it. The operating system frees it when that
  process dies, however it dies.

A file that is found damaged is kept as ``NAME.damaged``, and the run is trained anew.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hypergradient.study.errors import StudyError
from hypergradient.study.files import DAMAGED, open_own, quarantine, write_text
from hypergradient.study.run.claim import Claim, Json, digest_of, read_json
from hypergradient.study.run.locks import is_free, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from hypergradient.study.declare.run import Run


FILES = ("run.json", "metrics.jsonl", "checkpoint.pt", "status.json", "traceback.txt")
"""The files of a run, beside its lock. ``clean`` deletes these and their copies, and no others."""


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

    def begun(self) -> set[str]:
        """Return the ids of all runs in the folder, of this study or another; it is listed once."""
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.folder / "runs") as entries,
        ):
            return {entry.name for entry in entries}
        return set()

    def finished(self, run: Run) -> bool:
        """Return whether the run has ended: done, diverged or failed."""
        return (self.folder_of(run) / "status.json").exists()

    def status(self, run: Run) -> Json | None:
        """Return how the run ended, or None if it has not."""
        return read_json(self.folder_of(run) / "status.json")

    def records(self, run: Run) -> list[Json]:
        """Return the run's epochs, without a last line that a killed process left torn.

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
            except (ValueError, RecursionError) as error:
                if number < len(lines):
                    raise StudyError(
                        f"{path}: line {number} is damaged; delete the file"
                    ) from error
        return records

    def epochs_seen(self, run: Run) -> int:
        """Return how many epochs a run that is being trained has finished."""
        with suppress(OSError):
            return max(0, (self.folder_of(run) / "metrics.jsonl").read_bytes().count(b"\n") - 1)
        return 0

    def written_at(self, run: Run) -> float:
        """Return when the run's last epoch was written, in seconds; 0 if none was."""
        with suppress(OSError):
            return (self.folder_of(run) / "metrics.jsonl").stat().st_mtime
        return 0.0

    def leftovers(self, run: Run) -> dict[str, list[Path]]:
        """Return the files of a run that nobody needs, by the reason why.

        There are none while the run is being trained, nor where its directory is a link.
        """
        folder = self.folder_of(run)
        if folder.is_symlink() or not folder.is_dir() or not self.idle(run):
            return {}
        return self._unneeded(run)

    def _unneeded(self, run: Run) -> dict[str, list[Path]]:
        """Return the files of a run that nobody needs, if no process trains it now."""
        files = [path for path in self.folder_of(run).iterdir() if _is_of_a_run(path.name)]
        condition = self.ending(run) if self.finished(run) else "unfinished"
        if condition in {"failed", "damaged", "unfinished"}:
            return {condition: files} if files else {}
        spare = [path for path in files if path.suffix in {".pt", ".partial", DAMAGED}]
        return {"done, with spare files": spare} if spare else {}

    def remove(self, run: Run, files: Iterable[Path]) -> list[Path]:
        """Remove files that ``leftovers`` returned, if they still are leftovers.

        A run that is being trained, or was finished since, keeps what it needs. The lock file stays
        for others. A link is removed, not what it points to.

        Returns:
            The folders that are in a file's place. They are not removed.
        """
        folders = []
        with self.lock(run) as lock:
            if lock:
                now = {path for paths in self._unneeded(run).values() for path in paths}
                there = sorted(now.intersection(files), key=lambda path: path.name != "status.json")
                for path in there:
                    if path.is_dir() and not path.is_symlink():
                        folders.append(path)
                    else:
                        path.unlink(missing_ok=True)
                if there and not self.finished(run):
                    lock.truncate(0)
        return folders

    def condition(self, run: Run) -> str:
        """Return "done", "diverged", "failed", "damaged", "training" or "to do"."""
        if not self.finished(run):
            return "to do" if self.idle(run) else "training"
        return self.ending(run)

    def ending(self, run: Run) -> str:
        """Return how a run has ended: "done", "diverged", "failed" or "damaged"."""
        status = self.status(run)
        state = str((status or {}).get("state"))
        if status is None or state not in {"done", "diverged", "failed"}:
            return "damaged"
        return state if state == "failed" or self.intact(run, status) else "damaged"

    def intact(self, run: Run, status: Json) -> bool:
        """Return whether a run's status and epochs are, to the byte, what its worker wrote."""
        with suppress(OSError, StudyError):
            if "sha256" in status:
                metrics = (self.folder_of(run) / "metrics.jsonl").read_bytes()
                return bool(status["sha256"] == digest_of(status, metrics))
            # An earlier version wrote no sha256.
            return len(self.records(run)) == status.get("records")
        return False

    def conditions(self, runs: Iterable[Run]) -> dict[str, str]:
        """Return the condition of each run by its id, and "other" of runs of other studies."""
        begun = self.begun()
        return dict.fromkeys(begun, "other") | {
            run.id: self.condition(run) if run.id in begun else "to do" for run in runs
        }

    def quarantined(self) -> list[Path]:
        """Return the damaged files of runs that are kept under another name."""
        return sorted((self.folder / "runs").glob(f"*/*{DAMAGED}"))

    def versions(self, runs: Iterable[Run]) -> list[str]:
        """Return the versions of torch that trained these runs."""
        return sorted({str((self.status(run) or {}).get("torch")) for run in runs})

    def whole(self, run: Run) -> bool:
        """Return whether the run is done or diverged, and its files are not damaged."""
        return self.finished(run) and self.ending(run) in {"done", "diverged"}

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Return the runs to train: those that are not finished, have failed, or are damaged."""
        begun = self.begun()
        return [run for run in runs if run.id not in begun or not self.whole(run)]

    def reopen(self, run: Run) -> None:
        """Let a run that failed or is damaged be trained again, unless it is being trained.

        Damaged files are kept under another name.
        """
        if not self.finished(run):
            return
        with self.lock(run) as lock:
            if lock and self.finished(run) and (how := self.ending(run)) in {"failed", "damaged"}:
                lock.truncate(0)
                status = self.folder_of(run) / "status.json"
                if how == "damaged":
                    quarantine(self.folder_of(run) / "metrics.jsonl")
                    quarantine(status)
                status.unlink(missing_ok=True)

    def refuse_link(self, run: Run) -> None:
        """Raise a ``StudyError`` if the run's directory is a link: nothing is written through it.

        The results folder itself may be one.
        """
        if (folder := self.folder_of(run)).is_symlink():
            raise StudyError(f"{folder} is a link where a folder should be: delete the link")

    def idle(self, run: Run) -> bool:
        """Return whether no process is training the run. Nothing is written."""
        return is_free(self.folder_of(run) / "lock")

    def deaths(self, run: Run) -> int:
        """Return how many processes of an idle run were killed since its last checkpoint."""
        with suppress(OSError):
            return (self.folder_of(run) / "lock").stat().st_size
        return 0

    @contextmanager
    def lock(self, run: Run) -> Iterator[IO[bytes] | None]:
        """Hold the run's lock while the block runs, or give None if another process holds it."""
        folder = self.folder_of(run)
        self.refuse_link(run)
        folder.mkdir(parents=True, exist_ok=True)
        with open_own(folder / "lock", "ab", buffering=0) as lock:
            yield lock if try_lock(lock, fcntl.LOCK_EX) else None

    @contextmanager
    def claim(self, run: Run) -> Iterator[Claim | None]:
        """Claim a run for this process, or give None if it is finished or another process has it.

        The lock file's length counts the claims that ended with the death of their process. The
        claim adds a byte first, and removes it when the block ends in any other way.
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
            try:
                write_text(folder / "run.json", json.dumps(run.model_dump(mode="json"), indent=1))
                # Writing made NFS fetch what others wrote; without it, the look above can be stale.
                yield None if self.finished(run) else Claim(folder, deaths, lock)
            finally:
                lock.truncate(0)


def _is_of_a_run(name: str) -> bool:
    """Return whether a run has a file of that name, or a copy of it that was kept or left."""
    return name in FILES or any(
        name.startswith(f"{file}.") and name.endswith((DAMAGED, ".partial")) for file in FILES
    )
