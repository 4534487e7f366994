"""A step in two passes by a small C function, built by the system's compiler at first use.

It is used for dense float32 tensors on the CPU, outside of graphs; all else, and everything where
there is no compiler, goes the eager way (`products.py`), which it equals to rounding. The library
is kept in the user's cache folder, in a file named by source, compiler flags, machine and content.
`HYPERGRADIENT_NATIVE=0` in the environment turns it off.
"""

import ctypes
import hashlib
import logging
import math
import os
import platform
import shutil
import subprocess
import tempfile
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergradient.pieces import in_graph, same_layout
from hypergradient.rules import RULES, additive
from hypergradient.visits import Direction, Ratio, Visit, last

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")
FLOAT = torch.float32
EPS = torch.finfo(FLOAT).eps
ROW, RECIPE = 7, 22  # numbers in the structs of native.c
VISIT, DESCEND, AVERAGE = range(3)  # its passes
PLAIN = frozenset({Tensor, torch.nn.Parameter})  # subclasses may hold their numbers elsewhere

log = logging.getLogger(__name__)


class Job:
    """The visits of a step that are for the C function.

    Attributes:
        others: the visits that are not.
    """

    def __init__(self, visits: list[Visit]) -> None:
        self._usable = usable()
        self._visits: list[Visit] = []
        self._rows: list[int] = []  # the structs of native.c, one after the other
        self._recipes: list[float] = []
        self._rates: list[Tensor] = []  # one a recipe
        self._descending: set[int] = set()
        self.others = visits
        if self._usable:
            self.others = [visit for visit in visits if not self._take(visit)]

    def visit(self) -> None:
        """Fill the pools, move element-wise rates, and write down each u_t that is kept.

        Where `descend` is to move theta, the states advance.
        """
        if not self._visits:
            return
        sums = _pass(VISIT, self._rows, self._recipes)
        for i, visit in enumerate(self._visits):
            pool = visit.pool
            if pool is not None:
                pool.add(self._rows[ROW * i], *sums[3 * i : 3 * i + (3 if pool.norms else 1)])
        counts = [v.step for v in self._visits if v.step is not None and self.descends(v)]
        if counts:
            torch._foreach_add_(counts, 1)

    def descend(self) -> None:
        """Move theta, by rates that have moved since the visit."""
        if self._descending:
            self._recipes[RECIPE - 1 :: RECIPE] = map(_number, self._rates)
            _pass(DESCEND, self._rows, self._recipes)
            moved = [visit.p for visit in self._visits if self.descends(visit)]
            torch.autograd.graph.increment_version(moved)  # a backward pass may hold them

    def descends(self, visit: Visit) -> bool:
        """Whether theta and the states are moved here, and not by torch's kernels."""
        return bool(self._descending) and id(visit.p) in self._descending

    def _take(self, visit: Visit) -> bool:
        """Take a visit if it is for the C function."""
        pointers = _pointers(visit)
        if pointers is None:
            return False
        if not (self._visits and _alike(self._visits[-1], visit)):
            recipe = _recipe(visit)
            if recipe is None:
                return False
            self._recipes += recipe
            self._rates.append(visit.alpha)
        self._rows += (visit.p.numel(), len(self._rates) - 1, *pointers)
        self._visits.append(visit)
        if self._recipes[-2]:
            self._descending.add(id(visit.p))
        return True


class AverageJob:
    """The part of a step of `Untuned` that is for the C function."""

    def __init__(self) -> None:
        self._moved: list[Tensor] = []
        self._rows: list[int] = []
        self._recipes: list[float] = []
        self._last: tuple[float, ...] | None = None
        self._count = 0  # of recipes

    def take(self, tensors: tuple[Tensor, ...], recipe: tuple[float, ...]) -> bool:
        """Take (y, g, m, v, z) and the numbers of the struct `Average`, if that can be."""
        y, g, *_ = tensors
        pointers = _pointers_of((g, y, *tensors[2:]))
        if pointers is None:
            return False
        if recipe != self._last:
            self._last = recipe
            self._recipes += recipe
            self._count += 1
        self._rows += (y.numel(), self._count - 1, *pointers)
        self._moved.append(y)
        return True

    def descend(self) -> float:
        """Make the step, and return <g_t, m_{t-1}>."""
        if not self._moved:
            return 0.0
        sums = _pass(AVERAGE, self._rows, self._recipes)
        torch.autograd.graph.increment_version(self._moved)
        return sum(sums[::3])


def usable() -> bool:
    """Whether there is a C function, and nothing records what it would do."""
    return not in_graph() and function() is not None


def _pass(which: int, rows: list[int], recipes: list[float]) -> list[float]:
    count = len(rows) // ROW
    sums = array("d", bytes(24 * count))
    numbers = array("q", rows), array("d", recipes), sums
    at = [each.buffer_info()[0] for each in numbers]
    if function()(which, count, *at, torch.get_num_threads(), _fork()):
        raise MemoryError("no memory for the sums of a step")
    return sums.tolist()


