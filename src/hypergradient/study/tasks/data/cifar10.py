"""CIFAR-10: its binary version, from a folder or downloaded, to arrays."""

from __future__ import annotations

import math
import tarfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from hypergradient.study.files import atomic_write, sha256
from hypergradient.study.tasks.data.base import Data, DataError, Images, Labels, damaged
from hypergradient.study.tasks.data.download import cache_folder, download, is_right

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CIFAR10_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
)
"""Where the archive is, in the order to try. None has been reached from where this was written."""

CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

CIFAR10_MOST_BYTES = 170_052_171

CIFAR10_FOLDER = "cifar-10-batches-bin"

CIFAR10_FILES = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""The files and the sha256 of each one, as others have published them."""

FIRST = next(iter(CIFAR10_FILES))

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

CIFAR10_SHAPE = (3, 32, 32)

CIFAR10_IN_A_FILE, CIFAR10_CLASSES = 10_000, 10

CIFAR10_FILE_BYTES = CIFAR10_IN_A_FILE * (1 + math.prod(CIFAR10_SHAPE))


def read_cifar10(path: Path) -> tuple[Images, Labels]:
    """Read one file of CIFAR-10's binary version, normalised by channel.

    The format: for each image its class, a byte, then 1024 bytes each of red, green and blue.

    Raises:
        DataError: The file is damaged; the message names it and the remedy.
    """
    try:
        raw = np.fromfile(path, np.uint8, CIFAR10_FILE_BYTES + 1)
        size = max(len(raw), path.stat().st_size)
    except OSError as error:
        raise damaged(path, str(error)) from error
    record = 1 + math.prod(CIFAR10_SHAPE)
    if size != CIFAR10_FILE_BYTES:
        raise damaged(path, f"it has {size} bytes, not {CIFAR10_IN_A_FILE} x {record}")
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
    place = next((place for place in places if (place / FIRST).is_file()), None)
    if place is None:
        raise DataError(
            f"{FIRST} is not in {folder} or its {CIFAR10_FOLDER}; name the folder of "
            "CIFAR-10's binary version with --data-dir"
        )
    files = [place / name for name in CIFAR10_FILES]
    if missing := [path.name for path in files if not path.is_file()]:
        raise DataError(f"{', '.join(missing)} not in {place}; unpack CIFAR-10 there anew")
    return files


def download_cifar10() -> list[Path]:
    """Return CIFAR-10's files from the user's cache, downloaded and unpacked if need be."""
    place = cache_folder("cifar10")
    files = [place / CIFAR10_FOLDER / name for name in CIFAR10_FILES]
    wrong = [path for path in files if not is_right(path, CIFAR10_FILES[path.name])]
    if wrong:
        archive = download(
            CIFAR10_MIRRORS,
            CIFAR10_SHA256,
            place / "cifar-10-binary.tar.gz",
            CIFAR10_MOST_BYTES,
            "name the folder of CIFAR-10's binary version with --data-dir",
        )
        unpack(archive, wrong)
    return files


def unpack(archive: Path, files: Sequence[Path]) -> None:
    """Write files of a CIFAR-10 archive: these, under their own names, and nothing else.

    Raises:
        DataError: The archive does not have them as they are known.
    """
    try:
        with tarfile.open(archive, "r:gz") as packed:
            for path in files:
                member = packed.extractfile(f"{CIFAR10_FOLDER}/{path.name}")
                content = member.read(CIFAR10_FILE_BYTES + 1) if member else b""
                if sha256(content) != CIFAR10_FILES[path.name]:
                    raise damaged(archive, f"{path.name} in it is another")
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as partial:
                    partial.write_bytes(content)
    except (tarfile.TarError, EOFError, zlib.error, KeyError) as error:
        raise damaged(archive, str(error)) from error


def cifar10_part(folder: Path | None) -> Data:
    """Load the first of CIFAR-10's five training files, and its test set."""
    first, *_, test = cifar10_files(folder)
    return Data(*read_cifar10(first), *read_cifar10(test))
