"""The runs of a study as the last ``run`` has expanded it, kept in its results folder.

``status`` and ``clean`` read them. So they import none of the Python that a study names, nor torch,
and are quick. They expand the study anew only if it, or a file that it names, has changed since.

A results folder may be forged. So the study itself is read from its own file, and a run that names
another task or method than the study does is not believed: nothing else is ever imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from hypergradient import __version__
from hypergradient.study.declare.fields import TRUST_NAMES
from hypergradient.study.declare.load import at_scale, read_toml
from hypergradient.study.declare.run import RESULTS_VERSION, Run
from hypergradient.study.declare.study import Study
from hypergradient.study.errors import StudyError
from hypergradient.study.files import write_text
from hypergradient.study.import_by_name import is_reference, source_hash

if TYPE_CHECKING:
    from pathlib import Path

FILE = "study.json"

RUN_ID = re.compile(r"[0-9a-f]{16}")
"""What a run's id looks like. It names a folder, so nothing else is believed."""


def remember(study: Study, path: Path, folder: Path) -> None:
    """Keep the runs of a study in its results folder; called by ``run`` before training.

    Args:
        study: The study at a scale.
        path: Its file.
        folder: The results folder.
    """
    runs = study.runs()
    names = (*study.tasks, *_methods(study))
    content = {
        "key": _key(path, study.scale),
        "sources": {name: source_hash(name) for name in names if is_reference(name)},
        "device": study.device,
        "runs": [[run.id, run.model_dump(mode="json")] for run in runs],
    }
    write_text(folder / FILE, json.dumps(content, separators=(",", ":")))


def recall(path: Path, scale: str | None, folder: Path) -> Study | None:
    """Return the study that the last ``run`` has kept; None if it is not the study of today.

    Args:
        path: The study's file.
        scale: The scale.
        folder: The results folder.
    """
    try:
        content = json.loads((folder / FILE).read_bytes())
        changed = content["key"] != _key(path, scale)
        if changed or any(source_hash(n) != own for n, own in content["sources"].items()):
            return None
        declared = at_scale(path, read_toml(path), scale) | {"device": content["device"]}
        study = Study.model_validate(declared, context=TRUST_NAMES)
        return study.with_runs([_run(study, *each) for each in content["runs"]])
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError),
        *(RecursionError, StudyError),
    ):
        return None  # it is damaged, or from another version


def _methods(study: Study) -> set[str]:
    return {name for entry in study.methods for name in entry.names}


def _run(study: Study, own: str, content: dict[str, Any]) -> Run:
    run = Run.model_validate(content, context=TRUST_NAMES)
    if (
        not RUN_ID.fullmatch(own)
        or run.task not in study.tasks
        or run.method not in _methods(study)
        or run.device != study.device
    ):
        raise ValueError(own)
    run.__dict__["id"] = own  # where ``cached_property`` looks: it is made of sources, not read now
    return run


def _key(path: Path, scale: str | None) -> str:
    """Return a hash of the study's file, the scale, and the version that expands it."""
    version = json.dumps([__version__, RESULTS_VERSION, path.stem, scale]).encode()
    return hashlib.sha256(version + path.read_bytes()).hexdigest()
