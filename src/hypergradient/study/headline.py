"""What came out of a study, in two sentences computed from its numbers."""

from __future__ import annotations

import polars as pl


def headline(summary: pl.DataFrame, runs: pl.DataFrame) -> list[str]:
    """Say how much better or worse hypergradient descent ended, and how many runs diverged.

    Args:
        summary: From `statistics.summary`, of the training loss.
        runs: All runs, to count those that diverged.

    Returns:
        The loss from the lowest initial rate and from the best, or from the only one, as ratios
        (geometric means over tasks), each a sentence.
    """
    pairs = summary.filter(~pl.col("adaptive")).join(
        summary.filter("adaptive"), on=["task", "panel"], suffix="_hd"
    )
    several = pairs.filter(pl.col("lowest_lr") < pl.col("highest_lr"))
    diverged = _diverged(runs)
    if several.is_empty():
        only = _ratios(pairs, "best")
        return [f"{_LOSS} is {only} that of hypergradient descent; {diverged}."]
    start = f"From α₀ = {min(several['lowest_lr'].to_list()):g}, the lowest tried"
    lowest, best = _ratios(several, "at_lowest"), _ratios(several, "best")
    return [
        f"{start}, {_LOSS.lower()} is {lowest} that of hypergradient descent.",
        f"From the best α₀ of each it is {best}; {diverged}.",
    ]


_LOSS = "The final training loss with a constant rate"


def _ratios(pairs: pl.DataFrame, column: str) -> str:
    """The base's value over that of its hypergradient version, a number a base optimizer."""
    sound = pairs.drop_nulls([column, f"{column}_hd"])
    ratios = sound.group_by("base", maintain_order=True).agg(
        10 ** (pl.col(column) / pl.col(f"{column}_hd")).cast(pl.Float64).log10().mean()
    )
    parts = [f"{ratio:.2g} ({base})" for base, ratio in ratios.iter_rows()]
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    return f"{listed} times" if listed else "not comparable with"


def _diverged(runs: pl.DataFrame) -> str:
    lost = runs.filter(pl.col("status") == "diverged")
    if lost.is_empty():
        return "no run diverged"
    methods = lost.group_by("method").len().sort("len", "method", descending=[True, False])
    detail = ", ".join(f"{name} {count}" for name, count in methods.iter_rows())
    return f"{lost.height} of {runs.height} runs diverged ({detail})"
