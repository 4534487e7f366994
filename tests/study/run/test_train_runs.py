"""Claimed runs go on from where they are, and the disk's faults are not the runs' own."""

import errno
import json

import pytest

from hypergradient.study import files
from hypergradient.study.results.collect import collect
from hypergradient.study.run import train_runs
from hypergradient.study.run.guard import Leaving
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.train.groups import group_runs


class Stop(Leaving):
    """Not an ``Exception``: nothing on the way may keep it."""


def numbers(store, runs):
    return [
        [{k: v for k, v in line.items() if k != "seconds"} for line in store.records(run)]
        for run in runs
    ]


def test_members_at_different_steps_go_on_each_from_its_own(small, tmp_path, monkeypatch):
    group = max(group_runs(small.runs()), key=len)
    assert len(group) > 2
    store, whole = Store(tmp_path / "out"), Store(tmp_path / "whole")
    for count, some in ((1, group[:1]), (2, group[1:2])):  # each is stopped after other epochs
        seen = []

        def stop(seen=seen, count=count):
            seen.append(1)
            if len(seen) > 3 * count:
                raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(train_runs, "leave_if_alone", stop)
            patch.setattr(train_runs, "GUARD_SECONDS", 0.0)
            with pytest.raises(Stop):
                work(some, store, None, checkpoint_seconds=0.0)
    places = [
        train_runs.read_checkpoint(store.folder_of(run) / "checkpoint.pt")["training"]
        for run in group[:2]
    ]
    assert len({(place["epoch"], place["made"]) for place in places}) == 2
    work(group, store, None)
    work(group, whole, None)
    assert numbers(store, group) == numbers(whole, group)


def test_a_full_disk_ends_the_worker_and_fails_no_run(small, tmp_path, monkeypatch):
    run, store = small.runs()[0], Store(tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(train_runs, "append", full)
    with pytest.raises(OSError, match="full"):
        work([run], store, None)
    assert not store.finished(run)


def test_what_was_recorded_counts_and_not_what_the_method_is_now(small, tmp_path):
    run, store = small.runs()[0], Store(tmp_path / "out")
    work([run], store, None)
    path = store.folder_of(run) / "status.json"
    status = json.loads(path.read_text()) | {"base": "Recorded", "adaptive": True}
    del status["sha256"]
    path.write_text(json.dumps(status))
    runs, _ = collect(small, store)
    assert runs.select("base", "adaptive").rows() == [("Recorded", True)]


def test_a_file_is_replaced_and_never_overwritten(tmp_path):
    """Whoever has the old file open still reads all of it."""
    path = tmp_path / "file"
    files.write_text(path, "old")
    with path.open() as old:
        files.write_text(path, "new, and longer")
        assert old.read() == "old"
    assert path.read_text() == "new, and longer"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
