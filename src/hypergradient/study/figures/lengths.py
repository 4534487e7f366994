"""The ratio to the best tuned run over the length of the training. Only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from hypergradient.study.figures.style import PAGE, STYLE, blank, numbers
from hypergradient.study.figures.untuned import line_styles
from hypergradient.study.results.untuned import MEASURES

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

APART: Final = 1.05
"""By what factor the points of two lines are apart, so that their intervals can be told apart."""


def draw_lengths(table: pl.DataFrame, scores: pl.DataFrame, measure: str) -> Figure:
    """Draw each line's mean ratio over the tasks of a length, with its interval.

    Args:
        table: From `results.untuned_lengths.by_length`.
        scores: From `results.untuned.scores`: the colours of the lines, as in the profiles.
        measure: One of `MEASURES`.
    """
    table, styles = table.filter(measure=measure), line_styles(scores, measure)
    bases = table["base"].unique().sort().to_list()
    lengths = table["length"].unique().sort().to_list()
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 0.5 + 2.2 * len(bases)))
        grid = figure.subplots(len(bases), 1, sharex=True, squeeze=False)
        for (axes,), base in zip(grid, bases, strict=True):
            parts = table.filter(base=base).partition_by("line", maintain_order=True)
            for place, part in enumerate(parts):
                style, line = styles[base, part["line"][0]], part["line"][0]
                beside = part["length"] * APART ** (place - (len(parts) - 1) / 2)
                axes.plot(beside, part["mean"], marker="o", ms=2.5, label=line, **style)
                low, high = numbers(part, "mean_low", "mean_high")
                axes.vlines(beside, low, high, color=style["color"], lw=0.7)
            axes.axhline(1, color="#a8a8a8", lw=0.8)
            axes.set(xscale="log", yscale="log")
            axes.xaxis.set_major_locator(FixedLocator(lengths))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"x{value:g}"))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_ylabel(f"{MEASURES[measure]}\nover the best tuned {base}")
            legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=6)
            for text in legend.get_texts():
                text.set_parse_math(False)
        grid[-1][0].set_xlabel("Length of the training")
    return figure
