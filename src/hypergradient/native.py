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
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergradient.pieces import in_graph, same_layout
from hypergradient.rules import RULES, additive
from hypergradient.visits import Batches, Direction, Ratio, Update, Visit, last

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")
FLOAT = torch.float32
EPS = torch.finfo(FLOAT).eps
ONE = torch.ones((), dtype=torch.float32, device="cpu")
ROW, RECIPE = 7, 22  # numbers in the structs of native.c
VISIT, DESCEND, AVERAGE = range(3)  # its passes
PLAIN = frozenset({Tensor, torch.nn.Parameter})  # subclasses may hold their numbers elsewhere

log = logging.getLogger(__name__)


class Job:
    """The part of a step that is for the C function.

    Attributes:
        others: the visits that are not.
        left: the visits whose theta is for torch's kernels: the others, and those that do not
            descend here.
    """

    def __init__(self, batches: Batches) -> None:
        self.others: Batches = []
        self.left: Batches = []
        self._taken: list[tuple[Update, int, Tensor]] = []  # with how many elements, and a rate
        self._rows: list[int] = []  # the structs of native.c, one after the other
        self._recipes: list[float] = []  # one for each taken
        self._descending: list[Tensor] = []
        self._steps: list[Tensor] = []  # the counts of these
        if not usable():
            self.others = self.left = batches
            return
        for update, visits in batches:
            self._take(update, visits)

    def visit(self) -> None:
        """Fill the pools, move element-wise rates, and write down each u_t that is kept.

        Where `descend` is to move theta, the states advance.
        """
        if not self._taken:
            return
        self._call = Call(self._rows, self._recipes, len(self._taken))
        sums = self._call.make(VISIT)
        for i, (update, count, _) in enumerate(self._taken):
            if (pool := update.pool) is not None:
                pool.add(count, *sums[3 * i : 3 * i + (3 if pool.norms else 1)])
        if self._steps:
            torch._foreach_add_(self._steps, ONE, alpha=1)  # a number is slower (torch 2.13)

    def descend(self) -> None:
        """Move theta, by rates that have moved since the visit."""
        if not self._descending:
            return
        for i, (update, _, alpha) in enumerate(self._taken, 1):
            if update.pool is not None:
                self._call.recipes[RECIPE * i - 1] = alpha.item()
        self._call.make(DESCEND)
        torch.autograd.graph.increment_version(self._descending)  # a backward pass may hold them

    def _take(self, update: Update, visits: list[Visit]) -> None:
        """Take what is for the C function of visits to parameters that move alike."""
        recipe = _recipe(update, visits[0])
        if recipe is None:
            self.others.append((update, visits))
            self.left.append((update, visits))
            return
        elements, descends = update.pool is None, recipe[-2]
        index, count, others, left = len(self._taken), 0, [], []
        for visit in visits:
            pointers = _pointers_of(visit, elements=elements)
            if pointers is None:
                others.append(visit)
                left.append(visit)
                continue
            size = visit.p.numel()
            count += size
            self._rows += (size, index, *pointers)
            if not descends:
                left.append(visit)
                continue
            self._descending.append(visit.p)
            if visit.step is not None:
                self._steps.append(visit.step)
        if len(others) < len(visits):
            self._recipes += recipe
            self._taken.append((update, count, visits[0].alpha))
        if others:
            self.others.append((update, others))
        if left:
            self.left.append((update, left))


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
        y, g, m, v, z = tensors
        pointers = _pointers((g, y, m, v, z))
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
        sums = Call(self._rows, self._recipes, self._count).make(AVERAGE)
        torch.autograd.graph.increment_version(self._moved)
        return sum(sums[::3])


def usable() -> bool:
    """Whether there is a C function, and nothing records what it would do."""
    return not in_graph() and function() is not None


class Call:
    """The arrays of a step that the C function works on."""

    def __init__(self, rows: list[int], recipes: list[float], count: int) -> None:
        self.rows, self.recipes = array("q", rows), array("d", recipes)
        self.sums = array("d", bytes(24 * count))  # three for each recipe
        at = [numbers.buffer_info()[0] for numbers in (self.rows, self.recipes, self.sums)]
        self._arguments = len(rows) // ROW, *at, torch.get_num_threads(), _fork()

    def make(self, which: int) -> "array[float]":
        """Make a pass; return the sums."""
        if function()(which, *self._arguments):
            raise MemoryError("no memory for the sums of a step")
        return self.sums


def _pointers_of(visit: Visit, *, elements: bool) -> list[int] | None:
    """Where a visit's numbers are, or null; None if they are not for the C function."""
    p, grad, alpha, memory, _ = visit
    pointers = _pointers((grad, p, *memory[:2], alpha) if elements else (grad, p, *memory[:2]))
    if pointers is not None:
        if len(memory) == 1:
            pointers.insert(3, 0)
        if not elements:
            pointers.append(0)
    return pointers


def _pointers(tensors: tuple[Tensor, ...]) -> list[int] | None:
    """Where numbers are, if they are float32, on the CPU, dense and in one order."""
    grad, p, *_ = tensors
    size, contiguous, pointers = p.numel(), True, []
    try:
        for t in tensors:
            if not (t.dtype is FLOAT and t.is_cpu and type(t) in PLAIN and t.numel() == size):
                return None
            contiguous = contiguous and t.is_contiguous()
            pointers.append(t.data_ptr())
    except RuntimeError:  # a tensor without memory of its own, such as torch.func's
        return None
    if grad.is_neg() or p.is_inference() or not (contiguous or same_layout(tensors)):
        return None
    return pointers


def _recipe(update: Update, first: Visit) -> tuple[float, ...] | None:
    """What the C function is to do, if it can: with the rate of the first of those that move so."""
    group, pool, direction, kept, advance = update
    alpha, decay = first.alpha, group["weight_decay"]
    if (
        not (direction is last or type(direction) is Ratio)
        or (RULES[group["rule"]].update is not additive if pool is None else alpha.dim())
        or isinstance(decay, Tensor)
        or not (alpha.is_cpu and first.p.is_cpu)
    ):
        return None
    now = 0.0 if pool is None else alpha.item()  # of element-wise rates there is no one number
    scale, shift, decoupled = _ratio(direction)
    left = 1 - decoupled * now
    if abs(left) <= EPS:  # see Ratio
        decoupled, left = 0.0, 1.0
    a, b, after = (0.0, 1.0, 0.0), (0.0, 1.0), last  # see Advance
    descends = advance is not None and group["hypergrad_lr"] != 0  # at 0 a step is torch's
    if advance is not None and descends:
        a, b, after = advance
    elif kept is not None:
        a = kept[0], 0.0, kept[1]
    low, high = group["lr_bounds"] or (-math.inf, math.inf)
    return (
        -1.0 if group["maximize"] else 1.0,
        0.0 if group.get("decoupled_weight_decay") else decay,
        *(direction is not last, scale, shift, decoupled, 1 / left),
        *(*_ratio(after), 1.0),
        *a,
        *b,
        *(pool is not None and pool.norms, group["hypergrad_lr"], low, high),
        *(descends, now),
    )


def _ratio(direction: Direction) -> tuple[float, float, float]:
    if type(direction) is Ratio:
        return float(direction.scale), float(direction.shift), float(direction.decay)
    return 1.0, 0.0, 0.0


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
