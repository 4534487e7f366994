"""CIFAR-10: its binary version, from a folder or downloaded, to arrays."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hypergradient.study.tasks.data.base import Data, DataError, Images, Labels, damaged

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"

CIFAR10_FOLDER = "cifar-10-batches-bin"

CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

CIFAR10_SHAPE = (3, 32, 32)

CIFAR10_IN_A_FILE, CIFAR10_CLASSES = 10_000, 10


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


def cifar10_part(folder: Path | None) -> Data:
    """Load the first of CIFAR-10's five training files, and its test set."""
    first, *_, test = cifar10_files(folder)
    return Data(*read_cifar10(first), *read_cifar10(test))
