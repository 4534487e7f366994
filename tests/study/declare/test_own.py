"""A person's own task and optimizer, from files of theirs, without touching the package."""

import hashlib
import sys
from pathlib import Path

import pytest

from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.study import Study
from hypergradient.study.errors import StudyError
from hypergradient.study.import_by_name import import_object, source_hash
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store

OWN = """
import numpy as np
import torch

from hypergradient.study import Data, Task


def load(folder):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(100, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    return Data(x[:80], y[:80], x[80:], y[80:])


def quadrants():
    return Task(dataset=load, network=lambda: torch.nn.Linear(2, 2))


def on_digits():
    return Task(dataset="digits", network="mlp", arguments=(64, 5, 10))


class Sign(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(group["lr"] * p.grad.sign())


def no_task():
    return 3
"""

STUDY = """
title = "Own"
tasks = ["own.py:quadrants", "own.py:on_digits"]
seeds = [0]
epochs = 3
batch_size = 16

[[methods]]
names = ["own.py:Sign", "own:Sign", "RMSprop", "torch.optim:NAdam", "SGD"]
schedule = ["constant", "cosine"]
grid = { lr = 0.01 }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own.py").write_text(OWN)
    forget()
    yield tmp_path
    forget()


def forget():
    """A new process has none of these."""
    import_object.cache_clear()
    source_hash.cache_clear()
    for name in [name for name in sys.modules if name == "own" or name.startswith("own_")]:
        del sys.modules[name]


def load(folder: Path, text: str = STUDY) -> Study:
    (folder / "study.toml").write_text(text)
    return load_study(folder / "study.toml")


def test_own_tasks_and_methods_are_trained_in_worker_processes(folder):
    runs, results = load(folder).runs(), Store(folder / "results")
    assert len(runs) == 2 * 5 * 2
    execute(runs, results, workers=1)
    assert {results.status(run)["state"] for run in runs} == {"done"}
    same = [run for run in runs if run.method.endswith(":Sign") and run.schedule == "constant"]
    by_place = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in results.records(run)]
        for run in same
        if run.task == "own.py:quadrants"
    ]
    assert by_place[0] == by_place[1]


def test_an_edited_file_is_another_run(folder):
    before = {(run.task, run.method, run.schedule): run.id for run in load(folder).runs()}
    (folder / "own.py").write_text(OWN + "# edited\n")
    forget()
    after = {(run.task, run.method, run.schedule): run.id for run in load(folder).runs()}
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


WRONG = {
    "no-file": ("own.py:quadrants", "nowhere.py:task", "cannot import nowhere.py"),
    "no-function": ("own.py:quadrants", "own.py:nothing", "there is no nothing in own.py"),
    "no-task": ("own.py:quadrants", "own.py:no_task", "which is no hypergradient.study.tasks.Task"),
    "no-module": ("own:Sign", "nowhere.at.all:Sign", "cannot import nowhere.at.all"),
    "no-class": ("own:Sign", "own:np.Sign", "there is no np.Sign in own"),
    "no-optimizer": ("own:Sign", "own:load", "own:load: "),
    "near-torch": ("RMSprop", "RMSProp", "method 'RMSProp' is not known"),
    "needs-closure": ("RMSprop", "LBFGS", "LBFGS: "),
}


@pytest.mark.parametrize(("old", "new", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_used_is_told_with_its_place(folder, old, new, said):
    with pytest.raises(StudyError) as error:
        load(folder, STUDY.replace(f'"{old}"', f'"{new}"'))
    (line,) = str(error.value).splitlines()
    assert said in line
    assert line.startswith(f"{folder / 'study.toml'}: ")


def test_weight_decay_needs_methods_that_have_it(folder):
    text = STUDY.replace("epochs = 3", "epochs = 3\nweight_decay = 0.1").replace("RMSprop", "Rprop")
    with pytest.raises(StudyError, match=r"weight_decay: Rprop has no such option"):
        load(folder, text)


BESIDE = {
    "uses_others.py": "import helper_a as a\nfrom parts_of_it import thing as b\n"
    "VALUE = a.VALUE + b.VALUE\n",
    "helper_a.py": "import helper_b\n\nVALUE = helper_b.VALUE\n",
    "helper_b.py": "VALUE = 1\n",
    "parts_of_it/__init__.py": "",
    "parts_of_it/thing.py": "VALUE = 2\n",
}


@pytest.fixture
def with_others(tmp_path, monkeypatch):
    """A file that imports others beside it, as people divide their code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in BESIDE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    forget()
    yield tmp_path
    forget()
    for name in ("helper_a", "helper_b", "parts_of_it", "parts_of_it.thing"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("with_others")
def test_a_file_imports_those_beside_it():
    assert import_object("uses_others.py:VALUE") == 3


@pytest.mark.parametrize("name", BESIDE)
def test_an_edit_of_any_of_them_makes_other_runs(with_others, name):
    before = source_hash("uses_others.py")
    source_hash.cache_clear()
    assert source_hash("uses_others.py") == before
    with (with_others / name).open("a") as file:
        file.write("# edited\n")
    source_hash.cache_clear()
    assert source_hash("uses_others.py") != before


def test_a_file_alone_has_the_hash_of_its_content(folder):
    content = (folder / "own.py").read_bytes()
    assert source_hash("own.py:Sign") == hashlib.sha256(content).hexdigest()[:16]
