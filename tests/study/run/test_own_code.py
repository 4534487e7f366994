"""A person's own code that ends, or raises what cannot be written, costs its own runs only."""

import signal
import sys

import pytest
from processes import record

from hypergradient.study.declare.load import load_study
from hypergradient.study.import_by_name import import_object, source_hash
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.status import failures
from hypergradient.study.tasks.data.load import load_data

OWN = """
import os
import sys
from hypergradient.study.tasks import Task
from hypergradient.study.tasks.registry import TASKS

class Ending(BaseException): pass

class Wordless(Exception):
    def __str__(self): raise ValueError

def bad(*_):
    {statement}

def own(): return Task({dataset}, {network}, (64, 10))
"""

STUDY = """
title = "Own"
tasks = ["own.py:own", "digits-logreg"]
seeds = [0]
epochs = 1
batch_size = 256
[[methods]]
names = "SGD"
grid.lr = [1e-2, 1e-1]
"""

ENDS = {
    "exit": "sys.exit(3)",
    "exit-well": "sys.exit(0)",
    "interrupt": "raise KeyboardInterrupt",
    "other": "raise Ending('no more')",
    "surrogate": r"raise ValueError('caf\udce9')",
    "wordless": "raise Wordless",
    "escapes": r"raise ValueError('\x1b[2Jgone')",
    "exit-at-once": "os._exit(1)",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for cached in (import_object, source_hash, load_data):
        cached.cache_clear()
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def write(folder, statement, dataset='"digits"', network="bad"):
    (folder / "own.py").write_text(
        OWN.format(statement=statement, dataset=dataset, network=network)
    )


@pytest.mark.parametrize("end", ["exit", "exit-at-once"])
def test_a_network_that_ends_its_process_does_not_end_the_study(folder, end):
    write(folder, ENDS[end])
    runs, store = load_study(folder / "study.toml").runs(), Store(folder / "out")
    execute(runs, store, workers=1)
    states = {run.task: store.condition(run) for run in runs}
    assert states == {"own.py:own": "failed", "digits-logreg": "done"}
    record("a task that ends its process", 1, 0, 0, "failed: RUN: SystemExit: 3 (see FILE)")


@pytest.mark.parametrize("end", sorted(ENDS.keys() - {"exit-at-once"}))
def test_what_a_network_raises_fails_its_runs_alone(folder, end, monkeypatch):
    """In a process that ignores Ctrl-C, as workers do."""
    write(folder, ENDS[end])
    runs, store = load_study(folder / "study.toml").runs(), Store(folder / "out")
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    work(runs, store, None)
    states = {run.task: store.condition(run) for run in runs}
    assert states == {"own.py:own": "failed", "digits-logreg": "done"}
    lines = list(failures(store, runs))
    assert len(lines) == 2
    for line in lines:
        assert line.isascii()
        assert line.isprintable()


def test_a_file_that_is_broken_while_a_study_runs_fails_its_runs_alone(folder):
    write(folder, "pass", network='"mlp"')
    runs, store = load_study(folder / "study.toml").runs(), Store(folder / "out")
    assert store.missing(runs) == runs  # they have their ids now
    (folder / "own.py").write_text("sys.exit(")
    import_object.cache_clear()
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    work(runs, store, None)
    states = {run.task: store.condition(run) for run in runs}
    assert states == {"own.py:own": "failed", "digits-logreg": "done"}
    assert "SyntaxError" in store.status(runs[0])["error"]


def test_ctrl_c_ends_a_process_that_does_not_ignore_it(folder):
    write(folder, ENDS["interrupt"])
    runs, store = load_study(folder / "study.toml").runs(), Store(folder / "out")
    with pytest.raises(KeyboardInterrupt):
        work(runs, store, None)


BEFORE = [
    *(("dataset", end) for end in ("exit-well", "surrogate", "wordless")),
    *(("function", end) for end in ("exit", "surrogate")),
    *(("module", end) for end in ("exit-well", "escapes")),
    *(("network", end) for end in ("exit-well", "escapes")),
]


@pytest.mark.parametrize(("where", "end"), BEFORE)
def test_what_raises_before_the_training_is_one_line(folder, command, where, end):
    write(folder, ENDS[end], network='"mlp"')
    if where == "dataset":
        write(folder, ENDS[end], dataset="bad", network='"mlp"')
    elif where == "network":
        write(folder, ENDS[end])
    else:
        text = (folder / "own.py").read_text()
        call = "\nbad()\n" if where == "module" else "\ndef own(): bad()\n"
        (folder / "own.py").write_text(text + call)
    code, shown, complaint = command("plan" if where == "network" else "run", "study.toml")
    assert code == 2
    (line,) = complaint.splitlines()
    assert "raises" in line or "cannot import own.py" in line
    assert line.isprintable()
    assert line.isascii()
    assert "Traceback" not in shown
