"""Figures of any study: sensitivity, curves, published numbers. Functions here only draw.

What is drawn is computed in `statistics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from hypergradient.study.drawing import (
    ADAPTIVE,
    COLUMN,
    CONSTANT,
    INK,
    LABELS,
    PAGE,
    STYLE,
    blank,
    handle,
    label,
    log_scale,
    numbers,
    of,
    panel_axes,
    rate_bar,
    rate_colours,
    top_of,
)
from hypergradient.study.statistics import LOSSES

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_sensitivity(
    table: pl.DataFrame, seeds: pl.DataFrame, ceiling: pl.DataFrame, metric: str
) -> Figure:
    """Draw the final loss against the initial learning rate, with bands, and what diverged.

    Args:
        table: From `statistics.sensitivity`.
        seeds: From `statistics.finals`.
        ceiling: From `statistics.ceilings`: a loss above is drawn at the top as a triangle.
        metric: One of `LOSSES`.
    """
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
            axes.set_xscale("log")
            axes.set_xlim(rates[0] / margin, rates[-1] * margin)
            axes.xaxis.set_major_locator(LogLocator(numticks=5))
            axes.xaxis.set_minor_locator(NullLocator())
            log_scale(axes, [*of(table, task)["mean"], *of(seeds, task)["value"]], top)
        label(grid, "Initial learning rate $\\alpha_0$", f"Final {LOSSES[metric].lower()}")
        handles = [handle(adaptive, (CONSTANT, ADAPTIVE)[adaptive]) for adaptive in LABELS]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def draw_curves(table: pl.DataFrame, ceiling: pl.DataFrame, column: str, name: str) -> Figure:
    """Draw a loss or the learning rate against the epoch, one colour an initial rate.

    A cross ends a line at the last epoch before one of its runs diverged.

    Args:
        table: From `statistics.curves`.
        ceiling: From `statistics.ceilings`; where it has `column`, no axis goes far above it.
        column: The column to draw.
        name: What to call it on the axis.
    """
    rates = table["lr"].unique().sort().to_list()
    colours = dict(zip(rates, rate_colours(len(rates)), strict=True))
    with mpl.rc_context(STYLE):
        figure, grid = panel_axes(table)
        for (task, panel), axes in grid.items():
            for line in of(table, task, panel).partition_by("adaptive", "lr", maintain_order=True):
                first = line.row(0, named=True)
                style: dict[str, Any] = {"color": colours[first["lr"]]}
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
        styles = [handle(adaptive, INK, marker="") for adaptive in LABELS]
        figure.legend(handles=styles, loc="outside upper center", ncols=2)
        if len(rates) > 1:
            rate_bar(figure, list(grid.values()), colours)
    return figure


def draw_published(table: pl.DataFrame) -> Figure:
    """Draw our losses over published ones, a row a loss and a column a method.

    Args:
        table: From `statistics.beside_published`.
    """
    with mpl.rc_context(STYLE):
        cells = table.select("task", "method").unique(maintain_order=True).rows()
        size = (PAGE if len(cells) > 1 else COLUMN, 2.9)
        figure = blank(size)
        grid = figure.subplots(len(LOSSES), len(cells), sharex=True, sharey="row", squeeze=False)
        several = table["task"].n_unique() > 1
        for row, (metric, name) in zip(grid, LOSSES.items(), strict=True):
            for axes, (task, method) in zip(row, cells, strict=True):
                line = table.filter(task=task, method=method, metric=metric)
                axes.plot(line["epoch"], line["theirs"], "o", ms=3, mfc="none", mew=0.7, color=INK)
                axes.plot(line["epoch"], line["ours"], color=ADAPTIVE)
                same = table.filter(metric=metric)
                log_scale(axes, [*same["ours"], *same["theirs"]])
                axes.xaxis.set_major_locator(MaxNLocator(2, integer=True, steps=[1, 2, 5, 10]))
                if metric == next(iter(LOSSES)):
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
