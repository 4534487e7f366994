"""Values of a grid that are several numbers: towers of step sizes, betas, and what learns."""

import json

import polars as pl
import pytest

from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.remembered import recall, remember
from hypergradient.study.declare.run import Run
from hypergradient.study.errors import StudyError
from hypergradient.study.results.collect import as_one_text, collect
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.train.groups import ensemble_spec

TOWERS = """
title = "Towers"
tasks = ["digits-logreg"]
seeds = [0]
epochs = {epochs}
batch_size = 256

[[methods]]
names = "SGD-HD"
grid = {{ lr = 0.01, hypergrad_lr = [1e-3, [1e-3, 1e-5]] }}

[[methods]]
names = "Adam-HD"
grid = {{ lr = 0.01, learn = [{{ betas = 1 }}, {{ betas = [1e-2, 1e-4], beta1 = 1e-3 }}] }}

[[methods]]
names = "Adam-HD"
zip = {{ lr = [1e-3, 1e-2], betas = [[0.9, 0.99], [0.5, 0.9]] }}
"""


@pytest.mark.filterwarnings("error")  # pydantic warns of values that it writes in another way
def test_they_are_values_of_a_run_that_is_written_and_read(study_file, tmp_path):
    path = study_file(TOWERS)
    study = load_study(path)
    hypers = [run.hyper for run in study.runs()]
    assert [h["hypergrad_lr"] for h in hypers[:2]] == [1e-3, (1e-3, 1e-5)]
    assert [h["learn"] for h in hypers[2:4]] == [
        {"betas": 1.0},
        {"betas": (1e-2, 1e-4), "beta1": 1e-3},
    ]
    assert [(h["lr"], h["betas"]) for h in hypers[4:]] == [(1e-3, (0.9, 0.99)), (1e-2, (0.5, 0.9))]
    for run in study.runs():
        again = Run.model_validate(json.loads(json.dumps(run.model_dump(mode="json"))))
        assert (again, again.id) == (run, run.id)
    json.dumps(study.model_dump(mode="json"))
    remember(study, path, tmp_path)
    assert recall(path, None, tmp_path).runs() == study.runs()


def test_such_runs_are_trained_alone_and_are_numbers_and_texts_in_tables(study_file, tmp_path):
    study, store = load_study(study_file(TOWERS)), Store(tmp_path / "results")
    alone = [ensemble_spec(run) is None for run in study.runs()]
    assert alone == [False, True, True, True, True, True]
    work(study.runs(), store, None)
    runs, _ = collect(study, store)
    assert runs["status"].to_list() == ["done"] * 6
    assert runs["hypergrad_lr"].to_list() == [1e-3, 1e-3, None, None, None, None]
    assert runs["hypergrad_lr"].dtype == pl.Float64
    assert runs["tower"].to_list() == [None, "0.001/1e-05", None, None, None, None]
    assert runs["learn"].to_list()[2:4] == ["betas 1", "betas 0.01/0.0001, beta1 0.001"]
    assert runs["betas"].to_list()[4:] == ["0.9/0.99", "0.5/0.9"]
    assert runs["adaptive"].all()
    assert runs["valid_loss_final"].n_unique() == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[1e-3, 1e-5]", "[1e-3, []]"), "[] is not a finite number"),
        (("[1e-3, 1e-5]", '[1e-3, "no"]'), "'no' is not a finite number, which each of several"),
        (("[1e-3, 1e-5]", "[1e-3, true]"), "True is not a finite number, which each of several"),
        (("betas = 1 ", "betas = nan "), "nan is not a finite number, nor several"),
        (("betas = 1 ", "momentum = 1 "), "'momentum' cannot learn with the base 'adam'"),
    ],
)
def test_what_is_no_such_value_is_told(study_file, change, said):
    with pytest.raises(StudyError) as error:
        load_study(study_file(TOWERS.replace(*change)))
    assert said in str(error.value)


def test_texts_of_values():
    learn = {"betas": (1e-3, 1e-4), "momentum": 0.1}
    assert as_one_text(learn) == "betas 0.001/0.0001, momentum 0.1"
    assert [as_one_text(value) for value in (True, "none", 0.5)] == ["True", "none", "0.5"]
