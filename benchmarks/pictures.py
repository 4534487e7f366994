"""The benchmarks' figures, drawn from the raw numbers, in the style of the studies' own."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from contenders import CONTENDERS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from throughput import SHORT

from hypergradient.study.figures.style import ADAPTIVE, CONSTANT, FAINT, INK, PAGE, STYLE, blank

ORANGE = "#c2570c"
FAMILIES = {
    "ours": (ADAPTIVE, "o", "this package"),
    "torch": (CONSTANT, "s", "torch.optim"),
    "hypergradients": (ORANGE, "^", "other hypergradients"),
    "rate-free": ("#3b8f5a", "D", "rate-free and schedule-free"),
}
"""Colour, marker and name; colours differ in lightness too, and markers without any colour."""

COMMANDS = {"report": ("-", "D"), "collect": ("-", "s"), "status": ("--", "o"), "plan": (":", "^")}


@mpl.rc_context(STYLE)
def peers(rows: dict[str, Any]) -> Figure:
    """Draw each optimizer's step on the large model as a multiple of torch's fused one."""
    parts = {}
    for kind in dict.fromkeys(c.kind for c in CONTENDERS):
        row = rows.get(f"large: {kind}", {})
        of_kind = [c for c in CONTENDERS if c.kind == kind and "ratio" in row.get(c.name, {})]
        if of_kind:
            parts[kind] = [(c, row[c.name]) for c in of_kind]
    heights = [len(part) for part in parts.values()]
    figure = blank((PAGE, 0.7 + 0.155 * sum(heights) + 0.16 * len(heights)))
    grid = figure.subplots(len(parts), 1, sharex=True, height_ratios=heights, squeeze=False)
    for axes, (kind, part) in zip(grid[:, 0], parts.items(), strict=True):
        unit = part[0][0].floor
        part = sorted(part, key=lambda pair: pair[1]["ratio"])  # noqa: PLW2901
        for place, (contender, row) in enumerate(part):
            colour, marker, _ = FAMILIES[contender.family]
            axes.plot([row["ratio_low"], row["ratio_high"]], [place, place], color=colour, lw=1)
            axes.plot(row["ratio"], place, marker, color=colour, ms=4)
            if contender.floor and unit:
                axes.plot(contender.floor / unit, place, "|", color=INK, ms=8, mew=1, zorder=3)
            axes.annotate(
                f"{row['ratio']:.2g}",
                (max(row["ratio"], row["ratio_high"]), place),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                color=FAINT,
            )
        axes.set_yticks(range(len(part)), [c.name for c, _ in part])
        axes.set_ylim(len(part) - 0.4, -0.6)
        axes.set_title(kind, loc="left", pad=2, fontweight="bold")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        times_axis(axes)
    grid[-1, 0].set_xlabel("Time of a step as a multiple of torch's fused one")
    handles = [
        mpl.lines.Line2D([], [], color=colour, marker=marker, ls="", ms=4, label=label)
        for colour, marker, label in FAMILIES.values()
    ]
    handles.append(mpl.lines.Line2D([], [], color=INK, marker="|", ls="", ms=7, label="floor"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=6, columnspacing=1)
    return figure


def times_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.9), max(high * 1.15, 2.5))


@mpl.rc_context(STYLE)
def throughput(rows: dict[str, Any]) -> Figure:
    """Draw the runs a minute of each way as bars, the fastest on top."""
    ended = {name: row for name, row in rows.items() if "runs_a_minute" in row}
    found = {name: row["runs_a_minute"] for name, row in ended.items() if not name.endswith(SHORT)}
    order = sorted(found, key=lambda name: -found[name])
    figure = blank((PAGE, 0.55 + 0.22 * len(order)))
    axes = figure.subplots()
    colours = [ADAPTIVE if name.startswith("hypergradient") else CONSTANT for name in order]
    bars = axes.barh(order, [found[name] for name in order], color=colours, height=0.62)
    axes.bar_label(bars, [f"{found[name]:.3g}" for name in order], padding=3, fontsize=6)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Runs a minute")
    return figure


@mpl.rc_context(STYLE)
def growth(rows: dict[str, Any], grid_rows: dict[str, Any]) -> Figure:
    """Draw seconds over runs, over parameters and over workers; a grey line is proportional."""
    figure = blank((PAGE, 2.3))
    runs, parameters, workers = figure.subplots(1, 3, width_ratios=(1.15, 1.15, 0.7))
    grow_runs(runs, {int(k[5:]): row for k, row in rows.items() if k.startswith("runs ")})
    steps = {int(k[11:]): row for k, row in rows.items() if k.startswith("parameters ")}
    grow_parameters(parameters, steps)
    grow_workers(workers, grid_rows)
    return figure


def grow_runs(axes: Axes, rows: dict[int, dict[str, float]]) -> None:
    for (command, (style, marker)), colour in zip(
        COMMANDS.items(), (ADAPTIVE, ORANGE, "#3b8f5a", CONSTANT), strict=True
    ):
        values = [row[command] for row in rows.values()]
        axes.plot(list(rows), values, style, marker=marker, ms=3, color=colour, label=command)
    if not rows:
        return
    over_decades(axes, "Runs", "Seconds")
    proportional(axes, list(rows), 0.5 * min(row["plan"] for row in rows.values()))


def grow_parameters(axes: Axes, rows: dict[int, dict[str, Any]]) -> None:
    lines = (
        ("Adam", "AdamHD", ADAPTIVE, "-", "D"),
        ("Adam", "torch fused", CONSTANT, "-", "s"),
        ("SGD", "SGDHD", ADAPTIVE, "--", "o"),
        ("SGD", "torch fused", CONSTANT, "--", "^"),
    )
    for kind, name, colour, style, marker in lines:
        values = [row[kind][name]["seconds"] for row in rows.values()]
        text = f"torch's {kind}" if name == "torch fused" else name
        axes.plot(list(rows), values, style, marker=marker, ms=3, color=colour, label=text)
    if not rows:
        return
    over_decades(axes, "Parameters", "Seconds a step")
    largest = max(rows)
    seconds = rows[largest]["SGD"]["torch fused"]["seconds"]
    proportional(axes, list(rows), 0.5 * seconds * min(rows) / largest)


def over_decades(axes: Axes, x: str, y: str) -> None:
    axes.loglog()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower left", bbox_to_anchor=(-0.05, 1), ncols=2, fontsize=6, columnspacing=1)


def proportional(axes: Axes, x: list[int], first: float) -> None:
    """Draw a line of slope 1, to compare with, without moving the axes."""
    limits = axes.get_ylim()
    x = sorted(x)
    axes.plot(x, [first * value / x[0] for value in x], color="#c9c9c9", lw=3, zorder=0)
    axes.set_ylim(limits)


def grow_workers(axes: Axes, rows: dict[str, Any]) -> None:
    found = {
        count: rows.get(name, {}).get("runs_a_minute")
        for count, name in ((1, "hypergradient run, 1 process"), (2, "hypergradient run"))
    }
    found = {count: value for count, value in found.items() if value}
    axes.plot(list(found), list(found.values()), "-o", ms=4, color=ADAPTIVE)
    if 1 in found:
        axes.plot([1, 2], [found[1], 2 * found[1]], color="#c9c9c9", lw=3, zorder=0)
    axes.xaxis.set_major_locator(FixedLocator([1, 2]))
    axes.set_xlim(0.8, 2.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Worker processes")
    axes.set_ylabel("Runs a minute")


def write(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, the same bytes for the same numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path, dpi=200, metadata={"Software": None})
