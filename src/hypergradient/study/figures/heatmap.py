"""Iterations to a target as heat maps. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hypergradient.study.figures.style import (
    INK,
    PAGE,
    STYLE,
    blank,
    count_text,
    rate_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEHIND: Final = "#d1242f"

MAP: Final = "viridis_r"

GAP: Final = 0.35
"""Between the strip of the base and the map, in cells."""

_UNKNOWN = "#e9e9e9"


def draw_heatmaps(grids: list[dict[str, Any]]) -> Figure:
    """Draw a map of steps to the target over (beta, alpha_0), a strip of the base beside it.

    A red line surrounds the cells where hypergradient descent is behind its base.

    Args:
        grids: From `results.convergence.grids`.
    """
    across = min(2, len(grids))
    down = -(-len(grids) // across)
    columns = 1 + max(len(grid["betas"]) for grid in grids)
    rows = max(len(grid["lrs"]) for grid in grids)
    wide = PAGE if across > 1 or columns > 7 else 3.6  # noqa: PLR2004
    cell = wide / across / (columns + 2.4)
    several = len({grid["task"] for grid in grids}) > 1
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = blank((wide, down * (0.85 * cell * rows + 0.62) + 0.75))
        norm = _norm(grids)
        places = figure.subplots(down, across, squeeze=False).ravel()
        for axes, grid in zip(places, grids, strict=False):
            _draw_map(axes, grid, norm)
            title = f"{grid['task']}: {grid['panel']}" if several else grid["panel"]
            axes.set_title(title, parse_math=False, fontweight="bold")
        for axes in places[len(grids) :]:
            axes.set_visible(False)
        colours = mpl.cm.ScalarMappable(norm, mpl.colormaps[MAP])
        bar = figure.colorbar(
            colours, ax=[*places], location="bottom", aspect=50, fraction=0.04, pad=0.03, shrink=0.7
        )
        bar.set_label("Steps to the target, median over seeds")
        bar.outline.set_visible(False)
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))
        bar.ax.xaxis.set_minor_locator(NullLocator())
        figure.legend(
            handles=[
                Line2D([], [], color=BEHIND, lw=1.6, label="behind its base optimizer"),
                Patch(facecolor=_UNKNOWN, edgecolor="#bdbdbd", hatch="////", label="not reached"),
            ],
            loc="outside upper center",
            ncols=2,
        )
    return figure


def shades(count: int = 11) -> list[str]:
    """Return colours of the map at even distances, from the fewest steps to the most."""
    return [to_hex(mpl.colormaps[MAP](place / (count - 1))) for place in range(count)]


def _norm(grids: list[dict[str, Any]]) -> LogNorm:
    steps = [
        cell["steps"]
        for grid in grids
        for row in grid["cells"]
        for cell in row
        if cell and cell["steps"] is not None
    ]
    low, high = min(steps, default=1.0), max(steps, default=10.0)
    return LogNorm(max(low, 1.0), max(high, 2 * low, 2.0))


def _draw_map(axes: Axes, grid: dict[str, Any], norm: LogNorm) -> None:
    columns = 1 + len(grid["betas"])
    for y, row in enumerate(grid["cells"]):
        for x, cell in enumerate(row):
            if cell is not None:
                _draw_cell(axes, _shifted(x), y, cell, norm)
    lines = [[(_shifted(x0), y0), (_shifted(x1), y1)] for x0, y0, x1, y1 in grid["boundary"]]
    axes.add_collection(
        LineCollection(lines, colors=BEHIND, lw=1.6, capstyle="projecting", clip_on=False)
    )
    axes.set_xlim(-0.5, _shifted(columns - 1) + 0.5)
    axes.set_ylim(-0.5, len(grid["lrs"]) - 0.5)
    betas = [rate_text(beta) for beta in grid["betas"]]
    axes.set_xticks([_shifted(x) for x in range(columns)], ["base", *betas])
    axes.set_yticks(range(len(grid["lrs"])), [rate_text(lr) for lr in grid["lrs"]])
    axes.tick_params(length=0)
    axes.set_xlabel("$\\beta$ of hypergradient descent")
    axes.set_ylabel("$\\alpha_0$")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _shifted(x: float) -> float:
    """Where column x is: the map stands a little apart from the strip of the base."""
    return x + GAP if x > 0 else x


def _draw_cell(axes: Axes, x: float, y: float, cell: dict[str, Any], norm: LogNorm) -> None:
    reached = cell["steps"] is not None
    colour = mpl.colormaps[MAP](norm(cell["steps"])) if reached else _UNKNOWN
    style: dict[str, Any] = {} if reached else {"hatch": "////", "edgecolor": "#cfcfcf"}
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, lw=0, **style))
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="white", lw=0.6))
    ink = INK
    if reached and _luminance(colour) < 0.35:  # noqa: PLR2004
        ink = "white"
    text = count_text(cell["steps"]) if reached else f">{count_text(cell['max_steps'])}"
    some = cell["reached"] < cell["runs"] and cell["runs"] > 1
    axes.text(x, y + 0.14 * some, text, ha="center", va="center", fontsize=5.6, color=ink)
    if some:
        share = f"{cell['reached']}/{cell['runs']}"
        axes.text(x, y - 0.25, share, ha="center", va="center", fontsize=4.6, color=ink)


def _luminance(colour: Any) -> float:
    red, green, blue = colour[:3]
    return float(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)
