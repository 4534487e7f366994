"""The parts of a report, each by itself: one that cannot be made does not take the others with it.

A report is written after hours of training, so an error in a figure must not be all there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from markupsafe import Markup

from hypergradient.study.errors import as_one_line
from hypergradient.study.figures.style import save
from hypergradient.study.files import DISK_ERRORS
from hypergradient.study.report.gallery import GALLERY, asked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jinja2 import Environment

    from hypergradient.study.results.statistics import Statistics

T = TypeVar("T")


class Parts:
    """The parts of a report that could be made.

    Attributes:
        problems: A sentence for each that could not.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def attempt(self, what: str, make: Callable[[], T], otherwise: T) -> T:
        """Return what ``make`` returns, or ``otherwise`` and a problem if it raises anything.

        Args:
            what: What is made, for the problem's sentence.
            make: The function.
            otherwise: What to go on with.
        """
        try:
            return make()
        except Exception as error:  # whatever is wrong with it, the rest must be written
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            self.problems.append(f"{what} cannot be made: {as_one_line(error)}")
            return otherwise

    def possible(self, statistics: Statistics, wanted: Sequence[str]) -> list[str]:
        """Return the names of the figures to show, as ``gallery.shown`` does."""
        names = asked(statistics, wanted)
        return [
            name
            for name in names
            if self.attempt(
                f"The figure {name}", lambda name=name: GALLERY[name].possible(statistics), False
            )
        ]

    def draw(
        self, names: Sequence[str], statistics: Statistics, folder: Path, note: str
    ) -> dict[str, dict[str, Any]]:
        """Write the files of figures.

        Returns:
            The figures that could be drawn, and what the page's script needs for each.
        """

        def files(name: str) -> dict[str, Any]:
            for stem, figure, table in GALLERY[name].draw(statistics):
                save(figure, table, folder, stem, note)
            return GALLERY[name].page(statistics)

        drawn = {
            name: self.attempt(f"The figure {name}", lambda name=name: files(name), None)
            for name in names
        }
        return {name: page for name, page in drawn.items() if page is not None}

    def sections(
        self, names: Sequence[str], templates: Environment, context: dict[str, Any]
    ) -> dict[str, Markup]:
        """Return the sections of the page that could be rendered, by the names of the figures."""
        rendered = {
            name: self.attempt(
                f"The section {name}",
                lambda name=name: templates.get_template(f"sections/{name}.html").render(context),
                None,
            )
            for name in names
        }
        # The templates have escaped it.
        return {name: Markup(text) for name, text in rendered.items() if text is not None}  # noqa: S704
