"""Objects that a study names by text: ``package.module:Name`` or ``path/to/file.py:name``.

A path is relative to the folder in which the command runs.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


def is_reference(name: str) -> bool:
    """Return whether ``name`` names a place rather than an entry of a table."""
    return ":" in name


@cache
def load(reference: str) -> Any:
    """Import what ``reference`` names.

    Raises:
        ValueError: It cannot be imported, or nothing of that name is in it.
    """
    place, _, name = reference.rpartition(":")
    try:
        module = _from_file(place) if place.endswith(".py") else import_module(place)
    except Exception as error:
        raise ValueError(
            f"{reference}: cannot import {place}: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        raise ValueError(f"{reference}: there is no {name} in {place}")
    return getattr(module, name)


@cache
def source_hash(reference: str) -> str:
    """Return the first 16 hex digits of the sha256 of the file that ``reference`` names.

    It stands for the object in a run's id: what has been edited is another run.
    """
    place, _, _ = reference.rpartition(":")
    if not place.endswith(".py"):
        module = find_spec(place)
        if module is None or module.origin is None:
            raise ValueError(f"{reference}: cannot find the source of {place}")
        place = module.origin
    try:
        content = Path(place).read_bytes()
    except OSError as error:
        raise ValueError(f"{reference}: cannot read {place}: {error.strerror}") from error
    return hashlib.sha256(content).hexdigest()[:16]


def _from_file(place: str) -> ModuleType:
    path = Path(place).resolve()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    found = spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(place)
    module = module_from_spec(found)
    sys.modules[name] = module  # before it runs, as dataclasses look themselves up there
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
