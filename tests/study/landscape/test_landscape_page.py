"""The lab's page in a real browser: it draws, it plays, and it asks nothing of the network."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from hypergradient.study.landscape import lab, search

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscape")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "STEPS", 400)
        return lab.visit(
            ["beale", "booth"], "gd,gd+", 300, False, None, None, folder, lambda _: None
        )


@pytest.fixture
def page(path):
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelectorAll('.plot .main-svg').length > 0")
        yield page
        browser.close()
    assert complaints == []
    assert requests == [path.as_uri()]


def points(page):
    """How many points each descent shows."""
    return page.evaluate(
        "[...document.querySelectorAll('#paths .plot')].map(p => p.data.filter("
        "t => t.mode === 'lines').map(t => t.x.length))"
    )


def test_it_draws_plays_and_switches(page):
    assert points(page)[0][1] > 250
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("document.getElementById('time').value = 120")
    page.dispatch_event("#time", "input")
    assert page.text_content("#step") == "step 16"
    assert points(page) == [[17, 17]]
    page.click("#play")
    page.wait_for_function("Number(document.getElementById('time').value) > 125")
    assert page.text_content("#play") == "Pause"
    page.click("#play")
    assert page.text_content("#play") == "Play"

    page.click("#paths .key button >> nth=0")
    assert len(points(page)[0]) == 1
    assert "Booth" not in page.locator("#paths h2:visible").all_text_contents()
    page.check("input[name=landscape][value='1']", force=True)
    assert page.locator("#paths h2:visible").all_text_contents() == ["Booth"]
    assert page.get_attribute("#paths .files a >> nth=0", "href") == "figures/booth-paths.pdf"
    assert page.locator("#search .panel").count() == 2
    assert page.locator("#table .scroll:visible tbody tr").count() == 2


def test_the_headline_is_computed(page):
    assert "GD+ after 291 steps" not in page.text_content(".headline")
    assert "Never so near: GD." in page.text_content(".headline")
