"""The page on PyPI is README.md with links that lead somewhere from there."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def readme(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], str]:
    """Load hatch_build.py, whose base class only the build's own environment has."""
    interface = SimpleNamespace(MetadataHookInterface=object)
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.readme


def targets(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)


def test_with_an_address_all_links_are_whole(readme: Callable[[str, str | None], str]) -> None:
    made = readme(README, "https://example.org/us/it/")
    assert all(target.startswith("https://") for target in targets(made))
    assert len(targets(made)) == len(targets(README))
    assert "](https://example.org/us/it/blob/main/docs/untuned.md)" in made
    assert 'src="https://example.org/us/it/raw/main/docs/no-rate.png"' in made


def test_without_an_address_no_link_is_dead(readme: Callable[[str, str | None], str]) -> None:
    made = readme(README, None)
    assert all(target.startswith("https://") for target in targets(made))
    assert "MNIST-1D" not in made  # the figure went with its caption
    assert "[CONTRIBUTING.md]" not in made
    assert "CONTRIBUTING.md" in made
