"""The results of two folders beside each other: another version of the code, or other settings.

The runs of both folders are in one table, whose column ``FOLDER`` says where each is from. Methods
are compared task by task, each at the setting that is its best in a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from hypergradient.study.errors import StudyError
from hypergradient.study.results.compare import setting
from hypergradient.study.results.convergence import measured
from hypergradient.study.results.intervals import SMALLEST
from hypergradient.study.results.pairs import WITHOUT_PLAN, complete, short_method
from hypergradient.study.results.schema import LOSS_LABELS
from hypergradient.study.results.verdicts import paired_test
from hypergradient.study.results.write import TABLES, damaged_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = "results folder"

LINE: Final = ("task", "panel")
"""What is compared: ``panel`` is the method, and its schedule if that was fixed in advance."""

_ENTRY: Final = (FOLDER, *LINE, "setting")

_TOLD: Final = {
    "scale": "scale",
    "epochs": "epochs",
    "batch_size": "batch size",
    "weight_decay": "weight decay",
    "train_examples": "training examples",
    "torch": "torch",
    "python": "Python",
    "platform": "platform",
    "threads": "threads a run",
}
"""The columns of ``runs`` whose values are told where the folders differ, and their names."""


class Tables(NamedTuple):
    """The tables of a results folder."""

    runs: pl.DataFrame
    epochs: pl.DataFrame


def read_tables(folder: Path) -> Tables:
    """Read the tables that ``run`` or ``report`` wrote into a folder.

    Raises:
        StudyError: They are not there, or damaged.
    """
    if not folder.is_dir():
        raise StudyError(f"there is no folder {folder}: give one that holds a study's results")
    anew = "`hypergradient report STUDY --out` that folder writes them anew"
    for name in TABLES[::2]:
        if not (folder / name).is_file():
            raise StudyError(f"there are no tables in {folder}, such as {name}: {anew}")
    if damaged := damaged_tables(folder):
        raise StudyError(f"{damaged[0]} is damaged: {anew}")
    return Tables(*(pl.read_parquet(folder / name) for name in TABLES[::2]))


def names_of(here: Path, there: Path) -> tuple[str, str]:
    """Return what to call two folders: the ends of their paths from where these differ."""
    one, other = here.resolve(), there.resolve()
    if one == other:
        raise StudyError(f"{there} is the very folder that it would be set beside: name another")
    count = 1
    while one.parts[-count:] == other.parts[-count:]:
        count += 1
    return str(Path(*one.parts[-count:])), str(Path(*other.parts[-count:]))


def beside(here: Tables, there: Tables, names: tuple[str, str]) -> Tables:
    """Put the runs of the tasks that two folders have in common into one table.

    Args:
        here: The tables of one folder.
        there: Those of the other.
        names: What the folders are called.

    Raises:
        StudyError: They have no task in common, or no method on any.
    """
    pairs = [
        set(tables.runs.filter(pl.col("status") != "failed").select("task", "method").rows())
        for tables in (here, there)
    ]
    common = {task for task, _ in pairs[0] & pairs[1]}
    if not common:
        listed = [", ".join(sorted({" with ".join(p) for p in each})) or "none" for each in pairs]
        raise StudyError(
            f"{names[0]} and {names[1]} have no method on a task in common, so there is nothing to "
            f"compare: {names[0]} has {_cut(listed[0])}; {names[1]} has {_cut(listed[1])}"
        )
    runs, epochs = [], []
    for name, tables in zip(names, (here, there), strict=True):
        own = pl.concat_str(pl.lit(f"{name}/"), "run_id").alias("run_id")
        kept = tables.runs.filter(pl.col("task").is_in(common))
        runs.append(kept.select(own, pl.lit(name).alias(FOLDER), pl.exclude("run_id")))
        epochs.append(tables.epochs.join(kept, on="run_id", how="semi").with_columns(own))
    return Tables(*(pl.concat(parts, how="diagonal_relaxed") for parts in (runs, epochs)))


def _cut(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def folders(runs: pl.DataFrame) -> list[str]:
    """Return the names of the two folders, in their order."""
    names: list[str] = runs[FOLDER].unique(maintain_order=True).to_list()
    return names


def measures(runs: pl.DataFrame) -> dict[str, str]:
    """Return the columns that are compared, and what they are called."""
    if measured(runs):
        return {"steps_to_target": "Steps to the target"}
    return {f"{loss}_final": f"Final {name.lower()}" for loss, name in LOSS_LABELS.items()}


def _values(runs: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Return one row a run that did not fail, with its ``value``: null where it was lost."""
    planned = ~pl.col("schedule").is_in(WITHOUT_PLAN)
    schedule = pl.when(planned).then(pl.concat_str(pl.lit(", "), "schedule"))
    return complete(runs).select(
        "run_id",
        FOLDER,
        "task",
        "seed",
        "adaptive",
        panel=pl.concat_str(short_method(), schedule, ignore_nulls=True),
        setting=setting(runs.drop(FOLDER)),
        value=pl.when(pl.col("status") == "done").then(pl.col(measure).cast(pl.Float64)),
    )


def _entries(values: pl.DataFrame) -> pl.DataFrame:
    """Return one row a folder, line and setting: its mean over seeds, null where one was lost."""
    value = pl.col("value")
    positive = _none_negative(values["value"])
    mean = 10 ** value.clip(SMALLEST).log10().mean() if positive else value.mean()
    return values.group_by(_ENTRY, maintain_order=True).agg(
        mean=pl.when(value.count() == pl.len()).then(mean),
        runs=pl.len(),
        lost=value.null_count(),
        positive=pl.lit(positive),
    )


def _none_negative(values: pl.Series) -> bool:
    return bool((values.drop_nulls() >= 0).all())


