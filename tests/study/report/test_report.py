"""The report in a real browser: it draws, its switches work, and it asks nothing of the network."""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from figure_tables import (
    Declared,
    epochs_table,
    heatmap_runs,
    runs_table,
    schedules_tables,
    study_tables,
)
from playwright.sync_api import Page

from hypergradient.study.html import PLOTLY, plotly
from hypergradient.study.report.page import write_report

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>{{7*7}}"
)
PUBLISHED = pl.DataFrame(
    [
        {"method": method, "lr0": 1e-2, "hypergrad_lr": 1e-3, "epoch": epoch}
        | {"train_loss": 0.5 / epoch, "valid_loss": 0.6 / epoch, "mean_lr": 1e-2}
        for method in ("sgd", "sgd_hd", "adam", "adam_hd")
        for epoch in (1, 2, 3)
    ]
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(Declared(), *study_tables(), folder, published=PUBLISHED)


def traces(page: Page, figure: str) -> list[list[dict[str, Any]]]:
    """What plotly holds: the traces of each panel."""
    return page.evaluate(
        "id => [...document.querySelectorAll(`#${id} .plot`)].map(plot => plot.data.map("
        "t => ({x: t.x, y: t.y, mode: t.mode, dash: t.line?.dash, text: t.text})))",
        figure,
    )


def axis_type(page: Page, figure: str) -> set[str]:
    return set(
        page.evaluate(
            "id => [...document.querySelectorAll(`#${id} .plot`)].map(p => p.layout.yaxis.type)",
            figure,
        )
    )


def lines(page: Page, figure: str) -> list[int]:
    return [sum("lines" in t["mode"] and len(t["x"]) > 1 for t in p) for p in traces(page, figure)]


def test_every_figure_is_drawn(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    panels = {"sensitivity": 2, "curves": 2, "rate": 2, "published": 4}
    for figure, count in panels.items():
        drawn = page.locator(f"#{figure} .plot .main-svg .scatterlayer .trace")
        assert len(traces(page, figure)) == count
        assert drawn.count() >= 2 * count
    assert page.locator("#sensitivity h3").all_text_contents() == ["SGD", "Adam"]
    assert lines(page, "curves") == [6, 6]


def test_task_metric_and_scale_switches(report: Path, visit: Callable[..., Page]) -> None:
    runs, _ = study_tables()
    page = visit(report)
    held = json.loads(page.locator("#data").text_content() or "")
    assert held["tasks"] == runs["task"].unique().sort().to_list()

    assert axis_type(page, "sensitivity") == {"log"}
    page.check("#sensitivity input[value=linear]")
    assert axis_type(page, "sensitivity") == {"linear"}
    assert axis_type(page, "curves") == {"log"}

    link = page.locator("#curves .files a", has_text="CSV")
    drawing = page.locator("#curves .files a", has_text="PDF")
    assert drawing.get_attribute("href") == "figures/curves_train_loss.pdf"
    assert link.get_attribute("download") == "curves_train_loss.csv"
    page.check("#curves input[value=valid_loss]")
    assert drawing.get_attribute("href") == "figures/curves_valid_loss.pdf"
    assert link.get_attribute("download") == "curves_valid_loss.csv"

    page.evaluate("window.before = document.querySelector('#curves .plot').data")
    page.check("input[name=task][value='1']")
    assert page.evaluate("document.querySelector('#curves .plot').data !== window.before")

    assert page.locator("#summary [data-metric=valid_loss]").is_hidden()
    page.check("#summary input[value=valid_loss]")
    assert page.locator("#summary [data-metric=valid_loss]").is_visible()
    assert page.locator("#summary [data-metric=train_loss]").is_hidden()


def test_legend_hides_and_shows(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    constant = page.locator("#curves .key button", has_text="constant rate")
    rate = page.locator("#curves .key button", has_text="10⁻²")
    constant.click()
    assert lines(page, "curves") == [3, 3]
    assert constant.get_attribute("aria-pressed") == "false"
    rate.click()
    assert lines(page, "curves") == [2, 2]
    page.check("input[name=task][value='1']")
    assert lines(page, "curves") == [2, 2]
    constant.click()
    rate.click()
    assert lines(page, "curves") == [6, 6]
    assert lines(page, "rate") == [6, 6]


def test_hover_tells_the_values(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    page.locator("#sensitivity").scroll_into_view_if_needed()
    page.evaluate(
        "(() => { const plot = document.querySelector('#sensitivity .plot');"
        "const curve = plot.data.findIndex(t => t.mode === 'lines+markers');"
        "Plotly.Fx.hover(plot, [{curveNumber: curve, pointNumber: 1}]); })()"
    )
    label = page.locator("#sensitivity .hoverlayer").first
    label.get_by_text("3 seeds").wait_for()
    assert "constant rate, α₀ = 10⁻²" in (label.text_content() or "")


def test_diverged_runs_are_shown(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    sgd, adam = traces(page, "sensitivity")
    assert [t["text"] for t in sgd if t["mode"] == "text"] == [["2/3"]]
    assert [t["text"] for t in adam if t["mode"] == "text"] == []


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_width_and_follows_the_colour_scheme(
    report: Path, visit: Callable[..., Page], width: int, scheme: str
) -> None:
    page = visit(report, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = [plot.bounding_box() for plot in page.locator(".plot").all()]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)

    def colours() -> list[str]:
        return page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            "document.querySelector('#curves .plot').layout.font.color,"
            "document.querySelector('#curves .plot').data[0].line.color]"
        )

    before = colours()
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    page.wait_for_function(
        "old => document.querySelector('#curves .plot').layout.font.color !== old", arg=before[1]
    )
    assert all(a != b for a, b in zip(before, colours(), strict=True))


def test_names_are_never_markup(tmp_path: Path, visit: Callable[..., Page]) -> None:
    study = Declared(name=HOSTILE, title=HOSTILE, description=HOSTILE, source=HOSTILE)
    path = write_report(study, *study_tables((HOSTILE, "other")), tmp_path)
    page = visit(path)
    page.check("input[name=task][value='0']")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("h1").text_content() == HOSTILE
    assert page.title() == HOSTILE
    assert page.locator("#summary caption", has_text=HOSTILE).count() == 2


@pytest.fixture(scope="module")
def heatmap_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = heatmap_runs()
    published = pl.DataFrame(
        [
            {"method": "sgd", "lr0": 1e-2, "hypergrad_lr": None, "iterations": "400"},
            {"method": "sgd_hd", "lr0": 1e-2, "hypergrad_lr": 1e-2, "iterations": ">900"},
        ]
    )
    folder = tmp_path_factory.mktemp("heatmap")
    return write_report(Declared(), runs, epochs_table(runs), folder, published=published)


def test_heat_map_on_the_page(heatmap_page: Path, visit: Callable[..., Page]) -> None:
    page = visit(heatmap_page, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("section.figure").evaluate_all("all => all.map(s => s.id)") == [
        "heatmap",
        "iterations",
    ]
    assert page.locator(".scale").text_content() == (
        "Laptop scale: at most 1,000 steps, 3 seeds, batches of 8"
    )
    held = (
        "() => document.querySelector('#heatmap .plot').data"
        ".filter(t => t.type === 'heatmap').map(t => t.text)"
    )
    reached, lost = page.evaluate(held)
    assert reached == [["", "", "50", ""], ["200", "", "50", "400"]]
    assert [text.split("<br>")[0] for text in lost[0]] == [">1k", "", "", ">1k"]
    assert "1/3" in lost[0][3]

    log = page.evaluate("document.querySelector('#heatmap .plot').data[0].z")
    page.check("#heatmap input[value=linear]")
    linear = page.evaluate("document.querySelector('#heatmap .plot').data[0].z")
    assert linear[1][0] == 200
    assert 10 ** log[1][0] == pytest.approx(200)


def test_hover_over_a_heat_map_tells_the_values(
    heatmap_page: Path, visit: Callable[..., Page]
) -> None:
    page = visit(heatmap_page)
    page.locator("#heatmap").scroll_into_view_if_needed()
    box = page.locator("#heatmap .plot .nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.97 * box["width"], box["y"] + 0.25 * box["height"])
    label = page.locator("#heatmap .hoverlayer").first
    label.get_by_text("hypergradient is behind").wait_for()
    assert "400 steps, median of 3" in (label.text_content() or "")


@pytest.fixture(scope="module")
def schedules_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedules")
    study = Declared(figures=("best", "relative", "grid"))
    return write_report(study, *schedules_tables(), folder)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_schedules_on_the_page(
    schedules_page: Path, visit: Callable[..., Page], scheme: str
) -> None:
    page = visit(
        schedules_page, viewport={"width": 390, "height": 800}, color_scheme=scheme, has_touch=True
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    key = page.locator("#best .key button")
    assert key.all_text_contents() == ["constant rate", "lr-decay", "hypergradient descent"]
    # Three schedules, each with a mean, an interval and two seeds.
    assert lines(page, "best") == [12]
    key.nth(1).click()
    assert lines(page, "best") == [8]

    assert axis_type(page, "relative") == {"log"}
    page.check("#relative input[value=linear]")
    assert axis_type(page, "relative") == {"linear"}
    assert page.locator("#relative .key button").count() == 3 + 2
    beta = page.locator("#relative .key button").last
    before = lines(page, "relative")
    beta.click()
    assert sum(lines(page, "relative")) < sum(before)

    # A row each for the rate, training and validation loss, a column for each beta.
    assert len(traces(page, "grid")) == 3 * 2
    assert page.locator("#best .verdict:visible").all_text_contents() == ["better", "comparable"]
    page.check("#best input[value=valid_loss]")
    link = page.locator("#best .files a", has_text="CSV")
    assert link.get_attribute("download") == "best_valid_loss.csv"


def test_the_scale_is_on_every_figure(schedules_page: Path, report: Path) -> None:
    text = schedules_page.read_text(encoding="utf-8")
    assert text.count("Laptop scale: 3 epochs, 2 seeds") == 1 + text.count('class="figure"') == 4
    assert "Laptop scale" not in report.read_text(encoding="utf-8")  # that study has one only


def test_an_unknown_figure_is_refused_by_name(tmp_path: Path) -> None:
    study = Declared(figures=("heatmpa",))
    with pytest.raises(ValueError, match=r"'heatmpa' is not one of .*heatmap"):
        write_report(study, *study_tables(), tmp_path)


def test_page_is_one_file_with_plotly_once(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert text.count('id="plotly"') == text.count(str(plotly())) == 1
    assert gzip.decompress(b64decode(plotly())) == PLOTLY.read_bytes()
    assert len(text) < 2e6
    outside = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", outside)
    for link in re.findall(r'data-stem="([^"]+)"', text):
        assert list((report.parent / "figures").glob(f"{link}*.pdf"))


def test_files_beside_the_page(report: Path) -> None:
    names = {path.stem for path in (report.parent / "figures").iterdir()}
    assert names == {
        "sensitivity_train_loss",
        "sensitivity_valid_loss",
        "curves_train_loss",
        "curves_valid_loss",
        "curves_lr_mean",
        "published",
    }
    assert {path.name for path in report.parent.iterdir()} == {"report.html", "figures"}


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_study_in_which_nothing_went_well_still_has_a_page(tmp_path: Path, status: str) -> None:
    runs = runs_table(
        [
            {"method": method, "lr": lr, "status": status, "hypergrad_lr": 1e-3}
            for method in ("SGD", "SGD-HD")
            for lr in (0.1, 1.0)
        ]
    )
    text = write_report(Declared(), runs, epochs_table(runs), tmp_path).read_text(encoding="utf-8")
    told = "4 of 4 runs failed with an error" if status == "failed" else "4 of 4 runs diverged"
    assert told in text


def test_unequal_initial_weights_are_told(tmp_path: Path) -> None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": 0.1, "loss": 0.4, "init_hash": "one"},
            {"method": "Adam", "lr": 0.1, "loss": 0.3, "init_hash": "other"},
        ]
    )
    text = write_report(Declared(), runs, epochs_table(runs), tmp_path).read_text(encoding="utf-8")
    assert "did not all start from the same weights" in text
