"""Ratios to the best tuned run: the statistics equal an obvious loop, and the report shows them."""

import math
import statistics as plain
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from figure_tables import Declared, epochs_table, runs_table
from scipy import stats

from hypergradient.study.report.page import write_report
from hypergradient.study.results import untuned
from hypergradient.study.results.statistics import Statistics, UntunedStatistics

TASKS, SELECTION, SEEDS = ("a", "b", "c"), ("a",), (0, 1, 2)
METHODS = {
    ("Adam", "constant"): (1e-3, 1e-2, 0.1),
    ("Adam", "lr-decay"): (1e-2, 0.1),
    ("SGDN", "constant"): (1e-2, 1.0),
    ("Prodigy", "constant"): (None, 1e-2, 1.0),
    ("SGDN-HD", "hypergradient"): (1e-2, 1.0),
    ("some.where:Mine", "constant"): (1e-2,),
}
BASE = {"Prodigy": "Adam", "SGDN-HD": "SGDN", "some.where:Mine": "Adam"}
INITIAL, CONSTANT = 2.0, 1.5  # `epochs_table` starts each run at 2


def recorded(method: str) -> dict[str, object]:
    """What the runs of a method recorded as their base, and whether it adapts its rate."""
    adaptive = method in {"SGDN-HD", "Prodigy"}
    base = "Mine" if ":" in method else BASE.get(method, method)
    return {"base": base, "adaptive": adaptive}


class Chosen(Declared):
    figures: tuple[str, ...] = ("untuned",)
    selection: tuple[str, ...] = SELECTION


@pytest.fixture(scope="module")
def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Random losses over eight decades, some above the untrained one, some runs diverged."""
    random, rows = np.random.default_rng(0), []
    for task in TASKS:
        for (method, schedule), rates in METHODS.items():
            for lr in rates:
                for seed in SEEDS:
                    best, final = sorted(10 ** random.uniform(-7, 1, 2))
                    lost = random.random() < 0.1
                    rows.append(
                        {"task": task, "method": method, "schedule": schedule, "lr": lr}
                        | recorded(method)
                        | {"seed": seed, "status": "diverged" if lost else "done"}
                        | {"train_loss_final": None if lost else final, "train_loss_best": best}
                        | {"valid_loss_final": 2 * final, "valid_loss_best": 2 * best}
                        | {"constant_loss": CONSTANT, "engine": "one by one"}
                    )
    runs = runs_table(rows)
    return runs, epochs_table(runs)


def bounded(run: dict[str, object], measure: str) -> float:
    """A run's loss between a 10,000th of the untrained one and the untrained one."""
    value, most = run[measure], min(INITIAL, CONSTANT)
    if run["status"] != "done" or value is None:
        return most
    return min(max(value, most / 10_000), most)


def mean(values: list[float]) -> float:
    return math.exp(plain.fmean(map(math.log, values)))


def slow(runs: pl.DataFrame, measure: str) -> dict[tuple[str, str], dict[object, list[float]]]:
    """The ratios of each method and task: by start, a list over seeds."""
    rows = runs.to_dicts()
    found: dict[tuple[str, str], dict[object, list[float]]] = {}
    for task in TASKS:
        for method, base in BASE.items():
            settings = [key for key in METHODS if key[0] == base]
            candidates = [
                [
                    bounded(run, measure)
                    for seed in SEEDS
                    for run in rows
                    if (run["task"], run["method"], run["schedule"]) == (task, *setting)
                    and (run["lr"], run["seed"]) == (lr, seed)
                ]
                for setting in settings
                for lr in METHODS[setting]
            ]
            best = min(candidates, key=mean)
            for run in rows:
                if (run["task"], run["method"]) == (task, method):
                    ratio = bounded(run, measure) / best[run["seed"]]
                    by_start = found.setdefault((method, task), {})
                    by_start.setdefault(run["lr"], []).append(ratio)
    return found


@pytest.mark.parametrize("measure", untuned.MEASURES)
@pytest.mark.parametrize("method", BASE)
def test_scores_equal_an_obvious_loop(tables, measure: str, method: str) -> None:
    own, found = UntunedStatistics.of(*tables, SELECTION), slow(tables[0], measure)
    line = method.rpartition(":")[2]
    for name, tasks in (("selection", SELECTION), ("claim", TASKS[1:])):
        (row,) = own.scores.filter(set=name, measure=measure, line=line).to_dicts()
        cells = {(t, start): r for t in tasks for start, r in found[method, t].items()}
        assert row["base"] == BASE[method]
        assert row["mean"] == pytest.approx(mean([r for ratios in cells.values() for r in ratios]))
        worst = max(cells, key=lambda cell: mean(cells[cell]))
        assert row["worst"] == pytest.approx(mean(cells[worst]))
        assert (row["worst_task"], row["worst_start"]) == worst
        logs = [
            plain.fmean(math.log10(ratios[seed]) for ratios in cells.values()) for seed in SEEDS
        ]
        half = stats.t.ppf(0.975, 2) * plain.stdev(logs) / math.sqrt(3)
        assert row["mean_low"] == pytest.approx(10 ** (plain.fmean(logs) - half))
        tops = [max(math.log10(ratios[seed]) for ratios in cells.values()) for seed in SEEDS]
        half = stats.t.ppf(0.975, 2) * plain.stdev(tops) / math.sqrt(3)
        assert row["worst_high"] == pytest.approx(10 ** (plain.fmean(tops) + half))
        default = [mean(ratios) for (_, start), ratios in cells.items() if start is None]
        assert row["default"] == (pytest.approx(mean(default)) if default else None)
        if default:
            of_seed = [[r for (_, s), r in cells.items() if s is None] for _ in SEEDS]
            logs = [plain.fmean(math.log10(r[k]) for r in of_seed[k]) for k in SEEDS]
            half = stats.t.ppf(0.975, 2) * plain.stdev(logs) / math.sqrt(3)
            assert row["default_low"] == pytest.approx(10 ** (plain.fmean(logs) - half))
        here = own.profile.filter(set=name, measure=measure, line=line)
        for tau, share in here.select("tau", "share").rows():
            within = [mean(ratios) <= tau * (1 + 1e-9) for ratios in cells.values()]
            assert share == pytest.approx(sum(within) / len(within))
        dead = [
            run["status"] != "done" or run["train_loss_final"] >= 0.9 * CONSTANT
            for run in tables[0].to_dicts()
            if run["method"] == method and run["task"] in tasks
        ]
        assert (row["dead"], row["runs"]) == (sum(dead), len(dead))


