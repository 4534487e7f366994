"""Objects that a study names by text: ``package.module:Name`` or ``path/to/file.py:name``.

``path/to/file.py`` alone is the file itself, which is how a person's own task is named.
A path is relative to the folder in which the command runs.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import OWN_CODE_RAISES, as_one_line

if TYPE_CHECKING:
    from types import ModuleType

RECORDED = {
    "hypergradient": ("hypergradient", "319f05b383fbbc90"),
    "hypergradient.study.methods.ablations": ("hypergradient.study.ablations", "2ae382f82977a033"),
    "hypergradient.study.methods.baselines": ("hypergradient.study.peers", "ff0a3b52675c9d3a"),
    "hypergradient.study.tasks.registry": (
        "hypergradient.study.landscape.network",
        "ec40942f01036590",
    ),
}
"""The modules of this package that runs name: where each was when its first runs were recorded, and
the hash of its source then.

The ids and seeds of runs are made of these two. So a finished run stays finished when a module
moves or is edited without changing a number. An edit that does change numbers raises
``RESULTS_VERSION``, as it does anywhere else in this package."""


def is_reference(name: str) -> bool:
    """Return whether ``name`` names a place rather than an entry of a table."""
    return ":" in name or name.endswith(".py")


def split_reference(reference: str) -> tuple[str, str]:
    """Return the module or file of a reference, and the name in it: "" is all of a file."""
    place, colon, name = reference.rpartition(":")
    return (place, name) if colon else (reference, "")


@cache
def import_object(reference: str) -> Any:
    """Import what ``reference`` names.

    Raises:
        ValueError: It cannot be imported, or nothing of that name is in it.
    """
    place, name = split_reference(reference)
    try:
        module = import_file(place) if place.endswith(".py") else import_module(place)
    except OWN_CODE_RAISES as error:
        raise ValueError(f"{reference}: cannot import {place}: {as_one_line(error)}") from error
    if not name:
        return module
    if not hasattr(module, name):
        raise ValueError(f"{reference}: there is no {name} in {place}")
    return getattr(module, name)


def recorded_name(reference: str) -> str:
    """Return the name under which a run records ``reference``: itself, unless it has moved."""
    place, colon, name = reference.rpartition(":")
    return RECORDED[place][0] + colon + name if place in RECORDED else reference


@cache
def source_hash(reference: str) -> str:
    """Return the first 16 hex digits of the sha256 of the file that ``reference`` names.

    The hash stands for the object in a run's id: a person's file that was edited makes other runs.
    Where a file imports others beside it, theirs are a part of it. A module of this package has the
    hash that is recorded for it.
    """
    place, _ = split_reference(reference)
    if place in RECORDED:
        return RECORDED[place][1]
    is_own_file = place.endswith(".py")
    if not is_own_file:
        origin = _file_of_module(place)
        if origin is None:
            raise ValueError(f"{reference}: cannot find the source of {place}")
        place = origin
    try:
        content = Path(place).read_bytes()
    except OSError as error:
        raise ValueError(f"{reference}: cannot read {place}: {error.strerror}") from error
    digest = hashlib.sha256(content)
    for path in _imported_beside(Path(place)) if is_own_file else ():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _imported_beside(file: Path) -> list[Path]:
    """Return the files of the same folder that a file imports, and that those import, in order.

    Nothing is imported to find them.
    """
    found: dict[Path, None] = {}
    waiting = [file]
    while waiting:
        try:
            tree = ast.parse(waiting.pop().read_bytes())
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue  # importing it says what is wrong
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                stem = file.parent.joinpath(*name.split("."))
                beside = [stem.with_suffix(".py"), stem / "__init__.py"]
                new = [path for path in beside if path.is_file() and path not in {*found, file}]
                found |= dict.fromkeys(new)
                waiting += new
    return sorted(found)


def _file_of_module(place: str) -> str | None:
    """Return the file of a module, without importing it or the packages it is in."""
    top, *rest = place.split(".")
    spec = find_spec(top)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{spec.name}.{part}"
        spec = PathFinder.find_spec(name, [*spec.submodule_search_locations])
    return None if spec is None else spec.origin


def import_file(place: str) -> ModuleType:
    path = Path(place).resolve()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    found = spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(place)
    if str(path.parent) not in sys.path:  # as `python FILE` would have it, but after all else
        sys.path.append(str(path.parent))
    module = module_from_spec(found)
    sys.modules[name] = module  # before it runs, as dataclasses look themselves up there
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
