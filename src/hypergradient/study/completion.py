"""What the shell offers at a press of the tab key: names of studies, scales, tasks and the like.

`hypergradient --install-completion` sets it up. The shell waits for these functions, so none
of them imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer  # noqa: TC002  (typer itself looks at the types of these functions)

from hypergradient.study.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable

FUNCTIONS = (
    *("beale", "rosenbrock", "himmelblau", "booth", "three-hump-camel", "rastrigin"),
    *("styblinski-tang", "quadratic", "mccormick", "goldstein-price"),
)
"""The names in `hypergradient.functions`, which needs torch; a test holds the two together."""

DESCENTS = ("gd", "gd+", "gdm", "gdm+", "nag", "nag+", "adam", "adam+")
"""The methods of the landscape lab; each with a "+" has a version with one global rate."""


def starting_with(names: Iterable[str], incomplete: str) -> list[str]:
    """Return those of the names that begin with what was typed."""
    return [name for name in names if name.startswith(incomplete)]


def studies(incomplete: str) -> list[tuple[str, str]]:
    """Return the studies of the package, each with its title. The shell itself offers files."""
    from hypergradient.study.declare.load import built_in_studies, read_toml  # noqa: PLC0415

    known = built_in_studies()
    return [
        (name, str(read_toml(known[name])["title"])) for name in starting_with(known, incomplete)
    ]


def scales(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the scales of the study that stands on the command line."""
    from hypergradient.study.declare.load import find_study, read_toml  # noqa: PLC0415

    words = [ctx.params.get("study"), *ctx.args]  # an option without its value stops the parser
    study = next((word for word in words if word), "")
    try:
        declared = read_toml(find_study(study)).get("scale", {})
    except StudyError:  # the command will say it
        return []
    return starting_with(declared, incomplete)


def tasks(incomplete: str) -> list[str]:
    """Return the tasks of the package. The shell itself offers files."""
    from hypergradient.study.tasks.registry import TASKS  # noqa: PLC0415

    return starting_with(TASKS, incomplete)


def optimizers(incomplete: str) -> list[str]:
    """Return the methods of the package that can be compared."""
    from hypergradient.study.methods.registry import METHODS  # noqa: PLC0415

    return starting_with(METHODS, incomplete)


def functions(incomplete: str) -> list[str]:
    """Return the test functions of the landscape lab."""
    return starting_with(FUNCTIONS, incomplete)


def descents(incomplete: str) -> list[str]:
    """Return the methods of the landscape lab, after those that a list already has."""
    before, comma, last = incomplete.rpartition(",")
    chosen = before.split(",")
    return [
        f"{before}{comma}{name}" for name in starting_with(DESCENTS, last) if name not in chosen
    ]
