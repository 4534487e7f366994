"""Which runs belong together: those of a base optimizer, and of methods that adapt its rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from hypergradient.study.results.schema import IDENTITY_SCHEMA, SETTINGS_SCHEMA, STATUS_SCHEMA
from hypergradient.study.tasks.registry import NARROW, NARROWER

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SERIES: Final = ("task", "base", "panel", "method", "schedule", "adaptive")
"""What identifies a line, apart from its learning rate. `panel` says where it is drawn."""

CONSTANT: Final = "constant"

HYPERGRADIENT: Final = "hypergradient"

ADAPTIVE: Final = "adaptive"
"""What figures call the schedule of a method that adapts its rate in any other way."""

SCHEDULES: Final = (
    *(CONSTANT, "lr-decay", "robbins-monro", "halving", "cosine", "warmup-cosine"),
    *(ADAPTIVE, HYPERGRADIENT),
)
"""The order in which schedules are shown."""

_OPTIONAL: Final = {
    "scale": pl.String,
    "steps_to_target": pl.Int64,
    "max_steps": pl.Int64,
    "censored": pl.Boolean,
}

_FAMILIAR = ("SGD", "SGDM", "SGDN", "Adam", "AdamW")  # the order in which the papers show them

_RELATIVES: Final = {"Adam": ("AdamW",), "AdamW": ("Adam",)}

_RECORDED: Final = {"base": pl.String, "adaptive": pl.Boolean, "schedule": pl.String}

_SUFFIX = "-HD"

WITHOUT_PLAN: Final = (CONSTANT, ADAPTIVE, HYPERGRADIENT)
"""The schedules that do not change the rate in a way that was fixed in advance."""


def complete(runs: pl.DataFrame) -> pl.DataFrame:
    """Give every run a base, a schedule and the columns that only some studies have.

    Args:
        runs: One row a run.

    Returns:
        `runs`, without those that failed by an error (and not by divergence), and with all of
        `base`, `adaptive`, `schedule`, `scale`, `steps_to_target`, `max_steps` and `censored`; the
        last four are null where the study does not have them. The schedule of a method that adapts
        its rate is `ADAPTIVE`, unless it is `HYPERGRADIENT`. Where several methods with the same
        base do not adapt their rate, only the one that has the base's name keeps that base.
    """
    columns = _RECORDED | _OPTIONAL
    absent = {name: dtype for name, dtype in columns.items() if name not in runs.columns}
    runs = runs.with_columns(**{name: pl.lit(None, dtype) for name, dtype in absent.items()})
    # Tables of earlier versions recorded no base: there the methods' names told what they are.
    suffixed = pl.col("method").str.ends_with(_SUFFIX)
    adaptive = pl.coalesce("adaptive", suffixed | (pl.col("schedule") == HYPERGRADIENT), suffixed)
    by_name = pl.when(suffixed).then(pl.lit(HYPERGRADIENT)).otherwise(pl.lit(CONSTANT))
    schedule = pl.coalesce("schedule", by_name)
    told = runs.filter(pl.col("status") != "failed").with_columns(
        base=pl.coalesce("base", pl.col("method").str.strip_suffix(_SUFFIX)),
        adaptive=adaptive,
        schedule=pl.when(adaptive & (schedule != HYPERGRADIENT))
        .then(pl.lit(ADAPTIVE))
        .otherwise(schedule),
    )
    steady = pl.col("method").filter(~pl.col("adaptive"))
    other = ~pl.col("adaptive") & (pl.col("method") != pl.col("base"))
    own_base = pl.concat_str(short_method(), pl.lit(" ("), "base", pl.lit(")"))
    several = steady.n_unique().over("base") > 1
    own = told.with_columns(base=pl.when(other & several).then(own_base).otherwise("base"))
    return beside_relatives(own)


def beside_relatives(runs: pl.DataFrame) -> pl.DataFrame:
    """Put an adaptive method whose base was not run on a task beside the nearest that was.

    It is the one that differs in its weight decay only (Adam and AdamW), or the only one there is.
    """
    moved = []
    steady = runs.filter(~pl.col("adaptive")).select("task", "base").unique()
    adaptive = runs.filter("adaptive").select("task", "base").unique(maintain_order=True)
    for task, base in adaptive.join(steady, on=["task", "base"], how="anti").iter_rows():
        there = steady.filter(task=task)["base"].to_list()
        near = [name for name in there if name in _RELATIVES.get(base, ())] or there
        if len(near) == 1:
            moved.append({"task": task, "base": base, "adaptive": True, "near": near[0]})
    if not moved:
        return runs
    beside = runs.join(
        pl.DataFrame(moved), on=["task", "base", "adaptive"], how="left", maintain_order="left"
    )
    return beside.with_columns(base=pl.coalesce("near", "base")).drop("near")


def pair(runs: pl.DataFrame, *, axes: Collection[str] = ("lr",)) -> pl.DataFrame:
    """Put every run beside its rivals: a base optimizer and the methods that adapt its rate.

    Where a base has several adaptive methods, or one was run with several settings (say of beta),
    each gets a panel of its own, and the runs of the base optimizer are repeated in each of them.
    So are those of a method that takes no rate, which is drawn as a line across. Runs that failed,
    and those whose rate follows a schedule that was fixed in advance, are left
    out.

    Args:
        runs: One row a run.
        axes: Hyperparameters that are read off a panel's axes and so do not make another panel.

    Returns:
        `runs` as `complete` returns them with `panel` (the base, and the method and the settings if
        there are several), in the order to show them.
    """
    runs = complete(runs).filter(pl.col("schedule").is_in(WITHOUT_PLAN))
    settings = [name for name in varying(runs) if name not in axes]
    several = pl.col("method").n_unique().over("task", "base") > 1
    free = pl.col("adaptive") & pl.col("lr").is_null()
    rated = (pl.col("adaptive") & ~free).any().over("task", "base")
    runs = runs.with_columns(_joins=~pl.col("adaptive") | (free & rated))
    steady = runs.filter("_joins").drop("_joins")
    adaptive = (
        runs.filter(~pl.col("_joins"))
        .drop("_joins")
        .with_columns(_rival=pl.when(several).then(short_method()))
    )
    own = [name for name in settings if steady[name].is_null().all()]  # the base does not have them
    rivals = adaptive.select("task", "base", "_rival", *settings).unique()
    shared = ["task", "base", *(name for name in settings if name not in own)]
    steady = steady.drop(own).join(rivals, on=shared, how="left", nulls_equal=True)
    paired = pl.concat([steady.select(adaptive.columns), adaptive])

    parts = [pl.concat_str(pl.lit(f", {symbol(name)} = "), pl.col(name)) for name in settings]
    method = pl.concat_str(pl.lit(", "), "_rival")
    return (
        paired.with_columns(panel=pl.concat_str("base", method, *parts, ignore_nulls=True))
        .sort("task", rank_of_base(), "base", "_rival", *settings, "adaptive", "lr", "seed")
        .drop("_rival")
    )


def lines(runs: pl.DataFrame) -> pl.DataFrame:
    """Name every run's line in a figure of all the schedules of one base optimizer.

    Args:
        runs: One row a run.

    Returns:
        `runs` as `complete` returns them, with `line`: `rival`, and the settings other than
        the learning rate if there are several; in the order to show them.
    """
    runs = complete(runs)
    settings = [name for name in varying(runs) if name != "lr"]
    parts = [pl.concat_str(pl.lit(f", {symbol(name)} = "), pl.col(name)) for name in settings]
    return runs.with_columns(line=pl.concat_str(rival(), *parts, ignore_nulls=True)).sort(
        "task",
        rank_of_base(),
        "base",
        _rank("schedule", SCHEDULES),
        "schedule",
        *settings,
        "lr",
        "seed",
    )


def rival() -> pl.Expr:
    """Return what to call a run beside others of its base.

    It is the schedule, or the method where that adapts its rate: always if its schedule is
    `ADAPTIVE`, and if the base has several methods whose schedule is `HYPERGRADIENT`.
    """
    several = pl.col("method").n_unique().over("task", "base", "schedule") > 1
    named = (pl.col("schedule") == ADAPTIVE) | (several & (pl.col("schedule") == HYPERGRADIENT))
    return pl.when(named).then(short_method()).otherwise("schedule")


def short_method() -> pl.Expr:
    """Return a method's name without the module or file of a reference."""
    return pl.col("method").str.split(":").list.last()


