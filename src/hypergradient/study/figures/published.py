"""Our losses over published ones. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    COLUMN,
    INK,
    PAGE,
    STYLE,
    blank,
    log_scale,
)
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def draw_published(table: pl.DataFrame) -> Figure:
    """Draw our losses over published ones, a row a loss and a column a method.

    Args:
        table: From `results.published.beside_published`.
    """
    with mpl.rc_context(STYLE):
        cells = table.select("task", "method").unique(maintain_order=True).rows()
        size = (PAGE if len(cells) > 1 else COLUMN, 2.9)
        figure = blank(size)
        grid = figure.subplots(
            len(LOSS_LABELS), len(cells), sharex=True, sharey="row", squeeze=False
        )
        several = table["task"].n_unique() > 1
        for row, (metric, name) in zip(grid, LOSS_LABELS.items(), strict=True):
            for axes, (task, method) in zip(row, cells, strict=True):
                line = table.filter(task=task, method=method, metric=metric)
                axes.plot(line["epoch"], line["theirs"], "o", ms=3, mfc="none", mew=0.7, color=INK)
                axes.plot(line["epoch"], line["ours"], color=ADAPTIVE)
                same = table.filter(metric=metric)
                log_scale(axes, [*same["ours"], *same["theirs"]])
                axes.xaxis.set_major_locator(MaxNLocator(2, integer=True, steps=[1, 2, 5, 10]))
                if metric == next(iter(LOSS_LABELS)):
                    title = f"{method}\n{task}" if several else method
                    axes.set_title(title, parse_math=False, fontweight="bold")
            row[0].set_ylabel(name)
        figure.supxlabel("Epoch", fontsize=7)
        handles = [
            Line2D([], [], color=ADAPTIVE, label="ours"),
            Line2D([], [], color=INK, ls="", marker="o", ms=3, mfc="none", label="published"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
