"""The statistics and figures of the studies gdtuo and gdtuo-towers, on tables made by hand."""

from pathlib import Path

import polars as pl
import pytest
from figure_tables import Declared, epochs_table, runs_table

from hypergradient.study.declare.load import built_in_studies, load_study
from hypergradient.study.figures.accuracy import draw_accuracies
from hypergradient.study.figures.towers import draw_towers
from hypergradient.study.report.page import write_report
from hypergradient.study.results.accuracy import SETTING, beside_published_accuracies
from hypergradient.study.results.collect import option_columns
from hypergradient.study.results.published import read_published
from hypergradient.study.results.towers import ranges, towers

PUBLISHED = pl.DataFrame(
    {
        "row": ["SGD", "SGD/SGD", "SGD/SGD/SGD", "not run"],
        "method": ["SGD", "SGD-HD", "SGD-HD", "SGD-HD"],
        "lr0": [0.1, 0.1, 0.1, 0.1],
        "hypergrad_lr": [None, 0.2, 0.2, 0.7],
        "tower": [None, None, "0.2/0.3", None],
        "rule": pl.Series([None] * 4, dtype=pl.String),  # which no run here has set
        "paper": [70.0, 80.0, 90.0, 99.0],
        "rerun": [71.0, None, 91.0, 99.0],
    }
)


SETTINGS = (("SGD", None, 0.7), ("SGD-HD", 0.2, 0.8), ("SGD-HD", 0.2, 0.9))


def accuracy_runs() -> pl.DataFrame:
    rows = [
        {"method": method, "lr": 0.1, "hypergrad_lr": beta, "seed": seed, "loss": 0.3}
        | {"valid_accuracy_final": accuracy + seed / 100}
        for seed in range(3)
        for method, beta, accuracy in SETTINGS
    ]
    tower = pl.Series("tower", [None, None, "0.2/0.3"] * 3, dtype=pl.String)
    return runs_table(rows).with_columns(tower)


def test_our_accuracies_stand_beside_the_published_ones_of_the_same_setting():
    table = beside_published_accuracies(accuracy_runs(), PUBLISHED)
    assert table["row"].to_list() == ["SGD", "SGD/SGD", "SGD/SGD/SGD"]
    assert table["ours"].to_list() == pytest.approx([71, 81, 91])
    assert table["lowest"].to_list() == pytest.approx([70, 80, 90])
    assert table["values"][2].to_list() == pytest.approx([90, 91, 92])
    assert table["seeds"].to_list() == [3, 3, 3]
    of_a_rule = PUBLISHED.with_columns(rule=pl.lit("adam"))
    assert beside_published_accuracies(accuracy_runs(), of_a_rule).is_empty()
    (axes,) = draw_accuracies(table).axes
    dots = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in dots] == [[0] * 3, [1] * 3, [2] * 3]


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_every_published_row_of_gdtuo_is_one_setting_of_the_study(scale):
    path = built_in_studies()["gdtuo"]
    study = load_study(path, scale)
    published = read_published(path.parent / study.published)
    rows = [
        {"task": run.task, "seed": run.seed, "valid_accuracy_final": 0.9, "status": "done"}
        | dict.fromkeys(SETTING)
        | {"method": run.method, **option_columns(run.hyper)}
        for run in study.runs()
    ]
    runs = pl.DataFrame(rows, infer_schema_length=None)
    table = beside_published_accuracies(runs, published)
    assert table.height == 10 * len(study.tasks)
    assert (table["seeds"] == len(study.seeds)).all()


def tower_runs() -> pl.DataFrame:
    """Height 0 is good at one start of three, height 1 at two, height 3 at all; one diverges."""
    losses = {0: (9.0, 9.0, 1.0), 1: (9.0, 1.2, 1.2), 3: (1.3, 1.3, None)}
    rows = [
        {"task": "task", "method": "SGD" if height == 0 else "SGD-HD", "base": "SGD"}
        | {"adaptive": height > 0, "hypergrad_lr": None if height == 0 else lr, "lr": lr}
        | {"status": "diverged" if loss is None else "done", "loss": loss}
        for height, of_height in losses.items()
        for lr, loss in zip((1e-3, 1e-2, 1e-1), of_height, strict=True)
    ]
    tower = pl.Series("tower", [None] * 6 + [f"{lr}/{lr}/{lr}" for lr in (1, 2, 3)])
    return runs_table(rows).with_columns(tower)


def test_from_which_starts_towers_end_well():
    table = towers(tower_runs())
    assert table["height"].to_list() == [0, 0, 0, 1, 1, 1, 3, 3, 3]
    assert table["loss"].to_list()[-1] is None
    found = ranges(table)
    assert found["height"].to_list() == [0, 1, 3]
    assert found["low"].to_list() == [0.1, 0.01, 0.001]
    assert found["high"].to_list() == [0.1, 0.1, 0.01]
    assert found["decades"].to_list() == pytest.approx([0, 1, 1])
    (axes,) = draw_towers(table).axes
    assert [line.get_label() for line in axes.lines] == ["height 0", "height 1", "height 3"]
    without = tower_runs().with_columns(tower=pl.lit(None, pl.String))
    assert towers(without).is_empty()


def test_a_report_shows_both(tmp_path: Path):
    study = Declared(figures=("accuracy", "towers"))
    runs = accuracy_runs().with_columns(base=pl.lit("SGD"), adaptive=pl.col("method") != "SGD")
    told: list[str] = []
    text = write_report(
        study, runs, epochs_table(runs), tmp_path, published=PUBLISHED, tell=told.append
    ).read_text(encoding="utf-8")
    assert not told
    assert "Beside the published accuracies" in text
    assert "Towers of step sizes" in text
    assert "<b>91.00</b>" in text
    assert "code run anew: 3 of 3 (task)." in text  # 71, 81 and 91 beside 71, 80 and 91
    assert "within 1.3 times the best loss: 0 at height 0, 0 at height 1 and 0 at height 2." in text
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"accuracy", "towers"}
