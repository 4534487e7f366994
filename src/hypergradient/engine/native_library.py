"""The C library of the fast steps: built by the system's compiler at first use, and kept.

It lies in the user's cache folder, in a file named by source, compiler flags, machine and content.
`HYPERGRADIENT_NATIVE=0` in the environment turns it off, and steps are then eager.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")

ONE_THREAD = ctypes.c_void_p(None)

log = logging.getLogger(__name__)


class _Forks:
    """Whether this process was forked from one that had threads."""

    def __init__(self) -> None:
        self.lost_threads = False
        self._had_threads = False

    def before(self) -> None:
        try:
            self._had_threads = len(list(Path("/proc/self/task").iterdir())) > 1
        except OSError:
            self._had_threads = True

    def after_in_child(self) -> None:
        self.lost_threads = self.lost_threads or self._had_threads


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_child=_forks.after_in_child)


def threads() -> ctypes.c_void_p:
    """Return the function that sets torch's own threads to work, or null for one thread.

    A process that was forked from one with threads has none of these, and OpenMP waits for them
    for ever; so there it is one thread.
    """
    return ONE_THREAD if _forks.lost_threads else _openmp()


@cache
def _openmp() -> ctypes.c_void_p:
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):
        return ONE_THREAD


@cache
def function() -> Any:
    """Return the C function, built if need be; None where it cannot be built or is not wanted."""
    if os.environ.get("HYPERGRADIENT_NATIVE", "1") == "0":
        return None
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    try:
        return _load(_folder(), compiler)
    except (OSError, RuntimeError, subprocess.SubprocessError, AttributeError) as reason:
        log.info("steps are eager, as the C function cannot be built: %s", reason)
        return None


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "hypergradient"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _load(folder: Path, compiler: str | None) -> Any:
    """Load the function from a whole library of this source and machine, or build a new one."""
    key = _hash(SOURCE.read_bytes() + " ".join([*FLAGS, _machine()]).encode())
    for path in folder.glob(f"{key}-*.so"):
        if path.stem == f"{key}-{_hash(path.read_bytes())}":  # not torn
            return _function(path)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        part = Path(made) / "native.so"
        command = [*compiler.split(), *FLAGS, str(SOURCE), "-o", str(part), "-lm"]
        subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
        )
        path = folder / f"{key}-{_hash(part.read_bytes())}.so"
        part.replace(path)  # at once: who finds it finds it whole
    return _function(path)


def _function(path: Path) -> Any:
    function = ctypes.CDLL(str(path)).make_pass
    pointer = ctypes.c_void_p
    function.argtypes = (ctypes.c_int, ctypes.c_int64, *[pointer] * 3, ctypes.c_int, pointer)
    function.restype = ctypes.c_int
    return function


def _machine() -> str:
    """Describe what -march=native looks at: processors may share a home folder and differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.system()} {platform.machine()} {flags}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
