"""The right to train a run, and the files that its holder writes."""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import one_line, printable
from hypergradient.study.files import open_own, sha256, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from hypergradient.study.train.records import EpochRecord

Json = dict[str, Any]


def to_json(content: Json) -> str:
    """Return one line of strict JSON: numbers that are not finite become null."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }
    return json.dumps(finite, allow_nan=False)


def read_json(path: Path) -> Json | None:
    """Return a JSON object, or None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # nested ten thousand deep, say
        return None
    return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class Claim:
    """The right to train a run, held by this process.

    Attributes:
        folder: The run's directory.
        deaths: How many processes were killed while they held it, since the last checkpoint.
        lock: The lock file, whose length counts the deaths: see ``Store.claim``.
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
        """Write the metrics file anew with ``records``, and give it to add more.

        When the block ends, all of it is on the disk.
        """
        with open_own(self.folder / "metrics.jsonl", "w", encoding="utf-8") as file:
            file.writelines(to_json(record) + "\n" for record in records)
            file.flush()
            yield file
            file.flush()
            os.fsync(file.fileno())

    def got_further(self) -> None:
        """Set the deaths to 0: the run has a new checkpoint, so it did get further."""
        self.lock.truncate(1)

    def finish(self, status: Json) -> None:
        """Write how the run ended. From then on it is finished, and never trained again."""
        digest = digest_of(status, (self.folder / "metrics.jsonl").read_bytes())
        write_text(self.folder / "status.json", to_json(status | {"sha256": digest}))
        self.checkpoint.unlink(missing_ok=True)

    def fail(self, traceback: str) -> None:
        """Write why the run crashed. The next command tries it again."""
        write_text(self.folder / "traceback.txt", printable(traceback))
        error = one_line((traceback.strip().splitlines() or ["no text"])[-1])
        write_text(self.folder / "status.json", to_json({"state": "failed", "error": error}))


def digest_of(status: Json, metrics: bytes) -> str:
    """Return the sha256 of a run's status and metrics, as they are on the disk."""
    rest = {key: value for key, value in status.items() if key != "sha256"}
    return sha256(to_json(rest).encode(), metrics)


def append(metrics: IO[str], record: EpochRecord) -> Json:
    """Add an epoch's line to a metrics file, and return its content.

    Other processes see the line at once.
    """
    line = to_json(record.row())
    metrics.write(line + "\n")
    metrics.flush()
    content: Json = json.loads(line)
    return content
