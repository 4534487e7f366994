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
from hypergradient.study.results.pairs import complete, lines, pair
from hypergradient.study.results.verdicts import verdicts
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
    "Adam-HD from 1e-8": (True, "Adam"),
    "Untuned": (True, "Adam"),
    "Untuned-SGD": (True, "SGD"),
    "Untuned-Adafactor": (True, "Adafactor"),
    **dict.fromkeys(("Prodigy", "ProdigyPlus", "D-Adaptation", "DoG"), (True, "Adam")),
    **dict.fromkeys(("MoMo", "Mechanic", "AdamG"), (True, "Adam")),
    "Schedule-Free": (False, "Adam"),
    "ScheduleFree+": (True, "Adam"),
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
        ("Muon", {"lr": 0.1}, (False, "Muon")),
        ("Adam", {"amsgrad": True}, (False, "AMSGrad")),
        ("hypergradient:MuonHD", {}, (True, "Muon")),
        ("hypergradient:Hypergradient", {"base": "lion"}, (True, "Lion")),
        ("hypergradient:Untuned", {"base": "rmsprop"}, (True, "RMSprop")),
        ("hypergradient.study.methods.ablations:OneStep", {}, (True, "Adam")),
    ],
)
def test_hyperparameters_count(method, hyper, traits):
    assert find_method(method).problems(hyper) == []
    assert find_method(method).traits(hyper) == Traits(*traits)


def test_anybody_s_own_optimizer():
    class Mine(hypergradient.SGDHD):
        pass

    class Tuner(torch.optim.Optimizer):
        adaptive = True

    class Plain(torch.optim.RMSprop):
        base = "adam"

    class Sign(hypergradient.Base):
        def init(self, p):
            return {}

        def direction(self, g, p, state, group):
            return g.sign()

    p = torch.zeros(1, requires_grad=True)
    assert traits_of(Mine([p], lr=0.1)) == Traits(adaptive=True, base="SGD")
    signed = hypergradient.Hypergradient([p], base=Sign(), lr=0.1)
    assert traits_of(signed) == Traits(adaptive=True, base="sign")
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
        ("SGD", "Untuned", "adaptive"),  # beside the only base that was run
    }
    page = write_report(study, runs, epochs, tmp_path / "page").read_text(encoding="utf-8")
    assert '"labels":["constant rate","adaptive rate"]' in page
    steep = paired.filter(pl.col("method") != "Untuned")
    assert rate_labels(steep) == ("constant rate", "hypergradient descent")


def test_each_adaptive_method_of_a_base_has_a_panel_of_its_own():
    """With the base beside it; methods that are alone with their base need no name."""
    runs = pl.DataFrame(
        [
            {"run_id": f"{method}{lr}{beta}", "task": "t", "method": method, "base": base}
            | {"adaptive": method not in {"SGD", "Adam"}, "schedule": schedule, "lr": lr}
            | {"hypergrad_lr": beta, "seed": 0, "status": "done"}
            for method, base, schedule, betas in (
                ("SGD", "SGD", "constant", [None]),
                ("SGD-HD", "SGD", "hypergradient", [1.0, 2.0]),
                ("Adam", "Adam", "constant", [None]),
                ("Adam-HD", "Adam", "hypergradient", [1.0, 2.0]),
                ("own.py:Mine", "Adam", "constant", [None]),
            )
            for lr in (0.1, 0.2)
            for beta in betas
        ]
    )
    panels = pair(runs).group_by("panel", maintain_order=True).agg("method")
    assert dict(panels.iter_rows()) == {
        "SGD, β = 1.0": ["SGD", "SGD", "SGD-HD", "SGD-HD"],
        "SGD, β = 2.0": ["SGD", "SGD", "SGD-HD", "SGD-HD"],
        "Adam, Adam-HD, β = 1.0": ["Adam", "Adam", "Adam-HD", "Adam-HD"],
        "Adam, Adam-HD, β = 2.0": ["Adam", "Adam", "Adam-HD", "Adam-HD"],
        "Adam, Mine": ["Adam", "Adam", "own.py:Mine", "own.py:Mine"],
    }


def of_bases(*methods):
    """Two seeds of each (method, base, adaptive, schedule), with losses that tell them apart."""
    rows = [
        {"run_id": f"{method}{seed}", "task": "t", "method": method, "base": base, "lr": 0.1}
        | {"adaptive": adaptive, "schedule": schedule, "seed": seed, "status": "done"}
        | dict.fromkeys(("train_loss_final", "valid_loss_final"), (number + 1) * 1.001**seed)
        for number, (method, base, adaptive, schedule) in enumerate(methods)
        for seed in (0, 1)
    ]
    return pl.DataFrame(rows)


def test_methods_of_one_base_are_never_one_line():
    runs = of_bases(
        ("Adam", "Adam", False, "constant"),
        ("Schedule-Free", "Adam", False, "constant"),
        ("SGD", "SGDM", False, "constant"),
        ("Adam-HD", "Adam", True, "hypergradient"),
        ("own.py:Mine", "Adam", True, "hypergradient"),
    )
    bases = dict(complete(runs).select("method", "base").iter_rows())
    assert bases["Schedule-Free"] == "Schedule-Free (Adam)"
    assert bases["Adam"] == bases["own.py:Mine"] == "Adam"
    assert bases["SGD"] == "SGDM"  # alone with its base
    assert complete(complete(runs)).equals(complete(runs))
    named = lines(runs).group_by("base", "line").agg(pl.col("method").unique())
    assert named["method"].list.len().to_list() == [1] * 5
    compared = verdicts(lines(runs)).filter(metric="train_loss", rival="constant")
    assert dict(compared.drop_nulls("ratio").select("base", "ratio").iter_rows()) == pytest.approx(
        {"Adam, Adam-HD": 4.0, "Adam, Mine": 5.0}
    )


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
    ).with_columns(status=pl.lit("done"), task=pl.Series(["a", "a", "b"]))
    told = complete(old).select("base", "adaptive", "schedule").rows()
    assert told == [
        ("SGD", False, "lr-decay"),
        ("SGD", True, "hypergradient"),
        ("own:HD", True, "hypergradient"),
    ]
    nameless = complete(old.drop("schedule")).select("base", "adaptive", "schedule").rows()
    assert nameless[:2] == [("SGD", False, "constant"), ("SGD", True, "hypergradient")]
