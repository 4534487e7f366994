"""The tables behind a report's figures, each computed when a figure first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from hypergradient.study import (
    statistics,
    statistics_best,
    statistics_convergence,
    statistics_untuned,
)
from hypergradient.study.statistics import LOSSES
from hypergradient.study.statistics_pairs import (
    CONSTANT,
    HYPERGRADIENT,
    hyperparameters,
    lines,
    pair,
)
from hypergradient.study.statistics_relative import relative_sensitivity, widths


@dataclass(frozen=True)
class Tables:
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
        return statistics.ceilings(self.lines, self.epochs)

    @cached_property
    def sensitivity(self) -> dict[str, pl.DataFrame]:
        return {metric: statistics.sensitivity(self.paired, metric) for metric in LOSSES}

    @cached_property
    def finals(self) -> dict[str, pl.DataFrame]:
        return {metric: statistics.finals(self.paired, metric) for metric in LOSSES}

    @cached_property
    def summary(self) -> dict[str, pl.DataFrame]:
        return {metric: statistics.summary(table) for metric, table in self.sensitivity.items()}

    @cached_property
    def curves(self) -> pl.DataFrame:
        return statistics.curves(self.paired, self.epochs)

    @cached_property
    def beside(self) -> pl.DataFrame:
        """Our losses beside published ones, empty if there are none to compare."""
        if self.published is None:
            return pl.DataFrame()
        return statistics.beside_published(self.runs, self.epochs, self.published)

    @property
    def last_published(self) -> list[dict[str, Any]]:
        """One row a task and method, at its last epoch: a column a loss and number."""
        last = self.beside.filter(pl.col("epoch") == pl.col("epoch").max().over("task", "method"))
        numbers = ["ours", "theirs", "ratio"]
        return last.pivot("metric", index=["task", "method", "epoch"], values=numbers).to_dicts()

    @cached_property
    def is_convergence(self) -> bool:
        return statistics_convergence.measured(self.runs)

    @cached_property
    def cells(self) -> pl.DataFrame:
        return statistics_convergence.convergence(self.runs)

    @cached_property
    def grids(self) -> list[dict[str, Any]]:
        return statistics_convergence.grids(self.cells)

    @cached_property
    def score(self) -> pl.DataFrame:
        return statistics_convergence.score(self.cells)

    @cached_property
    def beside_steps(self) -> pl.DataFrame:
        """Our iterations beside published ones, empty if there are none to compare."""
        if self.published is None or not self.is_convergence:
            return pl.DataFrame()
        return statistics_convergence.beside_published_steps(self.cells, self.published)

    @cached_property
    def beside_steps_summary(self) -> pl.DataFrame:
        return statistics_convergence.published_steps_summary(self.beside_steps)

    @cached_property
    def has_offline(self) -> bool:
        """Is there any schedule but a constant rate and hypergradient descent?"""
        return not self.lines["schedule"].is_in([CONSTANT, HYPERGRADIENT]).all()

    @cached_property
    def chosen(self) -> pl.DataFrame:
        return statistics_best.best_configurations(self.runs)

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
        return statistics_best.best_runs(self.runs, self.chosen)

    @cached_property
    def best_curves(self) -> pl.DataFrame:
        return statistics_best.best_curves(self.best, self.epochs)

    @cached_property
    def best_seeds(self) -> pl.DataFrame:
        return statistics_best.seed_curves(self.best, self.epochs)

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        return statistics_best.verdicts(self.best)

    @cached_property
    def tally(self) -> pl.DataFrame:
        return statistics_best.tally(self.verdicts)

    @cached_property
    def tuning(self) -> pl.DataFrame:
        return statistics_best.recommended_and_tuned(self.runs)

    @cached_property
    def tuning_curves(self) -> pl.DataFrame:
        return statistics_best.best_curves(self.tuning, self.epochs)

    @cached_property
    def tuning_seeds(self) -> pl.DataFrame:
        return statistics_best.seed_curves(self.tuning, self.epochs)

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
        return {metric: relative_sensitivity(self.runs, metric) for metric in LOSSES}

    @cached_property
    def widths(self) -> dict[str, pl.DataFrame]:
        return {metric: widths(table) for metric, table in self.relative.items()}

    @cached_property
    def untuned(self) -> Untuned:
        return Untuned.of(self.runs, self.epochs, self.selection)


@dataclass(frozen=True)
class Untuned:
    """How near methods come to the best tuned rate: the tables of `statistics_untuned`."""

    best: pl.DataFrame
    cells: pl.DataFrame
    by_task: pl.DataFrame
    scores: pl.DataFrame
    profile: pl.DataFrame

    @classmethod
    def of(cls, runs: pl.DataFrame, epochs: pl.DataFrame, selection: tuple[str, ...]) -> Untuned:
        losses = statistics_untuned.losses(runs, epochs)
        best = statistics_untuned.best_tuned(losses)
        ratios = statistics_untuned.ratios(losses, best)
        cells = statistics_untuned.cells(ratios)
        return cls(
            best=best,
            cells=cells,
            by_task=statistics_untuned.by_task(losses, cells),
            scores=statistics_untuned.scores(losses, ratios, cells, selection),
            profile=statistics_untuned.profile(cells, selection),
        )
