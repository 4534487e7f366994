"""Damaged, foreign and hostile files in a results folder: found, kept aside, trained anew, told."""

import ast
import hashlib
import io
import json
import os
import pickle
from pathlib import Path

import polars as pl
import pytest
import torch
from processes import numbers, record

import hypergradient
from forking import Forked
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import RESULTS_VERSION
from hypergradient.study.report.page import write_report
from hypergradient.study.results.collect import collect
from hypergradient.study.results.write import TABLES
from hypergradient.study.run.checkpoint import read_checkpoint, write_checkpoint
from hypergradient.study.run.claim import Claim, digest_of
from hypergradient.study.run.dask_worker import WorkOrder
from hypergradient.study.run.execute import execute
from hypergradient.study.run.guard import Leaving
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.status import in_full

DAMAGES = {
    "empty": lambda content: b"",  # noqa: ARG005
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda content: os.urandom(len(content)),
    "zeros": lambda content: bytes(len(content)),
    "a bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
}


def be_command(path, out):
    execute(load_study(path).runs(), Store(out), workers=1)


@pytest.fixture
def undisturbed(small, tmp_path):
    store = Store(tmp_path / "undisturbed")
    work(small.runs(), store, None)
    return store


def test_damaged_results_are_kept_aside_and_trained_anew(small, study_file, tmp_path, command):
    path, store, runs = study_file(), Store(tmp_path / "out"), small.runs()
    work(runs, store, None)
    before = numbers(store, runs)
    kinds = [(name, kind) for name in ("metrics.jsonl", "status.json") for kind in DAMAGES]
    spoilt, good, contents = runs[: len(kinds)], runs[len(kinds) :], []
    places = [store.folder_of(run) / name for run, (name, _) in zip(spoilt, kinds, strict=True)]
    for place, (_, kind) in zip(places, kinds, strict=True):
        contents.append(DAMAGES[kind](place.read_bytes()))
        place.write_bytes(contents[-1])
    untouched = [(store.folder_of(run) / "status.json").stat().st_mtime_ns for run in good]

    assert store.missing(runs) == spoilt
    counts, *lines = command("status", path, "--out", "out")[1].splitlines()
    assert counts == "small: 12 runs: 10 damaged, 2 done"
    assert lines == [f"damaged: {in_full(r)}: trained anew by the next command" for r in spoilt]
    table, _ = collect(small, store)
    assert table["run_id"].to_list() == [run.id for run in good]

    with Forked(be_command, path, store.folder) as process:
        assert process.wait() == 0
    assert numbers(store, runs) == before
    assert [(store.folder_of(run) / "status.json").stat().st_mtime_ns for run in good] == untouched
    kept = [place.with_name(f"{place.name}.damaged").read_bytes() for place in places]
    assert kept == contents
    counts, aside = command("status", path, "--out", "out")[1].splitlines()
    assert counts == "small: 12 runs: 12 done"
    assert aside.startswith("20 damaged files were kept aside, such as out/runs/")
    command("clean", path, "--out", "out", "--yes")
    assert not [*store.folder.rglob("*.damaged")]
    for name in ("metrics.jsonl", "status.json"):
        record(f"damaged {name}", len(DAMAGES), 0, 0, "damaged: RUN: trained anew by the next ...")


class Stop(Leaving):
    """Ends a worker's work as a signal does."""


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_kept_aside(small, tmp_path, monkeypatch, undisturbed, kind):
    run, store = small.runs()[-1], Store(tmp_path / "out")
    place = store.folder_of(run) / "checkpoint.pt"

    def stop(_):  # where a checkpoint has been written
        if store.epochs_seen(run) == 1:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Claim, "got_further", stop)
        with pytest.raises(Stop):
            work([run], store, None, checkpoint_seconds=0.0)
    content = bytearray(place.read_bytes())
    half = len(content) // 2
    content[half - 20 : half + 20] = DAMAGES[kind](bytes(content[half - 20 : half + 20]))
    place.write_bytes(content)
    work([run], store, None)
    assert numbers(store, [run]) == numbers(undisturbed, [run])
    assert place.with_name("checkpoint.pt.damaged").read_bytes() == content
    record("damaged checkpoint.pt", 1, 0, 0, "N damaged files were kept aside, such as FILE")


def test_damaged_tables_are_told_and_written_anew(study_file, command, undisturbed, monkeypatch):
    monkeypatch.setattr("hypergradient.study.report.page.write_report", lambda *_, **__: None)
    path, out = study_file(), undisturbed.folder
    command("report", path, "--out", out)
    for name in TABLES:
        place = out / name
        good = place.read_bytes()
        for damage in DAMAGES.values():
            bad = damage(good)
            place.write_bytes(bad)
            shown = command("status", path, "--out", out)[1]
            assert f"damaged: {place}: written anew by the next command\n" in shown
            command("report", path, "--out", out)
            assert place.read_bytes() == good
            assert place.with_name(f"{name}.damaged").read_bytes() == bad
    assert "4 damaged files were kept aside" in command("status", path, "--out", out)[1]
    assert len(pl.read_parquet(out / "runs.parquet")) == 12
    record(
        "damaged Parquet and CSV tables", 4 * len(DAMAGES), 0, 0, "damaged: FILE: written anew ..."
    )


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_no_pickle_is_read_from_a_results_folder(small, study_file, tmp_path, command, undisturbed):
    """Not as any of a run's files, and not where all else about a checkpoint is right."""
    mark, store, runs = tmp_path / "mark", Store(tmp_path / "out"), small.runs()
    saved = io.BytesIO()
    torch.save({"torch": str(torch.__version__), "training": Evil(mark)}, saved)
    right = saved.getvalue() + hashlib.sha256(saved.getvalue()).digest()
    plain = pickle.dumps(Evil(mark))
    hostile = [
        *(("checkpoint.pt", content) for content in (plain, saved.getvalue(), right)),
        *((name, plain) for name in ("metrics.jsonl", "status.json", "run.json", "lock")),
    ]
    for run, (name, content) in zip(runs, hostile, strict=False):
        store.folder_of(run).mkdir(parents=True)
        (store.folder_of(run) / name).write_bytes(content)
    for name in TABLES:
        (store.folder / name).write_bytes(plain)
    command("status", study_file(), "--out", "out")
    for run in runs:
        store.reopen(run)
    work(runs, store, None)
    for run in runs:
        store.reopen(run)  # the lock that says it was killed time and again
    work(runs, store, None)
    command("status", study_file(), "--out", "out")
    assert not mark.exists()
    assert numbers(store, runs) == numbers(undisturbed, runs)
    record("a pickle that runs code", len(hostile), 0, 0, "as for damaged files; it is not run")
    pickle.loads(plain)  # noqa: S301  (it would have worked)
    assert mark.exists()


