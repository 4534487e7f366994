"""What ``run`` keeps of a study, so that ``status`` and ``clean`` import none of its Python."""

import json
import os
import subprocess
import sys

import pytest

from forking import Forked
from hypergradient.study import cli
from hypergradient.study.declare.load import built_in_studies, first_scale, load_study, read_toml
from hypergradient.study.declare.remembered import FILE, recall, remember
from hypergradient.study.report import page
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

OWN = """
from hypergradient.study.tasks.registry import TASKS
with open("imports", "a") as log:
    log.write("imported\\n")

def own():
    return TASKS["digits-logreg"]
"""

STUDY = """
title = "Own"
tasks = ["own.py:own"]
seeds = [0]
epochs = 1
batch_size = 256
[[methods]]
names = "SGD"
grid.lr = [1e-2, 1e-1]
"""


@pytest.mark.parametrize("name", ["demo", "untuned", "iclr-curves"])
def test_a_study_is_recalled_as_it_was(name, tmp_path):
    path = built_in_studies()[name]
    study = load_study(path)
    assert study.scale == first_scale(read_toml(path).get("scale", {}))
    remember(study, path, tmp_path)
    kept = recall(path, study.scale, tmp_path)
    assert kept.model_dump() == study.model_dump()
    remember(study.on("cuda"), path, tmp_path)
    assert {run.device for run in recall(path, study.scale, tmp_path).runs()} == {"cuda"}
    assert kept.runs() == study.runs()
    assert [run.id for run in kept.runs()] == [run.id for run in study.runs()]


def test_what_has_changed_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("own.py:own", "digits-logreg"))
    study = load_study(path)
    remember(study, path, tmp_path)
    assert recall(path, None, tmp_path)
    assert recall(path, "laptop", tmp_path) is None
    (tmp_path / FILE).write_text("{")
    assert recall(path, None, tmp_path) is None
    remember(study, path, tmp_path)
    path.write_text(path.read_text().replace("seeds = [0]", "seeds = [1]"))
    assert recall(path, None, tmp_path) is None


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "0123", "0" * 15 + "/"])
def test_a_forged_id_names_no_folder(name, study_file, tmp_path):
    path = study_file()
    study = load_study(path)
    remember(study, path, tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    content["runs"][0][0] = name
    (tmp_path / FILE).write_text(json.dumps(content))
    assert recall(path, None, tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"method": "evil.py:Evil"},
        {"task": "evil.py:evil"},
        {"schedule": "evil"},
        {"device": "cuda"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_forged_run_of_other_code_is_not_believed(change, study_file, tmp_path, command):
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    path = study_file(epochs=1)
    remember(load_study(path), path, tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    content["runs"][0][1].update(change)
    (tmp_path / FILE).write_text(json.dumps(content))
    assert recall(path, None, tmp_path) is None
    (tmp_path / "runs" / "0123456789abcdef").mkdir(parents=True)
    for verb in ("status", "clean"):
        code, shown, complaint = command(verb, path, "--out", tmp_path)
        assert (code, complaint) == (0, "")
        assert "12 to do" in shown or "nothing to delete" in shown
    assert not (tmp_path / "ran").exists()


def be_run(folder):
    """Be the command that trains the study; the page is left out, as it takes long."""
    os.chdir(folder)
    page.write_report = lambda *_, **__: None
    sys.argv = ["hypergradient", "run", "study.toml", "--out", "out", "--workers", "1"]
    cli.main()


def test_status_and_clean_import_nothing_that_the_study_names(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "study.toml").write_text(STUDY)

    def call(*arguments):
        code = "import sys; from hypergradient.study.cli import main\ntry: main()\n"
        code += "finally: print('torch' in sys.modules)"
        command = [sys.executable, "-c", code, *arguments, "study.toml", "--out", "out"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        log = tmp_path / "imports"
        lines = log.read_text().splitlines() if log.exists() else []
        return done.stdout.splitlines(), len(lines)

    for command, said in (("status", "nothing was run"), ("clean", "nothing to delete")):
        shown, imports = call(command)
        assert shown[0].startswith(said)
        assert (shown[-1], imports) == ("False", 0)

    with Forked(be_run, tmp_path) as process:
        assert process.wait() == 0
    imports = len((tmp_path / "imports").read_text().splitlines())
    assert imports > 0
    for command, said in (("status", "study: 2 runs: 2 done"), ("clean", "nothing to delete")):
        shown, now = call(command)
        assert shown[0].startswith(said)
        assert (shown[-1], now) == ("False", imports)

    (tmp_path / "own.py").write_text(OWN + "# edited\n")  # other runs, that were not kept
    shown, now = call("status")
    assert shown[0] == "study: 2 runs: 2 to do"
    assert now == imports + 1


def test_results_of_before_are_read_anew(study_file, tmp_path, command):
    path, store = study_file(), Store(tmp_path / "out")
    work(load_study(path).runs()[:2], store, None)
    assert command("status", path, "--out", "out")[1] == "small: 12 runs: 2 done, 10 to do\n"
