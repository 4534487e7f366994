"""A study's results on one page: report.html, and its figures as files in figures/ beside it.

The page holds everything it needs, plotly's script included, so it opens without a network. Its
numbers are computed in `results`; `templates/scripts` draw them. What it can show is in `gallery`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup
from PIL import Image

from hypergradient.study.figures.schedules import COLOURS, LABELS, label_of
from hypergradient.study.figures.style import rate_colours, rate_labels
from hypergradient.study.figures.untuned import TITLES
from hypergradient.study.files import write_text
from hypergradient.study.html import PAGE_STYLE, UNPACK, asset, command, environment, packed, plotly
from hypergradient.study.report.gallery import CURVES, OF_ALL_TASKS
from hypergradient.study.report.headline import headline
from hypergradient.study.report.parts import Parts
from hypergradient.study.report.run_curves import run_curves
from hypergradient.study.report.runs_table import failed_runs, runs_table
from hypergradient.study.results.compare import seconds_text
from hypergradient.study.results.convergence import measured
from hypergradient.study.results.pairs import scale_label, symbol
from hypergradient.study.results.relative import WITHIN
from hypergradient.study.results.schema import ACCURACY_LABELS, LOSS_LABELS
from hypergradient.study.results.sensitivity import NEAR
from hypergradient.study.results.statistics import Statistics
from hypergradient.study.results.untuned import MEASURES, PICTURED
from hypergradient.study.results.untuned_lengths import at_all_lengths
from hypergradient.study.results.verdicts import LEVEL, MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypergradient.study.declare.study import Study

PICTURE_SIZE = (1400, 2800)
"""The most pixels of a picture in the page, which is shown at some 1000; its file has more."""

PICTURE_COLOURS = 128

_TEMPLATES = Path(__file__).parent / "templates"

# In the order to run them.
_SCRIPTS = ("base", "curves", "beside", "heatmap", "schedules", "compare", "page", "runs")


def write_report(
    study: Study,
    runs: pl.DataFrame,
    epochs: pl.DataFrame,
    folder: Path,
    *,
    published: pl.DataFrame | None = None,
    tell: Callable[[str], None] = lambda _: None,
    name: str = "report.html",
) -> Path:
    """Write folder/report.html and folder/figures/NAME.{pdf,png,csv}.

    Args:
        study: The study that was run; its `figures` name what to show.
        runs: One row a run.
        epochs: One row a run and epoch.
        folder: Where to write; made if need be.
        published: Numbers to set beside ours: method ("sgd_hd" for "SGD-HD"), lr0, hypergrad_lr,
            and either epoch, train_loss and valid_loss, or iterations.
        tell: Called with each part that cannot be made, and why. The page says it too.
        name: What the page's file is called.

    Returns:
        The path of the page.

    Raises:
        ValueError: The study names a figure that there is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    selection = at_all_lengths(getattr(study, "selection", ()), runs["task"])
    statistics = Statistics(runs, epochs, published, selection)
    parts = Parts()
    wanted = getattr(study, "figures", ())
    names = parts.possible(statistics, wanted) if statistics.lines.height else []
    note = scale_label(runs)
    drawn = parts.draw(names, statistics, folder / "figures", note)
    context = {
        "note": note,
        "statistics": statistics,
        "several_rates": statistics.lines.height and len(statistics.rates) > 1,
        "near": NEAR,
        "within": round(100 * (WITHIN - 1)),
        "level": LEVEL,
        "margin": MARGIN,
        "losses": LOSS_LABELS,
        "measures": MEASURES,
        "pictured": PICTURED,
        "titles": TITLES,
        "picture": lambda name: _picture(folder / "figures" / f"{name}.png"),
    }
    templates = environment(_TEMPLATES, _filters())
    sections = parts.sections(list(drawn), templates, context)
    names = list(sections)
    told = ["No run has finished."]
    if statistics.lines.height:
        told = parts.attempt("The summary", lambda: headline(statistics, names), [])
    page = None
    if runs.height:  # its table sorts, and shows single runs, whatever figures there are
        shared = parts.attempt("What the figures share", lambda: _shared(statistics), None)
        page = (
            shared and {key: value for name in names for key, value in drawn[name].items()} | shared
        )
    no_curves: dict[str, Any] = {"runs": [], "thinned": None}
    own_curves = parts.attempt(
        "The curves of single runs", lambda: run_curves(runs, epochs), no_curves
    )
    html = templates.get_template("report.html").render(
        context,
        study=study,
        declaration=json.dumps(study.model_dump(mode="json"), indent=2, ensure_ascii=False),
        headline=told,
        facts=_facts(runs),
        problems=[*_problems(runs), *(f"{problem}." for problem in parts.problems)],
        sections=sections,
        contents=contents(sections, runs),
        table=parts.attempt("The table of runs", lambda: runs_table(runs), {"rows": []}),
        failed=failed_runs(runs),
        thinned=own_curves["thinned"],
        run_curves=packed(json.dumps(own_curves["runs"], separators=(",", ":")).encode()),
        several_tasks=len(statistics.tasks) > 1 and bool(set(names) - OF_ALL_TASKS),
        surroundings=_surroundings(runs),
        command=command(),
        page=page,
        style=asset(PAGE_STYLE),
        script=_script(),
        plotly=plotly(),
    )
    for problem in parts.problems:
        tell(problem)
    target = folder / name
    write_text(target, html)
    return target


