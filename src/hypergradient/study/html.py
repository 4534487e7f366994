"""What the pages share: the report and the landscape lab's page open without a network.

A page holds everything that it needs: style, scripts and plotly's own script.
"""

from __future__ import annotations

import gzip
import shlex
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGE_STYLE = Path(__file__).parent / "report" / "templates" / "report.css"
"""The style of all pages."""

PLOTLY = PAGE_STYLE.parent / "vendor" / "plotly-cartesian.min.js"
"""plotly's script for lines, heat maps and contours, a third of the whole; see vendor/README.md."""

UNPACK = PAGE_STYLE.parent / "scripts" / "unpack.js"
"""The script of all pages that unpacks what they hold compressed, plotly above all."""


def environment(templates: Path, filters: Mapping[str, Callable[..., str]]) -> Environment:
    """Return an environment for a folder of templates, which escapes all that it is given.

    Args:
        templates: The folder.
        filters: Functions that templates call by these names.
    """
    made = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters |= filters
    return made


def asset(path: Path) -> Markup:
    """Return one of the package's own files as a part of a page, not escaped."""
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704  (our own file)


def plotly() -> Markup:
    """Return plotly's script, packed."""
    return packed(PLOTLY.read_bytes())


def packed(content: bytes) -> Markup:
    """Return content that a page holds compressed, which makes it half as large; see unpack.js."""
    return Markup(b64encode(gzip.compress(content, mtime=0)).decode())  # noqa: S704  (letters)


def command() -> str:
    """Return the command that is running, as a person typed it."""
    name = Path(sys.argv[0]).name
    words = ["python", "-m", "hypergradient"] if name == "__main__.py" else [name]
    return shlex.join([*words, *sys.argv[1:]])
