"""What the documentation site needs beyond mkdocs: pages from outside docs/, links, and formulas.

mkdocs calls the functions named `on_...`. README.md and its like become pages, so that they are
written once. Links to them become links to those pages. Links to source files become links to
the repository if pyproject.toml names its address, and plain text if it does not.
"""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "LOG.md": "log.md",
    "examples/README.md": "examples.md",
}
"""Files of the repository that are pages of the site, and their names there."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
IMAGE = re.compile(r'src="([^"]+)"')
FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)


def repository() -> str | None:
    """Return the repository's address, which pyproject.toml has in one place, or None."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str | None = project.get("urls", {}).get("Repository")
    return address


def relinked(text: str, folder: str, page: str) -> str:
    """Make links that are relative to a folder of the repository lead to pages of the site.

    Args:
        text: Markdown.
        folder: The folder of its file in the repository.
        page: Where the page is below docs/.
    """

    def site_path(target: str) -> str | None:
        path = posixpath.normpath(posixpath.join(folder, target))
        here = posixpath.dirname(page) or "."
        if path in PAGES:
            return posixpath.relpath(PAGES[path], here)
        if path.startswith("docs/"):
            return posixpath.relpath(path.removeprefix("docs/"), here)
        return None

    def link(match: re.Match[str]) -> str:
        sign, label, target = match.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        target, hash_, anchor = target.partition("#")
        path = site_path(target)
        if path is not None:
            return f"{sign}[{label}]({path}{hash_}{anchor})"
        address = repository()
        file = posixpath.normpath(posixpath.join(folder, target))
        return f"[{label}]({address}/blob/main/{file})" if address else label

    def image(match: re.Match[str]) -> str:
        path = None if "://" in match[1] else site_path(match[1])
        return f'src="{path}"' if path else match[0]

    pieces, end = [], 0
    for fence in [*FENCE.finditer(text), None]:  # code has no links
        prose = text[end : fence.start() if fence else None]
        pieces.append(IMAGE.sub(image, LINK.sub(link, prose)))
        if fence:
            pieces.append(fence[0])
            end = fence.end()
    return "".join(pieces)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let fences of the language `math` be formulas, as they are on GitHub."""
    fence = {"name": "math", "class": "math", "format": formula}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are written outside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = relinked(text, posixpath.dirname(source), page)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Make links of pages in docs/ that lead out of it lead to the site's pages."""
    source = page.file.src_uri
    if source in PAGES.values():
        return markdown
    return relinked(markdown, posixpath.join("docs", posixpath.dirname(source)), source)


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return LaTeX as MathML, which browsers draw without a script."""
    lines = source if r"\begin{" in source or "&" not in source else aligned(source)
    return f'<div class="formula">{convert(lines, display="block")}</div>'


def aligned(source: str) -> str:
    """Return equations as one block, aligned at each `&`."""
    return rf"\begin{{align*}}{source}\end{{align*}}"


class Docstrings(griffe.Extension):
    """Turn `.. math::`, which Sphinx and IDEs know, into formulas, and examples into code."""

    BLOCK = re.compile(r"^\.\. math::\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)
    EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            text = self.EXAMPLE.sub("Examples:", obj.docstring.value + "\n")
            text = self.BLOCK.sub(lambda found: f"```math\n{found[1].rstrip()}\n```\n\n", text)
            obj.docstring.value = text.rstrip()
