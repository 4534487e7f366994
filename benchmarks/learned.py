"""The verdict of the study "learned" as a table: what is worth learning, and by which rule.

    hypergradient run learned
    python benchmarks/learned.py results/learned-laptop

Ratios of the best validation loss to that of the best of five constant rates, of the same seed:
geometric means over tasks and the three starts that all have, with Student's 95% interval over
seeds. "Usual start" is the middle one alone, and "best start" the best of the three on each task.
A loss counts as no more than that of an untrained network (see `results.untuned`).
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import polars as pl

from hypergradient.study.declare.load import built_in_studies, load_study
from hypergradient.study.results.intervals import half_width
from hypergradient.study.results.untuned import CELL, best_tuned, losses

MEASURE, NOISY = "valid_loss_best", "noisy-digits-mlp"
STARTS = {"SGDN": (1e-3, 1e-2, 0.1), "Adam": (1e-4, 1e-3, 1e-2)}
TITLES = {"SGDN": "SGD with Nesterov momentum", "Adam": "Adam"}
SHARES = {"SGDN": "momentum", "Adam": "betas"}
RULES = ("additive", "multiplicative", "adam", "hdm")
LEARNS = ("rate", "share", "rate and share", "rate and its step size")


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def log_ratios(folder: Path) -> pl.DataFrame:
    """Return the log10 of each run's ratio, of the runs from the shared starts."""
    runs, epochs = (pl.read_parquet(folder / f"{name}.parquet") for name in ("runs", "epochs"))
    table = losses(runs, epochs)
    best = best_tuned(table).filter(measure=MEASURE).drop("tuned")
    of_best = table.filter("tuned").join(best, on=CELL, nulls_equal=True)
    keys = ["task", "base", "seed"]
    both = table.join(of_best.select(*keys, of_best=MEASURE), on=keys)
    shared = [(pl.col("base") == b) & pl.col("start").is_in(s) for b, s in STARTS.items()]
    return both.filter(pl.any_horizontal(shared)).with_columns(
        ratio=pl.col(MEASURE) - pl.col("of_best")
    )


def over_seeds(table: pl.DataFrame) -> Interval:
    """Return the mean over seeds."""
    by_seed = table.group_by("seed").agg(pl.col("ratio").mean())["ratio"]
    half = half_width(pl.Series([len(by_seed)]), pl.Series([by_seed.std()]))[0]
    mean = float(by_seed.to_numpy().mean())
    return Interval(10**mean, 10 ** (mean - half), 10 ** (mean + half))


def of_best_starts(table: pl.DataFrame) -> float:
    """Return the mean over tasks, each from its best start."""
    means = table.group_by("task", "start").agg(pl.col("ratio").mean())
    return 10 ** float(means.group_by("task").agg(pl.col("ratio").min())["ratio"].to_numpy().mean())


def chosen(table: pl.DataFrame, rule: str, learns: str) -> pl.DataFrame:
    """Return the runs of a rule by which something learns."""
    line = pl.col("line").str
    fixed, share = line.contains("hypergrad_lr = 0.0,"), line.contains("learn = ")
    tower = line.contains("tower = ")
    what = {
        "rate": ~fixed & ~share & ~tower,
        "share": fixed & share,
        "rate and share": ~fixed & share,
        "rate and its step size": tower,
    }
    return table.filter(~pl.col("tuned") & line.contains(f"rule = {rule}") & what[learns])


def main() -> None:
    """Print a table a base."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the results of the study")
    table = log_ratios(parser.parse_args().folder)
    selection = load_study(built_in_studies()["learned"], "laptop").selection
    heads = "rule", "selection", "claim", "random labels", "usual start", "best start"
    for base, starts in STARTS.items():
        own = table.filter(base=base)
        print(f"\n| {TITLES[base]}: learns | {' | '.join(heads)} |\n|{' --- |' * (1 + len(heads))}")
        rows = [("nothing", "", own.filter("tuned"))]
        rows += [(what, rule, chosen(own, rule, what)) for rule in RULES for what in LEARNS]
        for what, rule, part in rows:
            if part.is_empty():
                continue
            is_selection = pl.col("task").is_in(selection)
            cells = [
                over_seeds(part.filter(is_selection)),
                over_seeds(part.filter(~is_selection)),
                over_seeds(part.filter(task=NOISY)),
                over_seeds(part.filter(start=starts[1])),
            ]
            words = [what.replace("share", SHARES[base]), rule, *map(str, cells)]
            print(f"| {' | '.join(words)} | {of_best_starts(part):.2f} |")


if __name__ == "__main__":
    main()
