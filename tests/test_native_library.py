"""The C library in the cache: nobody plants one, none that cannot be loaded stays, none hangs."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypergradient.engine import native_library

pytestmark = pytest.mark.skipif(
    native_library.function() is None or not hasattr(os, "geteuid"), reason="no C compiler here"
)

NEW_PROCESS = "from hypergradient.engine.native_library import function; print(function())"


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own, with nothing in it; what is compiled into it need not be fast."""
    monkeypatch.setattr(native_library, "FLAGS", ("-O0", *native_library.FLAGS[1:]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    native_library.function.cache_clear()
    yield tmp_path / "hypergradient"
    native_library.function.cache_clear()


def again() -> object:
    native_library.function.cache_clear()
    return native_library.function()


def library_of(folder: Path) -> Path:
    (path,) = folder.glob("*.so")
    return path


def compiler(tmp_path: Path, script: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("planted", ["writable folder", "writable file", "link", "open parent"])
def test_what_others_can_write_is_not_loaded(
    cache_folder: Path, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert native_library.function() is not None
    library = library_of(cache_folder)
    if planted == "writable folder":
        cache_folder.chmod(0o777)
    elif planted == "writable file":
        library.chmod(0o722)
    elif planted == "link":
        target = library.replace(library.with_suffix(".elsewhere"))
        library.symlink_to(target)
    else:
        cache_folder.parent.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert again() is None
    assert "steps are eager, as the C function is not safe to load" in caplog.text
    cache_folder.parent.chmod(0o1777)  # as /tmp is: nobody can replace another's folder there
    assert (again() is None) is (planted != "open parent")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user_is_not_loaded(
    cache_folder: Path, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert native_library.function() is not None
    theirs = cache_folder if what == "folder" else library_of(cache_folder)
    if os.geteuid() == 0:
        os.chown(theirs, 12345, 12345)
    else:
        lstat, inode = Path.lstat, theirs.stat().st_ino

        def of_another(path: Path) -> os.stat_result:
            found = list(lstat(path))
            if found[1] == inode:
                found[4] += 1
            return os.stat_result(found)

        monkeypatch.setattr(Path, "lstat", of_another)
    assert again() is None
    assert "belongs to user" in caplog.text


def test_libraries_are_not_writable_by_the_group_whatever_the_umask(cache_folder: Path) -> None:
    before = os.umask(0o000)
    try:
        assert native_library.function() is not None
    finally:
        os.umask(before)
    for path in (cache_folder, library_of(cache_folder)):
        assert path.stat().st_mode & 0o077 == 0


def test_a_relative_cache_home_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert again() is not None
    assert not (tmp_path / "relative").exists()
    assert not cache_folder.exists()
    assert library_of(tmp_path / "home" / ".cache" / "hypergradient")


def test_another_compiler_is_another_library(
    cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cc = compiler(tmp_path, 'exec cc "$@"')
    monkeypatch.setenv("CC", cc)
    assert again() is not None
    os.utime(cc, (0, 0))  # another version of it
    assert again() is not None
    monkeypatch.setenv("CC", f"{cc} -DOPTION")
    assert again() is not None
    compilers = {path.stem.split("-")[1] for path in cache_folder.glob("*.so")}
    assert len(compilers) == 3


def test_without_a_compiler_a_library_of_any_will_do(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native_library.function() is not None
    monkeypatch.setenv("CC", "no-such-compiler")
    assert again() is not None
    library_of(cache_folder).unlink()
    assert again() is None


SANITIZED = "cc -fsanitize=address"


def sanitizer_missing() -> bool:
    command = [*SANITIZED.split(), "-x", "c", "-", "-o", "/dev/null"]
    program = "int main(void) { return 0; }"
    try:
        done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    except OSError:
        return True
    return done.returncode != 0


@pytest.mark.skipif(sanitizer_missing(), reason="no address sanitizer here")
def test_a_library_that_ends_its_process_harms_no_process(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading what the sanitizer built ends a process that was not started with its runtime."""
    monkeypatch.setenv("CC", SANITIZED)
    mine = subprocess.run([sys.executable, "-c", NEW_PROCESS], capture_output=True, check=False)
    assert (mine.returncode, mine.stdout.strip()) == (0, b"None")
    assert not list(cache_folder.glob("*.so"))
    monkeypatch.delenv("CC")
    assert again() is not None


@pytest.mark.parametrize("code", ["not a library", "int other(void) { return 1; }"])
def test_a_library_that_cannot_be_used_is_built_again(
    cache_folder: Path, tmp_path: Path, code: str
) -> None:
    assert native_library.function() is not None
    library = library_of(cache_folder)
    name = library.stem.rpartition("-")[0]
    whole = library.read_bytes()
    library.unlink()
    if code.startswith("int"):
        (tmp_path / "other.c").write_text(code)
        made = tmp_path / "other.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", str(tmp_path / "other.c"), "-o", str(made)], check=True
        )
        content = made.read_bytes()
    else:
        content = code.encode()
    bad = cache_folder / f"{name}-{native_library._hash(content)}.so"
    bad.write_bytes(content)
    bad.chmod(0o700)
    assert again() is not None
    assert library.read_bytes() == whole


def test_a_compiler_that_hangs_costs_its_time_once_and_its_children_end(
    cache_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The child holds the compiler's output open, as a compiler's own parts do."""
    child = tmp_path / "child"
    calls = tmp_path / "calls"
    script = f"echo call >> {calls}\nsleep 600 &\necho $! > {child}\nwait"
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    monkeypatch.setattr(native_library, "COMPILER_SECONDS", 0.5)
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        assert again() is None
    assert time.monotonic() - began < 60
    deadline = time.monotonic() + 60
    while is_running(int(child.read_text())):
        assert time.monotonic() < deadline, "the compiler's child lives on"
        time.sleep(0.01)
    with caplog.at_level(logging.INFO):
        assert again() is None  # as another process would ask
    assert "took too long lately: delete" in caplog.text
    assert calls.read_text().count("call") == 1
    (given_up,) = cache_folder.glob("*.given-up")
    os.utime(given_up, (1, 1))  # long ago
    assert again() is None
    assert calls.read_text().count("call") == 2


def is_running(pid: int) -> bool:
    """Whether a process is there and not a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
