"""Iterations until a target loss, as a poster shows them. Functions here only compute.

A run that ended, or diverged, before the target is censored: its time is known to be longer than
anything observed. So times have medians and no means, and a median is null where at least half of
the runs were censored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from hypergradient.study.results.pairs import complete, pair

if TYPE_CHECKING:
    from collections.abc import Sequence

CELL: Final = ("task", "panel", "base", "method", "adaptive", "lr", "hypergrad_lr")
"""What identifies a cell of a heat map; `hypergrad_lr` is null for a base optimizer."""


def measured(runs: pl.DataFrame) -> bool:
    """Return whether the study measured the iterations to a target."""
    return complete(runs)["max_steps"].is_not_null().any()


def convergence(runs: pl.DataFrame) -> pl.DataFrame:
    """Find the median number of steps to the target for every pair of rates, over seeds.

    Args:
        runs: One row a run, with `steps_to_target` (null: not reached) and `max_steps`.

    Returns:
        One row a cell (`CELL`): `steps`, the median, null if it is censored; `runs`, how many of
        them `reached` the target and how many `diverged`; `max_steps`; and `behind`: whether
        hypergradient descent needs more steps than its base optimizer from the same rate (false
        for the base, null where the base was not run or neither reached the target).
    """
    if "hypergrad_lr" not in runs.columns:
        runs = runs.with_columns(hypergrad_lr=pl.lit(None, pl.Float64))
    paired = pair(runs, axes=("lr", "hypergrad_lr")).filter(pl.col("max_steps").is_not_null())
    steps = pl.when(pl.col("status") == "done").then("steps_to_target").cast(pl.Float64)
    cells = paired.group_by(CELL, maintain_order=True).agg(
        steps=steps.fill_null(float("inf")).median(),
        runs=pl.len(),
        reached=steps.count(),
        diverged=(pl.col("status") == "diverged").sum(),
        max_steps=pl.col("max_steps").max(),
    )
    base = cells.filter(~pl.col("adaptive")).select("task", "panel", "lr", base_steps="steps")
    unknown = pl.col("base_steps").is_infinite() & pl.col("steps").is_infinite()
    return (
        cells.join(base, on=["task", "panel", "lr"], how="left", maintain_order="left")
        .with_columns(
            behind=pl.when(~pl.col("adaptive"))
            .then(pl.lit(value=False))
            .when(~unknown)
            .then(pl.col("steps") > pl.col("base_steps")),
            steps=pl.when(pl.col("steps").is_finite()).then("steps"),
        )
        .drop("base_steps")
    )


def boundary(behind: Sequence[Sequence[bool]]) -> list[list[float]]:
    """Return the line around the cells where hypergradient descent is behind its base.

    Args:
        behind: By row and column of the grid; cells have their middles at whole numbers.

    Returns:
        Segments as [x0, y0, x1, y1], one an edge between a cell that is behind and one that is not
        or lies outside.
    """
    marked = {(x, y) for y, row in enumerate(behind) for x, value in enumerate(row) if value}
    segments = []
    for x, y in sorted(marked):
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            if (x + dx, y + dy) in marked:
                continue
            middle_x, middle_y = x + dx / 2, y + dy / 2
            along_x, along_y = abs(dy) / 2, abs(dx) / 2
            segments.append(
                [middle_x - along_x, middle_y - along_y, middle_x + along_x, middle_y + along_y]
            )
    return segments


def grids(cells: pl.DataFrame) -> list[dict[str, Any]]:
    """Arrange the cells of `convergence` as matrices to draw, a dictionary a task and panel.

    Returns:
        `task`, `panel`, `base`; `lrs` ascending (rows) and `betas` ascending (columns after the
        first, which is the base optimizer's); `cells`, rows of columns of what `convergence` says
        of a cell, None where nothing was run; `boundary`, in units of whole rows and columns.
    """
    found = []
    for (task, panel), part in cells.group_by("task", "panel", maintain_order=True):
        lrs = part["lr"].unique().sort().to_list()
        betas = part.filter("adaptive")["hypergrad_lr"].unique().sort().to_list()
        shown = {(row["lr"], row["hypergrad_lr"]): row for row in part.iter_rows(named=True)}
        rows = [[shown.get((lr, beta)) for beta in (None, *betas)] for lr in lrs]
        found.append(
            {
                "task": task,
                "panel": panel,
                "base": part["base"][0],
                "lrs": lrs,
                "betas": betas,
                "cells": rows,
                "boundary": boundary(
                    [[bool(cell and cell["behind"]) for cell in row] for row in rows]
                ),
            }
        )
    return found


def score(cells: pl.DataFrame) -> pl.DataFrame:
    """Count in how many cells hypergradient descent is at least as good as its base.

    Returns:
        task, panel, base, and of the cells of hypergradient descent how many are `as_good`,
        `behind` and `undecided` (neither reached the target, or the base was not run).
    """
    return (
        cells.filter("adaptive")
        .group_by("task", "panel", "base", maintain_order=True)
        .agg(
            as_good=(~pl.col("behind")).sum(),
            behind=pl.col("behind").sum(),
            undecided=pl.col("behind").is_null().sum(),
        )
    )


def beside_published_steps(cells: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Put our iterations to the target beside published ones of the same method and rates.

    Args:
        cells: From `convergence`.
        published: method ("sgd_hd"), lr0, hypergrad_lr and iterations; ">468750" is censored.

    Returns:
        task, method, adaptive, lr, hypergrad_lr, `ours` and `theirs` (null if censored),
        `our_limit` and `their_limit` (beyond which a censored time lies), `log_ratio` (log10 of
        ours to theirs, null if either is censored) and `agrees` (of a censored one: can both be
        true?). Empty if no setting is the same or the numbers are of another kind.
    """
    if "iterations" not in published.columns:
        published = pl.DataFrame(schema=_PUBLISHED)
    text = pl.col("iterations").cast(pl.String).str.strip_chars()
    censored = text.str.starts_with(">")
    number = text.str.strip_prefix(">").cast(pl.Float64)
    theirs = published.select(
        name="method",
        lr=pl.col("lr0").cast(pl.Float64),
        hypergrad_lr=pl.col("hypergrad_lr").cast(pl.Float64),
        theirs=pl.when(~censored).then(number),
        their_limit=pl.when(censored).then(number),
    )
    ours = cells.select(
        "task",
        "method",
        "adaptive",
        "lr",
        "hypergrad_lr",
        name=pl.col("method").str.to_lowercase().str.replace_all("-", "_"),
        ours="steps",
        our_limit=pl.when(pl.col("steps").is_null()).then(pl.col("max_steps").cast(pl.Float64)),
    ).unique(maintain_order=True)
    least, known = pl.coalesce("theirs", "their_limit"), pl.coalesce("ours", "our_limit")
    return (
        ours.join(theirs, on=["name", "lr", "hypergrad_lr"], nulls_equal=True)
        .with_columns(
            log_ratio=(pl.col("ours") / pl.col("theirs")).log10(),
            agrees=pl.when(pl.col("ours").is_null() & pl.col("theirs").is_null())
            .then(pl.lit(value=True))
            .when(pl.col("ours").is_null())
            .then(known < least)
            .when(pl.col("theirs").is_null())
            .then(known > least),
        )
        .drop("name")
        .sort("task", "method", "lr", "hypergrad_lr", nulls_last=False)
    )


def published_steps_summary(table: pl.DataFrame) -> pl.DataFrame:
    """Summarise how near ours are to the published iterations, by task and method.

    Args:
        table: From `beside_published_steps`.

    Returns:
        task, method, `compared` (settings in which both reached the target), `median` and `largest`
        |log10 ratio| of those; `censored`, how many others there are, and in how many of those the
        two `agree`.
    """
    off = pl.col("log_ratio").abs()
    return table.group_by("task", "method", maintain_order=True).agg(
        compared=pl.col("log_ratio").count(),
        median=off.median(),
        largest=off.max(),
        censored=pl.col("log_ratio").is_null().sum(),
        agree=pl.col("agrees").sum(),
    )


_PUBLISHED = {
    "method": pl.String,
    "lr0": pl.Float64,
    "hypergrad_lr": pl.Float64,
    "iterations": pl.String,
}
