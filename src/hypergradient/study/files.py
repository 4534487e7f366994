"""Files that are there whole or not at all, and damaged ones that are kept aside."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypergradient.study.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
"""What says that nothing can be written, whoever tries: no fault of a run's own."""

DAMAGED = ".damaged"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give the path of a file to write, which takes the place of ``path`` when the block ends.

    Its name is this process's own on any machine. If the block fails, ``path`` is as it was.
    """
    partial = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there with all its text or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def quarantine(path: Path) -> None:
    """Keep a damaged file under another name, if it is there, for whoever asks what happened."""
    if path.exists():
        path.replace(path.with_name(path.name + DAMAGED))


def sha256(*parts: bytes | memoryview) -> str:
    """Return the sha256 of what ``parts`` are together, 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def cannot_write(folder: Path, number: int) -> StudyError:
    """Return what to tell a person whose disk is full, read-only or gone, by the error's number."""
    return StudyError(
        f"cannot write to {folder}: {os.strerror(number)}; what is finished is kept: "
        "put that right, and the same command resumes"
    )
