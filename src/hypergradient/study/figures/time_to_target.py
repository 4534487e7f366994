"""The share of tasks whose target is reached within a factor of the fastest. Only draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from hypergradient.study.figures.untuned import line_styles, panels_of_profiles
from hypergradient.study.results.time_to_target import MOST
from hypergradient.study.results.untuned import SETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    sets = [name for name in SETS if name in order["set"]]
    # The best on the last set, which is that of the claims, is the first in the legend.
    lines = {
        base: order.filter(base=base, set=sets[-1])["line"].to_list()
        for base in order["base"].unique().sort()
    }

    def draw(axes: Axes, name: str, base: str, line: str) -> None:
        here = profile.filter(set=name, base=base, line=line).filter(pl.col("tau") <= MOST)
        share = here["share"].to_list()
        style: dict[str, Any] = styles.get((base, line), _RIVAL)
        tau, shares = [1.0, *here["tau"], MOST], [0.0, *share, *(share[-1:] or [0.0])]
        axes.step(tau, shares, where="post", label=line, **style)
        axes.set(xlim=(0.95, MOST), ylim=(0, 1.02))

    told = ("Share of tasks\n(target: tuned {base})", "Steps over the fewest, τ")
    return panels_of_profiles(lines, sets, draw, told, height=2.3)
