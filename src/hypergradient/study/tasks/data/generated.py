# ruff: noqa: ARG001  (data sets have one signature; these need no folder)
"""Data sets that are generated: ratings of low rank, and MNIST-1D."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from hypergradient.study.tasks.data.base import SEED, Data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS, ITEMS, RANK, SEEN, HIDDEN = 200, 200, 4, 8000, 2000


def ratings(folder: Path | None) -> Data:
    """Generate a 200 x 200 matrix of rank 4 with noise of a tenth; a quarter of it is known."""
    generator = np.random.default_rng(SEED)
    users, items = generator.normal(size=(USERS, RANK)), generator.normal(size=(ITEMS, RANK))
    matrix = users @ items.T / RANK**0.5 + 0.1 * generator.normal(size=(USERS, ITEMS))
    known = generator.permutation(USERS * ITEMS)[: SEEN + HIDDEN]
    x = np.stack(np.divmod(known, ITEMS), 1).astype(np.int64)
    y = matrix.ravel()[known].astype(np.float32)
    return Data(x[:SEEN], y[:SEEN], x[SEEN:], y[SEEN:])


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global random generators back after the block."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (mnist1d seeds them)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def mnist1d(folder: Path | None, samples: int = 5000) -> Data:
    """Generate MNIST-1D (Greydanus, Kobak 2024) by its authors' package: 40 numbers, 10 classes."""
    from mnist1d.data import get_dataset_args, make_dataset  # noqa: PLC0415  (it loads pyplot)

    arguments = get_dataset_args()
    arguments.num_samples = samples
    with generators_kept():
        made = make_dataset(arguments)
    return Data(
        made["x"].astype(np.float32),
        made["y"].astype(np.int64),
        made["x_test"].astype(np.float32),
        made["y_test"].astype(np.int64),
    )
