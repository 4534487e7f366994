"""The tables behind a report's figures, each computed when a figure first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from hypergradient.study.results import (
    accuracy,
    best,
    compare,
    compare_curves,
    convergence,
    curves,
    published,
    sensitivity,
    time_to_target,
    towers,
    untuned,
    untuned_lengths,
    verdicts,
)
from hypergradient.study.results import beside as results_beside
from hypergradient.study.results.pairs import WITHOUT_PLAN, hyperparameters, lines, pair
from hypergradient.study.results.relative import relative_sensitivity, widths
from hypergradient.study.results.schema import ACCURACY_LABELS, LOSS_LABELS


@dataclass(frozen=True)
class Statistics:
    """Runs and epochs of a study, and what is computed from them.

    Attributes:
        runs: One row a run.
        epochs: One row a run and epoch.
        published: Numbers to set beside ours, or None.
        selection: The tasks on which something was chosen.
    """

    runs: pl.DataFrame
    epochs: pl.DataFrame
    published: pl.DataFrame | None = None
    selection: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> pl.DataFrame:
        """All runs but the failed ones."""
        return lines(self.runs)

    @cached_property
    def paired(self) -> pl.DataFrame:
        return pair(self.runs)

    @cached_property
    def tasks(self) -> list[str]:
        tasks: list[str] = self.lines["task"].unique(maintain_order=True).to_list()
        return tasks

    @cached_property
    def rates(self) -> list[float]:
        rates: list[float] = self.paired["lr"].drop_nulls().unique().sort().to_list()
        return rates

    @cached_property
    def ceilings(self) -> pl.DataFrame:
        return curves.ceilings(self.lines, self.epochs)

    @cached_property
    def sensitivity(self) -> dict[str, pl.DataFrame]:
        return {metric: sensitivity.by_rate(self.paired, metric) for metric in LOSS_LABELS}

    @cached_property
    def finals(self) -> dict[str, pl.DataFrame]:
        return {metric: sensitivity.finals(self.paired, metric) for metric in LOSS_LABELS}

    @cached_property
    def summary(self) -> dict[str, pl.DataFrame]:
        return {metric: sensitivity.summary(table) for metric, table in self.sensitivity.items()}

    @cached_property
    def curves(self) -> pl.DataFrame:
        return curves.over_epochs(self.paired, self.epochs)

    @property
    def accuracies(self) -> list[tuple[str, str]]:
        """The accuracies that curves have, by their column: (column, label)."""
        trained = self.curves.filter(pl.col("epoch") > 0)
        return [(name, label) for name, label in ACCURACY_LABELS.items() if trained[name].count()]

    @cached_property
    def beside(self) -> pl.DataFrame:
        """Our losses beside published ones, empty if there are none to compare."""
        if self.published is None:
            return pl.DataFrame()
        return published.beside_published(self.runs, self.epochs, self.published)

    @cached_property
    def accuracies_beside(self) -> pl.DataFrame:
        """Our accuracies beside published ones, empty if there are none to compare."""
        if self.published is None or "paper" not in self.published.columns:
            return pl.DataFrame()
        return accuracy.beside_published_accuracies(self.runs, self.published)

    @cached_property
    def towers(self) -> pl.DataFrame:
        return towers.towers(self.runs)

    @property
    def tower_ranges(self) -> pl.DataFrame:
        return towers.ranges(self.towers)

    @property
    def last_published(self) -> list[dict[str, Any]]:
        """One row a task and method, at its last epoch: a column a loss and number."""
        last = self.beside.filter(pl.col("epoch") == pl.col("epoch").max().over("task", "method"))
        numbers = ["ours", "theirs", "ratio"]
        return last.pivot("metric", index=["task", "method", "epoch"], values=numbers).to_dicts()

    @property
    def beside_folders(self) -> list[str]:
        """The names of two results folders, where ``runs`` are of two."""
        return results_beside.folders(self.runs)

    @cached_property
    def beside_curves(self) -> pl.DataFrame:
        return results_beside.curves(self.runs, self.epochs)

    @cached_property
    def beside_tables(self) -> list[tuple[str, str, list[dict[str, Any]]]]:
        """For each measure of two folders: its column, its name and the rows to compare."""
        return [
            (measure, name, results_beside.compared(self.runs, measure))
            for measure, name in results_beside.measures(self.runs).items()
        ]

    @property
    def beside_differences(self) -> list[tuple[str, str, str]]:
        """What the runs of two folders differ in, besides their results."""
        return results_beside.differences(self.runs)

    @cached_property
    def is_convergence(self) -> bool:
        return convergence.measured(self.runs)

    @cached_property
    def cells(self) -> pl.DataFrame:
        return convergence.convergence(self.runs)

    @cached_property
    def grids(self) -> list[dict[str, Any]]:
        return convergence.grids(self.cells)

    @cached_property
    def score(self) -> pl.DataFrame:
        return convergence.score(self.cells)

    @cached_property
    def beside_steps(self) -> pl.DataFrame:
        """Our iterations beside published ones, empty if there are none to compare."""
        if self.published is None or not self.is_convergence:
            return pl.DataFrame()
        return convergence.beside_published_steps(self.cells, self.published)

    @cached_property
    def beside_steps_summary(self) -> pl.DataFrame:
        return convergence.published_steps_summary(self.beside_steps)

    @cached_property
    def has_offline(self) -> bool:
        """Is there any schedule that was fixed in advance, besides the constant rate?"""
        return not self.lines["schedule"].is_in(WITHOUT_PLAN).all()

    @cached_property
    def chosen(self) -> pl.DataFrame:
        return best.best_configurations(self.runs)

    @property
    def hyperparameters(self) -> list[str]:
        """Those of which a configuration is made, if it has any value."""
        return [name for name in hyperparameters(self.runs) if self.chosen[name].count()]

    @property
    def on_edge(self) -> int:
        """How many of the chosen configurations lie on the edge of their grid."""
        return int((self.chosen["edge"].list.len() > 0).sum())

    @cached_property
    def best(self) -> pl.DataFrame:
        return best.best_runs(self.runs, self.chosen)

    @cached_property
    def best_curves(self) -> pl.DataFrame:
        return best.best_curves(self.best, self.epochs)

    @cached_property
    def best_seeds(self) -> pl.DataFrame:
        return best.seed_curves(self.best, self.epochs)

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        return verdicts.verdicts(self.best)

    @cached_property
    def tally(self) -> pl.DataFrame:
        return verdicts.tally(self.verdicts)

    @cached_property
    def tuning(self) -> pl.DataFrame:
        return best.recommended_and_tuned(self.runs)

    @cached_property
    def tuning_curves(self) -> pl.DataFrame:
        return best.best_curves(self.tuning, self.epochs)

    @cached_property
    def tuning_seeds(self) -> pl.DataFrame:
        return best.seed_curves(self.tuning, self.epochs)

    @property
    def tuning_settings(self) -> list[dict[str, Any]]:
        """The rates of the recommended and of the tuned configurations, and their final loss."""
        keys = ["task", "method", "schedule", *self.hyperparameters]
        loss = pl.col("train_loss_final").mean()
        return self.tuning.group_by(keys, maintain_order=True).agg(loss=loss).to_dicts()

    def comparisons(self, metric: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """For each rival of hypergradient descent: the count of the verdicts, and the verdicts."""
        return [
            (count, self.verdicts.filter(metric=metric, rival=count["rival"]).to_dicts())
            for count in self.tally.filter(metric=metric).to_dicts()
        ]

    @cached_property
    def relative(self) -> dict[str, pl.DataFrame]:
        return {metric: relative_sensitivity(self.runs, metric) for metric in LOSS_LABELS}

    @cached_property
    def widths(self) -> dict[str, pl.DataFrame]:
        return {metric: widths(table) for metric, table in self.relative.items()}

    @cached_property
    def contest(self) -> list[dict[str, Any]]:
        """The methods beside their tuned rival, with their final metrics."""
        return compare_curves.rows_of_table(self.runs, self.epochs)

    @property
    def verdict(self) -> list[str]:
        """Who ended where beside the rival, in sentences."""
        return compare.sentences(self.contest)

    @cached_property
    def metrics(self) -> dict[str, str]:
        """The columns of ``epochs`` that are metrics, and what they are called."""
        return compare_curves.metrics_of(self.epochs)

    @cached_property
    def over_training(self) -> pl.DataFrame:
        return compare_curves.over_training(self.runs, self.epochs)

    @cached_property
    def at_the_end(self) -> pl.DataFrame:
        return compare_curves.at_the_end(self.runs, self.epochs)

    @cached_property
    def untuned(self) -> UntunedStatistics:
        return UntunedStatistics.of(self.runs, self.epochs, self.selection)


@dataclass(frozen=True)
class UntunedStatistics:
    """How near methods come to the best tuned rate: the tables of `results.untuned`."""

    best: pl.DataFrame
    singles: pl.DataFrame
    cells: pl.DataFrame
    by_task: pl.DataFrame
    scores: pl.DataFrame
    profile: pl.DataFrame
    times: pl.DataFrame
    time_profile: pl.DataFrame
    time_scores: pl.DataFrame
    lengths: pl.DataFrame

    @classmethod
    def of(
        cls, runs: pl.DataFrame, epochs: pl.DataFrame, selection: tuple[str, ...]
    ) -> UntunedStatistics:
        losses = untuned.losses(runs, epochs)
        best, singles = untuned.best_tuned(losses), untuned.singles(losses, selection)
        times = time_to_target.times(losses, epochs, best, singles)
        losses = untuned.with_singles(losses, singles)
        ratios = untuned.ratios(losses, best)
        cells = untuned.cells(ratios)
        return cls(
            best=best,
            singles=singles,
            cells=cells,
            by_task=untuned.by_task(losses, ratios, cells),
            scores=untuned.scores(losses, ratios, cells, selection),
            profile=untuned.profile(cells, selection),
            times=times,
            time_profile=time_to_target.profile(times, selection),
            time_scores=time_to_target.scores(times, selection),
            lengths=untuned_lengths.by_length(ratios),
        )
