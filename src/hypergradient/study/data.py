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
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""The files and the sha256 of each one's ``.gz``, as they were published."""

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
MNIST_TRAIN = 60_000

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR10_SHAPE = (3, 32, 32)
CIFAR10_IN_A_FILE, CIFAR10_CLASSES = 10_000, 10

DIGITS_TRAIN = 0.8
DIGITS_SPLIT_SEED = 0

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
        chosen = [
            np.linspace(0, len(classes), min(count or len(classes), len(classes)), endpoint=False)
            for classes, count in ((self.train_y, train), (self.valid_y, valid))
        ]
        if [len(places) for places in chosen] == [len(self.train_y), len(self.valid_y)]:
            return self
        train_at, valid_at = (places.astype(np.int64) for places in chosen)
        return Data(
            self.train_x[train_at],
            self.train_y[train_at],
            self.valid_x[valid_at],
            self.valid_y[valid_at],
        )


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


def read_cifar10(path: Path) -> tuple[Images, Labels]:
    """Read one file of CIFAR-10's binary version, normalised by channel.

    The format: for each image its class, a byte, then 1024 bytes each of red, green and blue.

    Raises:
        DataError: The file is damaged; the message names it and the remedy.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise damaged(path, str(error)) from error
    record = 1 + math.prod(CIFAR10_SHAPE)
    if len(raw) != CIFAR10_IN_A_FILE * record:
        raise damaged(path, f"it has {len(raw)} bytes, not {CIFAR10_IN_A_FILE} x {record}")
    records = raw.reshape(CIFAR10_IN_A_FILE, record)
    classes = records[:, 0].astype(np.int64)
    if classes.max() >= CIFAR10_CLASSES:
        raise damaged(path, f"it has a class {classes.max()} where they go from 0 to 9")
    pixels = records[:, 1:].reshape(-1, *CIFAR10_SHAPE).astype(np.float32)
    mean, std = (np.array(c, np.float32)[:, None, None] for c in (CIFAR10_MEAN, CIFAR10_STD))
    pixels /= 255 * std
    pixels -= mean / std
    return pixels, classes


def cifar10(folder: Path | None) -> Data:
    """Load CIFAR-10: its training set, and its test set for validation, normalised."""
    parts = [read_cifar10(path) for path in cifar10_files(folder)]
    train_x, train_y = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return Data(train_x, train_y, *parts[-1])


def cifar10_files(folder: Path | None) -> list[Path]:
    """Return CIFAR-10's files, downloaded only if no folder was named.

    Args:
        folder: Where the person keeps data; also searched in ``cifar-10-batches-bin``.

    Raises:
        DataError: One is not in the folder, or they cannot be downloaded.
    """
    if folder is None:
        return download_cifar10()
    places = (folder, folder / CIFAR10_FOLDER, folder / "cifar10" / CIFAR10_FOLDER)
    place = next((place for place in places if (place / CIFAR10_FILES[0]).is_file()), None)
    if place is None:
        raise DataError(
            f"{CIFAR10_FILES[0]} is not in {folder} or its {CIFAR10_FOLDER}; name the folder of "
            "CIFAR-10's binary version with --data-dir"
        )
    files = [place / name for name in CIFAR10_FILES]
    if missing := [path.name for path in files if not path.is_file()]:
        raise DataError(f"{', '.join(missing)} not in {place}; unpack CIFAR-10 there anew")
    return files


def download_cifar10() -> list[Path]:
    """Return CIFAR-10's files from the user's cache, downloaded and checked if need be."""
    import pooch  # noqa: PLC0415  (only a download needs it)

    pooch.get_logger().setLevel("WARNING")
    members = [f"{CIFAR10_FOLDER}/{name}" for name in CIFAR10_FILES]
    try:
        paths = pooch.retrieve(
            CIFAR10_URL,
            known_hash=f"md5:{CIFAR10_MD5}",
            path=pooch.os_cache("hypergradient") / "cifar10",
            processor=pooch.Untar(members=members),
        )
    except (OSError, ValueError) as error:  # no network; a wrong checksum
        raise DataError(
            f"{CIFAR10_URL} cannot be downloaded ({type(error).__name__}); "
            "name the folder of CIFAR-10's binary version with --data-dir"
        ) from error
    found = {Path(path).name: Path(path) for path in paths}
    return [found[name] for name in CIFAR10_FILES]


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


DATASETS: dict[str, Callable[[Path | None], Data]] = {
    "digits": digits,
    "mnist": mnist,
    "cifar10": cifar10,
}


@lru_cache(maxsize=1)
def load(dataset: str | Callable[[Path | None], Data], folder: Path | None = None) -> Data:
    """Load a data set; a worker that stays with one keeps it in memory.

    Args:
        dataset: A name in ``DATASETS`` or ``data_small.SMALL``, or a function like those.
        folder: Where to look for files; by default the folder that ``HYPERGRADIENT_DATA_DIR``
            names, else the user's cache, downloading what it lacks.

    Raises:
        DataError: A file is missing or damaged.
    """
    if folder is None and (named := os.environ.get(ENVIRONMENT_VARIABLE)):
        folder = Path(named)
    if not isinstance(dataset, str):
        return dataset(folder)
    from hypergradient.study.data_small import SMALL  # noqa: PLC0415  (it needs this module)

    return (DATASETS | SMALL)[dataset](folder)