def hyperparameters(runs: pl.DataFrame) -> list[str]:
    """Return the names of the columns that are hyperparameters, the learning rate among them."""
    derived = {"panel", "line", *_RECORDED, *_OPTIONAL}
    others = {*IDENTITY_SCHEMA, *SETTINGS_SCHEMA, *STATUS_SCHEMA, *derived}
    return [name for name in runs.columns if name not in others]


def varying(runs: pl.DataFrame) -> list[str]:
    """Return the hyperparameters of which some method has several values on one task."""
    settings = runs.group_by("task", "method", "schedule").agg(
        pl.col(hyperparameters(runs)).n_unique()
    )
    return [name for name in hyperparameters(runs) if (settings[name] > 1).any()]


def symbol(hyperparameter: str) -> str:
    """Return what a hyperparameter is called in a label."""
    return {"hypergrad_lr": "β", "lr": "α₀"}.get(hyperparameter, hyperparameter)


def scale_label(runs: pl.DataFrame) -> str:
    """Say at which scale of its study runs were made, or nothing if the study has one only."""
    if "scale" not in runs.columns or runs["scale"].drop_nulls().is_empty():
        return ""
    names = " and ".join(runs["scale"].drop_nulls().unique().sort().to_list())
    seeds = runs["seed"].n_unique()
    caps = complete(runs)["max_steps"].drop_nulls()
    most = f"at most {max(caps.to_list()):,} steps" if caps.len() else ""
    epochs = _either(runs, "epochs")
    plural = "s" * (epochs != "1")
    parts = [most or f"{epochs} epoch{plural}", f"{seeds} seed{'s' * (seeds > 1)}"]
    for name, shown in (
        ("train_examples", "{} training examples"),
        ("batch_size", "batches of {}"),
    ):
        if counts := _either(runs, name):
            parts.append(shown.format(counts))
    if runs["task"].str.ends_with(NARROW).any():
        parts.append(f"{NARROW.strip('-')} has 1/{NARROWER} of the channels, no dropout")
    return f"{names} scale: {', '.join(parts)}"


def _either(runs: pl.DataFrame, column: str) -> str:
    """Return the values of a column of counts in words, or nothing if there are none."""
    counts = runs[column].drop_nulls().unique().sort() if column in runs.columns else ()
    shown = [f"{count:,}" for count in counts]
    return " or ".join(shown) if len(shown) < 3 else f"{shown[0]} to {shown[-1]}"  # noqa: PLR2004


def rank_of_base() -> pl.Expr:
    """Return where a base optimizer stands in the order in which the papers show them."""
    return _rank("base", _FAMILIAR)


def _rank(column: str, known: Sequence[str]) -> pl.Expr:
    places = {name: place for place, name in enumerate(known)}
    return pl.col(column).replace_strict(places, default=len(known), return_dtype=pl.Int64)
