"""Trainings of several lengths: the runs, their names in tables, and the statistics by length."""

import math
import statistics as plain
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from figure_tables import Declared, runs_table
from scipy import stats

from hypergradient.study.declare.load import load_study
from hypergradient.study.report.page import write_report
from hypergradient.study.results.collect import collect
from hypergradient.study.results.statistics import UntunedStatistics
from hypergradient.study.results.untuned_lengths import at_all_lengths
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

TASKS, SELECTION, SEEDS, LENGTHS = ("a", "b", "c"), ("a", "b"), (0, 1, 2), (1, 4)
METHODS = {("Adam", "constant"): (1e-3, 1e-2), ("Prodigy", "constant"): (None, 1e-2)}

Losses = dict[tuple[str, str, float | None], list[float]]


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Random final losses within a factor of 30 of each other."""
    random, rows = np.random.default_rng(1), []
    for task in (f"{task} x{length}" for task in TASKS for length in LENGTHS):
        for (method, schedule), rates in METHODS.items():
            for lr in rates:
                for seed in SEEDS:
                    final = 10 ** random.uniform(-2, -0.5)
                    rows.append(
                        {"task": task, "method": method, "schedule": schedule, "lr": lr}
                        | {"base": "Adam", "adaptive": method == "Prodigy", "seed": seed}
                        | {f"{kind}_loss_final": final for kind in ("train", "valid")}
                        | {f"{kind}_loss_best": final for kind in ("train", "valid")}
                    )
    runs = runs_table(rows)
    epochs = [
        {"run_id": run["run_id"], "epoch": epoch, "step": epoch, "seconds": 1.0}
        | {
            f"{kind}_loss": run[f"{kind}_loss_final"] if epoch else 1.0
            for kind in ("train", "valid")
        }
        | dict.fromkeys(("train_accuracy", "valid_accuracy", "lr_mean"), 0.5)
        for run in runs.to_dicts()
        for epoch in (0, 1)
    ]
    return runs, pl.DataFrame(epochs)


def finals(runs: pl.DataFrame) -> Losses:
    """The final losses by task, method and rate, a list over seeds."""
    found: Losses = {}
    for run in runs.to_dicts():
        key = (run["task"], run["method"], run["lr"])
        found.setdefault(key, []).append(run["train_loss_final"])
    return found


def log_ratios(losses: Losses, task: str) -> list[float]:
    """The log10 of Prodigy's loss over that of the best tuned run, by seed."""
    tuned = min(
        (losses[task, "Adam", lr] for lr in (1e-3, 1e-2)),
        key=lambda v: plain.fmean(map(math.log, v)),
    )
    own = losses[task, "Prodigy", None]
    return [math.log10(a / b) for a, b in zip(own, tuned, strict=True)]


def test_each_length_is_compared_with_its_own_tuned_run() -> None:
    runs, epochs = tables()
    own = UntunedStatistics.of(runs, epochs, at_all_lengths(SELECTION, runs["task"]))
    losses = finals(runs)
    table = own.lengths.filter(measure="train_loss_final", line="Prodigy")
    assert table["length"].to_list() == [1, 4]
    for row in table.to_dicts():
        ratios = {f"{task} x{row['length']}": [] for task in TASKS}
        ratios = {task: log_ratios(losses, task) for task in ratios}
        means = {task: plain.fmean(values) for task, values in ratios.items()}
        assert row["mean"] == pytest.approx(10 ** plain.fmean(means.values()))
        assert row["worst"] == pytest.approx(10 ** max(means.values()))
        assert row["worst_task"] == max(means, key=lambda task: means[task])
        for name, of_seed in (("mean", plain.fmean), ("worst", max)):
            seeds = [of_seed([ratios[task][seed] for task in ratios]) for seed in SEEDS]
            half = stats.t.ppf(0.975, 2) * plain.stdev(seeds) / math.sqrt(3)
            assert row[f"{name}_high"] == pytest.approx(10 ** (plain.fmean(seeds) + half))
    assert set(own.scores.filter(set="selection")["tasks"]) == {len(SELECTION) * len(LENGTHS)}


def test_the_selection_has_its_tasks_at_all_lengths() -> None:
    tasks = ["a x1", "a x16", "ab x1", "c x1", "b", "a x1"]
    assert at_all_lengths(("a", "b"), tasks) == ("a x1", "a x16", "b")


class Chosen(Declared):
    figures: tuple[str, ...] = ("untuned",)
    selection: tuple[str, ...] = SELECTION


def test_the_report_has_the_table_and_the_picture(tmp_path: Path) -> None:
    page = write_report(Chosen(), *tables(), tmp_path).read_text(encoding="utf-8")
    assert "Trainings of several lengths: final training loss" in page
    for suffix in ("pdf", "png", "csv"):
        path = tmp_path / "figures" / f"untuned_lengths_train_loss_final.{suffix}"
        assert path.stat().st_size


def test_a_study_runs_a_task_at_all_its_lengths(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(
        """
title = "Long"
tasks = ["digits-logreg"]
epochs = 2
decay_epochs = 1
lengths = [1, 3]
batch_size = 64
seeds = [0]
train_examples = 128
valid_examples = 10
[[methods]]
names = "SGD"
schedule = ["constant", "lr-decay"]
grid = { lr = 0.1 }
""",
        encoding="utf-8",
    )
    study = load_study(tmp_path / "long.toml")
    assert {(run.epochs, run.schedule, run.decay_epochs) for run in study.runs()} == {
        *((2, "constant", None), (2, "lr-decay", 1)),
        *((6, "constant", None), (6, "lr-decay", 3)),
    }
    store = Store(tmp_path / "results")
    work(study.runs(), store, None)
    runs, epochs = collect(study, store)
    ends = epochs.group_by("run_id").agg(pl.col("step").max()).join(runs, on="run_id")
    assert {*ends.select("task", "step").rows()} == {
        ("digits-logreg x1", 4),
        ("digits-logreg x3", 12),
    }
