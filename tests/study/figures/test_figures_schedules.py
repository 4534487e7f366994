"""Schedules beside each other: the best configurations, verdicts, and relative sensitivity."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from figure_tables import RATES, epochs_table, runs_table, schedules_tables, study_tables
from scipy import stats

from hypergradient.study.figures import grid, schedules, style
from hypergradient.study.report.gallery import shown
from hypergradient.study.results import best, sensitivity, verdicts
from hypergradient.study.results.pairs import lines, pair, scale_label
from hypergradient.study.results.relative import relative_sensitivity, widths
from hypergradient.study.results.statistics import Statistics


def test_the_best_configuration_has_the_lowest_mean_over_all_seeds() -> None:
    losses = {1e-3: [0.1, 0.9], 1e-2: [0.4, 0.4], 1e-1: [0.01, None]}
    runs = runs_table(
        [
            {"method": "SGD", "lr": lr, "seed": seed, "loss": loss}
            | {"status": "done" if loss else "diverged"}
            for lr, both in losses.items()
            for seed, loss in enumerate(both)
        ]
    )
    row = best.best_configurations(runs).row(0, named=True)
    assert row["lr"] == pytest.approx(1e-2)  # not the lucky seed, nor the one that diverged
    assert row["loss"] == pytest.approx(0.4)
    assert row["edge"] == []
    without = runs.filter(pl.col("lr") < 0.05)
    assert best.best_configurations(without).row(0, named=True)["edge"] == ["lr"]


def test_nothing_is_best_where_every_configuration_diverged() -> None:
    runs = runs_table([{"method": "SGD", "lr": lr, "status": "diverged"} for lr in RATES])
    chosen = best.best_configurations(runs)
    assert chosen.is_empty()
    assert best.best_curves(best.best_runs(runs, chosen), epochs_table(runs)).is_empty()


def test_schedules_of_one_method_are_chosen_apart_and_with_the_right_beta() -> None:
    runs, _ = schedules_tables()
    chosen = best.best_configurations(runs)
    assert chosen["schedule"].to_list() == ["constant", "lr-decay", "hypergradient"]
    assert chosen["hypergrad_lr"].to_list() == [None, None, 1e-4]
    found = best.best_runs(runs, chosen)
    assert found.height == 3 * 2
    assert found["lr"].unique().to_list() == [RATES[-1]]


def test_recommended_is_the_first_setting_and_tuned_the_best() -> None:
    settings = {(1e-3, 1e-4): 0.5, (1e-2, 1e-4): 0.2, (1e-2, 1e-3): 0.3}
    runs = runs_table(
        [
            {"method": "SGD-HD", "lr": lr, "hypergrad_lr": beta, "seed": seed, "loss": loss}
            for seed in range(2)
            for (lr, beta), loss in settings.items()
        ]
    )
    found = best.recommended_and_tuned(runs)
    assert found.group_by("schedule", "lr", "hypergrad_lr", maintain_order=True).len().rows() == [
        ("recommended", 1e-3, 1e-4, 2),
        ("tuned", 1e-2, 1e-4, 2),
    ]
    assert shown(Statistics(runs, epochs_table(runs)))[0] == "tuning"
    # The recommended setting can be the best one.
    again = best.recommended_and_tuned(runs.filter(pl.col("lr") < 5e-3))
    assert sorted(again["schedule"].unique()) == ["recommended", "tuned"]


def test_best_curves_are_geometric_means_with_student_intervals() -> None:
    runs, epochs = schedules_tables()
    found = best.best_runs(runs, best.best_configurations(runs))
    curves = best.best_curves(found, epochs).filter(schedule="lr-decay", metric="train_loss")
    last = curves.filter(epoch=3).row(0, named=True)
    logs = found.filter(schedule="lr-decay")["train_loss_final"].log10().to_numpy()
    low, high = stats.t.interval(0.95, 1, logs.mean(), stats.sem(logs))
    assert last["mean"] == pytest.approx(10 ** logs.mean())
    assert (last["low"], last["high"]) == (pytest.approx(10**low), pytest.approx(10**high))
    one = best.best_curves(found.filter(seed=0), epochs)
    assert one["low"].null_count() == one.height


@pytest.mark.parametrize("seed", range(4))
def test_the_paired_test_is_students(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = generator.normal(size=(2, 5))
    ours += 0.3 * seed
    found = verdicts.paired_test(ours - theirs)
    expected = stats.ttest_rel(ours, theirs)
    assert found["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert found["low"] == pytest.approx(10**interval.low)
    assert found["high"] == pytest.approx(10**interval.high)
    worse = "worse" if np.mean(ours) > np.mean(theirs) else "better"
    clear = expected.pvalue < 0.05 and abs(np.mean(ours - theirs)) > np.log10(1.1)
    assert found["verdict"] == (worse if clear else "comparable")
    other = verdicts.paired_test(theirs - ours)
    opposite = {"worse": "better", "better": "worse", "comparable": "comparable"}
    assert other["verdict"] == opposite[str(found["verdict"])]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([], "undecided"),
        ([-3.0], "undecided"),
        ([0.0, 0.0], "comparable"),
        ([-1, -1], "better"),
        ([0.5, 0.5, 0.5], "worse"),
        ([1.0, -1.0], "comparable"),
        ([-0.04, -0.0401], "comparable"),  # certain, but a loss of 0.91 times the rival's
        ([0.0413, 0.0413], "comparable"),
        ([0.0415, 0.0415], "worse"),  # 1.1002 times
    ],
)
def test_verdicts_at_the_limits(differences: list[float], verdict: str) -> None:
    assert verdicts.paired_test(np.array(differences, float))["verdict"] == verdict


def test_verdicts_pair_by_seed_and_are_tallied() -> None:
    tables = Statistics(*schedules_tables())
    table = tables.verdicts.filter(metric="train_loss")
    assert dict(table.select("rival", "verdict").rows()) == {
        "constant": "better",
        "lr-decay": "comparable",
    }
    assert table["ratio"].to_list() == pytest.approx([0.5, 1], rel=0.01)
    for row in tables.tally.to_dicts():
        counted = row["better"] + row["comparable"] + row["worse"] + row["undecided"]
        assert counted == row["settings"] == 1
        ratios = tables.verdicts.filter(metric=row["metric"], rival=row["rival"])["ratio"]
        assert (row["lowest"], row["highest"]) == (ratios.min(), ratios.max())
    halves = Statistics(tables.runs.filter(pl.col("seed") == 0), tables.epochs)
    assert halves.verdicts["verdict"].unique().to_list() == ["undecided"]


def test_the_scale_names_all_lengths_and_narrow_networks() -> None:
    runs = schedules_tables()[0].head(2).with_columns(scale=pl.lit("laptop"))
    assert "narrow" not in scale_label(runs)
    runs = runs.with_columns(
        epochs=pl.Series([3, 10]), task=pl.Series(["mnist-mlp", "cifar10-vgg16-narrow"])
    )
    told = scale_label(runs)
    assert told.startswith("laptop scale: 3 or 10 epochs, 1 seed")
    assert told.endswith(", narrow has 1/8 of the channels, no dropout")


def test_every_line_has_its_lowest_point_at_a_ratio_of_1() -> None:
    runs, _ = schedules_tables()
    table = relative_sensitivity(runs, "train_loss")
    assert table["line"].n_unique() == 4
    for line in table.partition_by("line"):
        lowest = line.filter(pl.col("mean") == pl.col("mean").min())
        assert 1.0 in lowest["ratio"].to_list()


def test_a_rate_that_diverged_is_not_the_best() -> None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": lr, "seed": seed, "status": status}
            | {"train_loss_best": loss, "loss": loss}
            for lr, loss, lost in ((1e-2, 0.5, ()), (1e-1, 0.1, (1,)))
            for seed in range(2)
            for status in ["diverged" if seed in lost else "done"]
        ]
    )
    table = relative_sensitivity(runs, "train_loss")
    assert table["ratio"].to_list() == pytest.approx([1, 10])
    assert widths(table)["best"].to_list() == pytest.approx([0.5])


def test_width_within_ten_percent() -> None:
    flat, peaked = [1.0, 1.05, 1.0], [10.0, 1.0, 10.0]
    runs = runs_table(
        [
            {"method": method, "lr": lr, "loss": loss, "train_loss_best": loss}
            for method, losses in (("SGD", flat), ("Adam", peaked))
            for lr, loss in zip(RATES, losses, strict=True)
        ]
    )
    found = {
        row["base"]: row for row in widths(relative_sensitivity(runs, "train_loss")).to_dicts()
    }
    assert found["SGD"]["width"] == pytest.approx(2)
    assert found["SGD"]["at_edge"]
    # Log-log between neighbours: 10 % above the best is log10(1.1) of the way, on both sides.
    assert found["Adam"]["width"] == pytest.approx(2 * np.log10(1.1))
    assert not found["Adam"]["at_edge"]
    assert all(row["tried"] == pytest.approx(2) for row in found.values())


def test_frames_of_before_schedules_still_work() -> None:
    runs, epochs = study_tables(("task",))
    new = ["scale", "schedule", "steps_to_target", "max_steps", "censored"]
    old, now = Statistics(runs.drop(new), epochs), Statistics(runs, epochs)
    for name in ("chosen", "verdicts", "curves", "best_curves"):
        assert getattr(old, name).equals(getattr(now, name))
    assert not old.has_offline
    assert old.lines["schedule"].unique().sort().to_list() == ["constant", "hypergradient"]


def test_offline_schedules_do_not_mix_with_the_constant_rate() -> None:
    runs, _ = schedules_tables()
    assert set(pair(runs)["schedule"]) == {"constant", "hypergradient"}
    assert lines(runs).height == runs.height
    assert sensitivity.by_rate(pair(runs), "train_loss")["runs"].unique().to_list() == [2]


def test_schedules_are_drawn_apart(tmp_path: Path) -> None:
    tables = Statistics(*schedules_tables())
    figure = schedules.draw_best(
        tables.best_curves, tables.best_seeds, tables.ceilings, "train_loss"
    )
    (axes,) = figure.axes
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert len({line.get_color() for line in thick}) == 3
    assert [line.get_linestyle() for line in thick] == ["-", "--", "--"]
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    assert len(thin) == 3 * 2
    assert len(axes.collections) == 3
    style.save(figure, tables.best_curves, tmp_path, "best")
    assert (tmp_path / "best.png").stat().st_size > 5000

    table = tables.relative["train_loss"]
    figure = schedules.draw_relative(table, tables.ceilings, "train_loss")
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(RATES)]
    assert len({line.get_color() for line in drawn}) == 4


def test_the_grid_has_three_rows_and_keeps_tasks_together() -> None:
    runs, epochs = study_tables(("one", "two"))
    tables = Statistics(runs, epochs)
    figure = grid.draw_grid(tables.curves, tables.ceilings)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["SGD\none", "Adam\none", "SGD\ntwo", "Adam\ntwo"]
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["Learning rate", "Training loss", "Validation loss"]
    for axes in figure.axes[:12]:
        styles = [line.get_linestyle() for line in axes.lines if line.get_marker() == "None"]
        assert styles.count("-") == styles.count("--") == len(RATES)
