"""The figure of `language_models.py`: validation losses and rates of one length of training."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hypergradient.study.figures.style import ADAPTIVE, CONSTANT, PAGE, STYLE, blank

LINES = {
    "Untuned": (ADAPTIVE, "-"),
    "AdamW, best of its grid": (CONSTANT, "--"),
    "AdamW 0.001, constant": (CONSTANT, ":"),
    "ProdigyPlus": ("#c2570c", "-"),
    "Schedule-Free": ("#3b8f5a", "-"),
}
"""Colours differ in lightness too; lines that are not solid have rates that were set."""

Rows = Mapping[str, Any]


@mpl.rc_context(STYLE)
def picture(models: Mapping[str, Rows], steps: int) -> Figure:
    """Draw losses above and rates below, a column for each model.

    Args:
        models: by name, the rows of its recording.
        steps: the length of the trainings to draw; the first seed is drawn.
    """
    figure = blank((PAGE, 3.4))
    axes = figure.subplots(2, len(models), sharex="col", squeeze=False)
    for (name, rows), (above, below) in zip(models.items(), axes.T, strict=True):
        above.set_title(name, loc="left", fontweight="bold")
        for label, row in chosen(rows, steps).items():
            colour, style = LINES[label]
            look = {"color": colour, "ls": style, "lw": 1.6 if label == "Untuned" else 1}
            above.plot(row["step"], row["validation loss"], label=label, **look)
            below.plot(row["step"], row["rate"], **look)
        below.set_yscale("log")
        below.set_ylim(bottom=1e-5)  # a cosine ends at zero
        below.set_xlabel("Step")
        for each in (above, below):
            each.set_xscale("log")
        limit(above, rows, steps)
    axes[0, 0].set_ylabel("Validation loss")
    axes[1, 0].set_ylabel("Learning rate")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(LINES), fontsize=6)
    return figure


def chosen(rows: Rows, steps: int) -> dict[str, Any]:
    """Return the runs that are drawn, by their labels in `LINES`."""
    ending = f", {steps} steps, seed 0"
    runs = {key.removesuffix(ending): row for key, row in rows.items() if key.endswith(ending)}
    grid = {name: run for name, run in runs.items() if "beta2" in name}
    best = min(grid, key=lambda name: last_loss(grid[name]))
    drawn = {**runs, "AdamW, best of its grid": grid[best]}
    return {label: drawn[label] for label in LINES if label in drawn}


def last_loss(run: Mapping[str, Any]) -> float:
    """Return the loss at the end of a run, infinite if it is not finite."""
    loss = run["validation loss"][-1]
    return float("inf") if loss is None else float(loss)


def limit(axes: Axes, rows: Rows, steps: int) -> None:
    """Leave out the losses of the first steps, which are all alike."""
    runs = chosen(rows, steps).values()
    early = [loss for run in runs for loss in run["validation loss"][len(run["step"]) // 3 :]]
    least = min(last_loss(run) for run in runs)
    axes.set_ylim(0.97 * least, max(loss for loss in early if loss is not None))
