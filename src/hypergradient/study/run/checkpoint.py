"""Checkpoints: a training's state on disk, whole or not at all, read back without running code.

A file is what ``torch.save`` makes and then its sha256, as torch does not look whether what it
loads has changed.
"""

from __future__ import annotations

import io
import pickle
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from hypergradient.study.files import atomic_write, quarantine

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = 32
"""Bytes of a sha256."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path``; after kill -9 at any moment one of the two is there."""
    content = io.BytesIO()
    torch.save({**state, "torch": str(torch.__version__)}, content)
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.write(content.getbuffer())
        file.write(sha256(content.getbuffer()).digest())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint at ``path``.

    Returns:
        None where there is none, where it is damaged (it is then kept as ``NAME.damaged``), or
        where it was written by another version of torch, whose numbers may be others: the run then
        starts anew.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        if sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
            raise ValueError("is not what was written")  # noqa: TRY301
        state: dict[str, Any] = torch.load(
            io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True
        )
    except (EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        quarantine(path)
        return None
    return state if state.get("torch") == str(torch.__version__) else None
