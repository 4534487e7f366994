"""A worker ends with its command, even in the middle of a call that takes hours."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from processes import record

from forking import Forked, wait_until
from hypergradient.study import cli
from hypergradient.study.run.locks import is_free

COMMAND = [sys.executable, "-c", "from hypergradient.study.cli import main; main()"]

OWN = """
import os, time
from hypergradient.study.tasks import Task

def busy(*_):
    with open("part", "w") as file:
        file.write(str(os.getpid()))
    os.replace("part", "busy")
    time.sleep(3600)

def own(): return Task("digits", busy)
"""

STUDY = """
title = "Busy"
tasks = ["own.py:own"]
seeds = [0]
epochs = 1
batch_size = 256
[[methods]]
names = "SGD"
grid.lr = 1e-2
"""


ARGUMENTS = ["run", "study.toml", "--out", "out", "--workers", "1"]


def start(folder):
    """Start a command as a person does: a new interpreter, which spawns its worker."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*COMMAND, *ARGUMENTS], cwd=folder, start_new_session=True, **quiet)


def be_command(folder):
    os.chdir(folder)
    sys.argv = ["hypergradient", *ARGUMENTS]
    cli.main()


def fork(folder):
    return Forked(be_command, folder)


@pytest.mark.parametrize(("number", "start"), [(signal.SIGTERM, start), (signal.SIGKILL, fork)])
def test_a_worker_in_a_long_call_ends_with_its_command(tmp_path, number, start):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "study.toml").write_text(STUDY)
    with start(tmp_path) as process:
        try:
            wait_until((tmp_path / "busy").exists)
            os.kill(process.pid, number)
            process.wait()
            (lock,) = (tmp_path / "out" / "runs").glob("*/lock")
            wait_until(lambda: is_free(lock), seconds=60)
            worker = int((tmp_path / "busy").read_text())
            wait_until(lambda: not is_running(worker), seconds=60)
        finally:
            stop(process.pid)
    record("a command that ends while its worker is in a long call", 1, 0, 0, "none")


def is_running(pid):
    """Whether a process is there, and is no zombie."""
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()[:1] not in {"", "Z"}


def stop(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
