"""Iterations to a target: medians of censored times, the red boundary, and published numbers."""

import math
from pathlib import Path

import polars as pl
import pytest
from figure_tables import heatmap_runs, runs_table
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection

from hypergradient.study.figures import heatmap, style
from hypergradient.study.results.convergence import (
    beside_published_steps,
    boundary,
    convergence,
    grids,
    measured,
    published_steps_summary,
    score,
)


def cell_of(steps: list[int | None], **also: object) -> dict[str, object]:
    rows = [
        {"method": "SGD", "lr": 0.1, "seed": seed, "steps_to_target": count, "max_steps": 100}
        for seed, count in enumerate(steps)
    ]
    return convergence(runs_table([row | also for row in rows])).row(0, named=True)


@pytest.mark.parametrize(
    ("steps", "median", "reached"),
    [
        ([10, 30, 20], 20, 3),
        ([10, None, 20], 20, 2),
        ([None, None, 20], None, 1),
        ([None, 20], None, 1),
        ([10, 20], 15, 2),
        ([None], None, 0),
    ],
)
def test_a_censored_time_is_longer_than_any_other(
    steps: list[int | None], median: float | None, reached: int
) -> None:
    cell = cell_of(steps)
    assert cell["steps"] == median
    assert (cell["reached"], cell["runs"]) == (reached, len(steps))


def test_a_diverged_run_never_reached_its_target() -> None:
    cell = cell_of([10, 20], status="diverged")
    assert (cell["steps"], cell["reached"], cell["diverged"]) == (None, 0, 2)


def behind_of(base: int | None, adaptive: int | None) -> bool | None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": 0.1, "steps_to_target": base, "max_steps": 100},
            {"method": "SGD-HD", "lr": 0.1, "hypergrad_lr": 1e-3, "max_steps": 100}
            | {"steps_to_target": adaptive},
        ]
    )
    return convergence(runs).filter("adaptive")["behind"].item()


@pytest.mark.parametrize(
    ("base", "adaptive", "behind"),
    [
        (5, 5, False),
        (5, 4, False),
        (5, 6, True),
        (5, None, True),
        (None, 5, False),
        (None, None, None),
    ],
)
def test_behind_is_needing_more_steps(
    base: int | None, adaptive: int | None, behind: bool | None
) -> None:
    assert behind_of(base, adaptive) is behind


def test_only_studies_with_a_target_are_measured() -> None:
    assert measured(heatmap_runs())
    old = runs_table([{"method": "SGD", "lr": 0.1, "loss": 1.0}])
    new = ["scale", "schedule", "steps_to_target", "max_steps", "censored"]
    for runs in (old, old.drop(new)):
        assert not measured(runs)
        assert convergence(runs).is_empty()


def test_score_counts_every_cell_once() -> None:
    row = score(convergence(heatmap_runs())).row(0, named=True)
    assert (row["as_good"], row["behind"], row["undecided"]) == (2, 1, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_boundary_separates_what_is_behind(behind: list[list[bool]]) -> None:
    edges = {tuple(segment) for segment in boundary(behind)}
    assert len(edges) == len(boundary(behind))
    padded = {(x, y) for y, row in enumerate(behind) for x, value in enumerate(row) if value}
    for y in range(-1, len(behind) + 1):
        for x in range(-1, 5):
            right = (x + 0.5, y - 0.5, x + 0.5, y + 0.5)
            above = (x - 0.5, y + 0.5, x + 0.5, y + 0.5)
            assert (right in edges) == (((x, y) in padded) != ((x + 1, y) in padded))
            assert (above in edges) == (((x, y) in padded) != ((x, y + 1) in padded))


def test_heat_map_shows_numbers_censored_cells_and_the_boundary(tmp_path: Path) -> None:
    cells = convergence(heatmap_runs())
    (grid,) = grids(cells)
    assert grid["lrs"] == [1e-3, 1e-2]
    assert grid["betas"] == [1e-4, 1e-2]
    figure = heatmap.draw_heatmaps([grid])
    style.save(figure, cells, tmp_path, "heatmap", "laptop scale: few")
    axes = figure.axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert sorted(shown) == sorted([">1k", "0/3", "50", ">1k", "1/3", "200", "50", "400"])
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == 2
    (lines,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert len(lines.get_segments()) == 4
    assert "laptop scale: few" in [text.get_text() for text in figure.texts]
    assert (tmp_path / "heatmap.pdf").stat().st_size > 5000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (1452, "1.5k"),
        (21239, "21k"),
        (178298, "178k"),
        (468750, "469k"),
        (1250000, "1.2M"),
        (999600, "1M"),
    ],
)
def test_counts_are_abbreviated(count: float, text: str) -> None:
    assert style.count_text(count) == text


def published(rows: list[tuple[str, str, float | None, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, ["method", "lr0", "hypergrad_lr", "iterations"], orient="row"
    ).with_columns(pl.col("lr0").cast(pl.Float64), pl.col("hypergrad_lr").cast(pl.Float64))


def test_published_steps_are_compared_where_both_reached_the_target() -> None:
    theirs = published(
        [
            ("sgd", "1e-2", None, "20"),
            ("sgd", "1e-3", None, ">468750"),
            ("sgd_hd", "1e-2", 1e-4, "50"),
            ("sgd_hd", "1e-2", 1e-2, "4000"),
            ("sgd_hd", "1e-3", 1e-2, "999"),
            ("adam", "1e-3", None, "3"),
        ]
    )
    table = beside_published_steps(convergence(heatmap_runs()), theirs)
    assert table.height == 5
    rows = {(row["method"], row["lr"], row["hypergrad_lr"]): row for row in table.to_dicts()}
    assert rows["SGD", 1e-2, None]["log_ratio"] == pytest.approx(1)
    both_lost = rows["SGD", 1e-3, None]
    assert (both_lost["our_limit"], both_lost["their_limit"]) == (1000, 468750)
    assert both_lost["agrees"]
    # We had not reached it after 1000 steps, they had after 999: both cannot be true.
    assert not rows["SGD-HD", 1e-3, 1e-2]["agrees"]
    found = {row["method"]: row for row in published_steps_summary(table).to_dicts()}
    assert (found["SGD"]["compared"], found["SGD"]["censored"], found["SGD"]["agree"]) == (1, 1, 1)
    assert found["SGD-HD"]["median"] == pytest.approx(0.5)
    assert found["SGD-HD"]["largest"] == pytest.approx(1)


def test_swapping_ours_and_theirs_leaves_the_median_ratio() -> None:
    cells = convergence(heatmap_runs()).filter(~pl.col("adaptive"))
    for ours, theirs in ((200, 20), (20, 200)):
        changed = cells.with_columns(steps=pl.lit(float(ours)))
        table = beside_published_steps(changed, published([("sgd", "1e-2", None, str(theirs))]))
        assert published_steps_summary(table)["median"].item() == pytest.approx(math.log10(10))


def test_numbers_of_another_kind_are_not_compared() -> None:
    losses = pl.DataFrame({"method": ["sgd"], "lr0": [1e-2], "hypergrad_lr": [None], "epoch": [1]})
    assert beside_published_steps(convergence(heatmap_runs()), losses).is_empty()
