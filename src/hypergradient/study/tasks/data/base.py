"""What every data set is: arrays in memory, already scaled. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hypergradient.study.errors import StudyError

if TYPE_CHECKING:
    from pathlib import Path


Images = NDArray[np.float32]

Labels = NDArray[np.int64]

Numbers = Images | Labels


class DataError(StudyError):
    """A data file is missing or damaged."""


@dataclass(frozen=True)
class Data:
    """A data set in memory.

    Attributes:
        train_x: Training inputs, float32, (examples, features) or (examples, channels, height,
            width); int64 where they are numbers of embeddings.
        train_y: Training targets: classes, int64, (examples,) or (examples, time); or numbers,
            float32, of the outputs' shape.
        valid_x: Validation inputs.
        valid_y: Validation classes.
    """

    train_x: Numbers
    train_y: Numbers
    valid_x: Numbers
    valid_y: Numbers

    def subset(self, train: int | None, valid: int | None) -> Data:
        """Return that many examples of each set, evenly spread over it; None is all."""
        if (train or np.inf) >= len(self.train_y) and (valid or np.inf) >= len(self.valid_y):
            return self
        return Data(
            spread(self.train_x, train),
            spread(self.train_y, train),
            spread(self.valid_x, valid),
            spread(self.valid_y, valid),
        )


def spread(examples: Numbers, count: int | None) -> Numbers:
    """Return that many examples, evenly spread over all; all themselves if there are no more."""
    if count is None or count >= len(examples):
        return examples
    return examples[np.linspace(0, len(examples), count, endpoint=False).astype(np.int64)]


def damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}; delete it and put a fresh copy there")


TRAIN = 0.8

SEED = 0
"""The seed of all splits and generated data: a data set is the same whatever a run's seed is."""


def split(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Data:
    """Return a fixed random 80% to train, and the rest to validate."""
    order = np.random.default_rng(SEED).permutation(len(x))
    train, valid = np.split(order, [int(TRAIN * len(order))])
    return Data(x[train], y[train], x[valid], y[valid])
