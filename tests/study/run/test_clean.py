"""Cleaning deletes what nobody needs: never a result, a stranger's file, or what a link names."""

import os

import pytest
from processes import record

from hypergradient.study import cli
from hypergradient.study.errors import StudyError
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out")


def leave_unfinished(store, run):
    work([run], store, None)
    (store.folder_of(run) / "status.json").unlink()


def test_a_run_that_is_finished_while_clean_asks_is_kept(
    small, store, study_file, command, monkeypatch
):
    run = small.runs()[0]
    leave_unfinished(store, run)
    monkeypatch.setattr(cli.typer, "confirm", lambda _: work([run], store, None) or True)
    _, shown, _ = command("clean", study_file(), "--out", store.folder)
    assert shown.startswith("unfinished: 1 runs, 2 files")
    assert store.whole(run)
    record("a run that is finished while clean asks", 1, 0, 0, "none: it is kept")


def test_a_failed_run_that_another_command_has_begun_anew_is_kept(small, store):
    run = small.runs()[0]
    with store.claim(run) as claim:
        claim.fail("ValueError: no luck")
    listed = store.leftovers(run)["failed"]
    store.reopen(run)
    work([run], store, None)
    assert store.remove(run, listed) == []
    assert store.whole(run)


def test_only_files_that_a_run_has_are_deleted(small, store, study_file, command):
    run = small.runs()[0]
    leave_unfinished(store, run)
    folder = store.folder_of(run)
    mine = {"notes.txt", "status.json.old", "model.pt"}
    for name in mine:
        (folder / name).write_text("a person's own")
    for name in ("metrics.jsonl.damaged", "status.json.host.1.partial", "checkpoint.pt"):
        (folder / name).write_text("left")
    command("clean", study_file(), "--out", store.folder, "--yes")
    assert {path.name for path in folder.iterdir()} == mine | {"lock"}


def test_a_link_in_a_file_s_place_is_deleted_and_what_it_names_is_not(small, store, tmp_path):
    run = small.runs()[0]
    leave_unfinished(store, run)
    target = tmp_path / "target"
    target.write_text("mine")
    place = store.folder_of(run) / "checkpoint.pt"
    place.symlink_to(target)
    store.remove(run, store.leftovers(run)["unfinished"])
    assert target.read_text() == "mine"
    assert not place.is_symlink()


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "run.json", "run.json.partial"])
def test_nothing_is_written_through_a_link(small, store, tmp_path, name):
    """The lock was emptied, and metrics were written to where the link leads."""
    run = small.runs()[0]
    target = tmp_path / "target"
    target.write_text("mine")
    folder = store.folder_of(run)
    folder.mkdir(parents=True)
    if name == "run.json.partial":
        name = f"run.json.{os.uname().nodename}.{os.getpid()}.partial"
    (folder / name).symlink_to(target)
    if name == "lock":
        with pytest.raises(StudyError, match="lock is a link where a file should be"):
            work([run], store, None)
    else:
        work([run], store, None)
        assert store.whole(run) is (name != "metrics.jsonl")
        failed = "metrics.jsonl is a link where a file should be: delete the link"
        assert store.whole(run) or failed in store.status(run)["error"]
    assert target.read_text() == "mine"
    record("a link in place of a run's file", 1, 0, 0, "FILE is a link where a file should be: ...")


def test_a_directory_of_a_run_that_is_a_link_is_told_and_left(
    small, store, study_file, command, tmp_path
):
    run = small.runs()[0]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("metrics.jsonl", "checkpoint.pt"):
        (elsewhere / name).write_text("mine")
    (store.folder / "runs").mkdir(parents=True)
    store.folder_of(run).symlink_to(elsewhere)
    _, shown, _ = command("clean", study_file(), "--out", store.folder, "--yes")
    assert shown.startswith("nothing to delete")
    with pytest.raises(StudyError, match="is a link where a folder should be: delete the link"):
        execute([run], store, workers=1)
    with pytest.raises(StudyError, match="is a link where a folder should be: delete the link"):
        store.remove(run, [])
    assert {path.name for path in elsewhere.iterdir()} == {"metrics.jsonl", "checkpoint.pt"}
    assert {path.read_text() for path in elsewhere.iterdir()} == {"mine"}


def test_a_folder_in_a_file_s_place_is_a_clear_line(small, store, study_file, command):
    run, other = small.runs()[:2]
    leave_unfinished(store, run)
    (store.folder_of(run) / "checkpoint.pt").mkdir()
    (store.folder_of(other) / "lock").mkdir(parents=True)
    code, _, complaint = command("status", study_file(), "--out", store.folder)
    said = "is a folder where a file should be: move the folder away\n"
    assert (code, complaint) == (2, f"{store.folder_of(other) / 'lock'} {said}")
    (store.folder_of(other) / "lock").rmdir()
    code, shown, complaint = command("clean", study_file(), "--out", store.folder, "--yes")
    assert (code, complaint) == (0, "")
    assert shown.endswith(f"{store.folder_of(run) / 'checkpoint.pt'} {said}")
    assert {path.name for path in store.folder_of(run).iterdir()} == {"lock", "checkpoint.pt"}