def _best(entries: pl.DataFrame) -> pl.DataFrame:
    """Return the best entry of each line in each folder that both folders have."""
    best = entries.sort("mean", nulls_last=True, maintain_order=True).group_by(
        FOLDER, *LINE, maintain_order=True
    )
    first = best.first().filter(pl.col(FOLDER).n_unique().over(LINE) > 1)
    order = entries.select(LINE).unique(maintain_order=True)
    return order.join(first, on=LINE, maintain_order="left")


def compared(runs: pl.DataFrame, measure: str) -> list[dict[str, Any]]:
    """Compare each line that both folders have.

    Args:
        runs: From ``beside``.
        measure: A name in ``measures``.

    Returns:
        One row a line: ``task``, ``panel``; ``folders``, the best entry of each folder with its
        ``setting``, ``mean``, ``runs`` and ``lost``; the ``ratio`` of the first to the second with
        ``low``, ``high`` and ``verdict`` of a paired test over the seeds that both have;
        ``same``, how many settings both have, and ``same_ratio``, the geometric mean over those.
    """
    values = _values(runs, measure)
    entries = _entries(values)
    rows = []
    for (task, panel), part in _best(entries).group_by(LINE, maintain_order=True):
        both = [part.row(by_predicate=pl.col(FOLDER) == name, named=True) for name in folders(runs)]
        rows.append(
            {"task": task, "panel": panel, "folders": both}
            | _ratio(values, both)
            | _over_same(entries.filter(task=task, panel=panel), folders(runs))
        )
    return rows


def _ratio(values: pl.DataFrame, both: Sequence[dict[str, Any]]) -> dict[str, Any]:
    here, there = (
        values.filter(**{key: entry[key] for key in _ENTRY}).select(
            "seed", pl.col("value").clip(SMALLEST).log10()
        )
        for entry in both
    )
    empty = {"ratio": None, "low": None, "high": None, "verdict": None}
    means = [entry["mean"] for entry in both]
    if None in means or not all(entry["positive"] for entry in both):
        return empty
    pairs = here.join(there, on="seed", suffix="_there")
    if pairs.is_empty():  # other seeds
        return empty | {"ratio": max(means[0], SMALLEST) / max(means[1], SMALLEST)}
    test = paired_test((pairs["value"] - pairs["value_there"]).to_numpy())
    return {key: test[key] for key in empty}


def _over_same(entries: pl.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    here, there = (entries.filter(pl.col(FOLDER) == name) for name in names)
    same = here.join(there, on="setting", suffix="_there").drop_nulls(["mean", "mean_there"])
    same = same.filter("positive")
    ratio = pl.col("mean").clip(SMALLEST) / pl.col("mean_there").clip(SMALLEST)
    mean = same.select(ratio.log10().mean()).item()
    return {"same": same.height, "same_ratio": None if mean is None else 10**mean}


def curves(runs: pl.DataFrame, epochs: pl.DataFrame) -> pl.DataFrame:
    """Average losses and rates over seeds, each line at its best in each folder by that loss.

    Returns:
        One row a line, folder, ``metric`` and epoch, with ``setting``, ``adaptive``, ``step``,
        ``seconds`` since the start, and ``value``: null from where a seed has none. The rate is
        that of the setting with the best training loss.
    """
    epochs = epochs.with_columns(pl.col("seconds").cum_sum().over("run_id"))
    parts = []
    for metric, by in (*((loss, loss) for loss in LOSS_LABELS), ("lr_mean", "train_loss")):
        values = _values(runs, f"{by}_final")
        best = _best(_entries(values)).select(*LINE, FOLDER, "setting")
        value = pl.col(metric)
        positive = metric in LOSS_LABELS and _none_negative(epochs[metric])
        mean = 10 ** value.clip(SMALLEST).log10().mean() if positive else value.mean()
        parts.append(
            best.join(values.drop("value"), on=best.columns, maintain_order="left")
            .with_columns(seeds=pl.len().over(best.columns))
            .join(epochs, on="run_id", maintain_order="left")
            .group_by(*best.columns, "adaptive", "epoch", maintain_order=True)
            .agg(
                pl.col("step").max(),
                pl.col("seconds").mean(),
                value=pl.when(value.count() == pl.col("seeds").first()).then(mean),
            )
            .with_columns(metric=pl.lit(metric))
        )
    return pl.concat(parts)


def differences(runs: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Return what the folders' runs differ in: its name, and the values in each folder."""
    told = []
    for column, name in _TOLD.items():
        shown = [
            ", ".join(part[column].drop_nulls().unique().sort().cast(pl.String))
            for part in (runs.filter(pl.col(FOLDER) == each) for each in folders(runs))
            if column in runs.columns
        ]
        if len(set(shown)) > 1:
            told.append((name, shown[0] or "–", shown[1] or "–"))
    return told


def sentences(runs: pl.DataFrame) -> list[str]:
    """Say how the folders compare: the mean ratio of each measure, and where it is the furthest."""
    here, there = folders(runs)
    told = []
    for measure, name in measures(runs).items():
        rows = compared(runs, measure)
        sound = sorted((row for row in rows if row["ratio"]), key=lambda row: float(row["ratio"]))
        if not sound:
            told.append(f"No {name.lower()} can be compared: every ratio has a run that diverged.")
            continue
        logs = pl.Series([row["ratio"] for row in sound]).log10()
        mean = f"{10 ** (logs.sum() / len(logs)):.3g}"
        ends = [f"{row['ratio']:.3g} ({row['panel']} on {row['task']})" for row in sound]
        over = ends[0]
        if len(sound) > 1:
            over = f"{mean}, the geometric mean of {len(sound)}, from {ends[0]} to {ends[-1]}"
        told.append(f"{name} in {here} over that in {there}, each method at its best: {over}.")
    return told
