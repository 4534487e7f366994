"""Data files: what is read is what was written, and damage is told with the file and the remedy."""

import gzip
import os
import struct
import tarfile
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import sklearn.datasets
import torch

from hypergradient.study.tasks.data import cifar10 as cifar10_module
from hypergradient.study.tasks.data import mnist as mnist_module
from hypergradient.study.tasks.data.base import DataError
from hypergradient.study.tasks.data.cifar10 import (
    CIFAR10_FILES,
    CIFAR10_FOLDER,
    CIFAR10_IN_A_FILE,
    CIFAR10_MEAN,
    CIFAR10_STD,
    cifar10,
    cifar10_files,
    download_cifar10,
    read_cifar10,
)
from hypergradient.study.tasks.data.load import ENVIRONMENT_VARIABLE, load_data
from hypergradient.study.tasks.data.mnist import (
    MNIST_FILES,
    download_mnist,
    mnist,
    mnist_file,
    mnist_pixels,
    read_idx,
)
from hypergradient.study.tasks.data.sklearn_files import digits
from hypergradient.study.tasks.registry import TASKS

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gz"])
def test_reads_what_was_written(tmp_path, pack):
    path = tmp_path / ("x.gz" if pack is gzip.compress else "x")
    path.write_bytes(pack(idx(ARRAY)))
    np.testing.assert_array_equal(read_idx(path), ARRAY)


WHOLE = idx(ARRAY)
DAMAGE = {
    "empty": ("x", b""),
    "magic": ("x", b"\0\0\x0d\x03" + WHOLE[4:]),
    "header-cut": ("x", WHOLE[:9]),
    "dimensions": ("x", WHOLE[:3] + bytes([65]) + bytes(400)),
    "huge": ("x", WHOLE[:3] + bytes([3]) + bytes(4) + b"\xff" * 8),
    "bomb": ("x.gz", gzip.compress(bytes(mnist_module.MOST_BYTES + 1), 1)),
    "values-cut": ("x", WHOLE[:-1]),
    "values-added": ("x", WHOLE + b"\0"),
    "gzip-cut": ("x.gz", gzip.compress(WHOLE)[:-6]),
    "gzip-checksum": ("x.gz", gzip.compress(WHOLE)[:-8] + bytes(8)),
    "gzip-body": ("x.gz", gzip.compress(WHOLE)[:12] + b"\xff" * 20),
    "not-gzip": ("x.gz", b"<html>404</html>"),
}


