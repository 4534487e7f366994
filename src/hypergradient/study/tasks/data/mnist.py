"""MNIST: its four IDX files, from a folder or downloaded, to arrays."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from hypergradient.study.tasks.data.base import Data, DataError, Images, Labels, damaged
from hypergradient.study.tasks.data.download import cache_folder, download

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


MNIST_FILES = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""The files and the sha256 of each one's ``.gz``, as they were published."""

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
"""Where the files are, in the order to try. What comes is known by its sha256, wherever it is from.
None of these has been reached from where this was written."""

MOST_BYTES = 1 << 26
"""The most bytes of a file, packed or unpacked: the largest of MNIST has 47 million."""

MOST_DIMENSIONS = 3

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081

MNIST_TRAIN = 60_000


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    The format: two zero bytes, the type (8 is an unsigned byte), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values.

    Raises:
        DataError: The file is damaged; the message names it and the remedy.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, str(error)) from error
    if len(raw) > MOST_BYTES:  # a few packed bytes can be terabytes
        raise damaged(path, f"it has more than {MOST_BYTES} bytes")
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":  # noqa: PLR2004
        raise damaged(path, f"it starts with {raw[:4].hex(' ') or 'nothing'}, not 00 00 08")
    if not 1 <= raw[3] <= MOST_DIMENSIONS:
        raise damaged(path, f"its header says {raw[3]} dimensions, not 1 to {MOST_DIMENSIONS}")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise damaged(path, "its header is cut short")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    if 0 in shape:
        raise damaged(path, f"it has no values: its shape is {shape}")
    if len(raw) - start != math.prod(shape):
        raise damaged(
            path, f"it has {len(raw) - start} values where {shape} needs {math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


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
    """Return one of MNIST's files from the user's cache, downloaded if need be."""
    return download(
        [f"{mirror}{name}.gz" for mirror in MNIST_MIRRORS],
        MNIST_FILES[name],
        cache_folder("mnist") / f"{name}.gz",
        MOST_BYTES,
        "name the folder of MNIST's four IDX files with --data-dir",
    )


def mnist(folder: Path | None) -> Data:
    """Load MNIST: its training set, and its test set for validation, normalised."""
    train_x, train_y, valid_x, valid_y = mnist_contents(folder)
    return Data(*normalised(train_x, train_y), *normalised(valid_x, valid_y))


def mnist_pixels(folder: Path | None) -> Data:
    """Load MNIST with pixels from 0 to 1, as some papers have it."""
    train_x, train_y, valid_x, valid_y = mnist_contents(folder)
    train, valid = flat(train_x), flat(valid_x)
    train /= 255
    valid /= 255
    return Data(train, train_y.astype(np.int64), valid, valid_y.astype(np.int64))


def mnist_contents(folder: Path | None) -> list[NDArray[np.uint8]]:
    """Read MNIST's images and labels for training, and those for validation."""
    contents = {}
    for name in MNIST_FILES:
        path = mnist_file(name, folder)
        contents[name] = values = read_idx(path)
        examples = MNIST_TRAIN if name.startswith("train") else 10_000
        expected = (examples, 28, 28) if "images" in name else (examples,)
        if values.shape != expected:
            raise damaged(path, f"its shape is {values.shape} where MNIST has {expected}")
    return [*contents.values()]


def flat(images: NDArray[np.uint8]) -> Images:
    return images.reshape(len(images), -1).astype(np.float32)


def normalised(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[Images, Labels]:
    pixels = flat(images)
    pixels /= 255 * MNIST_STD
    pixels -= MNIST_MEAN / MNIST_STD
    return pixels, labels.astype(np.int64)
