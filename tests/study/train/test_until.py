"""Iterations to convergence: a run ends at the first minibatch at its target, or is censored."""

import math

import pytest

from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run, Until
from hypergradient.study.results.collect import collect
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.tasks.registry import TASKS
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import train

STUDY = """
title = "Until"
tasks = ["digits-logreg"]
seeds = [0]
epochs = 4
batch_size = 100
until = {{ minibatch_loss = 1.0, max_steps = 40 }}

[[methods]]
names = ["SGD"]
grid = {{ lr = [1e-6, 0.1, 1e30] }}
"""


def records_of(until, lr=0.1):
    run = Run(
        task="digits-logreg",
        method="SGD",
        hyper={"lr": lr},
        seed=0,
        study_seed=0,
        epochs=4,
        batch_size=100,
        weight_decay=0.0,
        until=until,
    )
    seen = []
    data = TASKS[run.task].load()
    records = list(
        train(
            run,
            initial_model(run),
            data,
            after_step=lambda training: seen.append(training.metrics.losses[-1].item()),
        )
    )
    return records, seen


@pytest.mark.parametrize("target", [2.0, 1.0, 0.6, 0.5])
def test_a_run_ends_at_the_first_minibatch_at_its_target(target):
    _, undisturbed = records_of(None)
    assert len(undisturbed) == 4 * math.ceil(1437 / 100)
    first = next(step for step, loss in enumerate(undisturbed, 1) if loss <= target)
    records, seen = records_of(Until(minibatch_loss=target, max_steps=1000))
    assert seen == undisturbed[:first]
    last = records[-1]
    assert (last.step, last.target_step) == (first, first)
    assert all(record.target_step is None for record in records[:-1])
    own = seen[(last.epoch - 1) * 15 :]
    assert last.train_loss == pytest.approx(sum(own) / len(own))


@pytest.mark.parametrize("most", [1, 15, 16, 40])
def test_a_run_that_does_not_get_there_ends_at_its_last_step(most):
    records, seen = records_of(Until(minibatch_loss=0.0, max_steps=most))
    assert (records[-1].step, records[-1].target_step, len(seen)) == (most, None, most)


def test_the_epochs_bound_it_too():
    records, _ = records_of(Until(minibatch_loss=0.0, max_steps=10_000))
    assert (records[-1].epoch, records[-1].step) == (4, 60)


def test_the_columns(study_file, tmp_path):
    study, store = load_study(study_file(STUDY)), Store(tmp_path / "results")
    work(study.runs(), store, None)
    runs, epochs = collect(study, store)
    low, good, high = runs.iter_rows(named=True)
    assert {row["max_steps"] for row in (low, good, high)} == {40}
    assert {row["target_loss"] for row in (low, good, high)} == {1.0}
    assert (low["steps_to_target"], low["censored"], low["status"]) == (None, True, "done")
    assert (high["steps_to_target"], high["censored"]) == (None, True)
    assert 1 < good["steps_to_target"] < 40
    assert good["censored"] is False
    own = epochs.filter(run_id=good["run_id"])
    assert own["step"].max() == good["steps_to_target"]


def test_other_studies_have_neither(small, tmp_path):
    work(small.runs()[:1], Store(tmp_path), None)
    (row,) = collect(small, Store(tmp_path))[0].iter_rows(named=True)
    assert [row[name] for name in ("target_loss", "max_steps", "steps_to_target", "censored")] == [
        *(None, None, None, None)
    ]
