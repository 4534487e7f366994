"""Figures of a landscape: a panel for each base optimizer. Functions here only draw.

As in all figures here, a constant rate is grey and dashed, one that moves is in colour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from hypergradient.study.figures.style import ADAPTIVE, CONSTANT, INK, PAGE, STYLE, blank
from hypergradient.study.landscape.methods import METHODS
from hypergradient.study.landscape.search import STEPS, TARGET
from hypergradient.study.landscape.tabulate import TOLERANCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from hypergradient.functions import Function
    from hypergradient.study.landscape.results import Descent, Landscape

SHARED: Final = "#b8570b"

HDM: Final = "#2b8a3e"

LEARNED: Final = "#9c36b5"

LOOKS: Final[dict[str, dict[str, Any]]] = {
    "constant": {"color": CONSTANT, "ls": (0, (3, 1.6)), "zorder": 3},
    "own": {"color": ADAPTIVE, "ls": "-", "zorder": 5},
    "shared": {"color": SHARED, "ls": "-", "zorder": 4},
    "hdm": {"color": HDM, "ls": "-", "zorder": 4},
    "learned": {"color": LEARNED, "ls": "-", "zorder": 5},
}

NAMES: Final = {
    "constant": "constant rate",
    "own": "a rate for each coordinate (+)",
    "shared": "one rate for both (+ global)",
    "hdm": "one rate (hdm)",
    "learned": "and momentum (hdm)",
}

LATTICE = 201
"""Points a side for the contours."""

_SOIL = ["#a9c1d4", "#c9d8e4", "#dfe8ef", "#eff3f6", "#fafafa"]  # from the valley up

_FLAT = "#f1f1f1"

_DECADES = 7  # of height that the contours distinguish


def heights(function: Function, each_way: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return x, y and f - min f over the box, (each_way,) twice and (each_way, each_way) by y, x.

    What is lower than all but the lowest 1e-7 of the range is cut there: it has no place on a
    logarithmic scale.
    """
    x, y = (torch.linspace(*side, each_way, dtype=torch.float64) for side in function.box)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    minima = torch.tensor(function.minima, dtype=torch.float64)
    above = (function(points) - function(minima).min()).numpy()
    top = np.nanmax(above[np.isfinite(above)])
    return x.numpy(), y.numpy(), np.clip(above, top * 10.0**-_DECADES, None)


