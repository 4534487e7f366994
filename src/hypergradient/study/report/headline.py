"""What came out of a study, in a few sentences computed from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from hypergradient.study.results import beside
from hypergradient.study.results.pairs import HYPERGRADIENT
from hypergradient.study.results.towers import NEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypergradient.study.results.statistics import Statistics


POINT = 1.0
"""How many percent two accuracies may differ and be called near."""


def headline(statistics: Statistics, names: Sequence[str]) -> list[str]:
    """Say what came out, by the figures that are shown.

    Args:
        statistics: All there is to tell.
        names: The figures of the page.

    Returns:
        A few sentences.
    """
    if "beside" in names:
        return beside.sentences(statistics.runs)
    if "compare" in names:
        return statistics.verdict
    of_figures: dict[str, Callable[[], list[str]]] = {
        "heatmap": lambda: convergence(statistics.cells, statistics.score),
        "best": lambda: verdicts(statistics.tally),
        "tuning": lambda: tuning(statistics.tuning),
        "relative": lambda: breadth(statistics.widths["train_loss"]),
        "untuned": lambda: nearness(statistics.untuned.scores),
        "accuracy": lambda: accuracies(statistics.accuracies_beside),
        "towers": lambda: floors(statistics.tower_ranges),
    }
    told = [said for name, tell in of_figures.items() if name in names for said in tell()]
    if not told and statistics.paired.height:
        summary = statistics.summary["train_loss"]
        return [*losses(summary, statistics.runs), *without_rate(summary)]
    diverged = _diverged(statistics.runs)
    return [*told, f"{diverged[0].upper()}{diverged[1:]}."]


def convergence(cells: pl.DataFrame, score: pl.DataFrame) -> list[str]:
    """Say in how many cells hypergradient descent is at least as fast, and how steady its time is.

    Args:
        cells: From `results.convergence.convergence`.
        score: From `results.convergence.score`.
    """
    if score.is_empty():
        return []
    counts = score.group_by("base", maintain_order=True).agg(
        pl.col("as_good").sum(), cells=pl.sum_horizontal("as_good", "behind", "undecided").sum()
    )
    parts = [f"{good} of {total} ({base})" for base, good, total in counts.iter_rows()]
    same = "Hypergradient descent needs no more steps than its base optimizer from the same α₀ in"
    return [f"{same} {_listed(parts)} pairs of α₀ and β.", _reached(cells)]


def verdicts(tally: pl.DataFrame) -> list[str]:
    """Say in how many settings hypergradient descent's training loss is comparable to a rival's.

    Args:
        tally: From `results.verdicts.tally`.
    """
    parts = []
    for row in tally.filter(metric="train_loss").iter_rows(named=True):
        rival = {"constant": "a constant rate"}.get(row["rival"], row["rival"])
        undecided = f", undecided in {row['undecided']}" if row["undecided"] else ""
        ends = [f"{row[end]:.2g}" for end in ("lowest", "highest") if row[end] is not None]
        ratios = f" ({' to '.join(dict.fromkeys(ends))} times its loss)" if ends else ""
        parts.append(
            f"against {rival} comparable in {row['comparable']}, better in {row['better']} and "
            f"worse in {row['worse']}{undecided} of {row['settings']} settings{ratios}"
        )
    told = "Each at its best, hypergradient descent’s final training loss is"
    return [f"{told} {'; '.join(parts)}."] if parts else []


def tuning(runs: pl.DataFrame) -> list[str]:
    """Say how much better hypergradient descent ends when it is tuned, over tasks.

    Args:
        runs: From `results.best.recommended_and_tuned`.
    """
    means = runs.group_by("task", "method", "schedule", maintain_order=True).agg(
        loss=pl.col("train_loss_final").mean()
    )
    both = means.filter(schedule="recommended").join(
        means.filter(schedule="tuned"), on=["task", "method"], suffix="_tuned"
    )
    ratio = (pl.col("loss") / pl.col("loss_tuned")).log10().mean()
    ratios = both.drop_nulls().group_by("method", maintain_order=True).agg(10**ratio)
    parts = [f"{value:.2g} ({method})" for method, value in ratios.iter_rows()]
    if not parts:
        return []
    return [f"As recommended, the final training loss is {_listed(parts)} times that as tuned."]


def breadth(widths: pl.DataFrame) -> list[str]:
    """Say how wide the good learning rates are for each schedule, the median over its lines.

    Args:
        widths: From `results.relative.widths`, of the training loss.
    """
    if widths.is_empty():
        return []
    medians = widths.group_by("schedule", maintain_order=True).agg(pl.col("width").median())
    parts = [f"{width:.2g} ({schedule})" for schedule, width in medians.iter_rows()]
    return [
        f"Decades of α₀ within 10 % of the best training loss, median over lines: {_listed(parts)}."
    ]


def accuracies(table: pl.DataFrame) -> list[str]:
    """Say how many of our accuracies are near a published one, for each task.

    Args:
        table: From `results.accuracy.beside_published_accuracies`.
    """
    away = [(pl.col("ours") - pl.col(name)).abs() for name in ("paper", "rerun")]
    counts = table.group_by("task", maintain_order=True).agg(
        near=(pl.min_horizontal(away) <= POINT).sum(), rows=pl.len()
    )
    parts = [f"{near} of {rows} ({task})" for task, near, rows in counts.iter_rows()]
    return [
        f"Within a point of the published accuracy, or of that code run anew: {_listed(parts)}."
    ]


def floors(ranges: pl.DataFrame) -> list[str]:
    """Say how wide the good starts are for each height of a tower.

    Args:
        ranges: From `results.towers.ranges`.
    """
    parts = [
        f"{decades:.2g} at height {height}"
        for height, decades in ranges.select("height", "decades").drop_nulls().iter_rows()
    ]
    what = f"Decades of starts that end within {NEAR:.2g} times the best loss"
    return [f"{what}: {_listed(parts)}."] if parts else []


def nearness(scores: pl.DataFrame) -> list[str]:
    """Say which method comes nearest to the best tuned rates, in the mean and at worst.

    Args:
        scores: From `results.untuned.scores`.
    """
    told = []
    for base in scores["base"].unique().sort():
        here = scores.filter(~pl.col("tuned"), base=base, measure="train_loss_final", set="claim")
        free, alone = here.filter(~pl.col("single")), here.filter("single")
        if free.is_empty():
            continue
        nearest, safest = (free.sort(by).row(0, named=True) for by in ("mean", "worst"))
        told.append(
            f"Over claim tasks and starts, {nearest['line']} comes nearest to the best tuned "
            f"{base}: its final training loss is {nearest['mean']:.3g} times as large in the mean "
            f"and {nearest['worst']:.3g} times at worst, with {nearest['dead']} of "
            f"{nearest['runs']} runs dead; the least worst ratio is {safest['worst']:.3g} "
            f"({safest['line']})."
        )
        if alone.height:
            best = alone.sort("mean").row(0, named=True)
            told.append(
                f"The best that one rate does for all tasks, chosen on the selection tasks, is "
                f"{best['mean']:.3g} times in the mean and {best['worst']:.3g} at worst "
                f"({best['line']})."
            )
    return told


def losses(summary: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Say how much better or worse hypergradient descent ended, and how many runs diverged.

    Args:
        summary: From `results.sensitivity.summary`, of the training loss.
        runs: All runs, to count those that diverged.

    Returns:
        The loss from the lowest initial rate and from the best, or from the only one, as ratios
        (geometric means over tasks), each a sentence.
    """
    adaptive = summary.filter("adaptive")
    rated = adaptive.filter(pl.col("lowest_lr").is_not_null())
    adaptive = rated if rated.height else adaptive
    descents = adaptive.filter(schedule=HYPERGRADIENT)
    name = "hypergradient descent" if descents.height else "an adaptive rate"
    pairs = summary.filter(~pl.col("adaptive")).join(
        descents if descents.height else adaptive, on=["task", "panel"], suffix="_hd"
    )
    several = pairs.filter(pl.col("lowest_lr") < pl.col("highest_lr"))
    diverged = _diverged(runs)
    if several.is_empty():
        only = _ratios(pairs, "best")
        return [f"{_LOSS} is {only} that of {name}; {diverged}."]
    start = f"From α₀ = {min(several['lowest_lr'].to_list()):g}, the lowest tried"
    lowest, best = _ratios(several, "at_lowest"), _ratios(several, "best")
    return [
        f"{start}, {_LOSS.lower()} is {lowest} that of {name}.",
        f"From the best α₀ of each it is {best}; {diverged}.",
    ]


