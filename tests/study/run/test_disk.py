"""A disk that is full or read-only: one clear line, earlier results intact, and then it goes on."""

import os
import resource
import subprocess
import time
from contextlib import contextmanager

import pytest
from processes import Ledger, numbers, record

from forking import Forked
from hypergradient.study.declare.load import load_study
from hypergradient.study.errors import StudyError
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work


@contextmanager
def mounted(*arguments):
    """Mount something for a while, or skip the test where that is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount is not possible here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)):
        yield place


def fill(disk, leaving):
    """Leave so many bytes of a disk, or a little less."""
    with (disk / "filler").open("wb", buffering=0) as file:
        state = os.statvfs(disk)
        file.write(b"x" * max(0, state.f_bavail * state.f_frsize - leaving))


@pytest.fixture
def undisturbed(small, tmp_path):
    store = Store(tmp_path / "undisturbed")
    work(small.runs(), store, None)
    return store


def complaint(action):
    with pytest.raises(StudyError) as error:
        action()
    return str(error.value)


@pytest.mark.parametrize("room", [0, 8192, 16384])
def test_a_full_disk(small, small_disk, undisturbed, room):
    runs, store = small.runs(), Store(small_disk / "out")
    work(runs[:3], store, None)
    ledger = Ledger(store, runs)
    ledger.look()
    fill(small_disk, room)
    said = complaint(lambda: execute(runs, store, workers=1))
    assert said.startswith(f"cannot write to {store.folder}: No space left on device; ")
    assert said.endswith("put that right, and the same command resumes")
    ledger.look()
    assert len(ledger.before) >= 3
    (small_disk / "filler").unlink()
    work(runs, store, None)
    ledger.look()
    assert ledger.lost == ledger.repeated == 0
    assert numbers(store, runs) == numbers(undisturbed, runs)
    record("a full disk", 1, 0, 0, "cannot write to DIR: No space left on device; ...")


def test_a_full_disk_when_the_tables_are_written(small, study_file, small_disk, command):
    store, path = Store(small_disk / "out"), study_file()
    work(small.runs(), store, None)
    fill(small_disk, 4096)
    code, _, said = command("report", path, "--out", store.folder)
    assert code == 2
    assert said.startswith("cannot write to ")
    assert "No space left on device" in said
    assert len(said.splitlines()) == 1
    assert not [*store.folder.glob("*.partial")]
    assert store.missing(small.runs()) == []
    record("a full disk, as tables are written", 1, 0, 0, "cannot write to FILE: No space left ...")


def be_limited(study, out, kept, said):
    """Train where no file may grow beyond some size, as under a quota; note what was said."""
    runs, store = load_study(study).runs(), Store(out)
    work(runs[:kept], store, None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
    try:
        execute(runs, store, workers=1)
    except StudyError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.write_text(str(error))


def test_a_file_that_may_not_grow(small, study_file, tmp_path, undisturbed):
    runs, store, said = small.runs(), Store(tmp_path / "out"), tmp_path / "said"
    with Forked(be_limited, study_file(epochs=2), store.folder, 3, said) as process:
        process.wait()
    assert said.read_text().startswith(f"cannot write to {store.folder}: File too large; ")
    ledger = Ledger(store, runs)
    ledger.look()
    assert len(ledger.before) == 3
    work(runs, store, None)
    ledger.look()
    assert ledger.lost == ledger.repeated == 0
    assert numbers(store, runs) == numbers(undisturbed, runs)
    record("a file size limit", 1, 0, 0, "cannot write to DIR: File too large; ...")


def test_a_read_only_folder(small, study_file, tmp_path, command):
    """Nothing can be trained or reported; all can be read."""
    out, path = tmp_path / "out", study_file()
    runs, store = small.runs(), Store(out)
    work(runs[:3], store, None)
    (store.folder_of(runs[2]) / "status.json").unlink()
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with mounted("--bind", str(out), str(out)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(out)], check=True)
        for name in ("run", "report"):
            code, _, said = command(name, path, "--out", out)
            assert code == 2
            assert said == f"cannot write to {out}: Read-only file system; choose another --out\n"
        code, shown, said = command("status", path, "--out", out)
        assert (code, shown, said) == (0, "small: 12 runs: 2 done, 10 to do\n", "")
        assert store.missing(runs) == runs[2:]
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    record("a read-only folder", 1, 0, 0, "cannot write to DIR: Read-only file system; ...")


def jumping(seed):
    """A clock that stands still or jumps back at each look."""
    now = [float(seed)]

    def look():
        now[0] -= 3600.0
        return now[0]

    return look


def be_out_of_time(study, out):
    time.time = jumping(2_000_000_000)
    time.time_ns = lambda: int(time.time() * 1e9)
    execute(load_study(study).runs(), Store(out), workers=2, checkpoint_seconds=0.0)


def test_a_clock_that_jumps_backwards(small, study_file, tmp_path, undisturbed):
    """An hour at each look, in the command and in its workers: nobody looks at that clock."""
    runs, store = small.runs(), Store(tmp_path / "out")
    with Forked(be_out_of_time, study_file(), store.folder) as process:
        assert process.wait() == 0
    assert store.missing(runs) == []
    assert numbers(store, runs) == numbers(undisturbed, runs)
    assert all(line["seconds"] >= 0 for run in runs for line in store.records(run))
    assert all(store.status(run)["wall_seconds"] > 0 for run in runs)
    record("a clock that jumps backwards", 1, 0, 0, "none: the study goes on")
