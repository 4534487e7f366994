"""A dask cluster of real processes: workers come late, leave and die, and so does the scheduler."""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from processes import Ledger, numbers, record

from forking import Forked, wait_until
from hypergradient.study.declare.load import load_study
from hypergradient.study.errors import StudyError
from hypergradient.study.extras import install
from hypergradient.study.run import dask_pool
from hypergradient.study.run.dask_worker import (
    WorkerProcess,
    WorkOrder,
    _idle,
    problem_with,
    take_idle,
    train_in_process,
)
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

DASK = [sys.executable, "-m", "dask"]


class Dask:
    """A scheduler and workers, each a process started by dask's own command line."""

    def __init__(self, folder):
        self.file = folder / "scheduler.json"
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.processes = []
        self.scheduler = None

    def start(self, *arguments):
        process = subprocess.Popen(
            [*DASK, *map(str, arguments)],
            cwd=self.folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def start_scheduler(self):
        self.file.unlink(missing_ok=True)
        self.scheduler = self.start(
            *("scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard"),
            *("--scheduler-file", self.file),
        )

    def start_worker(self, *options):
        where = f"tcp://127.0.0.1:{self.port}"
        return self.start("worker", where, "--no-nanny", "--no-dashboard", *options)

    def stop(self):
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def dask(tmp_path):
    every = Dask(tmp_path)
    yield every
    every.stop()


@pytest.fixture
def patient(monkeypatch):
    """A scheduler may take as long as a busy machine needs."""
    monkeypatch.setattr(dask_pool, "SCHEDULER_SECONDS", 240.0)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.usefixtures("patient")
def test_workers_and_the_scheduler_are_killed_at_random(dask, study_file, tmp_path):
    """Two workers, one of which comes late; two are killed, and between them the scheduler."""
    runs, store = load_study(study_file(epochs=120)).runs(), Store(tmp_path / "out")
    chance, ledger = random.Random(0), Ledger(store, runs)  # noqa: S311
    plan = ["worker", "scheduler", "worker"]
    killed, workers, mark = [], [], [0]
    dask.start_scheduler()
    workers.append(dask.start_worker("--nthreads", 1))
    wait_until(dask.file.exists)

    def fault(now):
        ledger.look()
        if now.trained <= mark[0] or len(killed) == len(plan):
            return
        time.sleep(chance.uniform(0, 0.3))
        kind = plan[len(killed)]
        killed.append(kind)
        if kind == "worker":
            kill(workers.pop(0))
        else:
            kill(dask.scheduler)
            for worker in workers:  # they leave by themselves, when they have noticed
                kill(worker)
            workers.clear()
            dask.start_scheduler()
        while len(workers) < 2:
            workers.append(dask.start_worker("--nthreads", 1))
        mark[0] = now.trained

    execute(runs, store, workers=0, cluster=str(dask.file), checkpoint_seconds=0.1, report=fault)
    ledger.look()
    assert killed == plan
    assert ledger.lost == ledger.repeated == 0
    assert store.missing(runs) == []
    undisturbed = Store(tmp_path / "undisturbed")
    work(runs, undisturbed, None)
    assert numbers(store, runs) == numbers(undisturbed, runs)
    assert not [*store.folder.glob(".*.command")]
    for kind in ("worker", "scheduler"):
        record(f"kill -9 of a dask {kind}", plan.count(kind), 0, 0, "none: the study goes on")


def be_command(study, out, scheduler):
    runs = load_study(study).runs()
    execute(runs, Store(out), workers=0, cluster=scheduler, checkpoint_seconds=0.1)


def test_the_command_is_killed_and_the_scheduler_never_comes_back(
    dask, study_file, tmp_path, monkeypatch
):
    """Its workers leave their runs and stay for the next command."""
    path, out = study_file(epochs=120), tmp_path / "out"
    runs, store = load_study(path).runs(), Store(out)
    ledger = Ledger(store, runs)

    def trained():
        return sum(store.epochs_seen(run) for run in runs)

    dask.start_scheduler()
    wait_until(dask.file.exists)
    dask.start_worker("--nthreads", 1)
    with Forked(be_command, path, out, str(dask.file)) as killed:
        wait_until(lambda: trained() > 0 or killed.poll() is not None)
        os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    wait_until(lambda: all(store.idle(run) for run in runs))
    ledger.look()
    assert store.missing(runs)

    def kill_scheduler(_):
        ledger.look()
        if trained() > before and dask.scheduler.poll() is None:
            kill(dask.scheduler)
            monkeypatch.setattr(dask_pool, "SCHEDULER_SECONDS", 2.0)  # it waits no longer for it

    before = trained()
    monkeypatch.setattr(dask_pool, "SCHEDULER_SECONDS", 20.0)
    with pytest.raises(StudyError, match=r"the dask scheduler .* is gone, with \d+ runs"):
        execute(
            runs,
            store,
            workers=0,
            cluster=str(dask.file),
            checkpoint_seconds=0.1,
            report=kill_scheduler,
        )
    wait_until(lambda: all(store.idle(run) for run in runs))
    ledger.look()
    assert ledger.lost == ledger.repeated == 0
    work(runs, store, None)
    undisturbed = Store(tmp_path / "undisturbed")
    work(runs, undisturbed, None)
    assert numbers(store, runs) == numbers(undisturbed, runs)
    record("kill -9 of a command on a cluster", 1, 0, 0, "none: the same command resumes")
    record("a scheduler that does not come back", 1, 0, 0, "the dask scheduler HOST is gone, ...")


OWN = """
from pathlib import Path
from hypergradient.study import Task
from hypergradient.study.tasks.data.sklearn_files import digits
def note(name):
    with (Path(__file__).parent / "loaded").open("a") as file:
        file.write(name + "\\n")
def first(folder):
    note("first")
    return digits(folder)
def second(folder):
    note("second")
    return digits(folder)
def one(): return Task(dataset=first, network="mlp", arguments=(64, 10))
def two(): return Task(dataset=second, network="mlp", arguments=(64, 10))
"""
TWO_TASKS = """
title = "Own"
tasks = ["own.py:one", "own.py:two"]
seeds = [0, 1, 2]
epochs = 2
batch_size = 256
[[methods]]
names = "SGD"
grid = {{ lr = [0.1] }}
"""


@pytest.fixture
def own(study_file, tmp_path, monkeypatch):
    """A study of a person's own tasks, whose paths are relative to where the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return load_study(study_file(TWO_TASKS)).runs()


def test_a_local_cluster_loads_each_data_set_once(own, tmp_path):
    store = Store(tmp_path / "out")
    execute(own, store, workers=1, cluster="local")
    assert store.missing(own) == []
    assert (tmp_path / "loaded").read_text().split() == ["first", "second"]


@pytest.mark.usefixtures("patient")
def test_a_worker_trains_one_run_a_gpu_and_may_come_late(dask, own, tmp_path, monkeypatch, capsys):
    """Of two threads and one GPU, as the worker announces it, one is used."""
    monkeypatch.setattr(dask_pool, "WORKER_SECONDS", 0.0)
    store, busy = Store(tmp_path / "out"), []
    dask.start_scheduler()
    wait_until(dask.file.exists)

    def look(_):
        busy.append(sum(not store.idle(run) for run in own))
        if len(dask.processes) == 1 and "no worker has joined" in capsys.readouterr().out:
            dask.start_worker("--nthreads", 2, "--resources", "GPU=1")

    execute(own, store, workers=0, cluster=f"127.0.0.1:{dask.port}", report=look)
    assert store.missing(own) == []
    assert max(busy) == 1
    assert (tmp_path / "loaded").read_text().split() == ["first", "second"]


@pytest.fixture
def silent():
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "--cluster 'nonsense' is not local, nor HOST:PORT, nor a scheduler file"),
        ("none.json", "--cluster 'none.json' is not local, nor HOST:PORT, nor a scheduler file"),
        ("127.0.0.1:1", "no dask scheduler answers at 127.0.0.1:1 in 1 s: is it running, "),
        ("SILENT", "no dask scheduler answers at 127.0.0.1:"),
        ("garbage.json", "no dask scheduler answers at garbage.json in 1 s: "),
        ("other.json", "no dask scheduler answers at other.json in 1 s: "),
        ("a host:8786", "--cluster 'a host:8786' is not local, "),
        ("127.0.0.1:99999999", "--cluster '127.0.0.1:99999999' is not local, "),
        ("127.0.0.1:99999", "no dask scheduler answers at 127.0.0.1:99999 in 1 s: "),
    ],
)
def test_a_bad_address_is_one_line(
    command, study_file, tmp_path, monkeypatch, silent, address, said
):
    monkeypatch.setattr(dask_pool, "SCHEDULER_SECONDS", 1.0)
    (tmp_path / "garbage.json").write_text("{")
    (tmp_path / "other.json").write_text("[1]")
    where = silent if address == "SILENT" else address
    code, _, complaint = command("run", study_file(), "--out", "out", "--cluster", where)
    assert code == 2
    assert complaint.startswith(said)
    assert len(complaint.splitlines()) == 1


def test_without_the_extra_it_is_one_line(command, study_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "hypergradient.study.run.dask_pool")
    code, _, complaint = command("run", study_file(), "--cluster", "local")
    assert code == 2
    assert complaint == f"distributed is not installed: {install('cluster')}\n"


def test_a_worker_that_is_of_no_use_says_why(own, tmp_path):
    """No shared folder, no shared locks, another version of a person's own code."""
    store = Store(tmp_path / "out")
    order = WorkOrder(store)
    assert "must be on a file system that all share" in order.refusal()
    store.folder.mkdir()
    order.place.touch()  # seen, but its lock is not
    assert "mount that file system with locks for all machines" in order.refusal()
    with order.in_force():
        assert order.refusal() is None
        other = own[0].model_copy(update={"task": "own.py:two"})
        assert other.id == own[0].id  # kept from the run it was copied from
        assert "own.py:two or SGD is another here" in problem_with([other], order)


def test_a_task_that_is_handed_out_twice_trains_nothing_twice(study_file, tmp_path):
    """Its training process may be killed, and leaves when the command ends."""
    run, store = load_study(study_file(epochs=600)).runs()[0], Store(tmp_path / "out")
    ledger, order = Ledger(store, [run]), WorkOrder(store, checkpoint_seconds=0.1)
    store.folder.mkdir()
    with order.in_force(), ThreadPoolExecutor(1) as hand:
        for _ in range(2):  # both are there, or the first may be done before the second has begun
            _idle.append(WorkerProcess(order))
            _idle[-1].train([])
        task = hand.submit(train_in_process, [run], order)
        wait_until((store.folder_of(run) / "checkpoint.pt").exists)
        train_in_process([run], order)  # at the same time: the other has the lock
        assert not store.finished(run)
        for process in multiprocessing.active_children():
            process.kill()
            process.join()  # until then it seems to be alive
        task.result()
        assert not store.finished(run)
        train_in_process([run], order)
        assert store.whole(run)
        ledger.look()
        train_in_process([run], order)
        ledger.look()
        assert (ledger.lost, ledger.repeated, len(ledger.before)) == (0, 0, 1)
    undisturbed = Store(tmp_path / "undisturbed")
    work([run], undisturbed, None)
    assert numbers(store, [run]) == numbers(undisturbed, [run])
    wait_until(lambda: not multiprocessing.active_children())
    assert take_idle(WorkOrder(store)) is None
    record("kill -9 of a dask worker's training process", 1, 0, 0, "none: the study goes on")
