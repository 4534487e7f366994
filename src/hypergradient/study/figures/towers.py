"""The final loss of towers of step sizes, by where they start. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from hypergradient.study.figures.style import (
    COLUMN,
    CONSTANT,
    PAGE,
    STYLE,
    blank,
    log_scale,
    rate_colours,
)

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


def draw_towers(table: pl.DataFrame) -> Figure:
    """Draw a panel a task and base, a line a height; a start that diverges has no point.

    Args:
        table: From `results.towers.towers`.
    """
    panels = table.select("task", "base").unique(maintain_order=True).rows()
    heights = table["height"].unique().sort().to_list()
    learned = [height for height in heights if height]
    colours = dict(zip(learned, rate_colours(len(learned)), strict=True))
    with mpl.rc_context(STYLE):
        size = (PAGE, 2.4) if len(panels) > 1 else (COLUMN * 1.3, 2.4)
        figure = blank(size)
        grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (task, base) in zip(grid, panels, strict=True):
            own = table.filter(task=task, base=base)
            for height in own["height"].unique().sort():
                line = own.filter(height=height)
                look: dict[str, Any] = {"color": CONSTANT, "ls": (0, (3, 1.6))}
                if height:
                    look = {"color": colours[height], "ls": "-"}
                look |= {"label": f"height {height}"}
                axes.plot(line["start"], line["loss"], marker="o", ms=2.5, **look)
            axes.set_xscale("log")
            log_scale(axes, own["loss"].drop_nulls())
            axes.set_xlabel("Start of the rate and of all step sizes")
            axes.set_title(f"{base} on {task}", parse_math=False, fontweight="bold")
        grid[0].set_ylabel("Final validation loss")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