def _pointers(visit: Visit) -> list[int] | None:
    """Where a visit's numbers are, or null; None if they are not for the C function."""
    tensors = [visit.grad, visit.p, *visit.memory[:2]]
    if visit.pool is None:
        tensors.append(visit.alpha)
    pointers = _pointers_of(tensors)
    if pointers is not None:
        if len(visit.memory) == 1:
            pointers.insert(3, 0)
        if visit.pool is not None:
            pointers.append(0)
    return pointers


def _pointers_of(tensors: Sequence[Tensor]) -> list[int] | None:
    """Where numbers are, if they are float32, on the CPU, dense and in one order."""
    grad, p, *_ = tensors
    size, contiguous, pointers = p.numel(), True, []
    for t in tensors:
        if not (t.dtype is FLOAT and t.is_cpu and type(t) in PLAIN and t.numel() == size):
            return None
        contiguous = contiguous and t.is_contiguous()
        try:
            pointers.append(t.data_ptr())
        except RuntimeError:  # a tensor without memory of its own, such as torch.func's
            return None
    if grad.is_neg() or p.is_inference() or not (contiguous or same_layout(tensors)):
        return None
    return pointers


def _alike(a: Visit, b: Visit) -> bool:
    """Whether one recipe is for both."""
    return (
        a.group is b.group
        and (a.alpha is b.alpha or a.pool is None)
        and a.direction == b.direction
        and a.advance == b.advance
    )


def _recipe(visit: Visit) -> tuple[float, ...] | None:
    """What the C function is to do, if it can."""
    group, alpha, pool, direction = visit.group, visit.alpha, visit.pool, visit.direction
    if (
        not (direction is last or type(direction) is Ratio)
        or (RULES[group["rule"]].update is not additive if pool is None else alpha.dim())
        or isinstance(group["weight_decay"], Tensor)
        or not alpha.is_cpu
    ):
        return None
    l2 = 0.0 if group.get("decoupled_weight_decay") else group["weight_decay"]
    scale, shift, decay = _ratio(direction)
    left = 1 - decay * _number(alpha)
    if abs(left) <= EPS:  # see Ratio
        decay, left = 0.0, 1.0
    first, second, after = (0.0, 1.0, 0.0), (0.0, 1.0), last
    descends = visit.advance is not None and group["hypergrad_lr"] != 0  # at 0 a step is torch's
    if visit.advance is not None and descends:
        first, second, after = visit.advance
    elif visit.kept is not None:
        first = visit.kept[0], 0.0, visit.kept[1]
    return (
        *(-1.0 if group["maximize"] else 1.0, l2),
        *(direction is not last, scale, shift, decay, 1 / left, *_ratio(after), 1.0),
        *(*first, *second),
        *(pool is not None and pool.norms, group["hypergrad_lr"]),
        *(group["lr_bounds"] or (-math.inf, math.inf)),
        *(descends, _number(alpha)),
    )


def _ratio(direction: Direction) -> tuple[float, float, float]:
    if isinstance(direction, Ratio):
        return float(direction.scale), float(direction.shift), float(direction.decay)
    return 1.0, 0.0, 0.0


def _number(alpha: Tensor) -> float:
    """A rate; of element-wise ones, which have moved already, none."""
    return alpha.item() if not alpha.dim() else 0.0


@cache
def _fork() -> ctypes.c_void_p:
    """The function by which torch's own threads are set to work, or null: never other threads."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):
        return ctypes.c_void_p(None)


@cache
def function() -> Any:
    """The C function, built if need be; None where that cannot be or is not wanted."""
    if os.environ.get("HYPERGRADIENT_NATIVE", "1") == "0":
        return None
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    try:
        return _load(_folder(), compiler)
    except (OSError, RuntimeError, subprocess.SubprocessError, AttributeError) as reason:
        log.info("steps are eager: the C function cannot be had (%s)", reason)
        return None


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "hypergradient"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _load(folder: Path, compiler: str | None) -> Any:
    """The function from a whole library of this source and machine, or from a new one."""
    key = _hash(SOURCE.read_bytes() + " ".join([*FLAGS, _machine()]).encode())
    for path in folder.glob(f"{key}-*.so"):
        if path.stem == f"{key}-{_hash(path.read_bytes())}":  # not torn
            return _function(path)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        part = Path(made) / "native.so"
        command = [*compiler.split(), *FLAGS, str(SOURCE), "-o", str(part), "-lm"]
        subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
        )
        path = folder / f"{key}-{_hash(part.read_bytes())}.so"
        part.replace(path)  # at once: who finds it finds it whole
    return _function(path)


def _function(path: Path) -> Any:
    function = ctypes.CDLL(str(path)).make_pass
    pointer = ctypes.c_void_p
    function.argtypes = (ctypes.c_int, ctypes.c_int64, *[pointer] * 3, ctypes.c_int, pointer)
    function.restype = ctypes.c_int
    return function


def _machine() -> str:
    """What -march=native looks at: a home folder may be shared by different processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.system()} {platform.machine()} {flags}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
