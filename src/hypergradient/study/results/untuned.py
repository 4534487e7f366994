"""How near methods come to the best tuned rate, from any start. Functions here only compute.

A run's ratio is its loss over that of the best tuned run of the same seed, both no larger than the
untrained loss U and no smaller than U / 10,000: a loss of 1e-8 is not a hundred times better than
one of 1e-6, and a run that has died or diverged counts as not trained. U is the lower of the loss
before training and that of the best outputs that do not depend on the inputs. The best tuned run is
that of the base optimizer whose constant or decayed rate has the least mean over seeds; a method
whose base was not tuned is compared with Adam. All means are geometric, and their intervals are
over seeds. `single_settings` adds the rivals that have one rate for all tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from hypergradient.study.results.intervals import geometric_intervals
from hypergradient.study.results.pairs import CONSTANT, complete, short_method, varying
from hypergradient.study.results.single_settings import single_settings, with_single_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

FLOOR: Final = 1e-4
"""A loss below this share of the untrained loss counts as this share of it."""

DEAD: Final = 0.9
"""A run is dead whose final training loss is not below this share of the untrained loss."""

MEASURES: Final = {
    "train_loss_final": "Final training loss",
    "train_loss_best": "Best training loss",
    "valid_loss_final": "Final validation loss",
    "valid_loss_best": "Best validation loss",
}
"""The measures that are compared. The first one also decides which runs are dead."""

PICTURED: Final = ("train_loss_final", "valid_loss_best")
"""The measures of which there are figures. Of all of them there are tables."""

TUNED: Final = (CONSTANT, "lr-decay")
"""The schedules of which the best tuned run is chosen."""

SETS: Final = ("selection", "claim")

LINE: Final = ("task", "base", "line")

KIND: Final = ("tuned", "single")
"""Whether a line has fixed rates of a base optimizer, or one of them for all tasks, or neither."""

CELL: Final = (*LINE, "start")
"""A method on a task from one start; the start is null where it is the method's own default."""


def set_of(selection: Sequence[str]) -> pl.Expr:
    """Return which of `SETS` a task belongs to."""
    chosen = pl.col("task").is_in(list(selection))
    return pl.when(chosen).then(pl.lit(SETS[0])).otherwise(pl.lit(SETS[1]))


def rival_of(base: str, tuned: Collection[str]) -> str:
    """Return which of the tuned base optimizers stands for a method's base.

    Args:
        base: What the method's runs recorded as their base.
        tuned: The base optimizers whose rates the study tunes.

    Returns:
        The base itself if it was tuned, a tuned relative of SGD for another one, else Adam.
    """
    if base in tuned:
        return base
    relatives = [other for other in ("SGDN", "SGDM", "SGD") if base.startswith("SGD")]
    return next((other for other in relatives if other in tuned), "Adam")


