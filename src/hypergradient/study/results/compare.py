"""Optimizers beside a tuned rival on one task: who ended where, and what a step cost.

The rival is the method that does not adapt its rate and was run from the most rates. It is taken at
its best rate; so is any other method that was run from several. Functions here only compute.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from hypergradient.study.results.intervals import SMALLEST
from hypergradient.study.results.pairs import complete, hyperparameters, short_method
from hypergradient.study.results.schema import LOSS_LABELS
from hypergradient.study.results.verdicts import paired_test

if TYPE_CHECKING:
    from collections.abc import Sequence

JUDGED_BY: Final = "valid_loss_final"
"""The loss by which the best rate is chosen, and methods are compared."""

Row = dict[str, Any]


def entries(runs: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each method, schedule and setting on a task, in the order of the study.

    ``setting`` says the hyperparameters. ``valid_loss`` and ``train_loss`` are means over seeds of
    the final losses, geometric where all are positive (``positive``), and null where a seed
    diverged or failed. ``seconds`` is the median time of a step, ``bytes`` the optimizer's state
    for each parameter.
    """
    failed = runs.filter(pl.col("status") == "failed").group_by("task", "method").len("failed")
    done = complete(runs).with_columns(setting(runs), name=short_method())
    losses = [f"{loss}_final" for loss in LOSS_LABELS]
    positive = (pl.min_horizontal(losses).min() > 0).over("task")
    table = (
        done.with_columns(positive=positive)
        .group_by("task", "method", "name", "schedule", "setting", maintain_order=True)
        .agg(
            pl.col("lr", "adaptive", "base", "positive").first(),
            runs=pl.len(),
            diverged=(pl.col("status") == "diverged").sum(),
            **{loss: _mean(f"{loss}_final") for loss in LOSS_LABELS},
            seconds=pl.col("step_seconds").median(),
            bytes=pl.col("state_bytes").mean(),
        )
        .join(failed, on=["task", "method"], how="left", maintain_order="left")
    )
    return table.with_columns(pl.col("failed").fill_null(0))


def setting(runs: pl.DataFrame) -> pl.Expr:
    """Return the hyperparameters of a run as text, such as "lr = 0.001"."""
    parts = [
        pl.concat_str(pl.lit(f"{name} = "), pl.col(name).cast(pl.String))
        for name in hyperparameters(runs)
    ]
    joined = pl.concat_str(parts, separator=", ", ignore_nulls=True)
    # A null leaves its separator out of ``concat_str`` only where it is ignored.
    return joined.str.strip_chars(", ").alias("setting")


def _mean(loss: str) -> pl.Expr:
    """Return the mean of a loss over seeds, null if one has none."""
    value = pl.col(loss)
    geometric = 10 ** value.clip(SMALLEST).log10().mean()
    mean = pl.when(pl.col("positive").first()).then(geometric).otherwise(value.mean())
    sound = ((pl.col("status") == "done") & value.is_not_null()).all()
    return pl.when(sound).then(mean)


def contest(runs: pl.DataFrame) -> list[Row]:
    """Return one row for each method on a task, at its best setting, with its rival's beside it.

    A row has the columns of ``entries``, and ``tried`` (how many settings), ``worst`` (the highest
    mean loss of them), ``lost`` (settings at which a seed diverged), ``is_rival``, ``edge``
    (whether the best rate is the lowest or highest of several), ``ratio`` with its interval
    ``low``, ``high`` and ``verdict`` (the loss over the rival's; see ``verdicts.paired_test``), and
    ``difference`` where losses are not all positive. Of the rival, ``beside`` has its neighbours:
    how many times off their rates are, and how many times as high their losses (None: diverged).
    """
    table = entries(runs)
    done = complete(runs).with_columns(setting(runs))
    rows = []
    for (task,), part in table.group_by("task", maintain_order=True):
        every = part.to_dicts()
        rival_name = _rival(every)
        by_method: dict[str, list[Row]] = {}
        for entry in every:
            by_method.setdefault(entry["method"], []).append(entry)
        best = {method: _best(tried) for method, tried in by_method.items()}
        rival = best.get(rival_name or "")
        for method, tried in by_method.items():
            row = _summary(best[method], tried) | {"is_rival": method == rival_name}
            if method == rival_name:
                row["beside"] = _beside(row, tried)
            else:
                seeds = [_losses(done, task, each) for each in (row, rival) if each]
                row |= _against(row, rival, seeds)
            rows.append(row)
    return rows


