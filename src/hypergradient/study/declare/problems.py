"""Everything that is wrong with a study's content, found in one go."""

from __future__ import annotations

from copy import deepcopy
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hypergradient.study.declare.grid import MethodEntry
from hypergradient.study.declare.run import Until
from hypergradient.study.declare.study import Study

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

Place = tuple[int | str, ...]

ROUNDS = 4
"""How often what is wrong is taken out to see what else is: a key, a name, and what they hid."""

ENTRY = 2
"""The length of the place of a method's table: ("methods", 0)."""


def checked(content: dict[str, Any]) -> tuple[Study | None, list[tuple[Place, str]]]:
    """Return the study, or None and everything that is wrong: where, and what.

    pydantic checks a method's table as a whole only if each of its keys is right. So keys and
    names that are wrong are taken out, one round after another, until nothing new comes up.
    """
    content = deepcopy(content)
    found: dict[tuple[Place, str], None] = {}
    for _ in range(ROUNDS):
        try:
            study = Study.model_validate(content)
        except ValidationError as error:
            details = error.errors()
        else:
            return None if found else study, list(found)
        for one in details:
            for line in message(one).splitlines():
                found.setdefault((one["loc"], line))
        if not sum(taken_out(content, one) for one in reversed(details)):
            break
    return None, list(found)


def message(problem: ErrorDetails) -> str:
    """Return what is wrong, with the key that was meant where one is not known."""
    if problem["type"] != "extra_forbidden":
        return problem["msg"].removeprefix("Value error, ")
    place = problem["loc"]
    known: Iterable[str] = Study.model_fields.keys() - {"name", "scale"}
    if place[:1] == ("methods",):
        known = MethodEntry.model_fields
    elif place[:1] == ("until",):
        known = Until.model_fields
    return f"is not known; {meant(str(place[-1]), known)}"


def meant(name: str, known: Iterable[str]) -> str:
    """Return a question for the known name that is close, or the list of all."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"


def taken_out(content: dict[str, Any], problem: ErrorDetails) -> bool:
    """Take what is wrong out of the content, if the rest can be checked without it."""
    place = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return _removed(content, place)
    if place[:1] != ("methods",) or len(place) <= ENTRY or problem["type"] == "missing":
        return False
    key = place[ENTRY]
    if key in {"grid", "zip"}:
        return _removed(content, place[: ENTRY + 2])
    if key == "schedule":
        return _removed(content, place[: ENTRY + 1])
    names = _at(content, place[: ENTRY + 1])
    if isinstance(names, list) and len(names) > 1 and isinstance(place[-1], int):
        return _removed(content, place)
    return False


def _at(content: Any, place: Place) -> Any:
    """Return what is at a place, or None."""
    for part in place:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return None
    return content


def _removed(content: dict[str, Any], place: Place) -> bool:
    """Remove what is at a place, and return whether there was anything."""
    parent = _at(content, place[:-1])
    if not isinstance(parent, dict | list) or _at(parent, place[-1:]) is None:
        return False
    del parent[place[-1]]  # type: ignore[arg-type]
    return True
