"""`report --beside`: one page that shows two results folders, in a browser and from the command."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from figure_tables import Declared, study_tables
from playwright.sync_api import Page

from hypergradient.study.report.page import write_report
from hypergradient.study.results.beside import Tables, beside


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here, there = Tables(*study_tables()), Tables(*study_tables())
    both = beside(here, there, ("new", "old"))
    folder = tmp_path_factory.mktemp("beside")
    return write_report(Declared(figures=("beside",)), *both, folder, name="beside-old.html")


def drawn(page: Page) -> list[list[int]]:
    return page.evaluate(
        "[...document.querySelectorAll('#beside .plot')].map(p => p.data.map(t => t.x.length))"
    )


def test_every_method_has_a_panel_with_a_line_a_folder(
    report: Path, visit: Callable[..., Page]
) -> None:
    page = visit(report)
    assert page.locator("#beside h3").all_text_contents() == ["SGD", "SGD-HD", "Adam", "Adam-HD"]
    assert drawn(page) == [[4, 4]] * 4
    page.locator("#beside .key button", has_text="old").click()
    assert drawn(page) == [[4]] * 4
    page.check("#beside input[value=lr_mean]")
    page.check("#beside input[value=valid_loss]")
    heads = page.locator("#beside [data-metric=valid_loss] thead th").all_text_contents()
    assert heads[:4] == ["Method", "new", "old", "Ratio"]
    row = page.locator("#beside [data-metric=valid_loss] tbody tr").first
    assert row.locator("td").nth(2).text_content() == "1"


def test_its_table_of_runs_has_those_of_both(report: Path, visit: Callable[..., Page]) -> None:
    page = visit(report)
    page.fill("input[data-filters=every-run]", "old SGD-HD logreg")
    assert page.locator("#every-run tbody tr:visible").count() == 9
    page.locator("#every-run tbody tr:visible").first.click()
    page.wait_for_function("document.querySelectorAll('#chosen-runs .main-svg').length > 0")
    assert "folder old" not in (page.locator("#chosen-runs .key").text_content() or "")
    assert "old" in (page.locator("#chosen-runs .key").text_content() or "")


def test_the_command_writes_a_page_of_its_own(command, study_file, tmp_path) -> None:
    file = study_file()
    with pytest.MonkeyPatch.context() as patch:  # pages that nobody looks at take long
        patch.setattr("hypergradient.study.report.page.write_report", lambda *_, **__: None)
        command("run", file, "--workers", 1)
        study_file(epochs=3)
        command("run", file, "--out", "longer", "--workers", 1)
    own = tmp_path / "results/small/report.html"
    own.write_text("its own page")
    code, shown, complaint = command("report", file, "--out", "longer", "--beside", "results/small")
    assert (code, complaint) == (0, "")
    assert shown.splitlines()[-1] == "beside: longer/beside-small.html"
    text = (tmp_path / "longer/beside-small.html").read_text(encoding="utf-8")
    assert "Final training loss in longer over that in small" in text
    assert re.search(r"epochs</th><td>3</td><td>2</td>", text)
    assert (tmp_path / "longer/figures/beside_train_loss.pdf").exists()
    assert own.read_text() == "its own page"

    code, _, complaint = command("report", file, "--out", "longer", "--beside", "results/smal")
    assert code == 2
    assert complaint.startswith("there is no folder results/smal")
