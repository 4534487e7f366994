"""The figures that a study's report can show, by name: what each needs, draws and tells the page.

To add one, write a function in `results` that computes its table (reached by `Statistics`), one in
`figures` that draws it, a section templates/sections/NAME.html and a drawer in templates/scripts;
then enter it here, and its name in `declare.fields.FigureName`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from hypergradient.study.figures import (
    accuracy,
    beside,
    compare,
    curves,
    grid,
    heatmap,
    iterations,
    lengths,
    published,
    schedules,
    sensitivity,
    time_to_target,
    towers,
    untuned,
)
from hypergradient.study.results.beside import FOLDER
from hypergradient.study.results.beside import LINE as BESIDE
from hypergradient.study.results.compare_curves import ENTRY
from hypergradient.study.results.pairs import SERIES
from hypergradient.study.results.relative import LINE
from hypergradient.study.results.schema import LOSS_LABELS
from hypergradient.study.results.tuned import SETTING
from hypergradient.study.results.untuned import PICTURED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matplotlib.figure import Figure

    from hypergradient.study.results.statistics import Statistics

CURVES: Final = {**LOSS_LABELS, "lr_mean": "Learning rate"}

_DIGITS = 6  # what the page's points are rounded to; the CSV files hold all


@dataclass(frozen=True)
class Entry:
    """One figure of a report.

    Attributes:
        possible: Whether the statistics hold what it shows.
        draw: Its files: name, figure and the table behind it. The page's section links to them.
        page: What the page's script needs for it, under names that figures may share.
    """

    possible: Callable[[Statistics], bool]
    draw: Callable[[Statistics], Iterable[tuple[str, Figure, pl.DataFrame]]]
    page: Callable[[Statistics], dict[str, Any]]


def _sensitivity(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    for metric, table in statistics.sensitivity.items():
        figure = sensitivity.draw_sensitivity(
            table, statistics.finals[metric], statistics.ceilings, metric
        )
        yield f"sensitivity_{metric}", figure, table


def _curves(*columns: str) -> Callable[[Statistics], Iterable[tuple[str, Figure, pl.DataFrame]]]:
    def draw(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
        for column in columns:
            table = statistics.curves.select(*SERIES, "lr", "epoch", column, "runs", "diverged")
            figure = curves.draw_curves(
                statistics.curves, statistics.ceilings, column, CURVES[column]
            )
            yield f"curves_{column}", figure, table

    return draw


def _curves_page(statistics: Statistics) -> dict[str, Any]:
    return {"curves": _series(statistics.curves, [*SERIES, "lr", "runs", "diverged"])}


def _best(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    yield from _schedules(
        "best", statistics.best_curves, statistics.best_seeds, statistics.ceilings
    )


def _tuning(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    yield from _schedules(
        "tuning", statistics.tuning_curves, statistics.tuning_seeds, statistics.ceilings
    )


def _schedules(
    name: str, curves: pl.DataFrame, seeds: pl.DataFrame, ceilings: pl.DataFrame
) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    for metric in LOSS_LABELS:
        figure = schedules.draw_best(curves, seeds, ceilings, metric)
        yield f"{name}_{metric}", figure, curves.filter(metric=metric)


def _relative(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    for metric, table in statistics.relative.items():
        yield (
            f"relative_{metric}",
            schedules.draw_relative(table, statistics.ceilings, metric),
            table,
        )


def _relative_page(statistics: Statistics) -> dict[str, Any]:
    some = next(iter(statistics.relative.values()))
    return {
        "relative": {
            metric: _series(table, [*LINE, *(["hypergrad_lr"] if _has_beta(table) else [])])
            for metric, table in statistics.relative.items()
        },
        "betas": (betas := schedules.betas_of(some)),
        "betaColours": {
            scheme: [
                schedules.line_colours(some, dark=scheme == "dark")["hypergradient", beta]
                for beta in betas
            ]
            for scheme in ("light", "dark")
        },
    }


def _untuned(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    own = statistics.untuned
    for measure in PICTURED:
        figure = untuned.draw_map(own.by_task, own.scores, statistics.selection, measure)
        yield f"untuned_tasks_{measure}", figure, own.by_task.filter(measure=measure)
        figure = untuned.draw_profiles(own.profile, own.scores, measure)
        yield f"untuned_profile_{measure}", figure, own.profile.filter(measure=measure)
        figure = time_to_target.draw_times(own.time_profile, own.time_scores, own.scores, measure)
        yield f"untuned_time_{measure}", figure, own.times.filter(measure=measure)
        if own.lengths.height:
            figure = lengths.draw_lengths(own.lengths, own.scores, measure)
            yield f"untuned_lengths_{measure}", figure, own.lengths.filter(measure=measure)


OF_ALL_TASKS: Final = frozenset({"summary", "untuned", "accuracy", "towers"})
"""The figures that show all tasks at once: they do not follow the page's choice of a task."""


