"""Data that come in batches: those of a person's own ``Dataset`` or ``DataLoader``."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Subset

from hypergradient.study.errors import StudyError
from hypergradient.study.tasks.data.base import SEED, TRAIN, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

Source = Dataset[Any] | DataLoader[Any]


@dataclass(frozen=True)
class Batches:
    """Training and validation data that are read batch by batch.

    Attributes:
        train: A ``Dataset``, of which each run shuffles batches of its own size, or a
            ``DataLoader``, which makes them itself.
        valid: The same for validation, where nothing is shuffled.
    """

    train: Source
    valid: Source

    def loaders(self, batch_size: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return what gives the batches of training, and of validation."""
        return (
            in_this_process(self.train, batch_size, shuffle=True),
            in_this_process(self.valid, batch_size, shuffle=False),
        )

    def subset(self, train: int | None, valid: int | None) -> Batches:
        """Return these data, or raise a ``StudyError`` if a part of them is asked for."""
        if train is not None or valid is not None:
            raise StudyError(
                "train_examples and valid_examples need data in memory, not a Dataset or a "
                "DataLoader: leave them out, or return torch.utils.data.Subset(...)"
            )
        return self


def in_this_process(source: Source, batch_size: int, *, shuffle: bool) -> DataLoader[Any]:
    """Return a loader of a source that reads in this process.

    The processes of a ``DataLoader`` are not used: runs share the cores already, and a worker of a
    study may not start others.
    """
    if not isinstance(source, DataLoader):
        return DataLoader(
            source, batch_size, shuffle=shuffle and not isinstance(source, IterableDataset)
        )
    loader = copy.copy(source)
    loader.num_workers, loader.timeout, loader.pin_memory = 0, 0, False
    return loader


def split_source(source: Source) -> Batches:
    """Return a fixed random 80% of a source to train, and the rest to validate."""
    dataset: Any = source.dataset if isinstance(source, DataLoader) else source
    if isinstance(dataset, IterableDataset):
        raise DataError("data: an IterableDataset cannot be split: return two, (train, valid)")
    count = length_of(dataset)
    order = np.random.default_rng(SEED).permutation(count).tolist()
    cut = int(TRAIN * count)
    train, valid = Subset(dataset, order[:cut]), Subset(dataset, order[cut:])
    if not isinstance(source, DataLoader):
        return Batches(train, valid)
    return Batches(*(loader_like(source)(part) for part in (train, valid)))


def loader_like(source: DataLoader[Any]) -> Callable[[Dataset[Any]], DataLoader[Any]]:
    """Return a function that makes a loader of another data set as ``source`` is of its own."""
    if type(source.sampler).__name__ not in {"RandomSampler", "SequentialSampler"}:
        raise DataError(
            f"data: a DataLoader with the sampler {type(source.sampler).__name__} cannot be split: "
            "return two, (train, valid)"
        )
    return lambda dataset: DataLoader(
        dataset,
        batch_size=source.batch_size,
        shuffle=isinstance(source.sampler, RandomSampler),
        collate_fn=source.collate_fn,
        drop_last=source.drop_last,
    )


def length_of(source: Any) -> int:
    """Return how many examples or batches there are.

    Raises:
        DataError: It does not say, so that neither epochs nor schedules can be planned.
    """
    try:
        count = len(source)
    except (TypeError, NotImplementedError) as error:
        raise DataError(
            f"data: {type(source).__name__} has no length: give it __len__, as the number of steps "
            "must be known"
        ) from error
    if count == 0:
        raise DataError(f"data: {type(source).__name__} is empty")
    return count
