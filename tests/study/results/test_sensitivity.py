"""What figures show is computed in `statistics`: its laws, on tables to be checked by hand."""

import math

import polars as pl
import pytest
from figure_tables import RATES, epochs_table, runs_table, study_tables
from scipy import stats

from hypergradient.study.results import curves, pairs, published, sensitivity


def sensitivity_of(losses: list[float | None]) -> dict[str, object]:
    """One setting's row of `sensitivity`; None is a run that diverged."""
    runs = runs_table(
        [
            {"method": "SGD", "lr": 0.1, "seed": seed, "loss": loss}
            | {"status": "diverged" if loss is None else "done"}
            for seed, loss in enumerate(losses)
        ]
    )
    return sensitivity.by_rate(pairs.pair(runs), "train_loss").row(0, named=True)


def test_interval_is_student_t_on_log10() -> None:
    row = sensitivity_of([0.01, 0.1, 1.0])
    half = stats.t.ppf(0.975, 2) * 1.0 / math.sqrt(3)
    assert row["mean"] == pytest.approx(0.1)
    assert row["low"] == pytest.approx(10 ** (-1 - half))
    assert row["high"] == pytest.approx(10 ** (-1 + half))


def test_interval_of_identical_seeds_is_the_point() -> None:
    row = sensitivity_of([0.25, 0.25, 0.25])
    assert row["low"] == pytest.approx(0.25)
    assert row["mean"] == pytest.approx(0.25)
    assert row["high"] == pytest.approx(0.25)


def test_interval_scales_with_the_loss() -> None:
    one, other = sensitivity_of([0.1, 0.2, 0.4]), sensitivity_of([0.7, 1.4, 2.8])
    for name in ("mean", "low", "high"):
        assert other[name] == pytest.approx(7 * one[name])


def test_one_seed_has_no_interval() -> None:
    row = sensitivity_of([0.3])
    assert row["mean"] == pytest.approx(0.3)
    assert row["low"] is None
    assert row["high"] is None


@pytest.mark.parametrize(
    ("losses", "diverged", "mean"),
    [([0.1, None, 0.1], 1, 0.1), ([None, None], 2, None), ([0.1, 0.1], 0, 0.1)],
    ids=["some", "all", "none"],
)
def test_diverged_runs_are_counted_and_have_no_loss(
    losses: list[float | None], diverged: int, mean: float | None
) -> None:
    row = sensitivity_of(losses)
    assert (row["runs"], row["diverged"]) == (len(losses), diverged)
    assert row["mean"] == (None if mean is None else pytest.approx(mean))
    assert (row["low"] is None) == (diverged > 0)


def test_a_diverged_run_has_no_loss_even_if_its_last_was_finite() -> None:
    runs = runs_table([{"method": "SGD", "lr": 0.1, "loss": 9.0, "status": "diverged"}])
    paired = pairs.pair(runs)
    assert sensitivity.by_rate(paired, "train_loss")["mean"].to_list() == [None]
    assert sensitivity.finals(paired, "train_loss").is_empty()


def test_failed_runs_are_left_out() -> None:
    runs = runs_table([{"method": "SGD", "lr": 0.1, "loss": 1.0, "status": "failed"}])
    assert pairs.pair(runs).is_empty()


def test_a_loss_of_zero_has_a_place_on_a_log_axis() -> None:
    row = sensitivity_of([0.0, 0.0])
    assert 0 < row["mean"] < 1e-6


def test_tables_do_not_depend_on_the_order_of_runs() -> None:
    runs, epochs = study_tables()
    shuffled = runs.sample(fraction=1, shuffle=True, seed=1)
    for compute in (
        lambda table: sensitivity.by_rate(pairs.pair(table), "train_loss"),
        lambda table: curves.over_epochs(pairs.pair(table), epochs),
    ):
        one, other = compute(runs), compute(shuffled)
        exact = pl.selectors.all() - pl.selectors.float()
        assert one.select(exact).equals(other.select(exact))
        for name in one.select(pl.selectors.float()).columns:
            assert other[name].to_list() == pytest.approx(one[name].to_list(), nan_ok=False)


def test_a_method_with_several_settings_gets_a_panel_for_each_beside_its_base() -> None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": 0.1, "loss": 1.0},
            {"method": "SGD-HD", "lr": 0.1, "loss": 1.0, "hypergrad_lr": 1e-3},
            {"method": "SGD-HD", "lr": 0.1, "loss": 1.0, "hypergrad_lr": 1e-4},
            {"method": "Adam", "lr": 0.1, "loss": 1.0},
        ]
    )
    found = pairs.pair(runs).select("panel", "method").rows()
    assert found == [
        ("SGD, β = 0.0001", "SGD"),
        ("SGD, β = 0.0001", "SGD-HD"),
        ("SGD, β = 0.001", "SGD"),
        ("SGD, β = 0.001", "SGD-HD"),
        ("Adam", "Adam"),
    ]


def test_curves_stop_where_the_first_seed_diverges() -> None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": 0.1, "seed": 0, "loss": 0.2},
            {"method": "SGD", "lr": 0.1, "seed": 1, "status": "diverged"},
        ]
    )
    table = curves.over_epochs(pairs.pair(runs), epochs_table(runs))
    assert table["epoch"].to_list() == [0, 1, 2, 3]
    assert table["train_loss"].to_list() == [pytest.approx(2.0), None, None, None]
    assert table["runs"].to_list() == [2] * 4
    assert table["diverged"].to_list() == [1] * 4


