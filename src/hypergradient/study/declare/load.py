"""Study files: finding one by name or path, and reading it with all its scales."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergradient.study.declare.problems import checked, meant
from hypergradient.study.declare.study import Study
from hypergradient.study.errors import StudyError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILT_IN = Path(__file__).parents[2] / "studies"
"""The folder of the studies that come with the package."""

SCALABLE = (
    *("tasks", "methods", "seeds", "epochs", "batch_size", "train_examples", "valid_examples"),
    *("decay_epochs", "until", "time"),
)
"""The fields that a scale of a study can change."""

DEFAULT_SCALE = "laptop"


def built_in_studies() -> dict[str, Path]:
    """Return the files of the studies that come with the package, by name."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"), key=lambda each: each.stem)}


def find_study(study: str) -> Path:
    """Return the file of a study given by name or by a path that ends in ``.toml``.

    Raises:
        StudyError: There is none; the message suggests close names.
    """
    if study.endswith(".toml"):
        if not is_file(path := Path(study)):
            raise StudyError(f"no study file {one_line(study)}")
        return path
    names = built_in_studies()
    if study not in names:
        close = get_close_matches(study, names, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
        raise StudyError(f"no study {study!r}: {hint} (or give the path of a .toml file)")
    return names[study]


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content, or raise a ``StudyError`` that says what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # also of an integer of thousands of digits
        raise StudyError(f"{path}: {error}") from error
    except RecursionError:
        raise StudyError(f"{path}: its lists or tables are nested too deeply") from None


def is_file(path: Path) -> bool:
    """Return whether there is a file of that name, even where the text can be no file's name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_plain(name: str) -> bool:
    """Return whether results can be in a folder of that name, and in no other."""
    return name.isprintable() and name not in {"", ".", ".."} and not set(name) & set("/\\")


def first_scale(scales: Mapping[str | None, object]) -> str | None:
    """Return the scale that a study has where nobody asks for one: "laptop", or its first."""
    return DEFAULT_SCALE if DEFAULT_SCALE in scales else next(iter(scales), None)


def default_scale(path: Path) -> str | None:
    """Return the same from a study's file, of which nothing else is checked."""
    scales = read_toml(path).get("scale", {})
    return first_scale(scales) if isinstance(scales, dict) else None


def at_scale(path: Path, content: dict[str, Any], scale: str | None) -> dict[str, Any]:
    """Return the content of a study's file at one of its scales, as `Study` takes it."""
    changes = content.get("scale", {}).get(scale, {})
    shared = {key: value for key, value in content.items() if key != "scale"}
    allowed = {key: value for key, value in changes.items() if key in SCALABLE}
    return shared | allowed | {"name": path.stem, "scale": scale}


def load_study(path: Path, scale: str | None = None) -> Study:
    """Read and validate a study with all its scales, and return it at one of them.

    Args:
        path: The TOML file.
        scale: The name of one of its tables ``[scale.NAME]``; by default "laptop" or, where there
            is no such table, the first.

    Raises:
        StudyError: Everything that is wrong with the file, one line each, and where it is.
    """
    content = read_toml(path)
    scales = content.get("scale", {})
    if not isinstance(scales, dict) or not all(isinstance(s, dict) for s in scales.values()):
        raise StudyError(f"{path}: scale: tables [scale.NAME] are needed")
    problems: dict[str, None] = {
        f"{path}: {what} {name!r} cannot be a part of a folder's name": None
        for what, name in [("the name", path.stem), *(("scale", name) for name in scales)]
        if not is_plain(name)
    }
    studies: dict[str | None, Study] = {}
    for name, changes in scales.items() or [(None, {})]:
        study, wrong = checked(at_scale(path, content, name))
        allowed = {key for key in changes if key in SCALABLE}
        for place, message in wrong:
            at = ".".join(str(part) for part in place)
            where = f"scale.{name}.{at}" if at.split(".")[0] in allowed else at
            problems[f"{path}: {where}: {message}" if where else f"{path}: {message}"] = None
        if study is not None:
            studies[name] = study
        for key in changes.keys() - allowed:
            hint = "cannot change" if key in Study.model_fields else meant(key, SCALABLE)
            problems[f"{path}: scale.{name}.{key}: {hint}"] = None
    published = content.get("published")
    if isinstance(published, str) and not is_file(path.parent / published):
        problems[f"{path}: published: no file {published} beside the study"] = None
    if problems:
        raise StudyError("\n".join(map(one_line, problems)))
    if scale is None:
        scale = first_scale(studies)
    if scale not in studies:
        declared = ", ".join(scales) or "none"
        raise StudyError(f"{path.stem} has no scale {scale!r}; declared: {declared}")
    return studies[scale]
