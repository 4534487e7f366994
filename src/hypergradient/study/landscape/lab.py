"""The lab: functions x methods -> descents -> tables, figures and one page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from hypergradient.functions import FUNCTIONS
from hypergradient.study.figures.style import save
from hypergradient.study.files import as_text
from hypergradient.study.landscape import figures, tabulate
from hypergradient.study.landscape.descend import descend
from hypergradient.study.landscape.functions import find_function
from hypergradient.study.landscape.methods import METHODS, PUBLISHED, find_methods
from hypergradient.study.landscape.page import write_page
from hypergradient.study.landscape.results import Descent, Landscape
from hypergradient.study.landscape.search import best, search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hypergradient.functions import Function, Point


def visit(
    names: Sequence[str],
    methods: str,
    steps: int,
    searched: bool,
    start: Point | None,
    box: tuple[float, float, float, float] | None,
    folder: Path,
    say: Callable[[str], None],
) -> Path:
    """Explore functions and write what there is to see; the command ``hypergradient landscape``.

    Args:
        names: Of functions, see `functions.find`.
        methods: Names of methods, separated by commas.
        steps: The most steps to take.
        searched: See `explore`.
        start: Where to start from, in place of each function's own.
        box: The region to look at, in place of each function's own.
        folder: Where to write.
        say: Called with a word on what is being done.

    Returns:
        The path of the page.

    Raises:
        StudyError: What is wrong, in one line, before any descent.
    """
    wanted = find_methods(methods)
    found = {name: find_function(name, start, box) for name in names}
    return write(
        [
            explore(name, function, wanted, steps, searched=searched, say=say)
            for name, function in found.items()
        ],
        folder,
    )


def explore(
    name: str,
    function: Function,
    methods: Sequence[str],
    steps: int,
    *,
    searched: bool,
    say: Callable[[str], None] = lambda _: None,
) -> Landscape:
    """Let methods descend a function.

    Args:
        name: What to call the function's files; a reference's colons and slashes are replaced.
        function: The function.
        methods: Names in ``METHODS``.
        steps: The most steps to take.
        searched: Search each method's setting, also on Beale's function. Elsewhere nobody has
            published any, so it is always done.
        say: Called with a word on what is being done.
    """
    torch.set_num_threads(1)
    published = not searched and function.value is FUNCTIONS["beale"].value
    descents = []
    for method in methods:
        say(f"{function.title}: {METHODS[method].title}")
        tried = [] if published and method in PUBLISHED else search(function, METHODS[method])
        setting = best(tried).setting if tried else PUBLISHED[method]
        path = descend(function, METHODS[method], [setting], steps)
        descents.append(Descent(method, setting, path, tried))
    return Landscape(re.sub(r"[^\w.-]+", "-", name), function, descents)


def write(landscapes: Sequence[Landscape], folder: Path) -> Path:
    """Write folder/landscape.html and folder/figures/FUNCTION-NAME.{pdf,png,csv}.

    Returns:
        The path of the page.
    """
    for landscape in landscapes:
        drawn = folder / "figures"
        steps = tabulate.steps(landscape)
        save(figures.draw_paths(landscape), steps, drawn, f"{landscape.name}-paths")
        drawers = {"distance": figures.draw_distances, "rates": figures.draw_rates}
        if any(descent.path.momenta is not None for descent in landscape.descents):
            drawers["momentum"] = figures.draw_momenta
        for column, draw in drawers.items():
            columns = tabulate.COLUMNS[column]
            table = steps.select("method", "lr", "hypergrad_lr", "step", *columns)
            save(draw(landscape), table, drawn, f"{landscape.name}-{column}")
        if any(descent.tried for descent in landscape.descents):
            searched = figures.draw_search(landscape)
            save(searched, tabulate.tried(landscape), drawn, f"{landscape.name}-search")
    as_text(tabulate.summary(landscapes)).write_csv(folder / "summary.csv")
    return write_page(landscapes, folder)
