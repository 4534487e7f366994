"""One page for all landscapes: landscape.html, with its figures as files in figures/ beside it.

It holds everything it needs, plotly's script included, so it opens without a network. What is
shared with a study's report is taken from there: style, and how numbers are written.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypergradient.study.files import write_text
from hypergradient.study.html import PAGE_STYLE, UNPACK, asset, command, environment, plotly
from hypergradient.study.landscape import tabulate
from hypergradient.study.landscape.figures import NAMES, heights
from hypergradient.study.landscape.methods import METHODS
from hypergradient.study.landscape.search import STAY, STEPS, TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl

    from hypergradient.study.landscape.results import Descent, Landscape

CONTOURS = 121
"""Points a side."""

EARLY, LATE = 200, 300
"""The page shows each of the first steps, then this many, evenly spread on a logarithmic scale."""

_DIGITS = 5  # of what is drawn; the CSV files hold all

_TEMPLATES = Path(__file__).parent / "templates"


def write_page(landscapes: Sequence[Landscape], folder: Path) -> Path:
    """Write folder/landscape.html and return its path."""
    summary = tabulate.summary(landscapes)
    filters: dict[str, Callable[..., str]] = {
        "number": lambda value: "–" if value is None else f"{value:.6g}",
        "steps": lambda value: "–" if value is None else f"{value:,}",
    }
    template = environment(_TEMPLATES, filters).get_template("landscape.html")
    html = template.render(
        landscapes=[
            (landscape, summary.filter(function=landscape.function.title).to_dicts())
            for landscape in landscapes
        ],
        methods=METHODS,
        headline=headline(summary),
        tolerances=tabulate.TOLERANCES,
        target=TARGET,
        search_steps=STEPS,
        stay=STAY,
        names=NAMES,
        page={"names": NAMES, "landscapes": [_landscape(one) for one in landscapes]},
        command=command(),
        surroundings=[(name, version(name)) for name in ("hypergradient", "torch")],
        style=asset(PAGE_STYLE) + asset(_TEMPLATES / "landscape.css"),
        script=asset(UNPACK) + asset(_TEMPLATES / "landscape.js"),
        plotly=plotly(),
    )
    target = folder / "landscape.html"
    write_text(target, html)
    return target


def headline(summary: pl.DataFrame) -> list[str]:
    """Say for each base optimizer of the first function what its own rates save in steps.

    Args:
        summary: From `tabulate.summary`.

    Returns:
        Sentences, none if no method is there with and without a rate for each coordinate.
    """
    here = summary.filter(function=summary["function"][0])
    steps = dict(here.select("method", f"steps_to_{TARGET:g}").iter_rows())
    pairs = [(name, steps[name], steps[f"{name}+"]) for name in steps if f"{name}+" in steps]
    told = [
        f"{base}+ after {adaptive:,} steps, {base} after {constant:,}"
        for base, constant, adaptive in pairs
        if constant is not None and adaptive is not None
    ]
    sentences = []
    if told:
        where = f"{summary['function'][0]}’s function"
        sentences.append(f"Within {TARGET:g} of the minimum of {where}: {'; '.join(told)}.")
    for base, constant, adaptive in pairs:
        if constant is None or adaptive is None:
            late = [n for n, s in ((base, constant), (f"{base}+", adaptive)) if s is None]
            sentences.append(f"Never so near: {' and '.join(late)}.")
    return sentences


def _landscape(landscape: Landscape) -> dict[str, Any]:
    function = landscape.function
    x, y, z = heights(function, CONTOURS)
    height = np.log10(z).round(3)
    return {
        "name": landscape.name,
        "x": [float(f"{value:.{_DIGITS}g}") for value in x],
        "y": [float(f"{value:.{_DIGITS}g}") for value in y],
        "z": [_finite(row) for row in height.tolist()],
        "box": function.box,
        "start": function.start,
        "minima": function.minima,
        "descents": [_descent(descent) for descent in landscape.descents],
    }


def _descent(descent: Descent) -> dict[str, Any]:
    method, path = METHODS[descent.method], descent.path
    last = len(path.points) - 1
    late = np.geomspace(EARLY, max(last, EARLY), LATE).round().astype(int).tolist()
    steps = sorted({*range(min(EARLY, last) + 1), *(step for step in late if step <= last)})
    shown = {
        "x": path.points[steps, 0, 0],
        "y": path.points[steps, 0, 1],
        "distance": path.distances[steps, 0],
        "rate_x": path.rates[steps, 0, 0],
        "rate_y": path.rates[steps, 0, 1],
    }
    tried = [
        {"lr": one.setting.lr, "hypergrad_lr": one.setting.hypergrad_lr, "steps": one.steps}
        for one in descent.tried
    ]
    return {
        "title": method.title,
        "base": method.base,
        "kind": method.kind,
        "lr": descent.setting.lr,
        "hypergrad_lr": descent.setting.hypergrad_lr,
        "step": steps,
        **{name: _finite(values.tolist()) for name, values in shown.items()},
        "tried": tried,
    }


def _finite(values: list[float]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
