"""How soon methods reach the loss at which the tuned rival ends. Functions here only compute.

The target on a task is the loss of the base optimizer's best tuned run of the same seed, as
`results.untuned` chooses and bounds it. A run's time is the step of the first evaluation at which
its loss is no larger, so times are known up to an epoch. Its factor is that time over the least one
of the same task, base and seed. The share of tasks within a factor tau is the performance profile
of Dolan and More (2002), and its mean over tau from 1 to 4 is the score of AlgoPerf (Dahl et al.
2023), with steps in place of seconds. A run that never gets there is within no factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from hypergradient.study.results.intervals import half_width
from hypergradient.study.results.single_settings import NAME
from hypergradient.study.results.untuned import CELL, KIND, set_of

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS: Final = {"train_loss_final": "train_loss", "valid_loss_best": "valid_loss"}
"""The measures whose tuned value is a target, and the column of `epochs` that has to reach it."""

MOST: Final = 4.0
"""The largest factor that a profile shows, and that counts for the score."""

WITHIN: Final = {"within_1": 1.0, "within_2": 2.0}
"""The factors whose shares are in the table."""

RIVAL: Final = ", a rate for each task"
"""What the name of a base optimizer gets, for its best tuned run."""

_ROUNDING = 1e-9  # a target went through a logarithm and back


def times(
    table: pl.DataFrame, epochs: pl.DataFrame, best: pl.DataFrame, singles: pl.DataFrame
) -> pl.DataFrame:
    """Measure when runs reach their target: from their default start, and those of the rivals.

    Args:
        table: From `results.untuned.losses`.
        epochs: One row a run and epoch.
        best: From `results.untuned.best_tuned`.
        singles: From `results.untuned.singles`.

    Returns:
        A row a measure of `TARGETS` and a run: `task`, `base`, `line`, `KIND`, `seed`, `target`,
        `steps` until it is reached, and their `factor`. Both are null if it never is. The best
        tuned run is a line of its own.
    """
    keys, found = ["task", "base", "seed"], []
    tuned = table.filter("tuned").with_columns(single=pl.lit(value=False))
    for measure, curve in TARGETS.items():
        rival = tuned.join(best.filter(measure=measure).select(CELL), on=CELL, nulls_equal=True)
        targets = rival.select(*keys, target=10 ** pl.col(measure))
        one_rate = tuned.join(
            singles.filter(measure=measure).select("base", "line", "start"),
            on=["base", "line", "start"],
        ).with_columns(line=pl.col("line") + NAME, tuned=~pl.col("tuned"), single=pl.col("tuned"))
        free = table.filter(~pl.col("tuned"), pl.col("start").is_null())
        columns = [*keys, "line", *KIND, "run_id"]
        contest = pl.concat(
            [
                part.select(columns)
                for part in (
                    rival.with_columns(line=pl.col("base") + RIVAL),
                    one_rate,
                    free.with_columns(single=pl.lit(value=False)),
                )
            ]
        ).join(targets, on=keys, maintain_order="left")
        reached = (
            epochs.filter(pl.col("epoch") > 0)
            .select("run_id", "step", loss=curve)
            .join(contest.select("line", "run_id", "target"), on="run_id")
            .filter(pl.col("loss") <= pl.col("target") * (1 + _ROUNDING))
            .group_by("line", "run_id")
            .agg(steps=pl.col("step").min())
        )
        found.append(
            contest.join(reached, on=["line", "run_id"], how="left", maintain_order="left")
            .drop("run_id")
            .with_columns(
                measure=pl.lit(measure), factor=pl.col("steps") / pl.col("steps").min().over(keys)
            )
        )
    return pl.concat(found)


def profile(times: pl.DataFrame, selection: Sequence[str]) -> pl.DataFrame:
    """Compute the share of tasks on which a line is within a factor tau of the fastest.

    Args:
        times: From `times`.
        selection: As for `results.untuned.scores`.

    Returns:
        `set`, `base`, `line`, `measure`, `tau` and `share`, the mean over seeds: a row at each
        factor that occurs, where the share steps up to what it says, in ascending order.
    """
    keys = ["set", "base", "line", "measure"]
    return (
        times.with_columns(set=set_of(selection))
        .with_columns(runs=pl.len().over(keys))
        .drop_nulls("factor")
        .sort(*keys, "factor", maintain_order=True)
        .with_columns(share=pl.int_range(1, pl.len() + 1).over(keys) / pl.col("runs"), tau="factor")
        .group_by(*keys, "tau", maintain_order=True)
        .agg(share=pl.col("share").max())
    )


def scores(times: pl.DataFrame, selection: Sequence[str]) -> pl.DataFrame:
    """Summarise how soon each line reaches its targets on the tasks of a set.

    Args:
        times: From `times`.
        selection: As for `results.untuned.scores`.

    Returns:
        A row a set, base, line, `KIND` and measure: `score` (the mean of the profile over tau from
        1 to `MOST`), the shares of tasks of `WITHIN`, and `reached`, at any time; each is a mean
        over seeds with Student's interval (`score_low`, `score_high` and so on, within 0 and 1);
        and `tasks`. By set, base and score.
    """
    keys = ["set", "base", "line", *KIND, "measure"]
    factor = pl.col("factor")
    shares = {
        "score": ((MOST - factor) / (MOST - 1)).clip(lower_bound=0).fill_null(0.0),
        **{
            name: (factor <= tau).fill_null(value=False).cast(pl.Float64)
            for name, tau in WITHIN.items()
        },
        "reached": factor.is_not_null().cast(pl.Float64),
    }
    by_seed = (
        times.with_columns(set=set_of(selection), **shares)
        .group_by(*keys, "seed", maintain_order=True)
        .agg(pl.col(*shares).mean(), tasks=pl.col("task").n_unique())
    )
    summary = by_seed.group_by(keys, maintain_order=True).agg(
        pl.col("tasks").max(),
        pl.col(*shares).mean(),
        pl.col(*shares).std().name.suffix("_std"),
        seeds=pl.len(),
    )
    for name in shares:
        half = half_width(summary["seeds"], summary[f"{name}_std"])
        summary = summary.with_columns(
            **{
                f"{name}_low": (pl.col(name) - half).clip(0, 1),
                f"{name}_high": (pl.col(name) + half).clip(0, 1),
            }
        ).drop(f"{name}_std")
    return summary.sort(
        *("set", "measure", "base", "score"),
        descending=[True, False, False, True],
        maintain_order=True,
    )
