"""Our iterations to a target beside published ones. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    CONSTANT,
    FAINT,
    INK,
    STYLE,
    blank,
)

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

_NEAR = 10**0.2  # the band in which the published times are called reproduced


def draw_steps_published(table: pl.DataFrame) -> Figure:
    """Draw our times against the published ones, a panel a method; censored ones as triangles.

    Args:
        table: From `results.convergence.beside_published_steps`.
    """
    with mpl.rc_context(STYLE):
        cells = table.select("task", "method").unique(maintain_order=True).rows()
        across = min(3, len(cells))
        down = -(-len(cells) // across)
        figure = blank((0.4 + 1.75 * across, 0.6 + 1.75 * down))
        places = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
        names = ("ours", "our_limit", "theirs", "their_limit")
        values = [value for name in names for value in table[name].drop_nulls()]
        ends = (min(values) / 1.6, max(values) * 1.6)
        for axes, (task, method) in zip(places, cells, strict=False):
            part = table.filter(task=task, method=method)
            axes.plot(ends, ends, color=FAINT, lw=0.6)
            low, high = ([end * factor for end in ends] for factor in (1 / _NEAR, _NEAR))
            axes.fill_between(ends, low, high, color=FAINT, alpha=0.12, lw=0)
            colour = ADAPTIVE if part["adaptive"][0] else CONSTANT
            for row in part.iter_rows(named=True):
                mark = "o" if row["log_ratio"] is not None else "^" if row["ours"] is None else ">"
                x, y = row["theirs"] or row["their_limit"], row["ours"] or row["our_limit"]
                axes.plot(x, y, mark, ms=3, mfc=colour, mew=0, alpha=0.8)
            axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(numticks=6))
                axis.set_minor_locator(NullLocator())
            title = f"{method}\n{task}" if table["task"].n_unique() > 1 else method
            axes.set_title(title, parse_math=False, fontweight="bold")
        for axes in places[len(cells) :]:
            axes.set_visible(False)
        figure.supxlabel("Published steps to the target", fontsize=7)
        figure.supylabel("Ours", fontsize=7)
        figure.legend(
            handles=[
                Patch(color=FAINT, alpha=0.2, lw=0, label="within $10^{0.2}$ of the published"),
                Line2D([], [], ls="", marker="^", color=INK, ms=3, label="not reached"),
            ],
            loc="outside upper center",
            ncols=2,
        )
    return figure
