# ruff: noqa: ARG001  (data sets have one signature; most of these need no folder)
"""Small data sets of many kinds: from scikit-learn's files, Python's own text, or generated."""

from __future__ import annotations

import random
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypergradient.study.data import Data, cifar10_files, digits, read_cifar10

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRAIN = 0.8
SEED = 0
"""Of everything drawn here: a data set is the same in every run, whatever the run's seed."""

NOISE = 0.2
CHARACTERS, WINDOW = 64, 32
WORDS, WORDS_IN_A_TEXT, TOPICS = 2000, 12, 10
FREQUENT = 1000
USERS, ITEMS, RANK, SEEN, HIDDEN = 200, 200, 4, 8000, 2000


def split(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Data:
    """Return a fixed random 80% to train, and the rest to validate."""
    order = np.random.default_rng(SEED).permutation(len(x))
    train, valid = np.split(order, [int(TRAIN * len(order))])
    return Data(x[train], y[train], x[valid], y[valid])


def from_sklearn(name: str) -> Path:
    """Return one of scikit-learn's data files; to import it would take a second."""
    if (sklearn := find_spec("sklearn")) is None or sklearn.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    return Path(sklearn.origin).parent / "datasets" / "data" / name


def noisy_digits(folder: Path | None) -> Data:
    """Load the digits, 20% of the training labels replaced by random ones, the same for all."""
    clean, generator = digits(folder), np.random.default_rng(SEED)
    labels = clean.train_y.copy()
    wrong = generator.random(len(labels)) < NOISE
    labels[wrong] = generator.integers(0, 10, wrong.sum())
    return replace(clean, train_y=labels)


def digits_to_themselves(folder: Path | None) -> Data:
    """Load the digits as inputs and as what is to be reconstructed."""
    clean = digits(folder)
    return Data(clean.train_x, clean.train_x, clean.valid_x, clean.valid_x)


def breast_cancer(folder: Path | None) -> Data:
    """Load scikit-learn's breast cancer data, 30 features in raw units, from 0.001 to 4,000."""
    table = np.loadtxt(from_sklearn("breast_cancer.csv"), delimiter=",", skiprows=1)
    return split(table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64))


def diabetes(folder: Path | None) -> Data:
    """Load scikit-learn's diabetes data in raw units: 10 features, a target from 25 to 346."""
    x = np.loadtxt(from_sklearn("diabetes_data_raw.csv.gz"))
    y = np.loadtxt(from_sklearn("diabetes_target.csv.gz"))
    return split(x.astype(np.float32), y.astype(np.float32)[:, None])


def pages() -> list[str]:
    """Return the pages of Python's language reference that ``help()`` shows, the longest first."""
    from pydoc_data.topics import topics  # noqa: PLC0415  (half a megabyte of text)

    return sorted(topics.values(), key=lambda page: (-len(page), page))


def characters(folder: Path | None) -> Data:
    """Load windows of 32 characters of ``pages``, each character with the one that follows it.

    The 63 most frequent ones are known, all others are one; another version of Python has
    another text.
    """
    text = "\n".join(pages())
    known = [character for character, _ in Counter(text).most_common(CHARACTERS - 1)]
    number = {character: place for place, character in enumerate(known, 1)}
    numbers = np.array([number.get(character, 0) for character in text], np.int64)
    starts = np.arange(0, len(numbers) - WINDOW, WINDOW)
    windows = numbers[starts[:, None] + np.arange(WINDOW + 1)]
    return split(windows[:, :-1], windows[:, 1:])


def words(folder: Path | None) -> Data:
    """Load texts of 12 words of the ten longest ``pages``, and from which of them each is.

    The 1999 most frequent words are known, all others are one.
    """
    texts = [re.findall("[a-z]+", page.lower()) for page in pages()[:TOPICS]]
    counts = Counter(word for text in texts for word in text)
    number = {word: place for place, (word, _) in enumerate(counts.most_common(WORDS - 1), 1)}
    x, y = [], []
    for topic, text in enumerate(texts):
        for start in range(0, len(text) - WORDS_IN_A_TEXT + 1, WORDS_IN_A_TEXT):
            x.append([number.get(word, 0) for word in text[start : start + WORDS_IN_A_TEXT]])
            y.append(topic)
    return split(np.array(x, np.int64), np.array(y, np.int64))


def next_words(folder: Path | None) -> Data:
    """Load the words of ``pages``, each with the one that follows it, as 999 frequent ones and one.

    The network that learns them has parameters for each word, of which few examples touch any.
    """
    text = re.findall("[a-z]+", "\n".join(pages()).lower())
    known = [word for word, _ in Counter(text).most_common(FREQUENT - 1)]
    number = {word: place for place, word in enumerate(known, 1)}
    numbers = np.array([number.get(word, 0) for word in text], np.int64)
    return split(numbers[:-1], numbers[1:])


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


def cifar10_part(folder: Path | None) -> Data:
    """Load the first of CIFAR-10's five training files, and its test set."""
    first, *_, test = cifar10_files(folder)
    return Data(*read_cifar10(first), *read_cifar10(test))


SMALL: dict[str, Callable[[Path | None], Data]] = {
    "noisy-digits": noisy_digits,
    "digits-to-themselves": digits_to_themselves,
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
    "characters": characters,
    "words": words,
    "next-words": next_words,
    "ratings": ratings,
    "mnist1d": mnist1d,
    "cifar10-part": cifar10_part,
}
"""The data sets by name."""
