"""A study's results on one page: report.html, and its figures as files in figures/ beside it.

The page holds everything it needs, plotly's script included, so it opens without a network. Its
numbers are computed in `statistics`; `templates/report.js` draws them.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hypergradient.study import figures, statistics
from hypergradient.study.headline import headline
from hypergradient.study.statistics import LOSSES, NEAR, SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.study.spec import Study

_TEMPLATES = Path(__file__).parent / "templates"
_CURVES = {**LOSSES, "lr_mean": "Learning rate"}
_DIGITS = 6  # what a curve's points are rounded to; the CSV files hold all


def write_report(
    study: Study,
    runs: pl.DataFrame,
    epochs: pl.DataFrame,
    folder: Path,
    *,
    published: pl.DataFrame | None = None,
) -> Path:
    """Write folder/report.html and folder/figures/NAME.{pdf,png,csv}.

    Args:
        study: The study that was run.
        runs: One row a run.
        epochs: One row a run and epoch.
        folder: Where to write; made if need be.
        published: Numbers to set beside ours: method ("sgd_hd" for "SGD-HD"), lr0, hypergrad_lr,
            epoch, train_loss, valid_loss.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paired = statistics.pair(runs)
    results = _results(paired, runs, epochs, published) if paired.height else None
    if results is not None:
        _write_figures(results, folder / "figures")
    html = (
        _environment()
        .get_template("report.html")
        .render(
            study=study,
            declaration=json.dumps(study.model_dump(mode="json"), indent=2, ensure_ascii=False),
            headline=headline(results.summary["train_loss"], runs)
            if results
            else ["No run has finished."],
            facts=_facts(runs),
            problems=_problems(runs),
            results=results,
            near=NEAR,
            losses=LOSSES,
            labels=figures.LABELS,
            surroundings=_surroundings(runs),
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            page=_page(results) if results else None,
            style=_asset("report.css"),
            script=_asset("report.js"),
            plotly=Markup(get_plotlyjs()),  # noqa: S704  (plotly's own script)
        )
    )
    target = folder / "report.html"
    part = folder / ".report.html.part"
    part.write_text(html, encoding="utf-8")
    part.replace(target)
    return target


@dataclass(frozen=True)
class _Results:
    """The tables behind the figures, by loss where there is one for each."""

    sensitivity: dict[str, pl.DataFrame]
    finals: dict[str, pl.DataFrame]
    curves: pl.DataFrame
    ceilings: pl.DataFrame
    summary: dict[str, pl.DataFrame]
    published: pl.DataFrame | None

    @property
    def several_rates(self) -> bool:
        return self.curves["lr"].n_unique() > 1

    @property
    def last_published(self) -> list[dict[str, Any]]:
        """One row a task and method, at its last epoch: a column a loss and number."""
        if self.published is None:
            return []
        last = self.published.filter(
            pl.col("epoch") == pl.col("epoch").max().over("task", "method")
        )
        numbers = ["ours", "theirs", "ratio"]
        keys = ["task", "method", "epoch"]
        return last.pivot("metric", index=keys, values=numbers).to_dicts()


def _results(
    paired: pl.DataFrame, runs: pl.DataFrame, epochs: pl.DataFrame, published: pl.DataFrame | None
) -> _Results:
    sensitivity = {metric: statistics.sensitivity(paired, metric) for metric in LOSSES}
    beside = None
    if published is not None:
        beside = statistics.beside_published(runs, epochs, published)
    return _Results(
        sensitivity=sensitivity,
        finals={metric: statistics.finals(paired, metric) for metric in LOSSES},
        curves=statistics.curves(paired, epochs),
        ceilings=statistics.ceilings(paired, epochs),
        summary={metric: statistics.summary(table) for metric, table in sensitivity.items()},
        published=None if beside is None or beside.is_empty() else beside,
    )


def _write_figures(results: _Results, folder: Path) -> None:
    if results.several_rates:
        for metric, table in results.sensitivity.items():
            figure = figures.draw_sensitivity(
                table, results.finals[metric], results.ceilings, metric
            )
            figures.save(figure, table, folder, f"sensitivity_{metric}")
    for column, name in _CURVES.items():
        figure = figures.draw_curves(results.curves, results.ceilings, column, name)
        table = results.curves.select(*SERIES, "lr", "epoch", column, "runs", "diverged")
        figures.save(figure, table, folder, f"curves_{column}")
    if results.published is not None:
        figure = figures.draw_published(results.published)
        figures.save(figure, results.published, folder, "published")


def _facts(runs: pl.DataFrame) -> list[tuple[str, str]]:
    """Name and value of what there is to know about the size of the study."""
    counts = {
        "run": runs.height,
        "task": runs["task"].n_unique(),
        "method": runs["method"].n_unique(),
        "seed": runs["seed"].n_unique(),
        "epoch": max(runs["epochs"].to_list(), default=0),
    }
    return [
        *((name if count == 1 else f"{name}s", f"{count:,}") for name, count in counts.items()),
        ("diverged", str((runs["status"] == "diverged").sum())),
        ("CPU minutes", f"{runs['wall_seconds'].sum() / 60:.1f}"),
    ]


def _problems(runs: pl.DataFrame) -> list[str]:
    """What a reader must know before believing the figures."""
    problems = []
    if failed := (runs["status"] == "failed").sum():
        problems.append(f"{failed} of {runs.height} runs failed with an error and are left out.")
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


def _page(results: _Results) -> dict[str, Any]:
    """What the page's script draws, as JSON: a list of series for each figure."""
    rates = results.curves["lr"].unique().sort().to_list()
    line = [*SERIES, "lr", "runs", "diverged"]
    published = None
    if results.published is not None:
        published = _series(results.published, ["task", "method", "metric"])
    return {
        "tasks": results.curves["task"].unique(maintain_order=True).to_list(),
        "names": _CURVES,
        "labels": [figures.LABELS[False], figures.LABELS[True]],
        "rates": rates,
        "colours": {
            "light": figures.rate_colours(len(rates)),
            "dark": figures.rate_colours(len(rates), dark=True),
        },
        "ceilings": {row["task"]: row for row in results.ceilings.iter_rows(named=True)},
        "sensitivity": {
            metric: _series(table, SERIES) for metric, table in results.sensitivity.items()
        },
        "finals": {metric: _series(table, SERIES) for metric, table in results.finals.items()},
        "curves": _series(results.curves, line),
        "published": published,
    }


def _series(table: pl.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """One dictionary a group: its keys, and every other column as a list."""
    rounded = table.with_columns(pl.selectors.float().exclude("lr").round_sig_figs(_DIGITS))
    return rounded.group_by(keys, maintain_order=True).all().to_dicts()


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3g}"
    return environment


def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704  (our own file)
