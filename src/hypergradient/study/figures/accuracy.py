"""Our accuracies beside published ones. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergradient.study.figures.style import ADAPTIVE, FAINT, INK, PAGE, STYLE, blank

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def draw_accuracies(table: pl.DataFrame) -> Figure:
    """Draw a row a setting, and a column a task: a dot a seed, and what was published.

    Args:
        table: From `results.accuracy.beside_published_accuracies`.
    """
    tasks = table["task"].unique(maintain_order=True).to_list()
    rows = table["row"].unique(maintain_order=True).to_list()
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 0.9 + 0.2 * len(rows)))
        panels = figure.subplots(1, len(tasks), sharex=True, sharey=True, squeeze=False)[0]
        for axes, task in zip(panels, tasks, strict=True):
            for row in table.filter(task=task).iter_rows(named=True):
                y = rows.index(row["row"])
                axes.plot(row["values"], [y] * len(row["values"]), "o", ms=3, mew=0, color=ADAPTIVE)
                axes.plot([row["paper"]], [y], "o", ms=5.5, mfc="none", mew=0.7, color=INK)
                if row["rerun"] is not None:
                    axes.plot([row["rerun"]], [y], "x", ms=4, mew=0.7, color=FAINT)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            if len(tasks) > 1:
                axes.set_title(task, parse_math=False, fontweight="bold")
        panels[0].set_yticks(range(len(rows)), [f" {row}" for row in rows])  # wider when printed
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        for label in panels[0].get_yticklabels():
            label.set_parse_math(False)
        figure.supxlabel("Validation accuracy in percent", fontsize=7)
        handles = [
            Line2D([], [], color=ADAPTIVE, ls="", marker="o", ms=3, label="ours, a dot a seed"),
            Line2D([], [], color=INK, ls="", marker="o", ms=5.5, mfc="none", label="published"),
            Line2D([], [], color=FAINT, ls="", marker="x", ms=4, label="their code, run anew"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
