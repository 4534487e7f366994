"""The documents are code that ran: every Python block of theirs, and every docstring example."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import hypergradient

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [m.name for m in pkgutil.walk_packages(hypergradient.__path__, "hypergradient.")]


def source(module: str) -> str:
    """The text of a module."""
    place = importlib.util.find_spec(module)
    return Path(str(place and place.origin)).read_text(encoding="utf-8")


def blocks(document: Path) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d)], ids=lambda d: d.name)
def test_python_blocks_run(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypergradient.study.run.plan.ROUND_SECONDS", 0.001)
    monkeypatch.setattr("hypergradient.study.figures.style.DOTS", 20)
    namespace: dict[str, object] = {}
    for block in blocks(document):  # one after another, as a reader would type them
        exec(compile(block, str(document), "exec"), namespace)  # noqa: S102


def test_the_readme_has_blocks() -> None:
    assert blocks(ROOT / "README.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("name", [name for name in MODULES if ">>>" in source(name)])
def test_docstring_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_every_public_optimizer_has_an_example() -> None:
    for name in hypergradient.__all__:
        finder = doctest.DocTestFinder(recurse=False)
        assert any(t.examples for t in finder.find(getattr(hypergradient, name))), name
