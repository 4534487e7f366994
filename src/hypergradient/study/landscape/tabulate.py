"""Descents as tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from hypergradient.study.landscape.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.study.landscape.results import Landscape

TOLERANCES = (0.1, 1e-2, 1e-3)

COLUMNS = {"distance": ["distance"], "rates": ["rate_x", "rate_y"], "momentum": ["momentum"]}


def steps(landscape: Landscape) -> pl.DataFrame:
    """Return a row a method and step, 0 being the start; what is not finite is null.

    Returns:
        ``method``, ``lr``, ``hypergrad_lr``, ``step``, ``x``, ``y``, ``distance`` from the nearest
        minimum, ``rate_x`` and ``rate_y``, the rates that the step used, and ``momentum``, if it
        learns.
    """
    parts = []
    for descent in landscape.descents:
        points, rates = descent.path.points[:, 0], descent.path.rates[:, 0]
        columns = {
            "x": points[:, 0],
            "y": points[:, 1],
            "distance": descent.path.distances[:, 0],
            "rate_x": rates[:, 0],
            "rate_y": rates[:, 1],
        }
        if descent.path.momenta is not None:
            columns["momentum"] = descent.path.momenta[:, 0]
        parts.append(
            pl.DataFrame({name: values.numpy() for name, values in columns.items()})
            .with_columns(pl.when(pl.all().is_finite()).then(pl.all()))
            .select(
                pl.lit(METHODS[descent.method].title).alias("method"),
                pl.lit(descent.setting.lr).alias("lr"),
                pl.lit(descent.setting.hypergrad_lr).alias("hypergrad_lr"),
                pl.int_range(pl.len()).alias("step"),
                pl.all(),
            )
        )
    return pl.concat(parts, how="diagonal")


def tried(landscape: Landscape) -> pl.DataFrame:
    """Return a row a method and setting of the search: alpha, beta, steps and last distance."""
    rows = [
        {
            "method": METHODS[descent.method].title,
            "lr": one.setting.lr,
            "hypergrad_lr": one.setting.hypergrad_lr,
            "steps": one.steps,
            "distance": one.distance if math.isfinite(one.distance) else None,
        }
        for descent in landscape.descents
        for one in descent.tried
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def summary(landscapes: Sequence[Landscape]) -> pl.DataFrame:
    """Return a row a function and method: the setting, steps to each tolerance, final rates."""
    return pl.DataFrame(
        [row for landscape in landscapes for row in _rows(landscape)], infer_schema_length=None
    )


def _rows(landscape: Landscape) -> list[dict[str, Any]]:
    rows = []
    for descent in landscape.descents:
        path = descent.path
        distance = path.distances[-1, 0].item()
        alpha_x, alpha_y = path.rates[-1, 0].tolist()
        rows.append(
            {
                "function": landscape.function.title,
                "method": METHODS[descent.method].title,
                "lr": descent.setting.lr,
                "hypergrad_lr": descent.setting.hypergrad_lr,
                **{f"steps_to_{tol:g}": path.steps_to(tol)[0] for tol in TOLERANCES},
                "steps": len(path.points) - 1,
                "final_distance": distance if math.isfinite(distance) else None,
                "final_lr_x": alpha_x if math.isfinite(alpha_x) else None,
                "final_lr_y": alpha_y if math.isfinite(alpha_y) else None,
            }
        )
    return rows
