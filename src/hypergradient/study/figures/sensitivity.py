"""The final loss against the initial learning rate. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    CONSTANT,
    FREE_LABEL,
    STYLE,
    label,
    log_scale,
    numbers,
    of,
    panel_axes,
    rate_handles,
    top_of,
)
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_sensitivity(
    table: pl.DataFrame, seeds: pl.DataFrame, ceiling: pl.DataFrame, metric: str
) -> Figure:
    """Draw the final loss against the initial learning rate, with bands, and what diverged.

    Args:
        table: From `results.sensitivity.by_rate`.
        seeds: From `results.sensitivity.finals`.
        ceiling: From `results.curves.ceilings`: a loss above is drawn at the top as a triangle.
        metric: One of `LOSS_LABELS`.
    """
    free = table.filter(table["lr"].is_null())  # of methods that take no rate: a line across
    table, seeds = table.filter(table["lr"] > 0), seeds.filter(seeds["lr"] > 0)  # a log axis
    rates = table["lr"].unique().sort()
    margin = max((rates[-1] / rates[0]) ** 0.05, 1.5)
    with mpl.rc_context(STYLE):
        figure, grid = panel_axes(table, strips=_tasks_that_diverge(table))
        for (task, panel), axes in grid.items():
            here = of(table, task, panel)
            top = top_of(ceiling, metric, task, of(table, task)["mean"].max())
            for adaptive, colour in ((False, CONSTANT), (True, ADAPTIVE)):
                line = here.filter(adaptive=adaptive)
                points = of(seeds, task, panel).filter(adaptive=adaptive)
                style: dict[str, Any] = {"color": colour, "zorder": 3 if adaptive else 2}
                axes.fill_between(
                    line["lr"], *numbers(line, "low", "high"), alpha=0.16, linewidth=0, **style
                )
                axes.plot(points["lr"], points["value"], ".", ms=2.2, mew=0, alpha=0.4, **style)
                mark: dict[str, Any] = {"ls": "-" if adaptive else "--", "marker": "o", "ms": 2.4}
                axes.plot(line["lr"], *numbers(line, "mean"), **mark, **style)
                some = line.filter(line["diverged"] > 0)
                axes.plot(some["lr"], some["mean"], "o", ms=2.4, mfc="white", **style)
                _mark_exploded(axes, line, top, colour)
                _write_diverged(axes, some, 1.03 if adaptive else 1.12, colour)
            _draw_across(axes, of(free, task, panel))
            axes.set_xscale("log")
            axes.set_xlim(rates[0] / margin, rates[-1] * margin)
            axes.xaxis.set_major_locator(LogLocator(numticks=5))
            axes.xaxis.set_minor_locator(NullLocator())
            shown = [of(table, task)["mean"], of(seeds, task)["value"], of(free, task)["mean"]]
            log_scale(axes, [value for part in shown for value in part], top)
        label(grid, "Initial learning rate $\\alpha_0$", f"Final {LOSS_LABELS[metric].lower()}")
        handles = rate_handles(table, (CONSTANT, ADAPTIVE))
        if free.height:
            handles.append(Line2D([], [], color=ADAPTIVE, label=FREE_LABEL))
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _draw_across(axes: Axes, free: pl.DataFrame) -> None:
    """Draw the loss of a method that takes no rate as a line across, with its band."""
    for row in free.iter_rows(named=True):
        if row["mean"] is not None:
            axes.axhline(row["mean"], color=ADAPTIVE, zorder=3)
        if row["low"] is not None:
            axes.axhspan(row["low"], row["high"], color=ADAPTIVE, alpha=0.16, lw=0)


def _tasks_that_diverge(table: pl.DataFrame) -> set[str]:
    return set(table.filter(table["diverged"] > 0)["task"])


def _write_diverged(axes: Axes, some: pl.DataFrame, height: float, colour: str) -> None:
    style: dict[str, Any] = {"va": "bottom", "fontsize": 5, "color": colour}
    where = axes.get_xaxis_transform()
    for row in some.iter_rows(named=True):
        count = f"{row['diverged']}/{row['runs']}"
        axes.text(row["lr"], height, count, ha="center", transform=where, **style)
    if some.height:
        axes.text(0.0, height, "diverged", transform=axes.transAxes, **style)


def _mark_exploded(axes: Axes, line: pl.DataFrame, top: float | None, colour: str) -> None:
    if top is not None:
        for rate in line.filter(line["mean"] > top)["lr"]:
            axes.plot(rate, top, "^", ms=3.5, color=colour, clip_on=False)
