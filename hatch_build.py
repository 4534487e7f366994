"""The package's page on PyPI: README.md, with links that lead somewhere from there.

PyPI shows the text alone, so links to files of the repository must be whole addresses. They begin
with `Repository` of [project.urls] in pyproject.toml, which is the one place for it. As long as no
address is given there, links to files become their text, and pictures are left out.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\[([^\]]*)\]\(((?!https?://|#|mailto:)[^)\s]+)\)")
PICTURE = re.compile(r'<p align="center"><img src="([^"]+)".*?</p>\n\n\*.*?\*\n\n', re.DOTALL)


def readme(text: str, address: str | None) -> str:
    """Return the text with whole addresses, or without links if there is none."""
    if address is None:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    base = address.rstrip("/")
    text = LINK.sub(rf"[\1]({base}/blob/main/\2)", text)
    return text.replace('<img src="docs/', f'<img src="{base}/raw/main/docs/')


class Readme(MetadataHookInterface):
    """Called by hatchling when it builds the package or installs it in editable form."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the text of PyPI's page into the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme(text, address),
        }