def _rival(every: Sequence[Row]) -> str | None:
    """Return the method that does not adapt its rate and was run from the most, if any was."""
    counts: dict[str, int] = {}
    for entry in every:
        if not entry["adaptive"] and entry["lr"] is not None:
            counts[entry["method"]] = counts.get(entry["method"], 0) + 1
    return max(counts, key=lambda method: counts[method]) if counts else None


def _best(tried: Sequence[Row]) -> Row:
    """Return the entry with the lowest mean loss; the first if none has any."""
    sound = [entry for entry in tried if entry["valid_loss"] is not None]
    return min(sound, key=lambda entry: float(entry["valid_loss"])) if sound else tried[0]


def _summary(best: Row, tried: Sequence[Row]) -> Row:
    losses = [entry["valid_loss"] for entry in tried if entry["valid_loss"] is not None]
    rates = sorted(entry["lr"] for entry in tried if entry["lr"] is not None)
    return best | {
        "tried": len(tried),
        "rates": rates,
        "worst": max(losses, default=None),
        "lost": sum(entry["valid_loss"] is None for entry in tried),
        "edge": len(rates) > 1 and best["lr"] in {rates[0], rates[-1]},
        "ratio": None,
        "low": None,
        "high": None,
        "verdict": None,
        "difference": None,
        "beside": [],
    }


def _beside(best: Row, tried: Sequence[Row]) -> list[tuple[float, float | None]]:
    """Return the neighbours of the best rate: how far off each is, and its loss over the best."""
    if best["valid_loss"] is None:
        return []
    ordered = sorted((e for e in tried if e["lr"] is not None), key=lambda e: float(e["lr"]))
    pairs = [*pairwise(ordered)]
    others = [
        b if a["lr"] == best["lr"] else a for a, b in pairs if best["lr"] in (a["lr"], b["lr"])
    ]
    return [
        (
            max(other["lr"], best["lr"]) / min(other["lr"], best["lr"]),
            other["valid_loss"] / best["valid_loss"]
            if best["positive"] and other["valid_loss"] is not None
            else None,
        )
        for other in others
    ]


def _losses(done: pl.DataFrame, task: Any, entry: Row) -> pl.DataFrame:
    """Return the final loss of each seed of an entry."""
    keys = {"task": task, "method": entry["method"], "schedule": entry["schedule"]}
    same = done.filter(**keys, setting=entry["setting"], status="done")
    return same.select("seed", value=JUDGED_BY).drop_nulls()


def _against(row: Row, rival: Row | None, seeds: Sequence[pl.DataFrame]) -> Row:
    """Compare an entry with its rival over the seeds that both have."""
    if rival is None or row["valid_loss"] is None or rival["valid_loss"] is None:
        return {}
    if not row["positive"]:
        return {"difference": row["valid_loss"] - rival["valid_loss"]}
    own, theirs = seeds
    both = own.join(theirs, on="seed", suffix="_rival")
    logs = both.select(
        pl.col("value").clip(SMALLEST).log10() - pl.col("value_rival").clip(SMALLEST).log10()
    )
    test = paired_test(logs.to_series().to_numpy())
    return {key: test[key] for key in ("ratio", "low", "high", "verdict")}


def sentences(rows: Sequence[Row]) -> list[str]:
    """Say who ended where, in words; the first sentence is the verdict on the first contender.

    Args:
        rows: From ``contest``.
    """
    told = []
    several = len({row["task"] for row in rows}) > 1
    for task in dict.fromkeys(row["task"] for row in rows):
        here = [row for row in rows if row["task"] == task]
        rival = next((row for row in here if row["is_rival"]), None)
        others = [row for row in here if not row["is_rival"]]
        start = f"{task}: " if several else ""
        if rival is None:
            told.append(f"{start}No optimizer was run from several rates, so none is the rival.")
            continue
        verdicts = [_ended(row, rival) for row in others]
        told += [start + verdict for verdict in verdicts[:1]]
        told += [
            *_rates_off(rival),
            *verdicts[1:],
            *_warnings(rival, others),
            *_costs(rival, others),
        ]
    return told


