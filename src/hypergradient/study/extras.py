"""How to install an extra of this package, from where it runs: a checkout, or site-packages."""

from __future__ import annotations

import shlex
from pathlib import Path

SOURCE = Path(__file__).parents[1]
"""The folder of the package."""


def install(extra: str) -> str:
    """Return the command that installs an extra.

    From a checkout, `pip install 'hypergradient[study]'` would look for a release and not install
    the code that is there.
    """
    checkout = SOURCE.parents[1]
    if SOURCE.parent.name != "src" or not (checkout / "pyproject.toml").is_file():
        return f"pip install 'hypergradient[{extra}]'"
    place = "." if checkout == Path.cwd() else str(checkout)
    return f"pip install --editable {shlex.quote(f'{place}[{extra}]')}"