@pytest.mark.parametrize("measure", untuned.MEASURES)
@pytest.mark.parametrize("method", BASE)
def test_intervals_by_task_equal_an_obvious_loop(tables, measure: str, method: str) -> None:
    own, found = UntunedStatistics.of(*tables, SELECTION), slow(tables[0], measure)
    line = method.rpartition(":")[2]
    for task in TASKS:
        (row,) = own.by_task.filter(measure=measure, line=line, task=task).to_dicts()
        starts = found[method, task]
        logs = [plain.fmean(math.log10(r[k]) for r in starts.values()) for k in SEEDS]
        worst = [math.log10(r) for r in max(starts.values(), key=mean)]
        for name, values in (("ratio", logs), ("worst", worst)):
            half = stats.t.ppf(0.975, 2) * plain.stdev(values) / math.sqrt(3)
            assert row[name] == pytest.approx(10 ** plain.fmean(values))
            assert row[f"{name}_low"] == pytest.approx(10 ** (plain.fmean(values) - half))
            assert row[f"{name}_high"] == pytest.approx(10 ** (plain.fmean(values) + half))


def test_the_best_tuned_run_has_the_ratio_one(tables) -> None:
    own = UntunedStatistics.of(*tables, SELECTION)
    assert own.cells.filter("tuned")["line"].unique().to_list() == ["SGDN, constant"]  # has all
    losses = untuned.losses(*tables).with_columns(single=pl.lit(value=False))
    best = untuned.best_tuned(losses)
    everything = losses.with_columns(tuned=pl.lit(value=False))  # keeps all rates
    ratios = untuned.cells(
        untuned.ratios(
            pl.concat([losses, everything.with_columns(line=pl.col("line") + pl.lit(" "))]), best
        )
    ).filter(pl.col("line").str.ends_with(" ") & pl.col("line").str.contains(","))
    least = ratios.group_by("task", "base", "measure").agg(pl.col("ratio").min())["ratio"]
    assert least.to_list() == pytest.approx([1.0] * len(least))


@pytest.mark.parametrize(
    ("base", "rival"),
    [("Adam", "Adam"), ("SGDN", "SGDN"), ("SGD", "SGDN"), ("AdamW", "Adam"), ("Mine", "Adam")],
)
def test_a_method_is_compared_with_its_base_or_a_relative(base: str, rival: str) -> None:
    assert untuned.rival_of(base, {"Adam", "SGDN"}) == rival


def test_a_stack_s_time_is_no_time_of_a_step(tables) -> None:
    runs, epochs = tables
    alone = UntunedStatistics.of(runs, epochs, SELECTION).scores
    assert alone["step"].to_list() == pytest.approx([1.0] * alone.height)  # a second an epoch, all
    stacked = runs.with_columns(
        engine=pl.when(pl.col("method") == "Adam").then(pl.lit("stacked")).otherwise("engine")
    )
    scores = UntunedStatistics.of(stacked, epochs, SELECTION).scores
    assert scores.filter(base="Adam")["step"].is_null().all()
    assert scores.filter(base="SGDN")["step"].is_not_null().all()


def test_runs_that_know_no_constant_s_loss_are_measured_by_their_own_start(tables) -> None:
    runs, epochs = tables
    old = untuned.losses(runs.with_columns(constant_loss=pl.lit(None, pl.Float64)), epochs)
    assert set(old["untrained"]) == {INITIAL}


def test_the_report_has_the_tables_and_the_pictures(tables, tmp_path: Path) -> None:
    page = write_report(Chosen(), *tables, tmp_path).read_text(encoding="utf-8")
    for measure in untuned.PICTURED:
        for name in ("untuned_profile", "untuned_tasks", "untuned_time"):
            for suffix in ("pdf", "png", "csv"):
                assert (tmp_path / "figures" / f"{name}_{measure}.{suffix}").stat().st_size
    assert page.count('class="picture" src="data:image/png;base64,') == 3 * len(untuned.PICTURED)
    (row,) = (
        Statistics(*tables, None, SELECTION)
        .untuned.scores.filter(set="claim", measure="train_loss_final", line="Prodigy")
        .to_dicts()
    )
    low, high = row["mean_low"], row["mean_high"]
    assert f"<td>{row['mean']:.3g} <small>({low:.3g} to {high:.3g})</small></td>" in page
    assert "Selection tasks: final training loss" in page
