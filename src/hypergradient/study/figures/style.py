"""What the figures share: style, axes, colours, scales, and `save`, which writes PDF, PNG and CSV.

Dashed lines are base optimizers, solid ones adapt their rate, as in the papers. Names of tasks
and methods are drawn as they are: no character in them is markup.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatterMathtext,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from hypergradient.study.files import as_text, atomic_write
from hypergradient.study.results.pairs import HYPERGRADIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    import polars as pl
    from matplotlib.axes import Axes

CONSTANT: Final = "#7d7d7d"

ADAPTIVE: Final = "#0f62a8"

CONSTANT_LABEL: Final = "constant rate"

HYPERGRADIENT_LABEL: Final = "hypergradient descent"

ADAPTIVE_LABEL: Final = "adaptive rate"
"""The label of adaptive lines, where some of them adapt in another way."""

FREE_LABEL: Final = "takes no rate"
"""The label of methods that start from no rate that a person chooses."""

PAGE, COLUMN = 5.5, 3.3  # inches: the text width of ICLR and NeurIPS, one column of two

ACROSS = 3  # panels beside each other

ALPHA: Final = "Initial learning rate $\\alpha_0$"

DOTS = 300  # an inch, of PNG files

INK = "#262626"

FAINT = "#6a6a6a"

STYLE: Final[dict[Any, Any]] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
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
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 1.1,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
}


def rate_colours(count: int, *, dark: bool = False) -> list[str]:
    """Return colours for learning rates in ascending order: viridis, without its faint end.

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


def save(figure: Figure, table: pl.DataFrame, folder: Path, name: str, note: str = "") -> None:
    """Write folder/name.pdf, .png (300 dots an inch) and .csv (the table behind the figure).

    Args:
        figure: What to write; it is laid out here.
        table: What the figure shows.
        folder: Where to write; made if need be.
        name: The files' name without its suffix.
        note: A line to put below the figure, such as the study's scale.
    """
    folder.mkdir(parents=True, exist_ok=True)
    undated: dict[str, Any] = {"metadata": {"CreationDate": None}}
    with mpl.rc_context(STYLE):
        bottom = _write_below(figure, note) if note else 0.0
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it is laid out: not again for each format
        if label := figure.get_supxlabel():  # for which room was made above the note, but not used
            figure.supxlabel(label, y=bottom + 0.01, fontsize=7)
        _replace(folder / f"{name}.pdf", lambda part: figure.savefig(part, format="pdf", **undated))
        _replace(folder / f"{name}.png", lambda part: figure.savefig(part, format="png", dpi=DOTS))
    _replace(folder / f"{name}.csv", lambda part: part.write_text(as_text(table).write_csv()))


def _write_below(figure: Figure, note: str) -> float:
    """Write a note below a figure, and return the share of the height that it takes."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(note, int(22 * width))
    room = 0.02 + 0.1 * len(lines)
    figure.set_size_inches(width, height + room)
    share: float = room / (height + room)
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, share, 1, 1 - share))
    text = "\n".join(lines)
    figure.text(
        0.5,
        0.02 / height,
        text,
        ha="center",
        va="bottom",
        fontsize=6,
        color=FAINT,
        parse_math=False,
    )
    return share


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    with atomic_write(target) as partial:
        write(partial)


def blank(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel_axes(
    table: pl.DataFrame, *, strips: Collection[str] = ()
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Return axes by task and panel: tasks below each other, panels beside each other.

    Tasks in `strips` have room for two lines of text above their axes.
    """
    tasks = {
        task: part["panel"].unique(maintain_order=True).to_list()
        for (task,), part in table.group_by("task", maintain_order=True)
    }
    across = min(ACROSS, max(map(len, tasks.values())))
    rows = [
        (task, panels[start : start + across])
        for task, panels in tasks.items()
        for start in range(0, len(panels), across)
    ]
    height = sum(1.55 + 0.18 * (task in strips) for task, _ in rows)
    figure = blank((PAGE if across > 1 else COLUMN, 0.75 + height))
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
        line[0].set_ylabel("\n".join(textwrap.wrap(task, 20)), parse_math=False)
    return figure, grid


def label(grid: dict[tuple[str, str], Axes], x: str, y: str) -> None:
    for axes in grid.values():
        where = axes.get_subplotspec()
        if where is not None and where.is_last_row():
            axes.set_xlabel(x)
        if axes.get_ylabel():
            axes.set_ylabel(f"{axes.get_ylabel()}\n{y}", parse_math=False)


def rate_bar(
    figure: Figure, axes: Sequence[Axes], colours: dict[float, str], name: str = ALPHA
) -> None:
    """Draw the key of colours for rates below all axes."""
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
        label=name,
        ticks=range(count),
    )
    bar.ax.set_xticklabels([rate_text(rate) for rate in colours])
    bar.ax.tick_params(length=0)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def of(table: pl.DataFrame, task: str, panel: str | None = None) -> pl.DataFrame:
    return table.filter(task=task) if panel is None else table.filter(task=task, panel=panel)


def numbers(table: pl.DataFrame, *columns: str) -> list[Any]:
    return [table[column].cast(float).to_numpy() for column in columns]


def rate_labels(table: pl.DataFrame) -> tuple[str, str]:
    """Return what to call the lines of a table that are not adaptive, and those that are."""
    adaptive = table.filter("adaptive")
    rated = adaptive.drop_nulls("lr") if "lr" in table.columns else adaptive
    schedules = (rated if rated.height else adaptive)["schedule"]
    moving = HYPERGRADIENT_LABEL if (schedules == HYPERGRADIENT).all() else ADAPTIVE_LABEL
    return CONSTANT_LABEL, moving


def rate_handles(table: pl.DataFrame, colours: tuple[str, str], marker: str = "o") -> list[Line2D]:
    """Return the entries of a legend for the lines of a table, dashed and solid."""
    looks = zip(rate_labels(table), colours, ("--", "-"), strict=True)
    return [
        Line2D([], [], color=colour, ls=style, marker=marker, ms=2.4, label=label)
        for label, colour, style in looks
    ]


def top_of(ceiling: pl.DataFrame, metric: str, task: str, largest: Any) -> float | None:
    """Return the ceiling of a task's axis, or None if nothing is above it."""
    here = ceiling.filter(task=task)
    if metric not in ceiling.columns or here.is_empty() or largest is None:
        return None
    limit = here[metric].item()
    return limit if limit is not None and largest > limit else None


def log_scale(axes: Axes, values: Iterable[float | None], top: float | None = None) -> None:
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


def rate_text(rate: float) -> str:
    """Return a rate as text: a power of ten as such, any other rate as it is."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"$10^{{{int(exponent)}}}$" if float(mantissa) == 1 else f"{rate:g}"


def count_text(count: float) -> str:
    """Return a count as text with two or three digits, thousands as k and millions as M."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * unit:
            digits = ".2g" if count < 99.5 * unit else ".0f"
            return f"{count / unit:{digits}}{suffix}"
    return f"{count:.0f}"
