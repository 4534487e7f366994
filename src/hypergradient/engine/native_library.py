"""The C library of the fast steps: built by the system's compiler at first use, and kept.

It lies in the user's cache folder, in a file named by source, compiler flags and machine, by the
compiler, and by its own content. What lies there runs in the person's name, so folder and file must
be the person's own: see ``_check_owner``. `HYPERGRADIENT_NATIVE=0` in the environment turns all of
it off, and steps are then eager.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")

COMPILER_SECONDS = 60.0
"""How long the compiler may take. Other processes do not wait again for one that took longer."""

RETRY_SECONDS = 86_400.0
"""After which time a compiler that took too long is tried again."""

TRIAL = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).make_pass"
"""What a child process does with a new library, as loading one can end a process."""

ONE_THREAD = ctypes.c_void_p(None)

log = logging.getLogger(__name__)


class UntrustedError(OSError):
    """The cache folder, or a file in it, can be written by somebody else."""


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
    try:
        return _load(_folder(), _compiler())
    except UntrustedError as reason:
        log.warning("steps are eager, as the C function is not safe to load: %s", reason)
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError) as reason:
        log.info("steps are eager, as the C function cannot be built: %s", reason)
    return None


def _folder() -> Path:
    """Return the cache folder, made if need be."""
    if not hasattr(os, "geteuid"):
        raise OSError("this system does not say who owns a file")
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification says to ignore it
        base = Path.home() / ".cache"
    folder = base / "hypergradient"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    _check_owner(folder)
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UntrustedError(f"anybody can replace what is in {parent}: chmod o-w {parent}")
    return folder


def _check_owner(path: Path) -> None:
    """Refuse a folder or a file that is a link, another user's, or writable by others."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise UntrustedError(f"{path} is a link: delete it")
    if found.st_uid != os.geteuid():
        raise UntrustedError(f"{path} belongs to user {found.st_uid}: delete it")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedError(f"others can write to {path}: delete it, or chmod go-w {path}")


def _compiler() -> list[str] | None:
    """Return the words of the compiler's command, its path first; None where there is none."""
    named = shlex.split(os.environ.get("CC", ""))
    if not named:
        path = shutil.which("cc") or shutil.which("gcc")
        return [path] if path else None
    path = shutil.which(named[0])
    return [path, *named[1:]] if path else None


def _load(folder: Path, compiler: list[str] | None) -> Any:
    """Load the function from a whole library of this source and machine, or build a new one.

    Where there is no compiler, a library of any compiler will do: a home folder may be shared by
    machines of which only some have one.
    """
    key = _hash(SOURCE.read_bytes() + " ".join([*FLAGS, _machine()]).encode())
    version = _compiler_version(compiler) if compiler else "*"
    for path in sorted(folder.glob(f"{key}-{version}-*.so")):
        _check_owner(path)
        if not path.stem.endswith(f"-{_hash(path.read_bytes())}"):
            continue  # torn
        try:
            return _function(path)
        except (OSError, AttributeError) as error:
            log.info("%s is built anew: %s", path, error)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    return _function(_build(folder, compiler, f"{key}-{version}"))


def _compiler_version(compiler: list[str]) -> str:
    """Return a name for a compiler and its options: another version is another file."""
    file = Path(compiler[0]).resolve()
    found = file.stat()
    return _hash(repr((str(file), found.st_size, found.st_mtime_ns, compiler)).encode())


def _build(folder: Path, compiler: list[str], name: str) -> Path:
    """Build the library, try it in a child process, and return its file.

    Raises:
        OSError: The compiler took too long, now or within the last day.
        subprocess.SubprocessError: The compiler failed, or the library cannot be loaded.
    """
    given_up = folder / f"{name}.given-up"
    if given_up.exists() and 0 <= time.time() - given_up.stat().st_mtime < RETRY_SECONDS:
        raise TimeoutError(f"{compiler[0]} took too long lately: delete {given_up} to try it again")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        part, messages = Path(made) / "native.so", Path(made) / "messages"
        try:
            _call([*compiler, *FLAGS, str(SOURCE), "-o", str(part), "-lm"], messages)
        except subprocess.TimeoutExpired:
            given_up.touch(mode=0o600)
            raise
        part.chmod(0o700)
        if sys.executable:
            _call([sys.executable, "-I", "-S", "-c", TRIAL, str(part)], messages)
        path = folder / f"{name}-{_hash(part.read_bytes())}.so"
        part.replace(path)  # at once: who finds it finds it whole
    given_up.unlink(missing_ok=True)
    return path


def _call(command: list[str], messages: Path) -> None:
    """Run a command with all its children, which end with it. What it says goes to a file.

    A pipe would not do: a child that lives on would hold it open, and this process would wait.
    """
    with messages.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = process.wait(COMPILER_SECONDS)
        except BaseException:  # Ctrl-C too
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if code:
        said = messages.read_text(encoding="utf-8", errors="replace").strip()[-500:]
        raise subprocess.SubprocessError(f"{shlex.join(command)} ended with code {code}: {said}")


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
