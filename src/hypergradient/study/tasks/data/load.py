"""The data sets by name, and the function that loads one."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hypergradient.study.errors import OWN_CODE_RAISES, StudyError, as_one_line
from hypergradient.study.tasks.data.base import DataError
from hypergradient.study.tasks.data.cifar10 import (
    cifar10,
    cifar10_part,
)
from hypergradient.study.tasks.data.generated import mnist1d, ratings
from hypergradient.study.tasks.data.mnist import mnist, mnist_pixels
from hypergradient.study.tasks.data.sklearn_files import (
    breast_cancer,
    diabetes,
    digits,
    digits_to_themselves,
    noisy_digits,
)
from hypergradient.study.tasks.data.text import characters, library, next_words, topics, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypergradient.study.tasks.data.base import Data
    from hypergradient.study.tasks.data.batches import Batches

ENVIRONMENT_VARIABLE = "HYPERGRADIENT_DATA_DIR"

DATASETS: dict[str, Callable[[Path | None], Data]] = {
    "digits": digits,
    "mnist": mnist,
    "mnist-pixels": mnist_pixels,
    "cifar10": cifar10,
    "noisy-digits": noisy_digits,
    "digits-to-themselves": digits_to_themselves,
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
    "characters": characters,
    "topics": topics,
    "library": library,
    "words": words,
    "next-words": next_words,
    "ratings": ratings,
    "mnist1d": mnist1d,
    "cifar10-part": cifar10_part,
}
"""The data sets by name. Adding one here is all it takes."""


@lru_cache(maxsize=1)
def load_data(
    dataset: str | Callable[[Path | None], Data | Batches], folder: Path | None = None
) -> Data | Batches:
    """Load a data set; a worker that stays with one keeps it in memory.

    Args:
        dataset: A name in ``DATASETS``, or a function like those.
        folder: Where to look for files; by default the folder that ``HYPERGRADIENT_DATA_DIR``
            names, else the user's cache, downloading what it lacks.

    Raises:
        DataError: A file is missing or damaged, or a person's own function raises anything else.
    """
    if folder is None and (named := os.environ.get(ENVIRONMENT_VARIABLE)):
        folder = Path(named)
    if not isinstance(dataset, str):
        try:
            return dataset(folder)
        except StudyError:
            raise
        except OWN_CODE_RAISES as error:
            name = getattr(dataset, "__name__", "the task's function")
            raise DataError(
                f"the data cannot be loaded: {name} raises {as_one_line(error)}"
            ) from error
    return DATASETS[dataset](folder)
