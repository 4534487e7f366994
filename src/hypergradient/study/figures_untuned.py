"""Ratios to the best tuned run: a map of methods and tasks, and profiles. Only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hypergradient.study.drawing import PAGE, STYLE, blank
from hypergradient.study.statistics_untuned import MEASURES, SETS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOP: Final = 100.0
"""Ratios above have the darkest colour, and are beyond a profile's right end."""

TITLES: Final = dict(zip(SETS, ("Selection tasks", "Claim tasks"), strict=True))

_DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


def draw_map(table: pl.DataFrame, scores: pl.DataFrame, measure: str) -> Figure:
    """Draw each line's ratio on each task, the mean over starts, and in small the worst start's.

    Args:
        table: From `statistics_untuned.by_task`.
        scores: From `statistics_untuned.scores`: the order of the lines, and the sets.
        measure: One of `MEASURES`.
    """
    table, order = table.filter(measure=measure), ranking(scores, measure)
    tasks = table["task"].unique(maintain_order=True).to_list()
    rows = {(row["base"], row["line"], row["task"]): row for row in table.iter_rows(named=True)}
    shown = [[rows.get((*line, task)) for task in tasks] for line in order]
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 1.5 + 0.27 * len(order)))
        axes = figure.subplots()
        values = [[np.nan if cell is None else cell["ratio"] for cell in row] for row in shown]
        norm, colours = LogNorm(1, TOP, clip=True), mpl.colormaps["YlOrBr"]
        axes.imshow(np.array(values, float), cmap=colours, norm=norm, aspect="auto")
        for y, row in enumerate(shown):
            for x, cell in enumerate(row):
                if cell is not None and cell["ratio"] is not None:
                    _write_cell(axes, x, y, cell)
        axes.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(order)), [f"{line} / {base}" for base, line in order])
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_parse_math(False)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        title = f"{MEASURES[measure]} over that of the best tuned rate: mean over starts (worst)"
        axes.set_title(title, fontweight="bold")
    return figure


def _write_cell(axes: Axes, x: int, y: int, cell: dict[str, Any]) -> None:
    colour = "white" if cell["ratio"] > TOP**0.55 else "black"
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
    axes.text(x, y - 0.14, ratio_text(cell["ratio"]), fontsize=5, **style)
    dead = f" †{cell['dead']}" if cell["dead"] else ""
    axes.text(x, y + 0.24, f"({ratio_text(cell['worst'])}){dead}", fontsize=3.6, **style)


def draw_profiles(table: pl.DataFrame, scores: pl.DataFrame, measure: str) -> Figure:
    """Draw the share of tasks and starts within a factor of the best tuned, a panel a set.

    Args:
        table: From `statistics_untuned.profile`.
        scores: From `statistics_untuned.scores`: the order of the lines.
        measure: One of `MEASURES`.
    """
    table, order = table.filter(measure=measure), ranking(scores, measure)
    colours = [mpl.colormaps["tab10"](i % 10) for i in range(len(order))]
    with mpl.rc_context(STYLE):
        sets = [name for name in SETS if name in table["set"]]
        figure = blank((PAGE, 2.9 + 0.12 * (len(order) // 4)))
        for axes, name in zip(
            figure.subplots(1, len(sets), sharey=True, squeeze=False)[0], sets, strict=True
        ):
            for place, (base, line) in enumerate(order):
                here = table.filter(set=name, base=base, line=line)
                tau = [1.0, *here["tau"].clip(lower_bound=1.0), TOP]
                share = [0.0, *here["share"], here["share"].max() or 0.0]
                style: dict[str, Any] = {"color": colours[place], "ls": _DASHES[place // 10 % 4]}
                axes.step(tau, share, where="post", label=f"{line} / {base}", **style)
            axes.set(xscale="log", xlim=(1, TOP), ylim=(0, 1.02))
            axes.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_title(TITLES[name], fontweight="bold")
            axes.set_xlabel("Factor τ of the best tuned")
            handles = axes.get_legend_handles_labels()
        figure.axes[0].set_ylabel("Share of tasks and starts within τ")
        legend = figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=5.5)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def ranking(scores: pl.DataFrame, measure: str) -> list[tuple[str, str]]:
    """Return base and line of each row, by the mean on the claim tasks, or what there is."""
    last = scores.filter(measure=measure, set=scores["set"].min())
    return last.select("base", "line").rows()


def ratio_text(ratio: float) -> str:
    """Return a ratio in few characters."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.3g}"  # noqa: PLR2004