def _compare(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    for metric in statistics.metrics:
        figure = compare.draw_compare(statistics, metric)
        table = statistics.at_the_end.filter(metric=metric)
        yield f"compare_{metric}", figure, table.drop("values")


def _compare_page(statistics: Statistics) -> dict[str, Any]:
    rival = next((row["method"] for row in statistics.contest if row["is_rival"]), None)
    methods = dict.fromkeys(row["method"] for row in statistics.contest)
    return {
        "compare": _series(statistics.over_training, [*ENTRY, "is_best"]),
        "compareEnds": statistics.at_the_end.to_dicts(),
        "compareMetrics": statistics.metrics,
        "compareMethods": [{"method": m, "rival": m == rival} for m in methods],
    }


def _beside(statistics: Statistics) -> Iterable[tuple[str, Figure, pl.DataFrame]]:
    for (name,), table in statistics.beside_curves.group_by("metric", maintain_order=True):
        metric = str(name)
        figure = beside.draw_beside(table, statistics.ceilings, metric, CURVES[metric])
        yield f"beside_{metric}", figure, table


GALLERY: Final = {
    "beside": Entry(
        lambda statistics: FOLDER in statistics.runs.columns,
        _beside,
        lambda statistics: {
            "beside": _series(statistics.beside_curves, ["metric", *BESIDE, FOLDER, "setting"])
        },
    ),
    "compare": Entry(
        lambda statistics: any(row["is_rival"] for row in statistics.contest),
        _compare,
        _compare_page,
    ),
    "summary": Entry(lambda statistics: statistics.paired.height > 0, lambda _: (), lambda _: {}),
    "untuned": Entry(
        lambda statistics: not statistics.untuned.by_task.is_empty(), _untuned, lambda _: {}
    ),
    "heatmap": Entry(
        lambda statistics: statistics.is_convergence and statistics.cells.height > 0,
        lambda statistics: [("heatmap", heatmap.draw_heatmaps(statistics.grids), statistics.cells)],
        lambda statistics: {"heatmap": statistics.grids, "heatColours": heatmap.shades()},
    ),
    "iterations": Entry(
        lambda statistics: statistics.beside_steps.height > 0,
        lambda statistics: [
            (
                "iterations",
                iterations.draw_steps_published(statistics.beside_steps),
                statistics.beside_steps,
            )
        ],
        lambda statistics: {"iterations": _series(statistics.beside_steps, ["task", "method"])},
    ),
    "best": Entry(
        lambda statistics: statistics.best_curves.height > 0,
        _best,
        lambda statistics: {
            "best": _series(statistics.best_curves, [*SETTING, "metric"]),
            "bestSeeds": _series(statistics.best_seeds, [*SETTING, "metric", "seed"]),
        },
    ),
    "tuning": Entry(
        lambda statistics: (
            statistics.lines["adaptive"].any()
            and statistics.tuning_curves["schedule"].n_unique() > 1
        ),
        _tuning,
        lambda statistics: {
            "tuning": _series(statistics.tuning_curves, [*SETTING, "metric"]),
            "tuningSeeds": _series(statistics.tuning_seeds, [*SETTING, "metric", "seed"]),
        },
    ),
    "relative": Entry(
        lambda statistics: all(
            table["ratio"].count() > 0 and table["lr"].n_unique() > 1
            for table in statistics.relative.values()
        ),
        _relative,
        _relative_page,
    ),
    "sensitivity": Entry(
        lambda statistics: len(statistics.rates) > 1,
        _sensitivity,
        lambda statistics: {
            name: {metric: _series(table, SERIES) for metric, table in by_metric.items()}
            for name, by_metric in (
                ("sensitivity", statistics.sensitivity),
                ("finals", statistics.finals),
            )
        },
    ),
    "grid": Entry(
        lambda statistics: statistics.paired.height > 0,
        lambda statistics: [
            ("grid", grid.draw_grid(statistics.curves, statistics.ceilings), statistics.curves)
        ],
        _curves_page,
    ),
    "curves": Entry(
        lambda statistics: statistics.paired.height > 0, _curves(*LOSS_LABELS), _curves_page
    ),
    "rate": Entry(
        lambda statistics: statistics.paired.height > 0, _curves("lr_mean"), _curves_page
    ),
    "accuracy": Entry(
        lambda statistics: statistics.accuracies_beside.height > 0,
        lambda statistics: [
            (
                "accuracy",
                accuracy.draw_accuracies(statistics.accuracies_beside),
                statistics.accuracies_beside.drop("values"),
            )
        ],
        lambda _: {},
    ),
    "towers": Entry(
        lambda statistics: statistics.towers.height > 0,
        lambda statistics: [("towers", towers.draw_towers(statistics.towers), statistics.towers)],
        lambda _: {},
    ),
    "published": Entry(
        lambda statistics: statistics.beside.height > 0,
        lambda statistics: [
            ("published", published.draw_published(statistics.beside), statistics.beside)
        ],
        lambda statistics: {"published": _series(statistics.beside, ["task", "method", "metric"])},
    ),
}
"""The figures by the names that a study's `figures` uses, in the order of the page."""


def shown(statistics: Statistics, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the figures to show.

    Args:
        statistics: What there is to show.
        wanted: Names in `GALLERY`; if there are none, those that suit the study are taken.

    Returns:
        Those of which there is something to show, in the order of the page.

    Raises:
        ValueError: A name is not in `GALLERY`.
    """
    return [name for name in asked(statistics, wanted) if GALLERY[name].possible(statistics)]


def asked(statistics: Statistics, wanted: Sequence[str]) -> list[str]:
    """Return the names of the figures that a page is asked for, possible or not, in its order.

    Raises:
        ValueError: A name is not in `GALLERY`.
    """
    for name in wanted:
        if name not in GALLERY:
            raise ValueError(f"figure {name!r} is not one of {', '.join(GALLERY)}")
    names = wanted or _usual(statistics)
    return [name for name in GALLERY if name in names]


def _usual(statistics: Statistics) -> tuple[str, ...]:
    if statistics.is_convergence:
        return ("heatmap", "iterations")
    if statistics.has_offline:
        return ("best", "relative", "published")
    if statistics.lines["adaptive"].all():
        return ("tuning", "curves", "rate")
    return ("summary", "sensitivity", "curves", "rate", "published")


def _has_beta(table: pl.DataFrame) -> bool:
    return "hypergrad_lr" in table.columns


def _series(table: pl.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return a dictionary for each group: its keys, and every other column as a list."""
    kept = pl.selectors.by_name("lr", "hypergrad_lr", require_all=False)
    rounded = table.with_columns((pl.selectors.float() - kept).round_sig_figs(_DIGITS))
    return rounded.group_by(keys, maintain_order=True).all().to_dicts()
