"""Commands that start the same study at once share it; each run is trained once."""

import sys

import polars as pl
from processes import numbers, record

from forking import Forked, wait_until
from hypergradient.study import cli
from hypergradient.study.declare.load import load_study
from hypergradient.study.report import page
from hypergradient.study.run.claim import Claim
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work


def be_person(barrier, path, out, log):
    """Run the command line, noting what it finishes; the pages are left out, as they take long."""
    finish = Claim.finish

    def noted(claim, status):
        with log.open("a") as file:
            file.write(f"{claim.folder.name}\n")
        finish(claim, status)

    Claim.finish = noted
    page.write_report = lambda *_, **__: None
    (barrier / f"{id(object())}.{log.stem}").touch()
    wait_until(lambda: len([*barrier.iterdir()]) == 3)
    sys.argv = ["hypergradient", "run", str(path), "--out", str(out), "--workers", "1"]
    cli.main()


def test_three_commands_start_the_same_study_at_once(study_file, tmp_path):
    path, out, barrier = study_file(epochs=20), tmp_path / "out", tmp_path / "barrier"
    barrier.mkdir()
    logs = [tmp_path / f"log{i}" for i in range(3)]
    commands = [Forked(be_person, barrier, path, out, log) for log in logs]
    assert [command.wait() for command in commands] == [0, 0, 0]
    runs, store = load_study(path).runs(), Store(out)
    trained = [log.read_text().split() for log in logs if log.exists()]
    assert sorted(run for log in trained for run in log) == sorted(run.id for run in runs)
    assert len(trained) > 1
    assert store.missing(runs) == []
    assert len(pl.read_parquet(out / "runs.parquet")) == len(runs)
    assert not [*out.rglob("*.partial")]
    undisturbed = Store(tmp_path / "undisturbed")
    work(runs, undisturbed, None)
    assert numbers(store, runs) == numbers(undisturbed, runs)
    record("three commands that start the same study at once", 3, 0, 0, "none: they share the work")
