"""Schedules beside each other: best curves and sensitivity. Functions here only draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from hypergradient.study.figures.style import (
    ADAPTIVE,
    ADAPTIVE_LABEL,
    CONSTANT,
    CONSTANT_LABEL,
    HYPERGRADIENT_LABEL,
    INK,
    STYLE,
    label,
    log_scale,
    numbers,
    panel_axes,
    rate_bar,
    rate_colours,
    top_of,
)
from hypergradient.study.results.pairs import HYPERGRADIENT
from hypergradient.study.results.schema import LOSS_LABELS

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

COLOURS: Final = {
    "constant": CONSTANT,
    "lr-decay": "#c4581b",
    "robbins-monro": "#8f7300",
    "halving": "#1f8a70",
    "cosine": "#a0508f",
    "warmup-cosine": "#a0508f",
    "adaptive": "#5b3fa0",
    HYPERGRADIENT: ADAPTIVE,
    "recommended": ADAPTIVE,
    "tuned": "#c4581b",
}
"""In the order to show them, apart in lightness and in hue. Others look like the constant rate."""

DASHES: Final[dict[str, Any]] = {
    "constant": (0, (3, 1.6)),
    "lr-decay": (0, (6, 1.6)),
    "robbins-monro": (0, (1, 1.4)),
    "halving": (0, (5, 1.4, 1, 1.4)),
    "cosine": (0, (5, 1.4, 1, 1.4, 1, 1.4)),
    "warmup-cosine": (0, (3, 1.4)),
    "adaptive": "-",
    HYPERGRADIENT: "-",
    "recommended": "-",
    "tuned": (0, (6, 1.6)),
}

LABELS: Final = {
    "constant": CONSTANT_LABEL,
    "adaptive": ADAPTIVE_LABEL,
    HYPERGRADIENT: HYPERGRADIENT_LABEL,
}
"""What a legend calls schedules, where it is not their name."""


def draw_best(
    table: pl.DataFrame, seeds: pl.DataFrame, ceiling: pl.DataFrame, metric: str
) -> Figure:
    """Draw the curves of each schedule's best configuration, with bands and faint seeds.

    Args:
        table: From `results.best.best_curves`.
        seeds: From `results.best.seed_curves`.
        ceiling: From `results.curves.ceilings`.
        metric: One of `LOSS_LABELS`.
    """
    table, seeds = table.filter(metric=metric), seeds.filter(metric=metric)
    with mpl.rc_context(STYLE):
        figure, grid = panel_axes(table.rename({"base": "panel"}))
        for (task, base), axes in grid.items():
            here = table.filter(task=task, base=base)
            for schedule in reversed(_in_order(here["schedule"])):  # dashes show on a solid line
                style: dict[str, Any] = {"color": COLOURS.get(schedule, CONSTANT)}
                dashes = DASHES.get(schedule, "--")
                mine = seeds.filter(task=task, base=base, schedule=schedule)
                for one in mine.partition_by("method", "seed", maintain_order=True):
                    axes.plot(one["epoch"], one["value"], lw=0.4, alpha=0.35, **style)
                lines = here.filter(schedule=schedule)
                for line in lines.partition_by("method", maintain_order=True):
                    band = line.drop_nulls("low")
                    axes.fill_between(
                        band["epoch"], *numbers(band, "low", "high"), alpha=0.16, lw=0, **style
                    )
                    axes.plot(line["epoch"], line["mean"], ls=dashes, **style)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            same = table.filter(task=task)["mean"]
            log_scale(axes, same, top_of(ceiling, metric, task, same.max()))
        label(grid, "Epoch", LOSS_LABELS[metric])
        _legend(figure, table["schedule"])
    return figure


def draw_relative(table: pl.DataFrame, ceiling: pl.DataFrame, metric: str) -> Figure:
    """Draw the best loss over training against the ratio to the best learning rate.

    Hypergradient descent has a line for each beta, coloured from the lowest to the highest.

    Args:
        table: From `results.relative.relative_sensitivity`.
        ceiling: From `results.curves.ceilings`.
        metric: One of `LOSS_LABELS`.
    """
    with mpl.rc_context(STYLE):
        figure, grid = panel_axes(table.rename({"base": "panel"}))
        ratios = table["ratio"].sort()
        colours = line_colours(table)
        for (task, base), axes in grid.items():
            here = table.filter(task=task, base=base)
            for line in here.partition_by("line", maintain_order=True):
                first = line.row(0, named=True)
                schedule = first["schedule"]
                style: dict[str, Any] = {"color": colours[schedule, first.get("hypergrad_lr")]}
                band = line.drop_nulls("low")
                axes.fill_between(
                    band["ratio"], *numbers(band, "low", "high"), alpha=0.12, lw=0, **style
                )
                dashes = DASHES.get(schedule, "--")
                mark: dict[str, Any] = {"marker": "o", "ms": 2.2, "ls": dashes}
                axes.plot(line["ratio"], *numbers(line, "mean"), **mark, **style)
                some = line.filter(line["diverged"] > 0)
                axes.plot(some["ratio"], *numbers(some, "mean"), "o", ms=2.2, mfc="white", **style)
            axes.axvline(1, color="#c9c9c9", lw=0.6, zorder=0)
            axes.set_xscale("log")
            axes.set_xlim(ratios[0] / 1.6, ratios[-1] * 1.6)
            axes.xaxis.set_major_locator(LogLocator(numticks=6))
            axes.xaxis.set_minor_locator(NullLocator())
            same = table.filter(task=task)["mean"]
            log_scale(axes, same, top_of(ceiling, metric, task, same.max()))
        label(grid, "$\\alpha_0$ / best $\\alpha_0$", f"Best {LOSS_LABELS[metric].lower()}")
        betas = betas_of(table)
        _legend(figure, table["schedule"], INK if len(betas) > 1 else ADAPTIVE)
        if len(betas) > 1:
            shades = {beta: colours[HYPERGRADIENT, beta] for beta in betas}
            rate_bar(figure, list(grid.values()), shades, "$\\beta$ of hypergradient descent")
    return figure


def betas_of(table: pl.DataFrame) -> list[float]:
    """Return the values of beta in a table, ascending; none if it has no such column."""
    if "hypergrad_lr" not in table.columns:
        return []
    betas: list[float] = table["hypergrad_lr"].drop_nulls().unique().sort().to_list()
    return betas


def line_colours(table: pl.DataFrame, *, dark: bool = False) -> dict[tuple[str, Any], str]:
    """Return a colour for each schedule and beta (None where it does not apply)."""
    betas = betas_of(table)
    shades = dict(zip(betas, rate_colours(len(betas), dark=dark), strict=True)) if betas else {}
    steady = {(schedule, None): COLOURS.get(schedule, CONSTANT) for schedule in table["schedule"]}
    return steady | {(HYPERGRADIENT, beta): shade for beta, shade in shades.items()}


def _in_order(schedules: pl.Series) -> list[str]:
    """Return those present, those without a colour of their own first."""
    present: list[str] = schedules.unique(maintain_order=True).to_list()
    return sorted(present, key=lambda name: [*COLOURS].index(name) if name in COLOURS else -1)


def _legend(figure: Figure, schedules: pl.Series, adaptive: str = ADAPTIVE) -> None:
    colours = COLOURS | {HYPERGRADIENT: adaptive}
    handles = [
        Line2D(
            [],
            [],
            color=colours.get(name, CONSTANT),
            ls=DASHES.get(name, "--"),
            label=label_of(name),
        )
        for name in _in_order(schedules)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))


def label_of(schedule: str) -> str:
    """Return what a schedule is called in a legend."""
    return LABELS.get(schedule, schedule)