def without_rate(summary: pl.DataFrame) -> list[str]:
    """Say where methods that take no rate ended, beside the best constant rate of their base.

    Args:
        summary: From `results.sensitivity.summary`, of the training loss.
    """
    free = summary.filter("adaptive", pl.col("lowest_lr").is_null())
    pairs = summary.filter(~pl.col("adaptive")).join(
        free, on=["task", "panel"], suffix="_free", maintain_order="left"
    )
    told = []
    for (method,), part in pairs.group_by("method_free", maintain_order=True):
        sound = part.drop_nulls(["best", "best_free"])
        ratio = sound.select((pl.col("best_free") / pl.col("best")).cast(pl.Float64).log10().mean())
        if sound.height:
            bases = _listed(sound["base"].unique(maintain_order=True).to_list())
            told.append(
                f"{method} takes no rate: its final training loss is {10 ** ratio.item():.2g} "
                f"times that of the best constant rate of {bases}."
            )
    return told


_LOSS = "The final training loss with a constant rate"


def _ratios(pairs: pl.DataFrame, column: str) -> str:
    """Return the base's value over that of its adaptive version, for each base optimizer."""
    sound = pairs.drop_nulls([column, f"{column}_hd"])
    ratios = sound.group_by("base", maintain_order=True).agg(
        10 ** (pl.col(column) / pl.col(f"{column}_hd")).cast(pl.Float64).log10().mean()
    )
    listed = _listed([f"{ratio:.2g} ({base})" for base, ratio in ratios.iter_rows()])
    return f"{listed} times" if listed else "not comparable with"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _reached(cells: pl.DataFrame) -> str:
    """Say how many runs reached the target."""
    counts = cells.group_by("adaptive").agg(pl.col("reached", "runs").sum())
    shares = {adaptive: f"{reached} of {runs}" for adaptive, reached, runs in counts.iter_rows()}
    return (
        f"The target was reached by {shares.get(False, 'none')} runs with a constant rate and by "
        f"{shares.get(True, 'none')} with hypergradient descent."
    )


def _diverged(runs: pl.DataFrame) -> str:
    lost = runs.filter(pl.col("status") == "diverged")
    if lost.is_empty():
        return "no run diverged"
    methods = lost.group_by("method").len().sort("len", "method", descending=[True, False])
    detail = ", ".join(f"{name} {count}" for name, count in methods.iter_rows())
    return f"{lost.height} of {runs.height} runs diverged ({detail})"
