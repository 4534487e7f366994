"""Two results folders beside each other: the ratios, what is common, and what is wrong."""

from pathlib import Path

import polars as pl
import pytest
from figure_tables import epochs_table, heatmap_runs, runs_table, study_tables

from hypergradient.study.errors import StudyError
from hypergradient.study.results.beside import (
    FOLDER,
    Tables,
    beside,
    compared,
    curves,
    differences,
    measures,
    names_of,
    read_tables,
    sentences,
)
from hypergradient.study.results.write import write_tables

TRAIN = "train_loss_final"
NAMES = ("new", "old")


def scaled(tables: Tables, factor: float) -> Tables:
    """The same runs with all losses times a factor."""
    losses = pl.col("^(train|valid)_loss.*$") * factor
    return Tables(tables.runs.with_columns(losses), tables.epochs.with_columns(losses))


def test_the_ratio_is_that_of_the_losses_for_each_task_and_method() -> None:
    here = Tables(*study_tables())
    both = beside(scaled(here, 0.5), here, NAMES)
    rows = compared(both.runs, TRAIN)
    assert [(row["task"], row["panel"]) for row in rows] == [
        (task, method)
        for task in ("logreg", "mlp")
        for method in ("SGD", "SGD-HD", "Adam", "Adam-HD")
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(0.5)
        assert row["low"] == pytest.approx(row["high"]) == pytest.approx(0.5)
        new, old = row["folders"]
        assert (new[FOLDER], old[FOLDER]) == NAMES
        assert new["setting"] == old["setting"]
        assert row["same_ratio"] == pytest.approx(0.5)
    # SGD diverges at its largest rate, which is neither its best nor one of those that both have
    assert rows[0]["folders"][0]["setting"] == "lr = 0.01"
    assert (rows[0]["same"], rows[2]["same"]) == (2, 3)
    assert sentences(both.runs)[0].startswith(
        "Final training loss in new over that in old, each method at its best: 0.5, the geometric "
        "mean of 8, from 0.5 ("
    )


def test_each_folder_has_its_own_best_setting_and_seeds_are_paired() -> None:
    here = runs_table([{"method": "SGD", "lr": 0.1, "seed": s, "loss": 2.0 + s} for s in (0, 1)])
    there = runs_table(
        [{"method": "SGD", "lr": 0.2, "seed": s, "loss": 1.0 + s} for s in (1, 0, 2)]
        + [{"method": "SGD", "lr": 0.1, "seed": 0, "loss": 9.0}]
    )
    tables = [Tables(runs, epochs_table(runs)) for runs in (here, there)]
    (row,) = compared(beside(tables[0], tables[1], NAMES).runs, TRAIN)
    assert [one["setting"] for one in row["folders"]] == ["lr = 0.1", "lr = 0.2"]
    assert row["ratio"] == pytest.approx((2.0 / 1.0 * 3.0 / 2.0) ** 0.5)
    assert row["same"] == 1
    assert row["same_ratio"] == pytest.approx((2.0 * 3.0) ** 0.5 / 9.0)


def test_other_seeds_have_a_ratio_without_an_interval() -> None:
    runs = [runs_table([{"method": "SGD", "lr": 0.1, "seed": s, "loss": 2.0 + s}]) for s in (0, 2)]
    both = beside(*(Tables(each, epochs_table(each)) for each in runs), NAMES)
    (row,) = compared(both.runs, TRAIN)
    assert (row["ratio"], row["low"]) == (pytest.approx(0.5), None)


def test_curves_are_those_of_the_best_setting_of_each_folder() -> None:
    here = Tables(*study_tables())
    both = beside(scaled(here, 0.5), here, NAMES)
    table = curves(both.runs, both.epochs).filter(task="mlp", panel="SGD", metric="train_loss")
    new, old = (table.filter(pl.col(FOLDER) == name) for name in NAMES)
    assert new["epoch"].to_list() == old["epoch"].to_list() == [0, 1, 2, 3]
    assert new["value"].to_list() == pytest.approx([value / 2 for value in old["value"]])
    expected = 0.1 * 1.1  # the geometric mean over seeds, of 0.1 * 1.1**seed
    assert old["value"][-1] == pytest.approx(expected)
    assert new["seconds"].to_list() == [1, 2, 3, 4]


def test_only_common_tasks_are_kept_and_what_differs_is_told() -> None:
    here = Tables(*study_tables(("mlp", "own")))
    there = Tables(*study_tables(("logreg", "mlp")))
    there = there._replace(runs=there.runs.with_columns(torch=pl.lit("3"), epochs=pl.lit(5)))
    both = beside(here, there, NAMES)
    assert both.runs["task"].unique().to_list() == ["mlp"]
    assert both.runs["run_id"].n_unique() == both.runs.height
    assert set(both.epochs["run_id"]) <= set(both.runs["run_id"])
    assert differences(both.runs) == [("epochs", "3", "5"), ("torch", "2", "3")]


def test_steps_to_a_target_are_compared_where_a_study_has_them() -> None:
    runs = heatmap_runs()
    twice = runs.with_columns(pl.col("steps_to_target") * 2)
    both = beside(*(Tables(each, epochs_table(each)) for each in (twice, runs)), NAMES)
    assert measures(both.runs) == {"steps_to_target": "Steps to the target"}
    rows = compared(both.runs, "steps_to_target")
    assert [row["ratio"] for row in rows] == pytest.approx([2.0, 2.0])
    assert rows[0]["folders"][0]["lost"] == 0


def test_nothing_in_common_is_said_with_what_there_is() -> None:
    here, there = Tables(*study_tables(("mlp",))), Tables(*study_tables(("own",)))
    with pytest.raises(StudyError, match=r"no method on a task in common.*new has .*mlp with SGD"):
        beside(here, there, NAMES)


def test_tables_that_are_not_there_or_damaged_are_said(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"there is no folder .*gone"):
        read_tables(tmp_path / "gone")
    with pytest.raises(StudyError, match=r"there are no tables in .*runs.parquet"):
        read_tables(tmp_path)
    runs, epochs = study_tables()
    write_tables(runs, epochs, tmp_path)
    assert read_tables(tmp_path).runs.equals(runs)
    (tmp_path / "epochs.parquet").write_bytes(b"PAR1")
    with pytest.raises(StudyError, match=r"epochs.parquet is damaged"):
        read_tables(tmp_path)


def test_folders_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    assert names_of(tmp_path / "demo", tmp_path / "demo-old") == ("demo", "demo-old")
    one, other = tmp_path / "a" / "demo", tmp_path / "b" / "demo"
    assert names_of(one, other) == ("a/demo", "b/demo")
    with pytest.raises(StudyError, match="the very folder"):
        names_of(one, tmp_path / "b" / ".." / "a" / "demo")