def _ended(row: Row, rival: Row) -> str:
    name, count = _named(row), len(rival["rates"])
    best = f"{rival['name']} at the rate {_number(rival['lr'])}"
    if count > 1:
        best = f"the best of {count} {rival['name']} rates, {_number(rival['lr'])}"
    if row["valid_loss"] is None:
        return f"{name} {_why_lost(row)}, while {best} {_how_rival_ended(rival)}."
    if rival["valid_loss"] is None:
        own = f"{name} ended at the validation loss {_number(row['valid_loss'])}"
        return f"{own}, while {rival['name']} {_why_lost(rival)} at each of {count} rates."
    if row["ratio"] is None:
        return (
            f"{name} ended at the validation loss {_number(row['valid_loss'])}, {best} at "
            f"{_number(rival['valid_loss'])}."
        )
    sure = " (one seed, so this may be chance)"
    if row["low"] is not None:
        seeds = f"{row['runs']} seeds"
        sure = f" (95% interval {_times(row['low'])} to {_times(row['high'])}, {seeds})"
    return f"{name} ended at {_times(row['ratio'])} times the validation loss of {best}{sure}."


def _named(row: Row) -> str:
    return (
        f"{row['name']} at its best of {row['tried']} rates"
        if len(row["rates"]) > 1
        else row["name"]
    )


def _why_lost(row: Row) -> str:
    if row["diverged"]:
        return f"diverged in {row['diverged']} of {row['runs']} runs"
    return "has no finished run" if not row["runs"] else "has no final loss"


def _how_rival_ended(rival: Row) -> str:
    if rival["valid_loss"] is None:
        return _why_lost(rival)
    return f"ended at the validation loss {_number(rival['valid_loss'])}"


def _rates_off(rival: Row) -> list[str]:
    """Say what a wrong rate would have cost: the rates beside the best one."""
    if not rival["beside"] or not rival["positive"]:
        return []
    factors = [factor for factor, _ in rival["beside"]]
    off = " or ".join(dict.fromkeys(f"{factor:.2g}" for factor in factors))
    if all(2.9 <= factor <= 3.4 for factor in factors):  # noqa: PLR2004  (1, 3, 10, ...)
        off = "three"
    ratios = sorted(ratio for _, ratio in rival["beside"] if ratio is not None)
    ends = list(dict.fromkeys(map(_times, ratios)))
    parts = [f"ended at {' and '.join(ends)} times the best one’s"] if ends else []
    if len(ratios) < len(rival["beside"]):
        parts.append("diverged" if not parts else "or diverged")
    return [f"{rival['name']} at a rate {off} times off {' '.join(parts)}."]


def _warnings(rival: Row, others: Sequence[Row]) -> list[str]:
    told = [
        f"The best {row['name']} rate is at the edge of those tried, so a better one may lie "
        f"beyond {_number(row['lr'])}."
        for row in (rival, *others)
        if row["edge"] and row["valid_loss"] is not None
    ]
    if rival["lost"]:
        told.append(f"{rival['name']} diverged at {rival['lost']} of {len(rival['rates'])} rates.")
    failed = [f"{row['name']} {row['failed']}" for row in (rival, *others) if row["failed"]]
    return [*told, *([f"Runs failed: {', '.join(failed)}."] if failed else [])]


def _costs(rival: Row, others: Sequence[Row]) -> list[str]:
    """Say what a step costs in time and memory, beside the rival's."""
    if not rival["seconds"] or rival["bytes"] is None:
        return []
    parts = [
        f"{row['name']} {_times(row['seconds'] / rival['seconds'])} times that and "
        f"{row['bytes']:.0f} bytes"
        for row in others
        if row["seconds"] and row["bytes"] is not None
    ]
    of_rival = (
        f"A step of {rival['name']} takes {seconds_text(rival['seconds'])}, and its state "
        f"{rival['bytes']:.0f} bytes a parameter"
    )
    return [f"{'; '.join([of_rival, *parts])}."]


def seconds_text(seconds: float | None) -> str:
    """Return a short time in words."""
    if seconds is None or math.isnan(seconds):
        return "–"
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= length or unit == "µs":
            return f"{seconds / length:.3g} {unit}"
    return "–"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.095 < ratio < 99.5 else f"{ratio:.2g}"  # noqa: PLR2004


def _number(value: float) -> str:
    return f"{value:.3g}"
