"""Downloads of files whose sha256 is known: from several mirrors, resumed, and never believed."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from hypergradient.study.errors import as_one_line
from hypergradient.study.files import DISK_ERRORS, sha256
from hypergradient.study.tasks.data.base import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

CHUNK = 1 << 16

PARTIAL_CONTENT = 206
"""HTTP's status of an answer that is a part of a file."""

SILENT_SECONDS = 30.0
"""How long a server may say nothing."""

SLOW_SECONDS, SLOW_BYTES = 60.0, 100_000
"""A server that sends fewer bytes in such a time is given up, and the next mirror is asked."""

TRIES = 3
"""How often a mirror is asked: one that breaks off goes on from where it was."""


def cache_folder(name: str) -> Path:
    """Return the folder of the user's cache for a data set."""
    return Path(platformdirs.user_cache_dir("hypergradient")) / name


def download(urls: Sequence[str], digest: str, target: Path, size: int, remedy: str) -> Path:
    """Return a file, downloaded unless it is there and right.

    What has come of an interrupted download stays in ``NAME.part``, and the next one goes on from
    there. Proxies are those of the environment (``https_proxy``, ``no_proxy``).

    Args:
        urls: Where it is to be found, in the order to try.
        digest: Its sha256.
        target: Where it goes.
        size: The most bytes that it can have: a mirror may send for ever.
        remedy: What a person can do if it cannot be downloaded.

    Raises:
        DataError: No mirror sends that file.
    """
    if is_right(target, digest):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    part = target.with_name(f"{target.name}.part")
    with part.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another command may be downloading it
        if is_right(target, digest):
            return target
        for url in urls:
            problem = fetch_whole(url, digest, file, size)
            if problem is None:
                part.replace(target)
                return target
            failures.append(f"{url}: {problem}")
    raise DataError(f"{target.name} cannot be downloaded ({'; '.join(failures)}); {remedy}")


def is_right(path: Path, digest: str) -> bool:
    """Return whether a file is there and has that sha256."""
    return path.is_file() and sha256(path.read_bytes()) == digest


def fetch_whole(url: str, digest: str, file: IO[bytes], size: int) -> str | None:
    """Complete a file from one mirror, and return None, or what is wrong with the mirror."""
    from http.client import HTTPException  # noqa: PLC0415  (only a download needs it)

    problem = "nothing"
    for _ in range(TRIES):
        resumed = file.seek(0, 2)
        try:
            fetch(url, file, size)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            problem = as_one_line(error)
            continue
        file.flush()
        file.seek(0)
        if sha256(file.read()) == digest:
            return None
        problem = "it has another content"
        file.truncate(0)
        if not resumed:  # else the first part may be another mirror's
            break
    return problem


def fetch(url: str, file: IO[bytes], size: int) -> None:
    """Add to a file what a server has of it beyond what is there.

    Raises:
        OSError: The server is not there, breaks off, or is too slow.
        HTTPException: It does not speak HTTP.
        ValueError: It sends more than the file can have.
    """
    from urllib.request import Request, build_opener  # noqa: PLC0415  (only a download needs it)

    there = file.seek(0, 2)
    # The addresses are the package's own.
    request = Request(url, headers={"Range": f"bytes={there}-"} if there else {})  # noqa: S310
    with build_opener().open(request, timeout=SILENT_SECONDS) as answer:
        if there and not resumes_at(answer, there):
            file.truncate(0)
            there = 0
        announced = answer.headers.get("Content-Length")
        began, since, got = time.monotonic(), 0, 0
        while chunk := answer.read1(CHUNK):
            got += len(chunk)
            since += len(chunk)
            if there + got > size:
                file.truncate(0)
                raise ValueError(f"it sends more than {size} bytes")
            file.write(chunk)
            if time.monotonic() - began > SLOW_SECONDS:
                if since < SLOW_BYTES:
                    raise TimeoutError(f"only {since} bytes in {SLOW_SECONDS:.0f} s")
                began, since = time.monotonic(), 0
        if announced is not None and got < int(announced):
            raise ConnectionError(f"it broke off after {got} of {announced} bytes")


def resumes_at(answer: Any, there: int) -> bool:
    """Return whether a server sends the rest that it was asked for, and not the whole file."""
    started = str(answer.headers.get("Content-Range", ""))
    return bool(answer.status == PARTIAL_CONTENT and started.startswith(f"bytes {there}-"))
