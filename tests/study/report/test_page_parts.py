"""What a person does on the page: sort and filter runs, take tables along, read on a phone."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from figure_tables import Declared, epochs_table, runs_table, study_tables
from playwright.sync_api import Browser, Page

from hypergradient.study.report.page import write_report
from hypergradient.study.report.run_curves import MOST_NUMBERS, MOST_POINTS, points_of, run_curves
from hypergradient.study.results.statistics import Statistics

ERROR = "RuntimeError: <b>out of memory</b>"


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """One task, SGD and SGD-HD from three rates; Free takes no rate; a run of it failed."""
    whole = study_tables(("mlp",))[0].filter(pl.col("method").str.starts_with("SGD"))
    whole = whole.with_columns(
        base=pl.lit("SGD"),
        adaptive=pl.col("method") == "SGD-HD",
        schedule=pl.when(pl.col("method") == "SGD-HD")
        .then(pl.lit("hypergradient"))
        .otherwise(pl.lit("constant")),
    )
    common = {"task": "mlp", "method": "Free", "base": "SGD", "adaptive": True}
    rows = [common | {"schedule": "constant", "seed": seed, "loss": 0.02} for seed in range(3)]
    rows.append(common | {"schedule": "constant", "seed": 3, "status": "failed", "error": ERROR})
    free = runs_table(rows).with_columns(run_id=pl.concat_str(pl.lit("free"), "seed"))
    runs = pl.concat([whole, free])
    return runs, epochs_table(runs)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(Declared(), *tables(), tmp_path_factory.mktemp("parts"))


def column(page: Page, place: int) -> list[str]:
    rows = page.locator("#every-run tbody tr:visible")
    return [row.locator("th, td").nth(place).inner_text() for row in rows.all()]


def test_runs_sort_by_a_click_and_none_is_last(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    heads = page.locator("#every-run thead th").all_inner_texts()
    place = heads.index("Training loss")
    page.locator("#every-run thead button").nth(place).click()
    up = column(page, place)
    found = [float(text) for text in up if text != "–"]
    assert found == sorted(found)
    assert up[len(found) :] == ["–"] * (len(up) - len(found)) != []
    page.locator("#every-run thead button").nth(place).click()
    down = column(page, place)
    assert [float(text) for text in down if text != "–"] == found[::-1]
    assert down[len(found) :] == up[len(found) :]


def test_runs_are_filtered_by_words(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    page.fill("#runs input", "sgd diverged")
    assert column(page, 0) == ["SGD", "SGD"]
    page.fill("#runs input", "")
    assert len(column(page, 0)) == tables()[0].height


def test_failed_runs_are_named_with_their_error(report: Path, visit: Callable[..., Page]) -> None:
    text = visit(report).locator("#runs ul.failed").inner_text()
    assert text == f"mlp, Free, seed 3: {ERROR}"


def test_contents_lead_to_each_part(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    for link in page.locator(".contents a").all():
        target = page.locator(link.get_attribute("href") or "")
        assert target.locator("h2").first.inner_text() == link.inner_text()


def test_a_method_without_a_rate_is_in_every_figure(
    report: Path, visit: Callable[..., Page]
) -> None:
    page = visit(report)
    drawn = "id => [...document.querySelectorAll(`#${id} .plot`)].map(p => p.data)"
    (panel,) = page.evaluate(drawn, "sensitivity")
    (line,) = [
        t for t in panel if t["y"][:1] == [0.02] and t.get("mode") == "lines" and t.get("text")
    ]
    assert set(line["y"]) == {0.02}
    assert line["x"][0] < 1e-3
    assert line["x"][-1] > 1e-1
    assert "Free, which takes no rate" in line["text"][0]
    for figure in ("curves", "rate"):
        (panel,) = page.evaluate(drawn, figure)
        assert sum("Free" in (trace.get("hovertemplate") or "") for trace in panel) == 1
    before = len(panel)
    page.locator("#rate .key button", has_text="Free: takes no rate").click()
    (panel,) = page.evaluate(drawn, "rate")
    assert len(panel) == before - 1
    assert (
        "Free takes no rate: its final training loss is" in page.locator(".headline").inner_text()
    )


def test_curves_over_steps_and_seconds_and_of_every_axis_has_a_title(
    report: Path, visit: Callable[..., Page]
) -> None:
    page = visit(report)
    shape = """() => {
        const { data, layout } = document.querySelector('#curves .plot');
        return [layout.xaxis.title.text, layout.yaxis.title.text, data[0].x];
    }"""
    assert page.evaluate(shape) == ["epoch", "training loss", [0, 1, 2, 3]]
    page.check("#curves input[value=step]")
    assert page.evaluate(shape) == ["step", "training loss", [0, 10, 20, 30]]
    page.check("#curves input[value=seconds]")
    page.check("#curves input[value=valid_loss]")
    assert page.evaluate(shape) == ["seconds", "validation loss", [1, 2, 3, 4]]


def test_a_mailed_page_keeps_its_tables(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    link = page.locator("#curves .files a", has_text="CSV").get_attribute("href") or ""
    rows = list(csv.DictReader(io.StringIO(unquote(link.partition(",")[2]))))
    wanted = Statistics(*tables()).curves
    assert len(rows) == wanted.height
    for row, own in zip(rows, wanted.iter_rows(named=True), strict=True):
        assert row["method"] == own["method"]
        assert row["lr"] == ("" if own["lr"] is None else str(own["lr"]))
        if own["train_loss"] is not None:
            assert float(row["train_loss"]) == pytest.approx(own["train_loss"], rel=1e-5)


def test_the_page_is_no_wider_than_a_phone(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_mailed_page_still_has_its_pictures(
    report: Path, visit: Callable[..., Page], tmp_path: Path
) -> None:
    alone = tmp_path / "mailed.html"
    alone.write_bytes(report.read_bytes())  # nothing else is beside it
    page = visit(alone)
    page.check("#curves input[value=valid_loss]")
    with page.expect_download() as given:
        page.locator("#curves a[data-panels]").click()
    assert given.value.suggested_filename == "curves_valid_loss.svg"
    given.value.save_as(tmp_path / "curves.svg")
    picture = ET.parse(tmp_path / "curves.svg").getroot()  # noqa: S314  (our own)
    assert picture.tag.endswith("svg")
    text = "".join(picture.itertext())
    assert "validation loss" in text
    titles = page.locator("#curves h3").all_text_contents()
    assert titles
    assert all(title in text for title in titles)
    lines = [node for node in picture.iter() if "js-line" in node.get("class", "")]
    assert len(lines) == page.evaluate(
        "[...document.querySelectorAll('#curves .plot .js-line')].length"
    )


def chosen(page: Page) -> list[list[dict[str, object]]]:
    """The curves of the chosen runs: the traces of each panel."""
    return page.evaluate(
        "[...document.querySelectorAll('#chosen-runs .plot')].map("
        "plot => plot.data.map(t => ({x: t.x, y: t.y, name: t.text[0]})))"
    )


def test_a_row_that_is_chosen_shows_its_runs_own_curves(
    report: Path, visit: Callable[..., Page]
) -> None:
    runs, epochs = tables()
    page = visit(report)
    box = page.locator("#chosen-runs")
    assert box.is_hidden()
    page.locator("#every-run thead button", has_text="Validation loss").click()  # in another order
    row = page.locator("#every-run tbody tr", has_text="SGD-HD").nth(2)
    heads = page.locator("#every-run thead th").all_text_contents()
    label = dict(zip(heads, row.locator("th, td").all_text_contents(), strict=True))
    row.click()
    page.wait_for_function("document.querySelectorAll('#chosen-runs .main-svg').length > 0")
    own = runs.filter(
        (pl.col("method") == "SGD-HD")
        & (pl.col("lr") == float(label["α₀"]))
        & (pl.col("seed") == int(label["Seed"]))
    )
    curve = epochs.join(own.select("run_id"), on="run_id")
    panels = chosen(page)
    for panel, name in zip(panels, ("train_loss", "valid_loss", "lr_mean"), strict=True):
        assert len(panel) == 1
        assert panel[0]["x"] == curve["epoch"].to_list()
        assert panel[0]["y"] == pytest.approx(curve[name].to_list(), rel=1e-3)

    free = page.locator("#every-run tbody tr", has_text="Free").first
    free.focus()
    page.keyboard.press("Enter")
    assert [len(panel) for panel in chosen(page)] == [2, 2, 2]
    assert free.get_attribute("aria-selected") == "true"
    row.click()
    assert [len(panel) for panel in chosen(page)] == [1, 1, 1]
    page.locator("#chosen-runs .key button").click()
    assert box.is_hidden()
    assert free.get_attribute("aria-selected") == "false"


def test_a_failed_run_that_is_chosen_shows_its_error(
    report: Path, visit: Callable[..., Page]
) -> None:
    page = visit(report)
    page.locator("#every-run tbody tr", has_text="failed").click()
    assert page.locator("#chosen-runs .failed").text_content() == ERROR
    assert page.locator("#chosen-runs .panels").is_hidden()


def test_a_page_without_an_unpacker_says_so(report: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(report.as_uri())
    page.wait_for_selector("text=This browser cannot unpack the figures")
    page.close()


def test_the_curves_of_many_runs_are_thinned() -> None:
    assert points_of(1) == MOST_POINTS
    assert points_of(2000) * 2000 * 4 <= MOST_NUMBERS
    runs = runs_table([{"method": "SGD", "lr": 0.1, "seed": seed} for seed in range(500)])
    long = pl.DataFrame({"epoch": range(400)}).with_columns(
        pl.lit("run7").alias("run_id"),
        train_loss=pl.col("epoch") / 7,
        valid_loss=1.0,
        lr_mean=pl.lit(None, pl.Float64),
    )
    drawn = run_curves(runs, long)
    assert drawn["thinned"] == points_of(500) == 40
    assert drawn["runs"][0]["epoch"] == []
    curve = drawn["runs"][7]
    assert len(curve["epoch"]) == 40
    assert (curve["epoch"][0], curve["epoch"][-1]) == (0, 399)
    assert curve["train_loss"][-1] == 57.0
    assert curve["lr_mean"] == [None] * 40
    assert run_curves(runs, long.head(40))["thinned"] is None
