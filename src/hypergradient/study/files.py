"""Files that are written whole or not at all, and damaged files that are kept for inspection."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    import polars as pl

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
"""The errors of a disk on which nobody can write: they are no fault of a run."""

DAMAGED = ".damaged"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file, which replaces ``path`` when the block ends.

    No other process on any machine uses that name. If the block fails, ``path`` stays as it was.
    A link of either name is replaced, and what it points to stays as it was.
    """
    partial = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_own(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file of the results as ``open`` does, but never through a link.

    Raises:
        StudyError: There is a link or a folder in its place.
    """
    try:
        return open(path, mode, opener=_open_no_link, **options)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StudyError(f"{path} is a link where a file should be: delete the link") from error
        if error.errno == errno.EISDIR:
            raise StudyError(
                f"{path} is a folder where a file should be: move the folder away"
            ) from error
        raise


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o666)


def as_file_name(text: str) -> str:
    """Return a text with a "-" for all that the name of a file had better not have."""
    return re.sub(r"[^-\w.=]+", "-", text)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: it is there with all its text, or it stays as it was."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def quarantine(path: Path) -> None:
    """Rename a damaged file to ``NAME.damaged``, so that a person can look at what happened."""
    if path.exists():
        path.replace(path.with_name(path.name + DAMAGED))


def as_text(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table for a CSV file, in which no text is a formula to a spreadsheet.

    Texts that begin like one get an apostrophe before them. Numbers are as they were.
    """
    import polars as pl  # noqa: PLC0415  (most that writes files needs no tables)

    for name in (name for name, dtype in table.schema.items() if dtype == pl.String):
        text = pl.col(name)
        begins = text.str.contains(r"^[=+\-@\t\r]")
        formula = begins & text.cast(pl.Float64, strict=False).is_null()
        table = table.with_columns(pl.when(formula).then("'" + text).otherwise(text).alias(name))
    return table


def sha256(*parts: bytes | memoryview) -> str:
    """Return the sha256 of ``parts`` one after another, 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def cannot_write(folder: Path, number: int) -> StudyError:
    """Return the error that tells a person that the disk is full, read-only or gone.

    Args:
        folder: Where the results are.
        number: The operating system's number of the error.
    """
    return StudyError(
        f"cannot write to {folder}: {os.strerror(number)}; what is finished is kept: "
        "put that right, and the same command resumes"
    )
