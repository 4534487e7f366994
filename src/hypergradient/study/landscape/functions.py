"""Names to functions: this package's own, or a person's, with its start, box and minima."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hypergradient.functions import FUNCTIONS, Function, Point
from hypergradient.study.errors import OWN_CODE_RAISES, StudyError
from hypergradient.study.import_by_name import import_object, is_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

LATTICE = 401
"""Points a side of the lattice on which the minimum of a person's own function is looked for."""


def choose(kind: str, name: str, names: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``names``.

    Raises:
        StudyError: It is not; the message suggests a close one.
    """
    names = list(names)
    if name not in names:
        close = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
        raise StudyError(f"no {kind} {name!r}: {hint}")
    return name


def find_function(
    name: str, start: Point | None, box: tuple[float, float, float, float] | None
) -> Function:
    """Return a function by its name, or the one that ``module:function`` names.

    Args:
        name: Of one of ``FUNCTIONS``, or where a ``Function`` is found, or a function of two
            tensors, x and y, that returns f(x, y) elementwise.
        start: Where to start from, in place of the function's own.
        box: Lowest x, highest x, lowest y and highest y, in place of the function's own.

    Raises:
        StudyError: What is wrong, in one line.
    """
    sides = ((box[0], box[1]), (box[2], box[3])) if box else None
    if is_reference(name):
        function = _own(name, start, sides)
    else:
        function = FUNCTIONS[choose("function", name, FUNCTIONS)]
    function = replace(function, start=start or function.start, box=sides or function.box)
    _check(name, function)
    return function if function.minima else replace(function, minima=(_minimum(name, function),))


def _own(name: str, start: Point | None, box: tuple[Point, Point] | None) -> Function:
    if not {"", str(Path.cwd())} & set(sys.path):  # an installed command does not look here
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_object(name)
    except ValueError as error:
        raise StudyError(" ".join(str(error).split())) from error
    if isinstance(found, Function):
        return found
    if not callable(found):
        raise StudyError(f"{name} is {found!r}, not a function of x and y")
    if start is None or box is None:
        raise StudyError(f"{name} has no start and box of its own: give --start and --box")
    title = name.rpartition(":")[2]
    return Function(title, "f(x, y)", found, start, box, minima=(), source=name)


def _check(name: str, function: Function) -> None:
    """Refuse a box or a start that make no sense."""
    numbers = [*function.start, *function.box[0], *function.box[1]]
    if not all(math.isfinite(number) for number in numbers):
        raise StudyError(f"{name}: start and box must be finite numbers")
    (left, right), (bottom, top) = function.box
    x, y = function.start
    if not (left < right and bottom < top):
        raise StudyError(f"{name}: the box {_text(function.box)} is empty: low must be below high")
    if not (left <= x <= right and bottom <= y <= top):
        raise StudyError(
            f"{name}: the box {_text(function.box)} excludes the start ({x:g}, {y:g}): "
            "widen --box, or move --start"
        )
    start = torch.tensor(function.start, dtype=torch.float64)
    try:
        gradient = function.gradient(start[None])
        lattice = function(_lattice(function, 2))
    except OWN_CODE_RAISES as error:
        raise StudyError(f"{name} at ({x:g}, {y:g}): {_line(error)}") from error
    if lattice.shape != (4,):
        raise StudyError(f"{name} is not elementwise: 4 points give {tuple(lattice.shape)}")
    if not gradient.isfinite().all():
        slopes = ", ".join(f"{slope:g}" for slope in gradient[0].tolist())
        raise StudyError(
            f"{name} has no finite gradient at its start ({x:g}, {y:g}): ({slopes}); "
            "choose another --start"
        )


def _lattice(function: Function, each_way: int) -> torch.Tensor:
    sides = [torch.linspace(*side, each_way, dtype=torch.float64) for side in function.box]
    return torch.cartesian_prod(*sides)


def _minimum(name: str, function: Function) -> Point:
    """The lowest point of the box, from the lowest of a lattice by Newton's method."""
    points = _lattice(function, LATTICE)
    values = function(points).nan_to_num(nan=math.inf)
    if not values.isfinite().any():
        raise StudyError(f"{name} is finite nowhere in the box {_text(function.box)}")
    best = points[values.argmin()]
    for _ in range(20):
        hessian = torch.autograd.functional.hessian(function, best)  # type: ignore[no-untyped-call]
        gradient = function.gradient(best[None])[0]
        refined = best - torch.linalg.lstsq(hessian, gradient[:, None]).solution[:, 0]
        if not (function(refined) <= function(best)):
            break
        best = refined
    x, y = best.tolist()
    return x, y


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _text(box: tuple[Point, Point]) -> str:
    return " x ".join(f"[{low:g}, {high:g}]" for low, high in box)
