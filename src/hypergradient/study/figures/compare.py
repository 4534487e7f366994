"""Optimizers beside a tuned rival: final values by rate, curves and rates. It only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.ticker import LogLocator, NullLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    CONSTANT,
    PAGE,
    STYLE,
    blank,
    log_scale,
    numbers,
)
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hypergradient.study.results.statistics import Statistics

COLOURS: Final = (ADAPTIVE, "#5b3fa0", "#1f8a70", "#c4581b", "#a0508f", "#8f7300")
"""The colours of contenders, in the order of the study. The rival is grey."""

AXES: Final = {"epoch": "Epoch", "step": "Step", "seconds": "Seconds"}


def colours_of(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the colour of each method."""
    others = dict.fromkeys(row["method"] for row in rows if not row["is_rival"])
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(others)}
    return colours | {row["method"]: CONSTANT for row in rows if row["is_rival"]}


def draw_compare(statistics: Statistics, metric: str = "valid_loss", x: str = "epoch") -> Figure:
    """Draw a metric at the end against the rate, and it and the rates over the training.

    Args:
        statistics: All there is to draw.
        metric: A column of ``epochs``.
        x: "epoch", "step" or "seconds".

    Raises:
        ValueError: There is no such metric or axis.
    """
    names = statistics.metrics
    if metric not in names or x not in AXES:
        raise ValueError(
            f"{metric!r} over {x!r}: choose a metric of {', '.join(names)} and an axis of "
            f"{', '.join(AXES)}"
        )
    colours = colours_of(statistics.contest)
    ends, curves = statistics.at_the_end.filter(metric=metric), statistics.over_training
    tasks = list(dict.fromkeys(row["task"] for row in statistics.contest))
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 0.5 + 1.9 * len(tasks)))
        grid = figure.subplots(len(tasks), 3, squeeze=False)
        for line, task in zip(grid, tasks, strict=True):
            _ends(line[0], ends.filter(task=task), colours)
            _curves(line[1], curves.filter(task=task), colours, metric, x)
            best = curves.filter("is_best", task=task)
            _curves(line[2], best, colours, "lr_mean", x)
            line[0].set_xlabel("Learning rate")
            line[0].set_ylabel(f"Final {names[metric][:1].lower()}{names[metric][1:]}")
            line[1].set_ylabel(names[metric])
            line[2].set_ylabel("Learning rate")
            if len(tasks) > 1:
                line[0].set_title(task, parse_math=False, loc="left")
            for axes in line[1:]:
                axes.set_xlabel(AXES[x])
            finals = ends.filter(task=task)["mean"].drop_nulls()
            start = curves.filter(task=task, epoch=0)[metric].drop_nulls().to_list()
            if metric in LOSS_LABELS and (finals > 0).all() and finals.len():
                shown = [*finals, *curves.filter(task=task)[metric].drop_nulls()]
                top = 2 * max(start, default=max(shown))
                limit = [value for value in shown if value <= top]
                log_scale(line[0], limit)
                log_scale(line[1], limit)
            log_scale(line[2], best["lr_mean"].drop_nulls())
        handles, labels = grid[0][1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
    return figure


def _ends(axes: Axes, ends: pl.DataFrame, colours: dict[str, str]) -> None:
    """Draw final values: a point a rate, and a line across for a method without a rate."""
    for part in ends.partition_by("method", maintain_order=True):
        colour = colours[part["method"][0]]
        rated = part.filter(part["lr"] > 0).sort("lr")
        free = part.filter(part["lr"].is_null())
        if rated.height:
            dashed = not part["adaptive"][0]
            axes.plot(
                *numbers(rated, "lr", "mean"), "o", ls="--" if dashed else "-", ms=2.6, color=colour
            )
            axes.vlines(*numbers(rated, "lr", "low", "high"), color=colour, lw=0.8)
        for row in free.iter_rows(named=True):
            if row["mean"] is not None:
                axes.axhline(row["mean"], color=colour, lw=1.2)
            if row["low"] is not None:
                axes.axhspan(row["low"], row["high"], color=colour, alpha=0.14, lw=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_minor_locator(NullLocator())


def _curves(axes: Axes, curves: pl.DataFrame, colours: dict[str, str], column: str, x: str) -> None:
    """Draw the best setting of each method, and the others faintly."""
    for part in curves.partition_by("method", "schedule", "setting", maintain_order=True):
        row = part.row(0, named=True)
        best = bool(row["is_best"])
        axes.plot(
            *numbers(part, x, column),
            ls="-" if row["adaptive"] else (0, (3, 1.6)),
            color=colours[row["method"]],
            lw=1.2 if best else 0.7,
            alpha=1 if best else 0.4,
            label=(f"{row['name']}, {row['setting']}" if row["lr"] else row["name"])
            if best
            else None,
            zorder=3 if best else 2,
        )
