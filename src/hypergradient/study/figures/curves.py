"""A loss or the learning rate against the epoch. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    FREE_LABEL,
    INK,
    STYLE,
    label,
    log_scale,
    numbers,
    of,
    panel_axes,
    rate_bar,
    rate_colours,
    rate_handles,
    top_of,
)

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def draw_curves(table: pl.DataFrame, ceiling: pl.DataFrame, column: str, name: str) -> Figure:
    """Draw a loss or the learning rate against the epoch, one colour an initial rate.

    A cross ends a line at the last epoch before one of its runs diverged.

    Args:
        table: From `results.curves.over_epochs`.
        ceiling: From `results.curves.ceilings`; where it has `column`, no axis goes far above it.
        column: The column to draw.
        name: What to call it on the axis.
    """
    rates = table["lr"].drop_nulls().unique().sort().to_list()
    colours = dict(zip(rates, rate_colours(len(rates)), strict=True))
    free = {None: ADAPTIVE} if table["lr"].null_count() else {}  # methods that take no rate
    with mpl.rc_context(STYLE):
        figure, grid = panel_axes(table)
        for (task, panel), axes in grid.items():
            for line in of(table, task, panel).partition_by("adaptive", "lr", maintain_order=True):
                first = line.row(0, named=True)
                style: dict[str, Any] = {"color": (colours | free)[first["lr"]]}
                (values,) = numbers(line, column)
                axes.plot(
                    line["epoch"],
                    values,
                    ls="-" if first["adaptive"] else (0, (3, 1.6)),
                    lw=1.1 if first["adaptive"] else 0.9,
                    **style,
                )
                last = line.drop_nulls(column).tail(1)
                if first["diverged"] and last.height:
                    axes.plot(last["epoch"], last[column], "x", ms=4, mew=1.1, **style)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            values = of(table, task)[column]
            log_scale(axes, values, top_of(ceiling, column, task, values.max()))
        label(grid, "Epoch", name)
        styles = rate_handles(table, (INK, INK), marker="")
        if free and rates:
            styles.append(Line2D([], [], color=ADAPTIVE, label=FREE_LABEL))
        figure.legend(handles=styles, loc="outside upper center", ncols=3)
        if len(rates) > 1:
            rate_bar(figure, list(grid.values()), colours)
    return figure
