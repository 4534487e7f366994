"""The curves of two results folders beside each other. It only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    INK,
    STYLE,
    label,
    log_scale,
    numbers,
    of,
    panel_axes,
    top_of,
)
from hypergradient.study.results.beside import FOLDER

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

LINES: Final[tuple[dict[str, Any], ...]] = (
    {"color": ADAPTIVE, "ls": "-", "lw": 1.2},
    {"color": INK, "ls": (0, (3, 1.6)), "lw": 1.0},
)
"""The line of the first folder and of the second."""


def draw_beside(table: pl.DataFrame, ceiling: pl.DataFrame, metric: str, name: str) -> Figure:
    """Draw a loss or the rate over the epochs, a panel a method and task, a line a folder.

    Args:
        table: From ``results.beside.curves``.
        ceiling: From ``results.curves.ceilings``.
        metric: A value of the table's column of that name.
        name: What to call it on the axis.
    """
    table = table.filter(metric=metric)
    names = table[FOLDER].unique(maintain_order=True).to_list()
    with mpl.rc_context(STYLE):
        figure, grid = panel_axes(table)
        for (task, panel), axes in grid.items():
            here = of(table, task, panel)
            for folder, style in zip(names, LINES, strict=True):
                line = here.filter(here[FOLDER] == folder)
                axes.plot(*numbers(line, "epoch", "value"), **style)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            values = of(table, task)["value"]
            log_scale(axes, values, top_of(ceiling, metric, task, values.max()))
        label(grid, "Epoch", name)
        handles = [Line2D([], [], label=n, **s) for n, s in zip(names, LINES, strict=True)]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
