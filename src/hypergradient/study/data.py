"""Data sets: files to arrays in memory, already scaled. Nothing here needs torch."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hypergradient.study import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable

ENVIRONMENT_VARIABLE = "HYPERGRADIENT_DATA_DIR"

MNIST_FILES = {
    "train-images-idx3-ubyte": "7ff28fd295f802eefc6d40e461175dfe4b969b1842b2abc8c6dc8c20711cf79f",
    "train-labels-idx1-ubyte": "81a978ae83d39ffdba0db3ce2fcaf80a8921e9629e874428996a2b03242d4b2a",
    "t10k-images-idx3-ubyte": "197e111ae341b0770be9011ac5e622d0e6cd1c640b32eb0de5dc1dd26cc6e182",
    "t10k-labels-idx1-ubyte": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}
"""The files and the sha256 of each one's ``.gz``."""

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
MNIST_TRAIN = 60_000

DIGITS_TRAIN = 0.8
DIGITS_SPLIT_SEED = 0

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class DataError(StudyError):
    """A data file is missing or damaged."""


@dataclass(frozen=True)
class Data:
    """A data set in memory.

    Attributes:
        train_x: Training inputs, float32, (examples, features).
        train_y: Training classes, int64, (examples,).
        valid_x: Validation inputs.
        valid_y: Validation classes.
    """

    train_x: Images
    train_y: Labels
    valid_x: Images
    valid_y: Labels


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    The format: two zero bytes, the type (8 is an unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values.

    Raises:
        DataError: The file is damaged; the message names it and the remedy.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, str(error)) from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":  # noqa: PLR2004
        raise damaged(path, f"it starts with {raw[:4].hex(' ') or 'nothing'}, not 00 00 08")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise damaged(path, "its header is cut short")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    if len(raw) - start != math.prod(shape):
        raise damaged(
            path, f"it has {len(raw) - start} values where {shape} needs {math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}; delete it and put a fresh copy there")


def mnist_file(name: str, folder: Path | None) -> Path:
    """Return where one of MNIST's files is, downloading it only if no folder was named.

    Args:
        name: A key of ``MNIST_FILES``.
        folder: Where the person keeps data; also searched in ``mnist`` and ``MNIST/raw``.

    Raises:
        DataError: It is not in the folder, or cannot be downloaded.
    """
    if folder is None:
        return download_mnist(name)
    for place in (folder, folder / "mnist", folder / "MNIST" / "raw"):
        for path in (place / name, place / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(
        f"{name} (or .gz) is not in {folder}, its mnist or MNIST/raw; "
        "name the folder of MNIST's four IDX files with --data-dir"
    )


def download_mnist(name: str) -> Path:
    """Return one of MNIST's files from the user's cache, downloaded and checked if need be."""
    import pooch  # noqa: PLC0415  (only a download needs it)

    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("hypergradient") / "mnist"
    registry = {f"{file}.gz": f"sha256:{digest}" for file, digest in MNIST_FILES.items()}
    failures = []
    for mirror in MNIST_MIRRORS:
        source = pooch.create(path=cache, base_url=mirror, registry=registry, retry_if_failed=1)
        try:
            return Path(source.fetch(f"{name}.gz"))
        except (OSError, ValueError) as error:  # no network; a wrong checksum
            failures.append(f"{mirror}: {type(error).__name__}")
    raise DataError(
        f"{name}.gz cannot be downloaded ({'; '.join(failures)}); "
        "name the folder of MNIST's four IDX files with --data-dir"
    )


def mnist(folder: Path | None) -> Data:
    """Load MNIST: its training set, and its test set for validation, normalised."""
    contents = {}
    for name in MNIST_FILES:
        path = mnist_file(name, folder)
        contents[name] = values = read_idx(path)
        examples = MNIST_TRAIN if name.startswith("train") else 10_000
        expected = (examples, 28, 28) if "images" in name else (examples,)
        if values.shape != expected:
            raise damaged(path, f"its shape is {values.shape} where MNIST has {expected}")
    train_x, train_y, valid_x, valid_y = contents.values()
    return Data(*normalised(train_x, train_y), *normalised(valid_x, valid_y))


def normalised(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[Images, Labels]:
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= 255 * MNIST_STD
    pixels -= MNIST_MEAN / MNIST_STD
    return pixels, labels.astype(np.int64)


def digits(folder: Path | None) -> Data:  # noqa: ARG001  (embedded: no folder needed)
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


DATASETS: dict[str, Callable[[Path | None], Data]] = {"digits": digits, "mnist": mnist}


@lru_cache(maxsize=1)
def load(dataset: str, folder: Path | None = None) -> Data:
    """Load a data set; a worker that stays with one keeps it in memory.

    Args:
        dataset: A name in ``DATASETS``.
        folder: Where to look for files; by default the folder that ``HYPERGRADIENT_DATA_DIR``
            names, else the user's cache, downloading what it lacks.

    Raises:
        DataError: A file is missing or damaged.
    """
    if folder is None and (named := os.environ.get(ENVIRONMENT_VARIABLE)):
        folder = Path(named)
    return DATASETS[dataset](folder)
