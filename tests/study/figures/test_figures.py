"""Figures as files: they are there, show what the tables hold, and names in them are only names."""

from pathlib import Path

import matplotlib.image
import polars as pl
import pytest
from figure_tables import RATES, epochs_table, runs_table, study_tables
from matplotlib.figure import Figure

from hypergradient.study.figures import style
from hypergradient.study.figures.curves import draw_curves
from hypergradient.study.figures.sensitivity import draw_sensitivity
from hypergradient.study.results import curves, pairs, sensitivity

HOSTILE = r"$\frac{x_{$ <b>&</b> {0} %s"


def drawn(runs: pl.DataFrame, epochs: pl.DataFrame) -> tuple[Figure, Figure, pl.DataFrame]:
    paired = pairs.pair(runs)
    ceilings = curves.ceilings(paired, epochs)
    table = sensitivity.by_rate(paired, "train_loss")
    finals = sensitivity.finals(paired, "train_loss")
    means = curves.over_epochs(paired, epochs)
    return (
        draw_sensitivity(table, finals, ceilings, "train_loss"),
        draw_curves(means, ceilings, "train_loss", "Training loss"),
        table,
    )


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title]]


def test_files_are_written_whole(tmp_path: Path) -> None:
    sensitivity, curves, table = drawn(*study_tables())
    for name, figure in (("one", sensitivity), ("two", curves)):
        style.save(figure, table, tmp_path / "figures", name)
    folder = tmp_path / "figures"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{suffix}" for name in ("one", "two") for suffix in ("csv", "pdf", "png")
    )
    assert (folder / "one.pdf").read_bytes().startswith(b"%PDF-")
    assert pl.read_csv(folder / "one.csv").height == table.height
    for name in ("one", "two"):
        picture = matplotlib.image.imread(folder / f"{name}.png")
        assert picture.shape[1] == pytest.approx(300 * 5.5, abs=2)
        assert len({tuple(pixel) for pixel in picture.reshape(-1, 4)[::7].tolist()}) > 50


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        figure, _, table = drawn(*study_tables())
        style.save(figure, table, tmp_path / folder, "one")
    for suffix in ("pdf", "png", "csv"):
        one, other = (tmp_path / folder / f"one.{suffix}" for folder in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()


def test_diverged_runs_are_written_above_their_panel() -> None:
    figure, _, _ = drawn(*study_tables(("task",)))
    assert words(figure).count("2/3") == 1
    clean = study_tables(("task",))[0].filter(pl.col("status") == "done")
    figure, _, _ = drawn(clean, epochs_table(clean))
    assert not any("/" in word for word in words(figure))


def test_a_line_that_diverges_ends_in_a_cross() -> None:
    _, curves, _ = drawn(*study_tables(("task",)))
    crosses = [line for axes in curves.axes for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == 1
    assert list(crosses[0].get_xdata()) == [0]


def test_a_loss_that_exploded_does_not_flatten_the_others() -> None:
    losses = zip(RATES, (1.0, 0.1, 1e30), strict=True)
    runs = runs_table([{"method": "SGD", "lr": lr, "loss": loss} for lr, loss in losses])
    figure, _, _ = drawn(runs, epochs_table(runs))
    (axes,) = figure.axes
    assert axes.get_ylim()[1] == pytest.approx(20)  # ten times the loss before training
    marks = [line for line in axes.lines if line.get_marker() == "^"]
    assert [line.get_xdata()[0] for line in marks] == [RATES[-1]]


def test_lines_are_dashed_for_the_base_and_solid_for_hypergradient_descent() -> None:
    _, curves, _ = drawn(*study_tables(("task",)))
    for axes in curves.axes[:2]:
        styles = [line.get_linestyle() for line in axes.lines if line.get_marker() == "None"]
        assert styles == ["--"] * len(RATES) + ["-"] * len(RATES)


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    sensitivity, curves, table = drawn(*study_tables((HOSTILE, "_hidden")))
    for number, figure in enumerate((sensitivity, curves)):
        style.save(figure, table, tmp_path, str(number))
        shown = " ".join(axes.get_ylabel().replace("\n", " ") for axes in figure.axes)
        assert HOSTILE in shown
        assert "_hidden" in shown


def test_no_text_overlaps_or_is_cut_off(tmp_path: Path) -> None:
    sensitivity, curves, table = drawn(*study_tables())
    shared = style.blank((5.5, 2.4))
    for axes in shared.subplots(1, 2):
        axes.plot([1, 2])
    shared.supxlabel("A label below both panels", fontsize=7)
    for figure, note in ((sensitivity, ""), (curves, ""), (shared, "a note " * 30)):
        style.save(figure, table, tmp_path, "one", note)
        assert_apart(figure)


def assert_apart(figure: Figure) -> None:
    """Assert that no text is cut off or overlaps another."""
    renderer = figure.canvas.get_renderer()
    texts = [*figure.texts, *(axes.title for axes in figure.axes)]
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(limits)
            texts += [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts
        if text.get_text() and text.get_visible()
    ]
    width, height = figure.canvas.get_width_height()
    for place, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 <= box.y0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        for other_text, other in boxes[:place]:
            assert not box.overlaps(other), (text, other_text)


@pytest.mark.parametrize("dark", [False, True])
def test_rate_colours_ascend_in_lightness_and_stand_out(*, dark: bool) -> None:
    colours = style.rate_colours(7, dark=dark)
    light = [luminance(colour) for colour in colours]
    assert light == sorted(light)
    paper = luminance("#15171a" if dark else "#fcfcfb")
    for value in light:
        contrast = (max(value, paper) + 0.05) / (min(value, paper) + 0.05)
        assert contrast > 1.5


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
