"""The learning rate over the losses, a column an optimizer, as on a poster. Only draws."""

from __future__ import annotations

import itertools
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from hypergradient.study.figures.style import (
    INK,
    PAGE,
    STYLE,
    blank,
    log_scale,
    numbers,
    of,
    rate_bar,
    rate_colours,
    rate_handles,
    top_of,
)
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = {"lr_mean": "Learning rate"} | LOSS_LABELS

_ACROSS = 4  # columns beside each other


def draw_grid(table: pl.DataFrame, ceiling: pl.DataFrame) -> Figure:
    """Draw three rows: learning rate, training and validation loss; a line an initial rate.

    Args:
        table: From `results.curves.over_epochs`.
        ceiling: From `results.curves.ceilings`.
    """
    rates = table["lr"].unique().sort().to_list()
    colours = dict(zip(rates, rate_colours(len(rates)), strict=True))
    cells = table.select("task", "panel").unique(maintain_order=True).rows()
    bands = _bands(cells)
    across = max(map(len, bands))
    several = table["task"].n_unique() > 1
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 0.7 + 3.6 * len(bands)))
        rows = figure.subplots(3 * len(bands), across, sharex=True, squeeze=False)
        for place, axes in enumerate(rows.ravel()):
            band, column = bands[place // across // 3], place % across
            if column >= len(band):
                axes.set_visible(False)
                continue
            task, panel = band[column]
            metric = [*ROWS][place // across % 3]
            _draw_cell(axes, of(table, task, panel), metric, colours)
            same = of(table, task)[metric]
            log_scale(axes, same, top_of(ceiling, metric, task, same.max()))
            if metric == "lr_mean":
                title = f"{panel}\n{task}" if several else panel
                axes.set_title(title, parse_math=False, fontweight="bold")
            if column == 0:
                axes.set_ylabel(ROWS[metric])
            if column > 0 and band[column - 1][0] == task:
                axes.tick_params(labelleft=False)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10]))
            if place // across == len(rows) - 1:
                axes.set_xlabel("Epoch")
        figure.align_ylabels()
        figure.legend(
            handles=rate_handles(table, (INK, INK), marker=""),
            loc="outside upper center",
            ncols=2,
        )
        if len(rates) > 1:
            rate_bar(figure, [*rows.ravel()], colours)
    return figure


def _bands(cells: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Cut into bands that fit beside each other: all in one, or else each task for itself."""
    if len(cells) <= _ACROSS:
        return [cells]
    tasks = [list(group) for _, group in itertools.groupby(cells, key=itemgetter(0))]
    return [
        band[start : start + _ACROSS] for band in tasks for start in range(0, len(band), _ACROSS)
    ]


def _draw_cell(axes: Axes, table: pl.DataFrame, column: str, colours: dict[float, str]) -> None:
    for line in table.partition_by("adaptive", "lr", maintain_order=True):
        first = line.row(0, named=True)
        style: dict[str, Any] = {"color": colours[first["lr"]]}
        dashes = "-" if first["adaptive"] else (0, (3, 1.6))
        axes.plot(line["epoch"], *numbers(line, column), ls=dashes, lw=1.0, **style)
        last = line.drop_nulls(column).tail(1)
        if first["diverged"] and last.height:
            axes.plot(last["epoch"], last[column], "x", ms=3.5, mew=1, **style)
