"""Products of options, drawn so that every pair of values meets in some case.

A product of four options of ten values has ten thousand cases. Faults hang on one value, or on two
that meet, and some hundred cases let all pairs meet. `pairs` is for the large products; what must
meet in threes is made one axis of the two.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import Any

import pytest
import torch

Row = tuple[int, ...]


def covering(sizes: Sequence[int], allowed: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    """Rows of indices in which all pairs of values meet that meet in an allowed row.

    Each row starts from the first pair that has not met yet. It then takes, axis by axis, the value
    that lets most new pairs meet; among equals they take turns. Nothing is random.
    """
    axes = range(len(sizes))
    missing = dict.fromkeys(
        ((i, a), (j, b))
        for i, j in combinations(axes, 2)
        for a, b in product(range(sizes[i]), range(sizes[j]))
    )
    rows: list[Row] = []
    while missing:
        (i, a), (j, b) = first = next(iter(missing))
        row = _completed({i: a, j: b}, sizes, missing, allowed, turn=len(rows))
        if row is None:
            del missing[first]
            continue
        rows.append(row)
        for pair in combinations(enumerate(row), 2):
            missing.pop(pair, None)
    return rows


def _completed(
    chosen: dict[int, int],
    sizes: Sequence[int],
    missing: dict[tuple[tuple[int, int], tuple[int, int]], None],
    allowed: Callable[[Row], bool],
    turn: int,
) -> Row | None:
    """Complete a row; None if no allowed row holds what was chosen."""
    free = [k for k in range(len(sizes)) if k not in chosen]
    if not free:
        row = tuple(chosen[k] for k in range(len(sizes)))
        return row if allowed(row) else None
    axis = free[0]

    def news(value: int) -> tuple[int, int]:
        met = sum(tuple(sorted(((axis, value), other))) in missing for other in chosen.items())
        return -met, (value - turn) % sizes[axis]

    for value in sorted(range(sizes[axis]), key=news):
        row = _completed({**chosen, axis: value}, sizes, missing, allowed, turn)
        if row is not None:
            return row
    return None


def pairs(
    allowed: Callable[..., bool] | None = None, **axes: Iterable[Any]
) -> pytest.MarkDecorator:
    """Run a test in as many cases as let all pairs of values of the axes meet.

    Args:
        allowed: a function of the axes by name, which says whether a case makes sense.
        axes: the values of each argument of the test.
    """
    values = {name: list(axis) for name, axis in axes.items()}

    def row_of(indices: Row) -> tuple[Any, ...]:
        return tuple(axis[i] for axis, i in zip(values.values(), indices, strict=True))

    def makes_sense(indices: Row) -> bool:
        return allowed is None or allowed(**dict(zip(values, row_of(indices), strict=True)))

    rows = [row_of(row) for row in covering([len(v) for v in values.values()], makes_sense)]
    ids = ["-".join(map(_name, row)) for row in rows]
    return pytest.mark.parametrize(tuple(values), rows, ids=ids)


def _name(value: Any) -> str:
    if isinstance(value, dict):
        return "-".join(value) or "default"
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else str(value)