@pytest.mark.parametrize(("name", "content"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_told_with_the_file_and_the_remedy(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match="delete it and put a fresh copy") as error:
        read_idx(path)
    assert str(error.value).startswith(f"{path} is damaged: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_found_in_the_usual_places(tmp_path, place, suffix):
    name = "t10k-labels-idx1-ubyte"
    path = tmp_path / place / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert mnist_file(name, tmp_path).samefile(path)


def test_missing_mnist_in_a_named_folder_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_module, "download_mnist", lambda _: pytest.fail("downloads"))
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    load_data.cache_clear()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte .*--data-dir"):
        load_data("mnist")


def test_no_network_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_module, "MNIST_MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="--data-dir") as error:
        download_mnist("t10k-labels-idx1-ubyte")
    assert "\n" not in str(error.value)


@pytest.fixture
def mirror(tmp_path):
    """A server of a folder, and the paths that it was asked for."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    (tmp_path / "mirror").mkdir()
    handler = partial(Handler, directory=tmp_path / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,)).start()
        yield tmp_path / "mirror", f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


def test_a_download_is_checked_and_made_once(mirror, tmp_path, monkeypatch):
    folder, url, asked = mirror
    content = gzip.compress(idx(ARRAY))
    (folder / "right").mkdir()
    (folder / "wrong").mkdir()
    (folder / "right" / "some.gz").write_bytes(content)
    (folder / "wrong" / "some.gz").write_bytes(content[:-1])
    monkeypatch.setattr(mnist_module, "MNIST_FILES", {"some": sha256(content).hexdigest()})
    monkeypatch.setattr(mnist_module, "MNIST_MIRRORS", (f"{url}wrong/", f"{url}right/"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.testing.assert_array_equal(read_idx(mnist_file("some", None)), ARRAY)
    assert asked == ["/wrong/some.gz", "/right/some.gz"]
    np.testing.assert_array_equal(read_idx(mnist_file("some", None)), ARRAY)
    assert len(asked) == 2


def test_other_data_under_mnists_names_is_refused(tmp_path):
    for name in MNIST_FILES:
        (tmp_path / name).write_bytes(idx(ARRAY))
    with pytest.raises(DataError, match=r"\(2, 3, 4\) where MNIST has \(60000, 28, 28\)"):
        mnist(tmp_path)


def test_digits_are_split_scaled_and_the_same_each_time():
    first, second = digits(None), digits(None)
    assert (len(first.train_x), len(first.valid_x)) == (1437, 360)
    assert abs(first.train_x.mean()) < 1e-5
    assert abs(first.train_x.std() - 1) < 1e-5
    np.testing.assert_array_equal(first.train_x, second.train_x)


def test_digits_are_scikit_learns_each_on_one_side():
    pixels, classes = sklearn.datasets.load_digits(return_X_y=True)
    ours = digits(None)
    together = np.concatenate([ours.train_x, ours.valid_x])
    scale = np.ptp(pixels) / np.ptp(together)
    restored = np.rint((together - together.min()) * scale)
    labels = np.concatenate([ours.train_y, ours.valid_y])
    rows = {tuple(row) for row in np.column_stack([restored, labels])}
    assert rows == {tuple(row) for row in np.column_stack([pixels, classes])}
    assert len(together) == len(pixels)


@pytest.mark.skipif(
    ENVIRONMENT_VARIABLE not in os.environ,
    reason=f"{ENVIRONMENT_VARIABLE} does not name a folder with MNIST",
)
def test_real_mnist_is_normalised():
    found = mnist(Path(os.environ[ENVIRONMENT_VARIABLE]))
    assert found.train_x.shape == (60_000, 784)
    assert found.valid_x.shape == (10_000, 784)
    assert found.train_x.dtype == np.float32
    assert abs(found.train_x.mean(dtype=np.float64)) < 1e-3
    assert abs(found.train_x.std(dtype=np.float64) - 1) < 1e-3
    assert np.bincount(found.train_y).tolist()[0] == 5923


def test_pixels_and_the_weights_of_a_paper(monkeypatch):
    """Pixels run from 0 to 1; the weights are the same in every run, others are of its own seed."""
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    labels = np.array([3, 7], np.uint8)
    read = [images, labels, images[::-1], labels]
    monkeypatch.setattr("hypergradient.study.tasks.data.mnist.mnist_contents", lambda _: read)
    found = mnist_pixels(None)
    np.testing.assert_allclose(found.train_x, images.reshape(2, -1) / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.valid_x, found.train_x[::-1])
    assert (found.train_x.dtype, found.valid_y.dtype) == (np.float32, np.int64)
    weights = [
        [TASKS[task].model(seed)[0].weight for seed in (1, 2)]
        for task in ("mnist-tanh-published", "mnist-tanh")
    ]
    assert torch.equal(*weights[0])
    assert not torch.equal(*weights[1])
    assert all(0 < each[0].abs().max() <= 784**-0.5 for each in weights)


def cifar10_file(seed: int, count: int = CIFAR10_IN_A_FILE) -> bytes:
    """Records as the data set's page describes them: a class, then red, green and blue."""
    records = np.random.default_rng(seed).integers(0, 256, (count, 3073), np.uint8)
    records[:, 0] %= 10
    return records.tobytes()


@pytest.fixture(scope="module")
def cifar10_folder(tmp_path_factory):
    """Files with their names, of ten images each."""
    folder = tmp_path_factory.mktemp("cifar10")
    for seed, name in enumerate(CIFAR10_FILES):
        (folder / name).write_bytes(cifar10_file(seed, 10))
    return folder


def test_cifar10_is_read_from_its_binary_layout(tmp_path):
    content = cifar10_file(1)
    (tmp_path / "data_batch_2.bin").write_bytes(content)
    images, classes = read_cifar10(tmp_path / "data_batch_2.bin")
    record = content[3073 * 7 : 3073 * 8]
    assert images.shape == (10_000, 3, 32, 32)
    assert (images.dtype, classes.dtype) == (np.float32, np.int64)
    assert classes[7] == record[0]
    for channel, row, column in ((0, 0, 0), (1, 2, 31), (2, 31, 5)):
        byte = record[1 + 1024 * channel + 32 * row + column]
        mean, std = CIFAR10_MEAN[channel], CIFAR10_STD[channel]
        assert abs(images[7, channel, row, column] - (byte / 255 - mean) / std) < 1e-5


def test_cifar10s_files_are_found_in_order(cifar10_folder, tmp_path):
    (tmp_path / CIFAR10_FOLDER).symlink_to(cifar10_folder)
    for folder in (cifar10_folder, tmp_path):
        names = [path.name for path in cifar10_files(folder)]
        assert names == [*(f"data_batch_{k}.bin" for k in (1, 2, 3, 4, 5)), "test_batch.bin"]


WRONG_CIFAR10 = {
    "cut": (lambda whole: whole[:-1], "it has 30729999 bytes, not 10000 x 3073"),
    "class": (lambda whole: b"\x0a" + whole[1:], "it has a class 10 where they go from 0 to 9"),
}


@pytest.mark.parametrize(("change", "said"), WRONG_CIFAR10.values(), ids=WRONG_CIFAR10)
def test_damaged_cifar10_is_told_with_the_file(tmp_path, change, said):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(change(cifar10_file(0)))
    with pytest.raises(DataError) as error:
        read_cifar10(path)
    assert str(error.value).startswith(f"{path} is damaged: {said}; ")


def test_missing_cifar10_is_told_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10_module, "download_cifar10", lambda: pytest.fail("downloads"))
    with pytest.raises(DataError, match=r"data_batch_1\.bin is not in .*--data-dir"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_1.bin").touch()
    with pytest.raises(DataError, match=r"data_batch_2\.bin, .*test_batch\.bin not in"):
        cifar10(tmp_path)


def test_no_network_for_cifar10_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10_module, "CIFAR10_MIRRORS", ("http://127.0.0.1:9/x.tar.gz",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="--data-dir") as error:
        download_cifar10()
    assert "\n" not in str(error.value)


def test_unpacked_cifar10_that_has_changed_is_unpacked_anew(cifar10_folder, tmp_path, monkeypatch):
    """One of the same size too; and an archive that has other files is refused."""
    place = tmp_path / "hypergradient" / "cifar10"
    place.mkdir(parents=True)
    archive = place / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        for name in CIFAR10_FILES:
            packed.add(cifar10_folder / name, f"{CIFAR10_FOLDER}/{name}")
    contents = {name: (cifar10_folder / name).read_bytes() for name in CIFAR10_FILES}
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cifar10_module, "CIFAR10_FILES", digests)
    monkeypatch.setattr(cifar10_module, "CIFAR10_MIRRORS", ())
    digest = sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10_module, "CIFAR10_SHA256", digest)
    first, *_ = download_cifar10()
    assert first.read_bytes() == contents["data_batch_1.bin"]
    first.write_bytes(bytes(len(contents["data_batch_1.bin"])))
    assert [path.read_bytes() for path in download_cifar10()] == list(contents.values())
    digests["test_batch.bin"] = "0" * 64
    with pytest.raises(DataError, match=r"test_batch\.bin in it is another"):
        download_cifar10()


def test_a_download_of_other_content_is_refused(tmp_path, monkeypatch):
    """The checksum is of the archive, so a wrong one leaves nothing to unpack."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(b"not CIFAR-10")
    monkeypatch.setattr(cifar10_module, "CIFAR10_MIRRORS", (wrong.as_uri(),))
    with pytest.raises(DataError, match="cannot be downloaded"):
        download_cifar10()
