"""The store: one holder a run, nothing half-written counts, null and never NaN."""

import errno
import json
import math
import multiprocessing
import os
import signal

import pytest

from hypergradient.study.errors import StudyError
from hypergradient.study.run.claim import append, to_json
from hypergradient.study.run.store import Store
from hypergradient.study.train.records import EpochRecord


def record(epoch: int, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(epoch, epoch * 6, loss, 0.5, loss, 0.5, 0.1, 0.1, 0.1, 0.01, None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture
def run(small):
    return small.runs()[0]


def train_to_end(store, run, state="done"):
    with store.claim(run) as claim:
        with claim.metrics() as metrics:
            for epoch in range(3):
                append(metrics, record(epoch))
        claim.finish({"state": state, "records": 3})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_null(value):
    line = to_json({"loss": value, "step": 3})
    assert json.loads(line, parse_constant=pytest.fail) == {"loss": None, "step": 3}


def test_a_run_trained_to_its_end_is_whole_and_not_claimed_again(store, run):
    assert store.missing([run]) == [run]
    train_to_end(store, run)
    assert store.missing([run]) == []
    assert [line["epoch"] for line in store.records(run)] == [0, 1, 2]
    assert json.loads((store.folder_of(run) / "run.json").read_text())["seed"] == run.seed
    with store.claim(run) as claim:
        assert claim is None


def test_a_claimed_run_is_refused_to_others_until_the_holder_leaves(store, run):
    with store.claim(run) as first:
        assert first is not None
        with Store(store.folder).claim(run) as second:
            assert second is None
        assert not store.idle(run)
    assert store.idle(run)
    with store.claim(run) as third:
        assert third is not None
        assert third.deaths == 0


def claim_and_die(store, run):
    with store.claim(run):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_holder_frees_its_run_and_is_counted(store, run):
    process = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=(store, run))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with store.claim(run) as claim:
        assert claim.deaths == 1
    with store.claim(run) as claim:  # the one before left in peace
        assert claim.deaths == 0


def test_a_torn_last_line_is_left_out(store, run):
    train_to_end(store, run)
    path = store.folder_of(run) / "metrics.jsonl"
    text = path.read_bytes()
    for cut in range(1, len(text.splitlines()[-1])):
        path.write_bytes(text[: -cut - 1])
        assert [line["epoch"] for line in store.records(run)] == [0, 1]


def test_damage_before_the_last_line_is_told(store, run):
    train_to_end(store, run)
    path = store.folder_of(run) / "metrics.jsonl"
    path.write_bytes(b"{\n" + path.read_bytes())
    with pytest.raises(StudyError, match=r"metrics\.jsonl: line 1 is damaged"):
        store.records(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "status.json"])
def test_a_finished_run_truncated_anywhere_is_trained_again(store, run, name):
    train_to_end(store, run)
    path = store.folder_of(run) / name
    text = path.read_bytes()
    for size in range(0, len(text) - 1, 7):
        path.write_bytes(text[:size])
        assert store.missing([run]) == [run]
        store.reopen(run)
        assert not store.finished(run)
        train_to_end(store, run)
        assert store.missing([run]) == []


def test_a_failed_run_is_kept_with_its_traceback_and_tried_by_the_next_command(store, run):
    with store.claim(run) as claim:
        claim.fail("Traceback ...\nValueError: no\n")
    assert store.status(run) == {"state": "failed", "error": "ValueError: no"}
    assert (store.folder_of(run) / "traceback.txt").read_text().startswith("Traceback")
    with store.claim(run) as claim:
        assert claim is None
    store.reopen(run)
    with store.claim(run) as claim:
        assert claim is not None


def test_reopening_leaves_whole_and_claimed_runs_alone(store, run):
    train_to_end(store, run)
    store.reopen(run)
    assert store.finished(run)
    (store.folder_of(run) / "status.json").unlink()
    with store.claim(run) as claim:
        Store(store.folder).reopen(run)
        claim.finish({"state": "done", "records": 3})
    assert store.finished(run)


def test_a_file_system_without_locks_is_told(store, run, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("hypergradient.study.run.locks.fcntl.flock", refuse)
    with (
        pytest.raises(StudyError, match="put the results on a file system that has flock"),
        store.claim(run),
    ):
        pytest.fail("claimed")


def test_looking_costs_what_has_begun_and_writes_nothing(store, small, monkeypatch):
    """Of ten thousand runs, those that nobody has begun are seen by one look at the folder."""
    runs = small.runs()
    train_to_end(store, runs[0])
    looks = []
    finished = Store.finished
    monkeypatch.setattr(Store, "finished", lambda *args: looks.append(args) or finished(*args))
    assert store.missing(runs) == runs[1:]
    assert {one.id for _, one in looks} == {runs[0].id}
    for run in runs[1:]:
        store.reopen(run)
    assert store.conditions(runs) == {runs[0].id: "done"} | {run.id: "to do" for run in runs[1:]}
    assert store.begun() == {runs[0].id}
