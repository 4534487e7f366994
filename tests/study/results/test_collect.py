"""The tables: the columns agreed, what diverged and failed runs leave, intervals over seeds."""

import polars as pl
import pytest

from hypergradient.study.declare.load import load_study
from hypergradient.study.report.page import write_report
from hypergradient.study.results.collect import collect
from hypergradient.study.results.schema import EPOCHS_SCHEMA, METRICS
from hypergradient.study.results.write import write_tables
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

DIVERGING = """
title = "Diverging"
tasks = ["digits-mlp"]
seeds = [0]
epochs = 40
batch_size = 256

[[methods]]
names = ["SGD"]
grid = { lr = [1e-2, 1e6] }

[[methods]]
names = ["SGD-HD"]
grid = { lr = 1e-2, hypergrad_lr = 1e-3, granularity = "tensor" }
"""


@pytest.fixture(scope="module")
def study_and_store(tmp_path_factory):
    """A study that has been trained, to be read only."""
    folder = tmp_path_factory.mktemp("diverging")
    (folder / "diverging.toml").write_text(DIVERGING)
    study, store = load_study(folder / "diverging.toml"), Store(folder / "results")
    work(study.runs(), store, None)
    return study, store


def test_the_tables(study_and_store):
    runs, epochs = collect(*study_and_store)
    assert runs.columns[:4] == ["run_id", "study", "task", "method"]
    assert runs["status"].to_list() == ["done", "diverged", "done"]
    assert runs["hypergrad_lr"].to_list() == [None, None, 1e-3]
    assert runs["granularity"].to_list() == [None, None, "tensor"]
    assert runs["lr"].dtype == pl.Float64
    assert epochs.columns == list(EPOCHS_SCHEMA)
    assert runs["init_hash"].n_unique() == 1
    for table in (runs, epochs):
        floats = table.select(pl.selectors.float())
        assert not any(floats.select(pl.all().is_nan().any()).row(0))
        assert not any(floats.select(pl.all().is_infinite().any()).row(0))


def test_final_and_best_are_those_of_the_epochs(study_and_store):
    runs, epochs = collect(*study_and_store)
    for row in runs.iter_rows(named=True):
        own = epochs.filter((pl.col("run_id") == row["run_id"]) & (pl.col("epoch") > 0))
        for metric in METRICS:
            values = own[metric].to_list()
            finite = [value for value in values if value is not None]
            best = (max if "accuracy" in metric else min)(finite, default=None)
            assert row[f"{metric}_final"] == values[-1]
            assert row[f"{metric}_best"] == best
            if best is not None:
                assert row[f"{metric}_best_epoch"] == values.index(best) + 1
    diverged = runs.row(1, named=True)
    assert diverged["train_loss_final"] is None
    last = epochs.filter(pl.col("run_id") == diverged["run_id"])["step"].max()
    assert last - 6 < diverged["diverged_at_step"] <= last


def test_a_failed_run_has_a_row_without_numbers(study_and_store, tmp_path):
    study, store = study_and_store[0], Store(tmp_path)
    run = study.runs()[0]
    with store.claim(run) as claim:
        claim.fail("ValueError: no")
    row = collect(study, store)[0].row(0, named=True)
    assert row["status"] == "failed"
    assert row["lr"] == run.hyper["lr"]
    assert row["valid_loss_best"] is None


def test_no_finished_runs_give_empty_tables(small, tmp_path):
    runs, epochs = collect(small, Store(tmp_path))
    assert (len(runs), len(epochs)) == (0, 0)


def test_written_tables_read_back(study_and_store, tmp_path):
    runs, epochs = collect(*study_and_store)
    write_tables(runs, epochs, tmp_path)
    for name, table in (("runs", runs), ("epochs", epochs)):
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(table)
        assert pl.read_csv(tmp_path / f"{name}.csv", schema=table.schema).equals(table)
    assert not list(tmp_path.glob("*.partial"))


MIXED = """
title = "Mixed"
tasks = ["digits-logreg"]
seeds = [0]
epochs = 1
batch_size = 256
[[methods]]
names = "seeded.py:Seeded"
grid = { lr = 1e-2, clip = ["none", 1.0], seed = [3.0, 4.0], panel = "left" }
"""

SEEDED = """
import torch

class Seeded(torch.optim.SGD):
    def __init__(self, params, lr=0.1, clip=None, seed=0.0, panel=""):
        super().__init__(params, lr=lr)
"""


def test_values_of_two_kinds_and_options_named_like_columns(tmp_path, monkeypatch):
    """A documented value first, as in clip = ["none", 1.0], made the tables fail after all runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeded.py").write_text(SEEDED)
    (tmp_path / "mixed.toml").write_text(MIXED)
    study, store = load_study(tmp_path / "mixed.toml"), Store(tmp_path / "out")
    work(study.runs(), store, None)
    runs, epochs = collect(study, store)
    assert sorted(runs["clip"].unique()) == ["1.0", "none"]
    assert sorted(runs["seed_option"].unique()) == [3.0, 4.0]
    assert runs["panel_option"].unique().to_list() == ["left"]
    assert runs["seed"].unique().to_list() == [0]
    problems = []
    write_report(study, runs, epochs, store.folder, tell=problems.append)
    assert problems == []