def losses(runs: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Return every run's losses, bounded, and whether it is dead.

    Args:
        runs: One row a run.
        epochs: One row a run and epoch.

    Returns:
        A row a run that has not failed: `CELL`, `run_id`, `schedule`, `tuned` (is it a base
        optimizer whose rates were fixed in advance?), `seed`, `dead`, `untrained`, the log10 of
        each of `MEASURES`, and `step_seconds`, null where it was trained in an ensemble. A line is
        a method with its schedule, if that was fixed in advance, and with its settings other than
        the start, if there are several.
    """
    runs = complete(runs)
    # A base optimizer is a method that is its own base: what others are compared with.
    tuned = ~pl.col("adaptive") & (pl.col("method") == pl.col("base"))
    bases = set(runs.filter(tuned, pl.col("schedule").is_in(TUNED))["base"])
    rivals = {base: rival_of(base, bases) for base in runs["base"].unique()}
    varied = [name for name in varying(runs) if name != "lr"]
    settings = [pl.concat_str(pl.lit(f", {name} = "), pl.col(name)) for name in varied]
    schedule = pl.when(tuned).then(pl.concat_str(pl.lit(", "), "schedule"))
    trained = epochs.filter(pl.col("epoch") > 0).group_by("run_id")
    first = epochs.filter(pl.col("epoch") == 0).select("run_id", first="train_loss")
    table = (
        runs.with_columns(
            base=pl.col("base").replace_strict(rivals, return_dtype=pl.String),
            line=pl.concat_str(short_method(), schedule, *settings, ignore_nulls=True),
            start="lr",
            tuned=tuned,
        )
        .join(first, on="run_id", how="left", maintain_order="left")
        .join(
            trained.agg(seconds=pl.col("seconds").sum(), steps=pl.col("step").max()),
            on="run_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(untrained=pl.min_horizontal("first", "constant_loss"))
    )
    unfit = (pl.col("status") != "done") | pl.col("train_loss_final").is_null()
    alone = pl.col("engine").fill_null("one by one") == "one by one"
    return table.select(
        *CELL,
        "run_id",
        "schedule",
        "tuned",
        "seed",
        "untrained",
        dead=unfit | (pl.col("train_loss_final") >= DEAD * pl.col("untrained")),
        step_seconds=pl.when(alone).then(pl.col("seconds") / pl.col("steps")),
        **{
            measure: pl.when(unfit | pl.col(measure).is_null())
            .then("untrained")
            .otherwise(pl.col(measure).clip(FLOOR * pl.col("untrained"), "untrained"))
            .log10()
            for measure in MEASURES
        },
    )


def best_tuned(table: pl.DataFrame) -> pl.DataFrame:
    """Find the best constant or decayed rate of each base optimizer.

    Args:
        table: From `losses`.

    Returns:
        A row a task, base and measure: `line`, `start` and `tuned`, its mean loss. Rates at which
        seeds are missing are not chosen.
    """
    wide = table.filter("tuned", pl.col("schedule").is_in(TUNED)).unpivot(
        [*MEASURES], index=[*CELL, "seed"], variable_name="measure", value_name="log_loss"
    )
    means = wide.group_by(*CELL, "measure", maintain_order=True).agg(
        mean=pl.col("log_loss").mean(), seeds=pl.len()
    )
    most = pl.col("seeds") == pl.col("seeds").max().over("task", "base")
    return (
        means.filter(most)
        .sort("mean", maintain_order=True)
        .unique(["task", "base", "measure"], keep="first", maintain_order=True)
        .select(*CELL, "measure", tuned=10 ** pl.col("mean"))
        .sort("task", "base", "measure")
    )


def singles(table: pl.DataFrame, selection: Sequence[str]) -> pl.DataFrame:
    """Choose the one rate of each line that is best on the selection tasks: `single_settings`."""
    return single_settings(table, selection, [*MEASURES])


def with_singles(table: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """Add the lines that have one rate for all tasks: `single_settings.with_single_settings`."""
    return with_single_settings(table, chosen, [*MEASURES])


def ratios(table: pl.DataFrame, best: pl.DataFrame) -> pl.DataFrame:
    """Divide every run's losses by the best tuned ones of its seed, as log10.

    Args:
        table: From `with_singles`.
        best: From `best_tuned`.

    Returns:
        `CELL`, `seed`, `KIND`, `measure`, `log_loss` and `log_ratio`. Of tuned lines only the
        rates are there that are others' starts, and only of those that have all of these, so that
        they are judged from the same ones.
    """
    wide = table.unpivot(
        [*MEASURES], index=[*CELL, "seed", *KIND], variable_name="measure", value_name="log_loss"
    )
    chosen = wide.filter("tuned").join(best.drop("tuned"), on=[*CELL, "measure"], nulls_equal=True)
    keys = ["task", "base", "measure", "seed"]
    starts = wide.filter(~pl.col("tuned"))["start"].drop_nulls().unique()
    shared = pl.col("start").is_in(starts.implode())
    all_shared = pl.col("start").filter(shared).n_unique().over(LINE) == len(starts)
    return (
        wide.filter(~pl.col("tuned") | (shared & all_shared))
        .join(chosen.select(*keys, reference="log_loss"), on=keys, maintain_order="left")
        .with_columns(log_ratio=pl.col("log_loss") - pl.col("reference"))
        .drop("reference")
    )


def cells(ratios: pl.DataFrame) -> pl.DataFrame:
    """Average `loss` and `ratio` over the seeds of each cell and measure.

    Args:
        ratios: From `ratios`.

    Returns:
        A row a cell and measure: `KIND`, `loss`, `ratio`, `ratio_low`, `ratio_high` and `seeds`.
    """
    keys = [*CELL, *KIND, "measure"]
    means = ratios.group_by(keys, maintain_order=True).agg(
        loss=10 ** pl.col("log_loss").mean(),
        ratio=10 ** pl.col("log_ratio").mean(),
        seeds=pl.len(),
    )
    bounds = geometric_intervals(ratios, keys, ratio="log_ratio")
    return means.join(bounds, on=keys, how="left", nulls_equal=True, maintain_order="left")


def by_task(table: pl.DataFrame, ratios: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Summarise each line on each task over its starts.

    Args:
        table: From `with_singles`.
        ratios: From `ratios`.
        cells: From `cells`.

    Returns:
        A row a task, line, `KIND` and measure: `loss` and `ratio` (means over starts), `default`
        (the ratio from its default start), `least` and `worst` (the ratios from its best and worst
        start), each with its interval (`loss_low`, `loss_high` and so on), `worst_start`, and
        `dead` of `runs`.
    """
    keys = [*LINE, *KIND, "measure"]
    by_seed = ratios.group_by(*keys, "seed", maintain_order=True).agg(
        loss=pl.col("log_loss").mean(), ratio=pl.col("log_ratio").mean()
    )
    bounds = geometric_intervals(by_seed, keys, loss="loss", ratio="ratio")
    starts = cells.select(CELL).unique()
    counts = (
        table.join(starts, on=CELL, nulls_equal=True)
        .group_by(LINE)
        .agg(dead=pl.col("dead").sum(), runs=pl.len())
    )
    return (
        cells.group_by(keys, maintain_order=True)
        .agg(
            loss=10 ** pl.col("loss").log10().mean(),
            ratio=10 ** pl.col("ratio").log10().mean(),
            worst_start=pl.col("start").get(pl.col("ratio").arg_max()),
            **{
                f"{name}{end}": picked(pl.col(f"ratio{end}"))
                for name, picked in _PICKED.items()
                for end in ("", "_low", "_high")
            },
        )
        .join(bounds, on=keys, how="left", maintain_order="left")
        .join(counts, on=LINE, maintain_order="left")
    )


_PICKED: Final[dict[str, Callable[[pl.Expr], pl.Expr]]] = {
    "default": lambda values: values.filter(pl.col("start").is_null()).first(),
    "least": lambda values: values.get(pl.col("ratio").arg_min()),
    "worst": lambda values: values.get(pl.col("ratio").arg_max()),
}
"""Which cell of a task and line is shown beside the mean over all."""


def scores(
    table: pl.DataFrame, ratios: pl.DataFrame, cells: pl.DataFrame, selection: Sequence[str]
) -> pl.DataFrame:
    """Summarise each line over all tasks of a set and all its starts.

    Args:
        table: From `with_singles`.
        ratios: From `ratios`.
        cells: From `cells`.
        selection: The tasks on which something was chosen; all others are for claims.

    Returns:
        A row a set (`set`, one of `SETS`), line, `KIND` and measure: `mean`, the ratio's mean,
        `worst`, its largest, at `worst_task` and `worst_start`, and `default`, the mean over tasks
        from the default start, each with Student's interval over seeds (`mean_low`, `mean_high`
        and so on; a seed's worst is its own), `dead` of `runs`, and `step`, the time of a step
        over that of the base with a constant rate, the median over tasks, null where they were
        stacked. By set, base and mean.
    """
    keys = ["set", "base", "line", "measure"]
    table, ratios, cells = (
        part.with_columns(set=set_of(selection)) for part in (table, ratios, cells)
    )
    by_seed = ratios.group_by(*keys, "seed", maintain_order=True).agg(
        mean=pl.col("log_ratio").mean(),
        worst=pl.col("log_ratio").max(),
        default=pl.col("log_ratio").filter(pl.col("start").is_null()).mean(),
    )
    bounds = geometric_intervals(by_seed, keys, mean="mean", worst="worst", default="default")
    over = cells.group_by(*keys, *KIND, maintain_order=True).agg(
        mean=10 ** pl.col("ratio").log10().mean(),
        worst=pl.col("ratio").max(),
        worst_task=pl.col("task").get(pl.col("ratio").arg_max()),
        worst_start=pl.col("start").get(pl.col("ratio").arg_max()),
        default=10 ** pl.col("ratio").filter(pl.col("start").is_null()).log10().mean(),
        tasks=pl.col("task").n_unique(),
        starts=pl.col("start").n_unique(),
    )
    judged = table.join(cells.select(CELL).unique(), on=CELL, nulls_equal=True)
    counts = judged.group_by("set", "base", "line").agg(dead=pl.col("dead").sum(), runs=pl.len())
    return (
        over.join(bounds, on=keys, how="left", maintain_order="left")
        .join(counts, on=["set", "base", "line"], maintain_order="left")
        .join(step_ratios(table), on=["set", "base", "line"], how="left", maintain_order="left")
        .sort(
            *("set", "measure", "base", "mean"),
            descending=[True, False, False, False],
            maintain_order=True,
        )
    )


def step_ratios(table: pl.DataFrame) -> pl.DataFrame:
    """Return `step`, the time of a step over the base's, for each line of a set: see `scores`."""
    steps = (
        table.drop_nulls("step_seconds")
        .group_by("set", *LINE, "schedule", "tuned", maintain_order=True)
        .agg(own=pl.col("step_seconds").min())  # what other work on the machine disturbs least
    )
    unit = steps.filter(pl.col("tuned"), pl.col("schedule") == CONSTANT)
    return (
        steps.join(unit.select("task", "base", unit="own"), on=["task", "base"])
        .group_by("set", "base", "line")
        .agg(step=(pl.col("own") / pl.col("unit")).median())
    )


def profile(cells: pl.DataFrame, selection: Sequence[str]) -> pl.DataFrame:
    """Count for how many tasks and starts a line is within a factor tau of the best tuned run.

    Args:
        cells: From `cells`.
        selection: As for `scores`.

    Returns:
        `set`, `base`, `line`, `measure`, `tau` and `share`: a row at each ratio that occurs, where
        the share steps up to what it says, in ascending order (Dolan, More 2002).
    """
    keys = ["set", "base", "line", "measure"]
    return (
        cells.with_columns(set=set_of(selection))
        .sort(*keys, "ratio", maintain_order=True)
        .with_columns(
            share=pl.int_range(1, pl.len() + 1).over(keys) / pl.len().over(keys), tau="ratio"
        )
        .group_by(*keys, "tau", maintain_order=True)
        .agg(share=pl.col("share").max())
    )
