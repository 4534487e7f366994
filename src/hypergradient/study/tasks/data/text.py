# ruff: noqa: ARG001  (data sets have one signature; these need no folder)
"""Data sets made of Python's own documentation, which is on every machine."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hypergradient.study.tasks.data.base import Data, Labels, split

if TYPE_CHECKING:
    from collections.abc import Sequence


CHARACTERS, WINDOW = 64, 32

WORDS, WORDS_IN_A_TEXT, TOPICS = 2000, 12, 10

FREQUENT = 1000

HELD_OUT = 10
"""Every tenth page or file of a text is for validation."""

LONG, APART = 1024, 64
"""The windows of ``library``, and how far apart they begin: they need memory on a device."""


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


def topics(folder: Path | None) -> Data:
    """Load all windows of 32 characters of nine tenths of ``pages``, each with the next ones.

    A window begins at each character. Those for validation are side by side in the other pages.
    """
    texts = [page + "\n" for page in pages()]
    known = [each for each, _ in Counter("".join(texts)).most_common(CHARACTERS - 1)]
    number = {character: place for place, character in enumerate(known, 1)}
    coded = [np.array([number.get(each, 0) for each in text], np.int64) for text in texts]
    return text_windows(coded, WINDOW, 1)


def library(folder: Path | None) -> Data:
    """Load windows of 1,024 bytes of Python's own standard library, about ten megabytes."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        path
        for path in root.rglob("*.py")
        if not {"site-packages", "test", "tests"} & set(path.relative_to(root).parts)
    )
    coded = [np.frombuffer(path.read_bytes(), np.uint8).astype(np.int64) for path in files]
    return text_windows(coded, LONG, APART)


def text_windows(texts: Sequence[Labels], size: int, apart: int) -> Data:
    """Return the windows of texts in numbers, and for each the numbers that follow its own.

    Args:
        texts: The texts, of which every tenth is for validation.
        size: Numbers in a window.
        apart: How far apart the windows for training begin. They overlap, and share their memory.
    """
    held = np.concatenate(texts[HELD_OUT - 1 :: HELD_OUT])
    rest = [text for place, text in enumerate(texts, 1) if place % HELD_OUT]
    parts = []
    for numbers, step in ((np.concatenate(rest), apart), (held, size)):
        for first in (0, 1):
            whole = numbers[first : len(numbers) - 1 + first]
            parts.append(sliding_window_view(whole, size, writeable=True)[::step])
    return Data(*parts)


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