def test_nothing_in_the_package_unpickles():
    for path in Path(hypergradient.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                safe = {ast.unparse(word) for word in node.keywords}
                assert called not in {"pickle.load", "pickle.loads", "joblib.load", "np.load"}
                assert called != "torch.load" or "weights_only=True" in safe, path


def test_an_edited_study_keeps_its_old_runs_apart(small, study_file, tmp_path, command):
    store, old = Store(tmp_path / "out"), small.runs()
    work(old, store, None)
    edited = study_file(epochs=3)
    shown = command("status", edited, "--out", "out")[1]
    none = "12 runs in the folder are none of the study as it is now; they are not shown\n"
    assert shown == f"small: 12 runs: 12 to do\n{none}"
    study = load_study(edited)
    work(study.runs()[:4], store, None)
    runs, epochs = collect(study, store)
    assert set(runs["epochs"]) == {3}
    assert len(epochs) == 4 * 4
    assert store.missing(old) == []
    record("a study file edited between runs", 12, 0, 0, f"N {none[3:].strip()}")


def test_runs_of_another_engine_are_not_mixed(small, tmp_path):
    """The version of the numbers is part of a run's id, and a worker of another one refuses."""
    store = Store(tmp_path / "out")
    old = [run.model_copy(update={"results_version": RESULTS_VERSION - 1}) for run in small.runs()]
    for run in old:
        run.__dict__.pop("id", None)
    work(old[:2], store, None)
    assert store.missing(old) == old[2:]
    assert store.missing(small.runs()) == small.runs()
    assert collect(small, store)[0].is_empty()
    for change, said in (
        ({"results_version": RESULTS_VERSION + 1}, "another version of hypergradient"),
        ({"torch": "1.0"}, "and the command 1.0: use the same"),
    ):
        order = WorkOrder(store, **change)
        with order.in_force():
            assert said in order.refusal()
    record(
        "runs of another results version", 2, 0, 0, "N runs in the folder are none of the study ..."
    )


def test_runs_and_checkpoints_of_another_torch(small, study_file, tmp_path, command, undisturbed):
    run = small.runs()[0]
    with undisturbed.claim(small.runs()[1]) as claim:
        assert claim is None
    status = undisturbed.status(run) | {"torch": "2.12.1"}
    metrics = (undisturbed.folder_of(run) / "metrics.jsonl").read_bytes()
    status["sha256"] = digest_of(status, metrics)
    (undisturbed.folder_of(run) / "status.json").write_text(json.dumps(status))
    shown = command("status", study_file(), "--out", undisturbed.folder)[1]
    both = f"2.12.1, {torch.__version__}"
    assert f"runs were made by several versions of torch: {both}\n" in shown

    place = tmp_path / "checkpoint.pt"
    write_checkpoint(place, {"records": []})
    assert read_checkpoint(place)["records"] == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "__version__", "2.12.1")
        assert read_checkpoint(place) is None  # its numbers might be others
    assert place.exists()
    record("runs of another torch", 1, 0, 0, "runs were made by several versions of torch: ...")


OWN = """
from hypergradient.study.tasks import Task
def evil(): return Task(dataset="digits", network="mlp", arguments=(64, 10))
"""


def test_text_is_escaped_in_the_report(study_file, tmp_path, monkeypatch):
    """In the title, the description and the name of a person's own task."""
    monkeypatch.chdir(tmp_path)
    script = "<script>alert(1)</script>"
    place = Path(f"{script}.py")  # a file in a folder, as its name has a slash
    place.parent.mkdir()
    place.write_text(OWN)
    path = study_file(
        f'title = "{script}"\ndescription = "{script}"\nsource = "{script}"\n'
        f'tasks = ["{place}:evil"]\nseeds = [0]\nepochs = 1\nbatch_size = 256\n'
        '[[methods]]\nnames = "SGD"\ngrid = {{ lr = [1e-2, 1e-1] }}\n'
    )
    study, store = load_study(path), Store(tmp_path / "out")
    work(study.runs(), store, None)
    runs, epochs = collect(study, store)
    versions = runs.with_columns(torch=pl.Series(["2.12.1", script]))
    text = write_report(study, versions, epochs, store.folder).read_text()
    assert script not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Runs were made by several versions of torch: 2.12.1 (1 runs)" in text
    record("<script> in a title, description or task", 4, 0, 0, "shown as text")
