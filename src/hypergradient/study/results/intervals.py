"""Means and intervals over seeds, on log10.

Losses span decades, so a mean is geometric and an interval is Student's t at 95 % around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from scipy.special import stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE: Final = 0.95
"""The confidence of every interval."""

SMALLEST: Final = 1e-12
"""What stands for 0, which has no logarithm: a float32 cross-entropy can be exactly 0."""


def half_width(counts: pl.Series, spreads: pl.Series) -> pl.Series:
    """Return half of Student's interval around a mean, null where there are fewer than two values.

    Args:
        counts: How many values each mean is of.
        spreads: Their standard deviations (dividing by n - 1).
    """
    several = pl.DataFrame({"n": counts, "s": spreads.cast(pl.Float64)})
    quantiles = stdtrit(np.maximum(counts.to_numpy() - 1, 1), (1 + CONFIDENCE) / 2)
    half = pl.Series(quantiles) * pl.col("s") / pl.col("n").sqrt()
    return several.select(half=pl.when(pl.col("n") > 1).then(half))["half"]


def geometric_mean(loss: str) -> pl.Expr:
    return 10 ** pl.col(loss).clip(SMALLEST).log10().mean()


def geometric_intervals(table: pl.DataFrame, keys: Sequence[str], **columns: str) -> pl.DataFrame:
    """Return Student's intervals around geometric means, of the rows of each group.

    Args:
        table: A row a value to average, such as one a seed.
        keys: What groups are made of.
        **columns: For each name, the column with the log10 of its values. Nulls are left out.

    Returns:
        A row a group: `keys`, and `NAME_low` and `NAME_high`, null where there are fewer than two
        values.
    """
    spread = table.group_by(keys, maintain_order=True).agg(
        **{f"{name}_center": pl.col(column).mean() for name, column in columns.items()},
        **{f"{name}_std": pl.col(column).std() for name, column in columns.items()},
        **{f"{name}_count": pl.col(column).count() for name, column in columns.items()},
    )
    for name in columns:
        half = half_width(spread[f"{name}_count"], spread[f"{name}_std"])
        center = pl.col(f"{name}_center")
        spread = spread.with_columns(
            **{f"{name}_low": 10 ** (center - half), f"{name}_high": 10 ** (center + half)}
        )
    return spread.select(*keys, *(f"{name}_{end}" for name in columns for end in ("low", "high")))
