"""Figures for a paper: each function draws one table, `save` writes PDF, PNG and CSV.

What is drawn is computed in `statistics`. Dashed lines are base optimizers with a constant rate,
solid ones hypergradient descent, as in the papers. Names of tasks and methods are drawn as they
are: no character in them is markup.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from hypergradient.study.statistics import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    import polars as pl
    from matplotlib.axes import Axes

CONSTANT: Final = "#7d7d7d"
ADAPTIVE: Final = "#0f62a8"
LABELS: Final = {False: "constant rate", True: "hypergradient descent"}

_PAGE, _COLUMN = 5.5, 3.3  # inches: the text width of ICLR and NeurIPS, one column of two
_ACROSS = 3  # panels beside each other
_INK = "#262626"
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#9a9a9a",
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.color": "#9a9a9a",
    "ytick.color": "#9a9a9a",
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 1.1,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}


def rate_colours(count: int, *, dark: bool = False) -> list[str]:
    """Colours for learning rates in ascending order: viridis, without the end that fades away.

    Args:
        count: How many; a single rate gets the colour of hypergradient descent.
        dark: For a dark background.

    Returns:
        Hexadecimal colours.
    """
    if count == 1:
        return ["#6cb2f5" if dark else ADAPTIVE]
    start, end = (0.28, 1.0) if dark else (0.0, 0.86)
    steps = (start + (end - start) * i / (count - 1) for i in range(count))
    return [to_hex(mpl.colormaps["viridis"](step)) for step in steps]


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
    with mpl.rc_context(_STYLE):
        figure, grid = _panels(table, strips=_tasks_that_diverge(table))
        for (task, panel), axes in grid.items():
            here = _of(table, task, panel)
            top = _top(ceiling, metric, task, _of(table, task)["mean"].max())
            for adaptive, colour in ((False, CONSTANT), (True, ADAPTIVE)):
                line = here.filter(adaptive=adaptive)
                points = _of(seeds, task, panel).filter(adaptive=adaptive)
                style: dict[str, Any] = {"color": colour, "zorder": 3 if adaptive else 2}
                axes.fill_between(
                    line["lr"], *_numbers(line, "low", "high"), alpha=0.16, linewidth=0, **style
                )
                axes.plot(points["lr"], points["value"], ".", ms=2.2, mew=0, alpha=0.4, **style)
                mark: dict[str, Any] = {"ls": "-" if adaptive else "--", "marker": "o", "ms": 2.4}
                axes.plot(line["lr"], *_numbers(line, "mean"), **mark, **style)
                some = line.filter(line["diverged"] > 0)
                axes.plot(some["lr"], some["mean"], "o", ms=2.4, mfc="white", **style)
                _mark_exploded(axes, line, top, colour)
                _write_diverged(axes, some, 1.03 if adaptive else 1.12, colour)
            axes.set_xscale("log")
            axes.set_xlim(rates[0] / margin, rates[-1] * margin)
            axes.xaxis.set_major_locator(LogLocator(numticks=5))
            axes.xaxis.set_minor_locator(NullLocator())
            _log_scale(axes, [*_of(table, task)["mean"], *_of(seeds, task)["value"]], top)
        _label(grid, "Initial learning rate $\\alpha_0$", f"Final {LOSSES[metric].lower()}")
        handles = [_handle(adaptive, (CONSTANT, ADAPTIVE)[adaptive]) for adaptive in LABELS]
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
    with mpl.rc_context(_STYLE):
        figure, grid = _panels(table)
        for (task, panel), axes in grid.items():
            for line in _of(table, task, panel).partition_by("adaptive", "lr", maintain_order=True):
                first = line.row(0, named=True)
                style: dict[str, Any] = {"color": colours[first["lr"]]}
                (values,) = _numbers(line, column)
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
            values = _of(table, task)[column]
            _log_scale(axes, values, _top(ceiling, column, task, values.max()))
        _label(grid, "Epoch", name)
        styles = [_handle(adaptive, _INK, marker="") for adaptive in LABELS]
        figure.legend(handles=styles, loc="outside upper center", ncols=2)
        if len(rates) > 1:
            _rate_bar(figure, list(grid.values()), colours)
    return figure


def draw_published(table: pl.DataFrame) -> Figure:
    """Draw our losses over published ones, a row a loss and a column a method.

    Args:
        table: From `statistics.beside_published`.
    """
    with mpl.rc_context(_STYLE):
        cells = table.select("task", "method").unique(maintain_order=True).rows()
        size = (_PAGE if len(cells) > 1 else _COLUMN, 2.9)
        figure = _figure(size)
        grid = figure.subplots(len(LOSSES), len(cells), sharex=True, sharey="row", squeeze=False)
        several = table["task"].n_unique() > 1
        for row, (metric, name) in zip(grid, LOSSES.items(), strict=True):
            for axes, (task, method) in zip(row, cells, strict=True):
                line = table.filter(task=task, method=method, metric=metric)
                axes.plot(line["epoch"], line["theirs"], "o", ms=3, mfc="none", mew=0.7, color=_INK)
                axes.plot(line["epoch"], line["ours"], color=ADAPTIVE)
                same = table.filter(metric=metric)
                _log_scale(axes, [*same["ours"], *same["theirs"]])
                axes.xaxis.set_major_locator(MaxNLocator(2, integer=True, steps=[1, 2, 5, 10]))
                if metric == next(iter(LOSSES)):
                    title = f"{method}\n{task}" if several else method
                    axes.set_title(title, parse_math=False, fontweight="bold")
            row[0].set_ylabel(name)
        figure.supxlabel("Epoch", fontsize=7)
        handles = [
            Line2D([], [], color=ADAPTIVE, label="ours"),
            Line2D([], [], color=_INK, ls="", marker="o", ms=3, mfc="none", label="published"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def save(figure: Figure, table: pl.DataFrame, folder: Path, name: str) -> None:
    """Write folder/name.pdf, .png (300 dots an inch) and .csv (the table behind the figure)."""
    folder.mkdir(parents=True, exist_ok=True)
    undated: dict[str, Any] = {"metadata": {"CreationDate": None}}
    with mpl.rc_context(_STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it is laid out: not again for each format
        _replace(folder / f"{name}.pdf", lambda part: figure.savefig(part, format="pdf", **undated))
        _replace(folder / f"{name}.png", lambda part: figure.savefig(part, format="png", dpi=300))
    _replace(folder / f"{name}.csv", table.write_csv)


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    part = target.with_name(f".{target.name}.part")
    write(part)
    part.replace(target)


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(
    table: pl.DataFrame, *, strips: Collection[str] = ()
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Axes by task and panel: tasks below each other, the panels of one beside each other.

    Tasks in `strips` have room for two lines of text above their axes.
    """
    tasks = {
        task: part["panel"].unique(maintain_order=True).to_list()
        for (task,), part in table.group_by("task", maintain_order=True)
    }
    across = min(_ACROSS, max(map(len, tasks.values())))
    rows = [
        (task, panels[start : start + across])
        for task, panels in tasks.items()
        for start in range(0, len(panels), across)
    ]
    height = sum(1.55 + 0.18 * (task in strips) for task, _ in rows)
    figure = _figure((_PAGE if across > 1 else _COLUMN, 0.75 + height))
    axes = figure.subplots(len(rows), across, sharey="row", squeeze=False)
    grid = {}
    for line, (task, panels) in zip(axes, rows, strict=True):
        for place, panel in zip(line, panels, strict=False):
            place.set_title(
                panel, pad=18 if task in strips else 5, parse_math=False, fontweight="bold"
            )
            grid[task, panel] = place
        for place in line[len(panels) :]:
            place.set_visible(False)
        line[0].set_ylabel("\n".join(textwrap.wrap(task, 26)), parse_math=False)
    return figure, grid


