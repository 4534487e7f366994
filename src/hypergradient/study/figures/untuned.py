"""Ratios to the best tuned run: a map of methods and tasks, and profiles. Only draws."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hypergradient.study.figures.style import PAGE, STYLE, blank
from hypergradient.study.results.untuned import MEASURES, SETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOP: Final = 100.0
"""Ratios above have the darkest colour, and are beyond a profile's right end."""

TITLES: Final = dict(zip(SETS, ("Selection tasks", "Claim tasks"), strict=True))

COLOURS: Final = 10  # of "tab10"

_TUNED = {"color": "#a8a8a8", "ls": (0, (4, 1.5))}

_SINGLE = tuple(
    {"color": colour, "ls": dashes}
    for colour in ("#404040", "#8a6d3b")
    for dashes in ((0, (1, 1)), (0, (4, 1, 1, 1)))
)


def draw_map(
    table: pl.DataFrame, scores: pl.DataFrame, selection: Sequence[str], measure: str
) -> Figure:
    """Draw each line's ratio on each task, the mean over starts, and in small the worst start's.

    Args:
        table: From `results.untuned.by_task`.
        scores: From `results.untuned.scores`: the order of the lines.
        selection: The tasks on which something was chosen, which come first.
        measure: One of `MEASURES`.
    """
    table, order = table.filter(measure=measure), ranking(scores, measure)
    tasks = sorted(table["task"].unique(maintain_order=True), key=lambda t: t not in selection)
    cells = {(row["base"], row["line"], row["task"]): row for row in table.iter_rows(named=True)}
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 1.5 + 0.27 * len(order)))
        axes = figure.subplots()
        values = np.full((len(order), len(tasks)), np.nan)
        for (y, line), (x, task) in itertools.product(enumerate(order), enumerate(tasks)):
            if cell := cells.get((*line, task)):
                values[y, x] = cell["ratio"]
                _write_cell(axes, x, y, cell)
        norm, colours = LogNorm(1, TOP, clip=True), mpl.colormaps["YlOrBr"]
        axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
        axes.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(order)), [line for _, line in order])
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_parse_math(False)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        gap: dict[str, Any] = {"color": "white", "lw": 4}
        axes.axvline(sum(task in selection for task in tasks) - 0.5, **gap)
        for y, (one, other) in enumerate(itertools.pairwise(order), 1):
            if one[0] != other[0]:
                axes.axhline(y - 0.5, **gap)
        title = f"{MEASURES[measure]} over the best tuned one: mean over starts (worst) †dead runs"
        figure.suptitle(title, fontsize=7, fontweight="bold")
    return figure


def _write_cell(axes: Axes, x: int, y: int, cell: dict[str, Any]) -> None:
    colour = "white" if cell["ratio"] > TOP**0.55 else "black"
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
    axes.text(x, y - 0.14, ratio_text(cell["ratio"]), fontsize=5, **style)
    dead = f" †{cell['dead']}" if cell["dead"] else ""
    axes.text(x, y + 0.24, f"({ratio_text(cell['worst'])}){dead}", fontsize=3.3, **style)


def draw_profiles(table: pl.DataFrame, scores: pl.DataFrame, measure: str) -> Figure:
    """Draw the share of tasks and starts within a factor of the best tuned.

    A row a base optimizer and a column a set of tasks. Its own rates are dashed: from the same
    starts in grey, and one rate for all tasks darker.

    Args:
        table: From `results.untuned.profile`.
        scores: From `results.untuned.scores`: the order of the lines.
        measure: One of `MEASURES`.
    """
    table, order = table.filter(measure=measure), ranking(scores, measure)
    styles = line_styles(scores, measure)
    lines: dict[str, list[str]] = {}
    for base, line in order:
        lines.setdefault(base, []).append(line)

    def draw(axes: Axes, name: str, base: str, line: str) -> None:
        here = table.filter(set=name, base=base, line=line)
        _draw_profile(axes, here, styles[base, line])

    sets = [name for name in SETS if name in table["set"]]
    told = (
        "Share of tasks and starts\n(against tuned {base})",
        "Within a factor τ of the best tuned",
    )
    return panels_of_profiles(lines, sets, draw, told, height=2.1)


def panels_of_profiles(
    lines: Mapping[str, Sequence[str]],
    sets: Sequence[str],
    draw: Callable[[Axes, str, str, str], None],
    told: tuple[str, str],
    *,
    height: float,
) -> Figure:
    """Draw profiles, a row of panels a base optimizer and a column a set of tasks.

    Args:
        lines: The lines of each base, in the order of the legend.
        sets: The sets of tasks.
        draw: Draws the profile of a set, a base and a line.
        told: What the vertical axis says, in which "{base}" stands for the base, and the other.
        height: Of a row, in inches.
    """
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 0.4 + height * len(lines)))
        grid = figure.subplots(len(lines), len(sets), sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(grid[0], sets, strict=True):
            axes.set_title(TITLES[name], fontweight="bold")
        for row, (base, of_base) in zip(grid, lines.items(), strict=True):
            for (axes, name), line in itertools.product(zip(row, sets, strict=True), of_base):
                draw(axes, name, base, line)
            legend = row[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=6)
            for text in legend.get_texts():
                text.set_parse_math(False)
            row[0].set_ylabel(told[0].format(base=base))
        for axes in grid[-1]:
            axes.set_xlabel(told[1])
    return figure


def _draw_profile(axes: Axes, here: pl.DataFrame, style: dict[str, Any]) -> None:
    if here.is_empty():
        return
    tau = [1.0, *here["tau"].clip(lower_bound=1.0), TOP]
    share = [0.0, *here["share"], here["share"].max()]
    axes.step(tau, share, where="post", label=here["line"][0], **style)
    axes.set(xscale="log", xlim=(1, TOP), ylim=(0, 1.02))
    axes.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def line_styles(scores: pl.DataFrame, measure: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return how to draw each base and line: those whose rates are fixed in greys and dashes.

    Args:
        scores: From `results.untuned.scores`.
        measure: One of `MEASURES`.
    """
    order = ranking(scores, measure)
    tuned, single = (
        set(scores.filter(kind).select("base", "line").rows()) for kind in ("tuned", "single")
    )
    styles: dict[tuple[str, str], dict[str, Any]] = dict.fromkeys(tuned, _TUNED)
    for base in {base for base, _ in order}:
        alone = [line for line in order if line in single and line[0] == base]
        free = [line for line in order if line not in tuned | single and line[0] == base]
        styles |= {line: _SINGLE[i % len(_SINGLE)] for i, line in enumerate(alone)}
        styles |= {line: _of_own(i) for i, line in enumerate(free)}
    return styles


def _of_own(i: int) -> dict[str, Any]:
    """Return a colour for the i-th line; from the eleventh on they come again, in dashes."""
    look: dict[str, Any] = {"color": mpl.colormaps["tab10"](i % COLOURS)}
    return look if i < COLOURS else {**look, "ls": (0, (3, 1))}


def ranking(scores: pl.DataFrame, measure: str) -> list[tuple[str, str]]:
    """Return base and line of each row: a base's together, by their mean on the claim tasks."""
    first = scores.filter(measure=measure, set=scores["set"].min())  # or on what there is
    return first.sort("base", "mean", maintain_order=True).select("base", "line").rows()


def ratio_text(ratio: float) -> str:
    """Return a ratio in few characters."""
    if ratio >= 1000:  # noqa: PLR2004
        return f"{ratio:.1e}".replace("e+0", "e").replace(".0e", "e")
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.3g}"  # noqa: PLR2004