def test_curves_are_means_over_seeds() -> None:
    runs = runs_table(
        [{"method": "SGD", "lr": 0.1, "seed": seed, "loss": 0.2 * 4**seed} for seed in range(2)]
    )
    table = curves.over_epochs(pairs.pair(runs), epochs_table(runs))
    assert table["train_loss"][-1] == pytest.approx(0.4)
    assert table["lr_mean"].to_list() == pytest.approx([0.1] * 4)


@pytest.mark.parametrize(
    ("losses", "limit", "decades"),
    [
        ([1.0, 1.0, 1.0], 2.0, 2.0),
        ([3.0, 3.0, 3.0], 2.0, 0.0),
        ([10.0, 1.0, 10.0], math.sqrt(10), 1.0),
        ([1.0, None, 1.0], 2.0, 0.0),
        ([1.0, 1.0, None], 2.0, 1.0),
        ([2.0, 2.0, 2.0], 2.0, 2.0),
        ([1.0, 4.0, 4.0], 2.0, 0.5),
    ],
)
def test_width(losses: list[float | None], limit: float, decades: float) -> None:
    assert sensitivity.width(RATES, losses, limit) == pytest.approx(decades)


def test_width_grows_with_the_limit_and_not_with_the_unit_of_the_loss() -> None:
    losses = [3.0, 0.4, 0.1, 0.7, 5.0]
    rates = [10.0**power for power in range(5)]
    widths = [sensitivity.width(rates, losses, limit) for limit in (0.05, 0.1, 0.2, 1.0, 9.0)]
    assert widths == sorted(widths)
    assert widths[0] == 0
    assert widths[-1] == pytest.approx(4)
    scaled = sensitivity.width(rates, [7 * loss for loss in losses], 7 * 0.2)
    assert scaled == pytest.approx(widths[2])


def test_summary_measures_each_method_by_the_best_of_its_base() -> None:
    runs, _ = study_tables(("task",))
    table = sensitivity.summary(sensitivity.by_rate(pairs.pair(runs), "train_loss"))
    rows = {row["method"]: row for row in table.iter_rows(named=True)}
    sgd, sgd_hd, adam = rows["SGD"], rows["SGD-HD"], rows["Adam"]
    # SGD's loss at 0.1 is its lowest, but two of three seeds diverged there.
    assert sgd["best_lr"] == pytest.approx(1e-2)
    assert (sgd["diverged"], sgd["runs"]) == (2, 9)
    assert sgd["width"] == pytest.approx(math.log10(2))
    assert sgd["worst"] == pytest.approx(1.1)
    assert sgd_hd["width"] == pytest.approx(2.0)
    assert sgd_hd["at_edge"]
    assert adam["best_lr"] == pytest.approx(1e-1)
    # Flat at ten times Adam's best: never within a factor 2.
    assert rows["Adam-HD"]["width"] == 0


def test_summary_without_a_base_or_a_range_claims_no_width() -> None:
    alone = runs_table(
        [{"method": "SGD-HD", "lr": lr, "loss": 1.0, "hypergrad_lr": 1e-3} for lr in RATES]
    )
    single = runs_table([{"method": "SGD", "lr": 0.1, "loss": 1.0}])
    for runs in (alone, single):
        table = sensitivity.summary(sensitivity.by_rate(pairs.pair(runs), "train_loss"))
        assert table["width"].to_list() == [None]
        assert table["best"].to_list() == [pytest.approx(1.0)]


def test_published_numbers_are_joined_by_setting_and_epoch() -> None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": 1e-3, "loss": 0.5},
            {"method": "SGD-HD", "lr": 1e-3, "loss": 0.25, "hypergrad_lr": 1e-3},
            {"method": "SGD-HD", "lr": 1e-3, "loss": 9.0, "hypergrad_lr": 1e-5},
        ]
    )
    theirs = pl.DataFrame(
        [
            {"method": method, "lr0": 1e-3, "hypergrad_lr": 1e-3, "epoch": epoch}
            | {"train_loss": 0.5, "valid_loss": 1.0, "mean_lr": 1e-3}
            for method in ("sgd", "sgd_hd", "adam")
            for epoch in (3, 100)
        ]
    )
    table = published.beside_published(runs, epochs_table(runs), theirs)
    assert table.select("method", "metric", "epoch").rows() == [
        ("SGD", "train_loss", 3),
        ("SGD-HD", "train_loss", 3),
        ("SGD", "valid_loss", 3),
        ("SGD-HD", "valid_loss", 3),
    ]
    assert table["ratio"].to_list() == pytest.approx([1.0, 0.5, 0.5, 0.25])


def test_axes_end_where_no_run_had_exploded_yet():
    paired = pl.DataFrame({"run_id": ["a", "b"], "task": ["t", "t"]})
    epochs = pl.DataFrame(
        {
            "run_id": ["a", "a", "b", "b"],
            "epoch": [0, 1, 0, 1],
            "train_loss": [2.0, 1.0, 2.0, None],
            "valid_loss": [3.0, 1.0, 3.0, None],
            "lr_mean": [0.1, 0.2, 0.1, 1e20],
        }
    )
    row = curves.ceilings(paired, epochs).row(0, named=True)
    assert row == {"task": "t", "train_loss": 20.0, "valid_loss": 30.0, "lr_mean": 2.0}