def draw_paths(landscape: Landscape) -> Figure:
    """Draw the way down over contours at equal factors of height, the minima starred."""
    function = landscape.function
    x, y, z = heights(function, LATTICE)
    levels = np.geomspace(np.nanmin(z), np.nanmax(z), 2 * _DECADES + 1)
    soil = mpl.colors.LinearSegmentedColormap.from_list("soil", _SOIL)
    shape = (function.box[1][1] - function.box[1][0]) / (function.box[0][1] - function.box[0][0])
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        across = min(2, len(_bases(landscape)))
        down = -(-len(_bases(landscape)) // across)
        side = min(PAGE / 2, 2.5)
        tall = min(max(shape, 0.5), 1.2) * side
        figure = blank((PAGE if across > 1 else PAGE * 0.6, down * (tall + 0.25) + 0.5))
        for axes, members in _panels(figure, landscape, down, across):
            norm = LogNorm(levels[0], levels[-1])
            axes.contourf(x, y, z, levels, cmap=soil, norm=norm, extend="both", zorder=1)
            axes.contour(x, y, z, levels[1:], colors="#9fb3c4", linewidths=0.3, zorder=2)
            for descent in members:
                points = descent.path.points[:, 0].numpy()
                look = LOOKS[METHODS[descent.method].kind]
                axes.plot(points[:, 0], points[:, 1], lw=1.0, **look)
                axes.plot(points[-1, 0], points[-1, 1], "o", ms=2.6, mew=0, **look | {"ls": ""})
            axes.plot(*function.start, "o", ms=3.6, mfc="white", mec=INK, mew=0.8, zorder=6)
            axes.plot(*zip(*function.minima, strict=True), "*", ms=8, mfc=INK, mec="white",
                      mew=0.6, ls="", zorder=7)  # fmt: skip
            axes.set_xlim(*function.box[0])
            axes.set_ylim(*function.box[1])
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
        _legend(figure, landscape)
    return figure


def draw_distances(landscape: Landscape) -> Figure:
    """Draw the distance from the nearest minimum against the step, both logarithmic."""
    with mpl.rc_context(STYLE):
        figure, grid = _row(landscape)
        for axes, members in grid:
            for tolerance in TOLERANCES:
                axes.axhline(tolerance, color="#c9c9c9", lw=0.6, zorder=1)
            for descent in members:
                distances = descent.path.distances[:, 0].numpy()
                axes.plot(range(len(distances)), distances, **LOOKS[METHODS[descent.method].kind])
            axes.set_yscale("log")
            axes.set_ylim(1e-6, max(_farthest(landscape) * 2, 1))
            axes.yaxis.set_major_locator(LogLocator(numticks=9))
            _step_axis(axes, landscape)
        grid[0][0].set_ylabel("Distance to the minimum")
        _legend(figure, landscape)
    return figure


def draw_rates(landscape: Landscape) -> Figure:
    """Draw the rates against the step: x solid, y dotted."""
    with mpl.rc_context(STYLE):
        figure, grid = _row(landscape, sharey=False)
        for axes, members in grid:
            for descent in members:
                kind = METHODS[descent.method].kind
                rates = descent.path.rates[:, 0].numpy()
                for i in range(2 if kind == "own" else 1):
                    look = LOOKS[kind] | ({"ls": (0, (1, 1))} if i else {})
                    axes.plot(range(len(rates)), rates[:, i], **look)
            axes.margins(y=0.08)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
            axes.yaxis.get_offset_text().set_fontsize(6)
            _step_axis(axes, landscape)
        grid[0][0].set_ylabel("Learning rate")
        coordinates = [
            Line2D([], [], color=ADAPTIVE, label="of x"),
            Line2D([], [], color=ADAPTIVE, ls=(0, (1, 1)), label="of y"),
        ]
        own = any(METHODS[descent.method].kind == "own" for descent in landscape.descents)
        _legend(figure, landscape, coordinates if own else [])
    return figure


def draw_momenta(landscape: Landscape) -> Figure:
    """Draw the momentum of the methods that learn it, against the step."""
    with mpl.rc_context(STYLE):
        figure = blank((PAGE * 0.6, 2.1))
        axes = figure.subplots()
        for descent in landscape.descents:
            if descent.path.momenta is not None:
                momenta = descent.path.momenta[:, 0].numpy()
                look = LOOKS[METHODS[descent.method].kind]
                axes.plot(range(len(momenta)), momenta, label=METHODS[descent.method].title, **look)
        axes.set_ylim(0, 1.03)
        axes.set_ylabel("Momentum")
        axes.set_title(landscape.function.title, fontweight="bold")
        _step_axis(axes, landscape)
        learned = [d.path.momenta for d in landscape.descents if d.path.momenta is not None]
        axes.set_xlim(0, max(map(len, learned)))
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_search(landscape: Landscape) -> Figure:
    """Draw the steps to the minimum over (alpha, beta), a strip over alpha for constant rates."""
    searched = [descent for descent in landscape.descents if descent.tried]
    constant = [d for d in searched if METHODS[d.method].kind == "constant"]
    moving = [d for d in searched if METHODS[d.method].kind != "constant"]
    across = min(2, max(len(moving), 1))
    down = -(-len(moving) // across)
    shades = mpl.colormaps["viridis_r"].with_extremes(bad=_FLAT)
    counts = [one.steps for d in searched for one in d.tried if one.steps]
    norm = LogNorm(min(counts, default=1), STEPS)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = blank((PAGE, 0.34 * len(constant) + 1.75 * down + 1.1))
        ratios = [0.34] * len(constant) + [1.75] * down
        layout = figure.add_gridspec(len(ratios), across, height_ratios=ratios)
        places = [figure.add_subplot(layout[i, :]) for i in range(len(constant))]
        for axes, descent in zip(places, constant, strict=True):
            _strip(axes, descent, shades, norm, last=descent is constant[-1])
        for i, descent in enumerate(moving):
            axes = figure.add_subplot(layout[len(constant) + i // across, i % across])
            _map(axes, descent, shades, norm)
            places.append(axes)
        bar = figure.colorbar(
            mpl.cm.ScalarMappable(norm, shades), ax=places, location="bottom", aspect=60,
            fraction=0.03, pad=0.02, shrink=0.7,
        )  # fmt: skip
        bar.set_label(f"Steps to within {TARGET:g} of the minimum; empty: not within {STEPS}")
        bar.outline.set_visible(False)
    return figure


def _strip(axes: Axes, descent: Descent, shades: Any, norm: LogNorm, *, last: bool) -> None:
    """Constant rates, one cell each."""
    alphas = [math.log10(one.setting.lr) for one in descent.tried]
    axes.pcolormesh(
        _edges(alphas), [0, 1], [_counts(descent)], cmap=shades, norm=norm, ec="white", lw=0.4
    )
    chosen = math.log10(descent.setting.lr)
    axes.plot(chosen, 0.5, "o", ms=3, mfc="white", mec=INK, mew=0.7)
    axes.set_yticks([0.5], [METHODS[descent.method].title])
    _powers(axes, "x", alphas)
    if last:
        axes.set_xlabel("$\\alpha$")
    else:
        axes.tick_params(labelbottom=False)
    _bare(axes)


def _map(axes: Axes, descent: Descent, shades: Any, norm: LogNorm) -> None:
    """Steps over beta and alpha, with the numbers; the one chosen is framed."""
    alphas = sorted({math.log10(one.setting.lr) for one in descent.tried})
    betas = sorted({math.log10(one.setting.hypergrad_lr) for one in descent.tried})
    steps = {
        (math.log10(one.setting.lr), math.log10(one.setting.hypergrad_lr)): count
        for one, count in zip(descent.tried, _counts(descent), strict=True)
    }
    cells = [[steps[alpha, beta] for alpha in alphas] for beta in betas]
    axes.pcolormesh(
        _edges(alphas), _edges(betas), cells, cmap=shades, norm=norm, ec="white", lw=0.6
    )
    for (alpha, beta), count in steps.items():
        if math.isfinite(count):
            dark = norm(count) > 0.45  # noqa: PLR2004
            chosen = alpha == math.log10(descent.setting.lr)
            chosen = chosen and beta == math.log10(descent.setting.hypergrad_lr)
            axes.text(
                alpha, beta, f"{count:g}", ha="center", va="center", fontsize=5.5,
                color="white" if dark else INK, fontweight="bold" if chosen else "normal",
            )  # fmt: skip
    axes.set_title(METHODS[descent.method].title, fontweight="bold")
    _powers(axes, "x", alphas)
    _powers(axes, "y", betas)
    axes.set_xlabel("$\\alpha$")
    axes.set_ylabel("$\\beta$")
    _bare(axes)


def _counts(descent: Descent) -> list[float]:
    return [math.nan if one.steps is None else max(one.steps, 1) for one in descent.tried]


def _edges(centres: list[float]) -> list[float]:
    half = (centres[1] - centres[0]) / 2
    return [centres[0] - half, *(c + half for c in centres)]


def _powers(axes: Axes, which: str, logs: list[float]) -> None:
    ticks = range(math.ceil(min(logs) - 0.01), math.floor(max(logs) + 0.01) + 1)
    getattr(axes, f"set_{which}ticks")(ticks, [f"$10^{{{tick}}}$" for tick in ticks])


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _bases(landscape: Landscape) -> list[str]:
    return list(dict.fromkeys(METHODS[descent.method].base for descent in landscape.descents))


def _panels(
    figure: Figure, landscape: Landscape, down: int, across: int, *, sharey: bool = True
) -> Iterator[tuple[Axes, list[Descent]]]:
    """Axes and descents of each base optimizer, those with constant rates drawn first."""
    places = figure.subplots(down, across, sharex=True, sharey=sharey, squeeze=False).ravel()
    bases = _bases(landscape)
    for axes in places[len(bases) :]:
        axes.set_visible(False)
    for axes, base in zip(places, bases, strict=False):
        axes.set_title(base, fontweight="bold")
        yield axes, [d for d in landscape.descents if METHODS[d.method].base == base]


def _row(
    landscape: Landscape, *, sharey: bool = True
) -> tuple[Figure, list[tuple[Axes, list[Descent]]]]:
    count = len(_bases(landscape))
    figure = blank((PAGE if count > 1 else PAGE * 0.6, 2.1))
    return figure, list(_panels(figure, landscape, 1, count, sharey=sharey))


def _farthest(landscape: Landscape) -> float:
    return max(float(descent.path.distances[0, 0]) for descent in landscape.descents)


def _step_axis(axes: Axes, landscape: Landscape) -> None:
    axes.set_xscale("symlog", linthresh=10, linscale=0.6)
    axes.set_xlim(0, max(len(descent.path.points) for descent in landscape.descents))
    axes.set_xticks([0, 10, 100, 1000, 10_000], ["0", "10", "100", "1k", "10k"])
    axes.set_xlim(0, max(len(descent.path.points) for descent in landscape.descents))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Step")


def _legend(figure: Figure, landscape: Landscape, more: list[Line2D] | None = None) -> None:
    kinds = dict.fromkeys(METHODS[descent.method].kind for descent in landscape.descents)
    handles = [
        Line2D([], [], color=LOOKS[kind]["color"], ls=LOOKS[kind]["ls"], label=NAMES[kind])
        for kind in kinds
    ]
    handles += more or []
    across = len(handles) if figure.get_figwidth() >= PAGE else 2
    figure.legend(handles=handles, loc="outside upper center", ncols=across, columnspacing=1.2)
