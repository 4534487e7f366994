"""The visits in one pass by a small C function, built by the system's compiler at first use.

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

from hypergradient.pieces import same_layout
from hypergradient.rules import RULES, additive
from hypergradient.visits import Direction, Ratio, Visit, last

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC")
FLOAT = torch.float32
EPS = torch.finfo(FLOAT).eps
PLAIN = frozenset({Tensor, torch.nn.Parameter})  # subclasses may hold their numbers elsewhere

log = logging.getLogger(__name__)


def visit_all(visits: Sequence[Visit]) -> Sequence[Visit]:
    """Make the visits that are for the C function, and return the others."""
    in_graph = torch.compiler.is_compiling() or torch.is_grad_enabled()
    call = None if in_graph else function()
    if call is None:
        return visits
    chosen: list[Visit] = []
    others: list[Visit] = []
    table: list[int] = []  # the structs of native.c, one after the other
    recipes: list[float] = []
    known: dict[tuple[int, int, Direction], int] = {}
    for visit in visits:
        pointers = _pointers(visit) if _takes(visit) else None
        if pointers is None:
            others.append(visit)
            continue
        key = id(visit.group), id(visit.alpha), visit.direction
        if key not in known:
            known[key] = len(known)
            recipes += _recipe(visit)
        table += (visit.p.numel(), known[key], *pointers)
        chosen.append(visit)
    if chosen:
        sums = _sums(call, len(chosen), array("q", table), array("d", recipes))
        for i, (_, p, _, _, pool, *_) in enumerate(chosen):
            if pool is not None:
                wanted = 3 if pool.norms else 1
                pool.add(p.numel(), *sums[3 * i : 3 * i + wanted])
    return others


def _pointers(visit: Visit) -> list[int] | None:
    _, p, grad, alpha, pool, memory, *_ = visit
    try:
        pointers = [t.data_ptr() for t in (grad, p, *memory)]
    except RuntimeError:  # a tensor without memory of its own, such as torch.func's
        return None
    if len(memory) == 1:
        pointers.append(0)
    pointers.append(0 if pool is not None else alpha.data_ptr())
    return pointers


def _sums(call: Any, count: int, table: "array[int]", recipes: "array[float]") -> list[float]:
    sums = array("d", bytes(24 * count))
    at = [numbers.buffer_info()[0] for numbers in (table, recipes, sums)]
    if call(count, *at, torch.get_num_threads(), _fork()):
        raise MemoryError("no memory for the sums of a step")
    return sums.tolist()


def _takes(visit: Visit) -> bool:
    group, p, grad, alpha, pool, memory, direction, _, aligned = visit
    if not aligned:
        return False
    if pool is None:
        if RULES[group["rule"]].update is not additive or not same_layout([p, alpha]):
            return False
        memory = [*memory, alpha]
    elif alpha.dim():  # a rate a member
        return False
    size = p.numel()
    for t in (p, grad, *memory):
        if not (t.dtype is FLOAT and t.is_cpu and type(t) in PLAIN and t.numel() == size):
            return False
    return (
        (direction is last or type(direction) is Ratio)
        and alpha.is_cpu
        and not grad.is_neg()
        and not isinstance(group["weight_decay"], Tensor)
        and (group["product"] == "direction" or same_layout([p, *memory]))
    )


def _recipe(visit: Visit) -> tuple[float, ...]:
    group, direction, pool = visit.group, visit.direction, visit.pool
    l2 = 0.0 if group.get("decoupled_weight_decay") else group["weight_decay"]
    gradient = -1.0 if group["maximize"] else 1.0, l2
    if isinstance(direction, Ratio):
        decay, left = float(direction.decay), 1.0
        if direction.decays and pool is not None:
            left = 1 - decay * visit.alpha.item()
            if abs(left) <= EPS:  # see Ratio
                decay, left = 0.0, 1.0
        form: tuple[Any, ...] = 1.0, direction.scale, direction.shift, decay, 1 / left
    else:
        form = 0.0, 1.0, 0.0, 0.0, 1.0
    kept = (0.0, 0.0, 0.0) if visit.kept is None else (1.0, *visit.kept)
    bounds = group["lr_bounds"] or (-math.inf, math.inf)
    norms = float(pool is not None and pool.norms)
    return *gradient, *form, *kept, norms, group["hypergrad_lr"], *bounds


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
    function = ctypes.CDLL(str(path)).visit_all
    pointer = ctypes.c_void_p
    function.argtypes = (ctypes.c_int64, pointer, pointer, pointer, ctypes.c_int, pointer)
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
