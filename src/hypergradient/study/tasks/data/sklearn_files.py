# ruff: noqa: ARG001  (data sets have one signature; these need no folder)
"""Data sets that scikit-learn ships as files: digits, breast cancer, diabetes."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hypergradient.study.tasks.data.base import SEED, Data, split

DIGITS_TRAIN = 0.8

DIGITS_SPLIT_SEED = 0


def digits(folder: Path | None) -> Data:
    """Load scikit-learn's digits: a fixed random 80% to train, pixels standardised as a whole."""
    if (sklearn := find_spec("sklearn")) is None or sklearn.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    # What load_digits reads; importing it takes a second, as long as training several runs.
    path = Path(sklearn.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(path, delimiter=",")
    pixels, classes = table[:, :-1], table[:, -1].astype(np.int64)
    order = np.random.default_rng(DIGITS_SPLIT_SEED).permutation(len(pixels))
    train, valid = np.split(order, [int(DIGITS_TRAIN * len(order))])
    mean, std = pixels[train].mean(), pixels[train].std()
    pixels = ((pixels - mean) / std).astype(np.float32)
    return Data(pixels[train], classes[train], pixels[valid], classes[valid])


NOISE = 0.2


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
