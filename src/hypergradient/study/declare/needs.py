"""What a study needs beyond the package and its extra `study`: data files, and other extras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypergradient.study.methods.registry import METHODS
from hypergradient.study.tasks.registry import find_task

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar10-part": "CIFAR-10"}
"""Data sets that come from a folder, or are downloaded; all others are in installed packages."""


def needs(content: dict[str, Any]) -> list[str]:
    """Return what a study of the package needs at any of its scales.

    Args:
        content: What its TOML file has.
    """
    tables = [content, *content.get("scale", {}).values()]
    tasks = {task for table in tables for task in table.get("tasks", ())}
    sets = {find_task(task).dataset for task in tasks}
    found = sorted({FILES[name] for name in sets if isinstance(name, str) and name in FILES})
    if any(METHODS[name].from_other_package for name in _methods(tables) if name in METHODS):
        found.append("extra bench")
    return found


def _methods(tables: list[dict[str, Any]]) -> Iterator[str]:
    for table in tables:
        for entry in table.get("methods", ()):
            names = entry["names"]
            yield from [names] if isinstance(names, str) else names
