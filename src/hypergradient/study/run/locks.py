"""Locks on files, which the operating system frees when their process dies."""

from __future__ import annotations

import errno
import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypergradient.study.errors import StudyError
from hypergradient.study.files import open_own

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO


def try_lock(file: IO[bytes], kind: int) -> bool:
    """Lock a file until it is closed, and return whether that was possible without waiting.

    Args:
        file: The file.
        kind: ``fcntl.LOCK_EX`` for oneself alone, or ``fcntl.LOCK_SH`` to look whether it is free.

    Raises:
        StudyError: The file system has no locks.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:  # EACCES is what NFS may answer
            return False
        raise StudyError(
            f"{file.name} cannot be locked ({error.strerror}): "
            "put the results on a file system that has flock"
        ) from error
    return True


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Make a file and hold its lock while the block runs."""
    while True:
        with open_own(path, "wb") as file:
            # It fails where another process looks at the lock, or removes the file, at this moment.
            if try_lock(file, fcntl.LOCK_EX) and path.exists():
                yield file
                return


def is_free(path: Path) -> bool:
    """Return whether no process holds a file's lock, or there is no file. Nothing is written."""
    try:
        with open_own(path, "rb") as file:
            return try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return True
