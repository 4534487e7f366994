# ruff: noqa: ARG001  (data sets have one signature; these need no folder)
"""Data sets made of Python's own documentation, which is on every machine."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hypergradient.study.tasks.data.base import Data, split

if TYPE_CHECKING:
    from pathlib import Path


CHARACTERS, WINDOW = 64, 32

WORDS, WORDS_IN_A_TEXT, TOPICS = 2000, 12, 10

FREQUENT = 1000


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
