"""The share of tasks whose target is reached within a factor of the fastest. Only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

from hypergradient.study.figures.style import PAGE, STYLE, blank
from hypergradient.study.figures.untuned import TITLES, line_styles
from hypergradient.study.results.time_to_target import MOST
from hypergradient.study.results.untuned import SETS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

_RIVAL: Final = {"color": "black", "ls": (0, (4, 1.5))}


def draw_times(
    profile: pl.DataFrame, time_scores: pl.DataFrame, scores: pl.DataFrame, measure: str
) -> Figure:
    """Draw for each base optimizer and set of tasks how soon methods reach the tuned rival's loss.

    Args:
        profile: From `results.time_to_target.profile`.
        time_scores: From `results.time_to_target.scores`: the order of the lines.
        scores: From `results.untuned.scores`: their colours, as in the other profiles.
        measure: One of `results.time_to_target.TARGETS`.
    """
    profile, order = profile.filter(measure=measure), time_scores.filter(measure=measure)
    styles = line_styles(scores, measure)
    bases = order["base"].unique().sort().to_list()
    sets = [name for name in SETS if name in order["set"]]
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 0.4 + 2.3 * len(bases)))
        grid = figure.subplots(len(bases), len(sets), sharex=True, sharey=True, squeeze=False)
        for row, base in zip(grid, bases, strict=True):
            # The best on the last set, which is that of the claims, is the first in the legend.
            lines = order.filter(base=base, set=sets[-1])["line"].to_list()
            for axes, name in zip(row, sets, strict=True):
                for line in lines:
                    here = profile.filter(set=name, base=base, line=line)
                    within = here.filter(here["tau"] <= MOST)
                    share = within["share"].to_list()
                    style: dict[str, Any] = styles.get((base, line), _RIVAL)
                    axes.step(
                        [1.0, *within["tau"], MOST],
                        [0.0, *share, *(share[-1:] or [0.0])],
                        where="post",
                        label=line,
                        **style,
                    )
                axes.set(xlim=(0.95, MOST), ylim=(0, 1.02))
                if base == bases[0]:
                    axes.set_title(TITLES[name], fontweight="bold")
            legend = row[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=6)
            for text in legend.get_texts():
                text.set_parse_math(False)
            row[0].set_ylabel(f"Share of tasks\n(target: tuned {base})")
        for axes in grid[-1]:
            axes.set_xlabel("Steps over the fewest, τ")
    return figure
