"""Checkpoints: a training's state on disk, whole or not at all, read back without running code."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path``; after kill -9 at any moment one of the two is there."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        torch.save({**state, "torch": str(torch.__version__)}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint at ``path``.

    Returns:
        None where there is none, where it is damaged, or where it was written by another version
        of torch, whose numbers may be others: the run then starts anew.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        return None
    return state if state.get("torch") == str(torch.__version__) else None
