"""The curves of each run in the page's table of runs, which are drawn when its row is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from hypergradient.study.report.runs_table import MOST
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

CURVES: Final = (*LOSS_LABELS, "lr_mean")

MOST_POINTS: Final = 200
"""The most points of a curve: a panel is some 300 pixels wide."""

MOST_NUMBERS: Final = 80_000
"""The most numbers of all curves together, which bounds the page's size: about 300 kB."""

_DIGITS: Final = 4  # the tables hold all


def points_of(count: int) -> int:
    """Return how many points the curves of so many runs may have each."""
    return max(2, min(MOST_POINTS, MOST_NUMBERS // (1 + len(CURVES)) // max(1, count)))


def run_curves(runs: pl.DataFrame, epochs: pl.DataFrame) -> dict[str, Any]:
    """Return what the page's script draws of a run, for each row of the table of runs.

    Returns:
        ``runs``: for each row its ``epoch``, the columns in ``CURVES``, and any ``error``.
        ``thinned``: to how many points curves were thinned, or None if none was.
    """
    shown = runs.head(MOST)
    points = points_of(shown.height)
    numbers = epochs.select("run_id", "epoch", pl.col(CURVES).round_sig_figs(_DIGITS))
    by_run = {
        run_id: part for (run_id,), part in numbers.sort("run_id", "epoch").group_by("run_id")
    }
    drawn = []
    for row in shown.iter_rows(named=True):
        part = by_run.get(row["run_id"], numbers.clear())
        kept = part[_spread(part.height, points)]
        drawn.append({name: kept[name].to_list() for name in ("epoch", *CURVES)})
        if row.get("error"):
            drawn[-1]["error"] = row["error"]
    longest = max((part.height for part in by_run.values()), default=0)
    return {"runs": drawn, "thinned": points if longest > points else None}


def _spread(length: int, points: int) -> Sequence[int]:
    """Return at most so many places in a list of that length, the first and the last among them."""
    if length <= points:
        return range(length)
    return [round(place * (length - 1) / (points - 1)) for place in range(points)]