_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)


def contents(sections: Mapping[str, Markup], runs: pl.DataFrame) -> list[tuple[str, Markup]]:
    """Return the page's parts in their order: what a link leads to, and its heading."""
    order = sorted(sections, key=lambda name: name != "summary")
    found = [(name, _HEADING.search(sections[name])) for name in order]
    listed = [(name, Markup(match[1])) for name, match in found if match]  # noqa: S704  (escaped)
    if runs.height:
        listed.append(("runs", Markup("Every run")))
    return [*listed, ("made", Markup("How this was made"))]


def _facts(runs: pl.DataFrame) -> list[tuple[str, str]]:
    """Return the name and value of each fact about the size of the study."""
    counts = {
        "run": runs.height,
        "task": runs["task"].n_unique(),
        "method": runs["method"].n_unique(),
        "seed": runs["seed"].n_unique(),
    }
    if not measured(runs):  # such runs end at their target
        counts["epoch"] = max(runs["epochs"].to_list(), default=0)
    return [
        *((name if count == 1 else f"{name}s", f"{count:,}") for name, count in counts.items()),
        ("diverged", str((runs["status"] == "diverged").sum())),
        ("minutes in runs", f"{runs['wall_seconds'].sum() / 60:.1f}"),
    ]


def _problems(runs: pl.DataFrame) -> list[str]:
    """Return what a reader must know before believing the figures, a sentence each."""
    problems = []
    if failed := (runs["status"] == "failed").sum():
        problems.append(f"{failed} of {runs.height} runs failed with an error and are left out.")
    versions = runs["torch"].drop_nulls().value_counts().sort("torch")
    if versions.height > 1:
        shown = ", ".join(f"{version} ({count} runs)" for version, count in versions.iter_rows())
        problems.append(f"Runs were made by several versions of torch: {shown}.")
    starts = runs.group_by("task", "seed").agg(pl.col("init_hash").drop_nulls().n_unique())
    if (starts["init_hash"] > 1).any():
        problems.append("Methods did not all start from the same weights.")
    if (runs["lr"] <= 0).any():
        problems.append("An initial rate of 0 has no place on a logarithmic axis; see the curves.")
    return problems


def _surroundings(runs: pl.DataFrame) -> list[tuple[str, str]]:
    rows = [("hypergradient", version("hypergradient"))]
    for column in ("torch", "python", "platform", "threads"):
        values = runs[column].drop_nulls().unique().sort().cast(pl.String).to_list()
        rows.append((column if column != "threads" else "threads a run", ", ".join(values)))
    return rows


def _shared(statistics: Statistics) -> dict[str, Any]:
    """Return what the page's script needs for every figure, as JSON."""
    if not statistics.lines.height:  # every run failed
        return {"tasks": [], "rates": []}
    return {
        "tasks": statistics.tasks,
        "names": CURVES | ACCURACY_LABELS,
        "labels": list(rate_labels(statistics.paired)),
        "scheduleLabels": LABELS,
        "schedules": list(COLOURS),
        "rates": statistics.rates,
        "colours": {
            "light": rate_colours(len(statistics.rates)),
            "dark": rate_colours(len(statistics.rates), dark=True),
        },
        "ceilings": {row["task"]: row for row in statistics.ceilings.iter_rows(named=True)},
    }


def _filters() -> dict[str, Callable[..., str]]:
    """Return the functions that the templates call."""
    return {
        "steps": lambda count, limit: f">{limit:,.0f}" if count is None else f"{count:,.0f}",
        "schedule": label_of,
        "symbol": symbol,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "number": _number,
        "seconds": seconds_text,
    }


def _number(value: object, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}g}" if isinstance(value, int | float) else str(value)


def _picture(path: Path) -> str:
    """Return a picture as a data address, so that the page holds it: as large as it is shown."""
    with Image.open(path) as whole:
        small = whole.convert("RGB")
        small.thumbnail(PICTURE_SIZE)
        small.quantize(PICTURE_COLOURS).save(content := BytesIO(), "png", optimize=True)
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"


def _script() -> Markup:
    """Return the page's scripts as one, in a scope of its own."""
    parts = [asset(_TEMPLATES / "scripts" / f"{name}.js") for name in _SCRIPTS]
    start = Markup('(async () => {\n"use strict";'), asset(UNPACK), Markup("await loadPlotly();")
    return Markup("\n").join([*start, *parts, Markup("})();")])