def _label(grid: dict[tuple[str, str], Axes], x: str, y: str) -> None:
    for axes in grid.values():
        where = axes.get_subplotspec()
        if where is not None and where.is_last_row():
            axes.set_xlabel(x)
        if axes.get_ylabel():
            axes.set_ylabel(f"{axes.get_ylabel()}\n{y}", parse_math=False)


def _rate_bar(figure: Figure, axes: Sequence[Axes], colours: dict[float, str]) -> None:
    count = len(colours)
    scale = mpl.cm.ScalarMappable(
        BoundaryNorm([i - 0.5 for i in range(count + 1)], count),
        ListedColormap([*colours.values()]),
    )
    bar = figure.colorbar(
        scale,
        ax=axes,
        location="bottom",
        aspect=60,
        fraction=0.03,
        pad=0.02,
        shrink=0.7,
        label="Initial learning rate $\\alpha_0$",
        ticks=range(count),
    )
    bar.ax.set_xticklabels([_rate(rate) for rate in colours])
    bar.ax.tick_params(length=0)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def _of(table: pl.DataFrame, task: str, panel: str | None = None) -> pl.DataFrame:
    return table.filter(task=task) if panel is None else table.filter(task=task, panel=panel)


def _numbers(table: pl.DataFrame, *columns: str) -> list[Any]:
    return [table[column].cast(float).to_numpy() for column in columns]


def _handle(adaptive: bool, colour: str, marker: str = "o") -> Line2D:
    style = "-" if adaptive else "--"
    return Line2D([], [], color=colour, ls=style, marker=marker, ms=2.4, label=LABELS[adaptive])


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


def _top(ceiling: pl.DataFrame, metric: str, task: str, largest: Any) -> float | None:
    """The ceiling, if anything is above it."""
    here = ceiling.filter(task=task)
    if metric not in ceiling.columns or here.is_empty() or largest is None:
        return None
    limit = here[metric].item()
    return limit if limit is not None and largest > limit else None


def _log_scale(axes: Axes, values: Iterable[float | None], top: float | None = None) -> None:
    """Scale the y axis to the values, and not to bands: one of two seeds may span 100 decades."""
    axes.set_yscale("log")
    positive = [value for value in values if value is not None and value > 0]
    low, high = min(positive, default=0.1), top or max(positive, default=1.0)
    margin = max((high / low) ** 0.05, 1.02)
    axes.set_ylim(low / margin, high if top else high * margin)
    narrow = high / low < 50  # noqa: PLR2004
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    power = LogFormatterMathtext()
    axes.yaxis.set_major_formatter(
        power if high / low > 1e3 else FuncFormatter(lambda value, _: f"{value:g}")  # noqa: PLR2004
    )


def _rate(rate: float) -> str:
    """A power of ten as such, any other rate as it is."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"$10^{{{int(exponent)}}}$" if float(mantissa) == 1 else f"{rate:g}"
