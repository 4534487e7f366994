"""Means and intervals over seeds, on log10.

Losses span decades, so a mean is geometric and an interval is Student's t at 95 % around it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from scipy.special import stdtrit

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
