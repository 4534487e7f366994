"""What an optimizer is, it says itself: no name and no suffix tells it."""

import json

import polars as pl
import pytest
import torch

import hypergradient
from hypergradient.study.declare.load import load_study
from hypergradient.study.figures.style import rate_labels
from hypergradient.study.methods.registry import METHODS, find_method
from hypergradient.study.methods.traits import Traits, traits_of
from hypergradient.study.report.page import write_report
from hypergradient.study.results.collect import collect
from hypergradient.study.results.pairs import complete, pair
from hypergradient.study.results.write import write_tables
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

KNOWN = {
    "SGD": (False, "SGD"),
    "SGDN": (False, "SGDN"),
    "Adam": (False, "Adam"),
    "AdamW": (False, "AdamW"),
    "SGD-HD": (True, "SGD"),
    "SGDN-HD": (True, "SGDN"),
    "Adam-HD": (True, "Adam"),
    "AdamW-HD": (True, "AdamW"),
    "Untuned": (True, "Adam"),
    "Untuned-SGD": (True, "SGD"),
    **dict.fromkeys(("Prodigy", "ProdigyPlus", "D-Adaptation", "DoG"), (True, "Adam")),
    **dict.fromkeys(("MoMo", "Mechanic"), (True, "Adam")),
    "Schedule-Free": (False, "Adam"),
}


def test_every_method_is_known():
    assert METHODS.keys() == KNOWN.keys()


@pytest.mark.parametrize("method", KNOWN)
def test_the_traits_of_the_methods(method):
    assert find_method(method).traits({}) == Traits(*KNOWN[method])


@pytest.mark.parametrize(
    ("method", "hyper", "traits"),
    [
        ("SGD", {"momentum": 0.9}, (False, "SGDM")),
        ("SGD", {"momentum": 0.0}, (False, "SGD")),
        ("hypergradient:SGDHD", {"momentum": 0.9, "nesterov": True}, (True, "SGDN")),
        ("hypergradient:SGDHD", {"momentum": 0.9, "classical": True}, (True, "SGDM")),
        ("RMSprop", {"lr": 0.1}, (False, "RMSprop")),
        ("hypergradient.study.methods.ablations:OneStep", {}, (True, "Adam")),
    ],
)
def test_hyperparameters_count(method, hyper, traits):
    assert find_method(method).traits(hyper) == Traits(*traits)


def test_anybody_s_own_optimizer():
    class Mine(hypergradient.SGDHD):
        pass

    class Tuner(torch.optim.Optimizer):
        adaptive = True

    class Plain(torch.optim.RMSprop):
        base = "adam"

    p = torch.zeros(1, requires_grad=True)
    assert traits_of(Mine([p], lr=0.1)) == Traits(adaptive=True, base="SGD")
    assert traits_of(Tuner([p], {})) == Traits(adaptive=True, base="Tuner")
    assert traits_of(Plain([p], lr=0.1)) == Traits(adaptive=False, base="Adam")


STUDY = """
title = "Own"
tasks = ["digits-logreg"]
seeds = [0]
epochs = 2
batch_size = 512
[[methods]]
names = ["SGD", "own.py:Steep", "Untuned"]
grid = { lr = [0.01, 0.1] }
"""
OWN = """
from hypergradient import SGDHD
class Steep(SGDHD): pass
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "study.toml").write_text(STUDY)
    study, store = load_study(tmp_path / "study.toml"), Store(tmp_path / "out")
    work(study.runs(), store, None)
    return study, store


def test_they_are_recorded_with_each_run_and_reach_every_figure(trained, tmp_path):
    study, store = trained
    runs, epochs = collect(study, store)
    write_tables(runs, epochs, tmp_path)
    expected = {("SGD", "SGD", False), ("own.py:Steep", "SGD", True), ("Untuned", "Adam", True)}
    for read in (pl.read_parquet(tmp_path / "runs.parquet"), pl.read_csv(tmp_path / "runs.csv")):
        assert set(read.select("method", "base", "adaptive").rows()) == expected
    for run in study.runs():
        status = json.loads((store.folder_of(run) / "status.json").read_text())
        assert (run.method, status["base"], status["adaptive"]) in expected
    paired = pair(runs)
    adaptive = paired.filter("adaptive").select("base", "method", "schedule").unique().rows()
    assert set(adaptive) == {
        ("SGD", "own.py:Steep", "hypergradient"),
        ("Adam", "Untuned", "adaptive"),
    }
    page = write_report(study, runs, epochs, tmp_path / "page").read_text(encoding="utf-8")
    assert '"labels":["constant rate","adaptive rate"]' in page
    assert rate_labels(paired.filter(base="SGD")) == ("constant rate", "hypergradient descent")


def test_results_of_earlier_versions_are_read(trained):
    """Their status has neither base nor adaptive: the method says both when they are collected."""
    study, store = trained
    before, _ = collect(study, store)
    for run in study.runs():
        path = store.folder_of(run) / "status.json"
        status = json.loads(path.read_text())
        del status["base"], status["adaptive"], status["sha256"]
        path.write_text(json.dumps(status))
    after, _ = collect(study, store)
    assert after.equals(before)


def test_tables_of_earlier_versions_are_read():
    old = pl.DataFrame(
        {"method": ["SGD", "SGD-HD", "own:HD"], "schedule": ["lr-decay", None, "hypergradient"]}
    ).with_columns(status=pl.lit("done"))
    told = complete(old).select("base", "adaptive", "schedule").rows()
    assert told == [
        ("SGD", False, "lr-decay"),
        ("SGD", True, "hypergradient"),
        ("own:HD", True, "hypergradient"),
    ]
    nameless = complete(old.drop("schedule")).select("base", "adaptive", "schedule").rows()
    assert nameless[:2] == [("SGD", False, "constant"), ("SGD", True, "hypergradient")]
