"""IDX files: what is read, and what is said about files that are wrong."""

import gzip
import struct

import numpy as np
import pytest
from image_files import contains, idx_bytes, labels_of, message, random_images, rows, write_idx

from pipeline.data.idx import read_idx
from pipeline.data.images import load


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("prefix", ["", "letters-"])
def test_idx_files(tmp_path, compress, prefix):
    train, test, labels = random_images(40), random_images(9, seed=1), labels_of(40)
    write_idx(
        tmp_path / "set", compress, prefix,
        train_images=train, train_labels=labels, t10k_images=test, t10k_labels=labels_of(9),
    )  # fmt: skip
    dataset = load(str(tmp_path / "set" / prefix.removesuffix("-")), seed=0)
    np.testing.assert_array_equal(dataset.test.pixels, test[..., None])
    np.testing.assert_array_equal(dataset.test.labels, labels_of(9))
    assert (len(dataset.train), len(dataset.validation), dataset.classes) == (36, 4, ("0", "1", "2"))
    assert dataset.train.pixels.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int32
    assert rows(np.concatenate([dataset.train.pixels, dataset.validation.pixels])) == rows(train[..., None])
    which = [np.flatnonzero((train == image[..., 0]).all((1, 2)))[0] for image in dataset.train.pixels]
    np.testing.assert_array_equal(dataset.train.labels, labels[which])


@pytest.mark.parametrize("code, dtype", [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4")])
def test_idx_types(tmp_path, code, dtype):
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(idx_bytes(array, code))
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


def test_truncated_idx(tmp_path):
    write_idx(tmp_path, train_images=random_images(4), train_labels=labels_of(4))
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-7])
    contains(message(load, str(tmp_path), seed=0), file, "truncated", "136 bytes", "(4, 6, 5)", "it has 129")
    file.write_bytes(file.read_bytes()[:9])
    contains(message(load, str(tmp_path), seed=0), file, "truncated", "it has 9")


def test_idx_with_more_than_it_announces(tmp_path):
    (tmp_path / "file").write_bytes(idx_bytes(random_images(4)) + b"\0")
    contains(message(read_idx, tmp_path / "file"), "too long", "136 bytes", "it has 137")


def test_truncated_or_corrupt_gzip(tmp_path):
    write_idx(tmp_path, compress=True, train_images=random_images(4), train_labels=labels_of(4))
    file = tmp_path / "train-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    contains(message(load, str(tmp_path), seed=0), file, "cannot be read", "download it again")
    file.write_bytes(file.read_bytes()[:10] + b"\xff" * 20)
    contains(message(load, str(tmp_path), seed=0), file, "cannot be read", "download it again")


def test_wrong_magic_number(tmp_path):
    (tmp_path / "file").write_bytes(b"\x89PNG, not IDX")
    contains(message(read_idx, tmp_path / "file"), tmp_path / "file", "is not an IDX file", "89 50 4e 47", "00 00")
    (tmp_path / "file").write_bytes(b"")
    contains(message(read_idx, tmp_path / "file"), "is not an IDX file", "missing")


def test_idx_counts_differ(tmp_path):
    write_idx(tmp_path, train_images=random_images(4), train_labels=labels_of(5))
    contains(message(load, str(tmp_path), seed=0), "train-images-idx3-ubyte", "4 images", "5 labels")


def test_idx_file_missing(tmp_path):
    write_idx(tmp_path, train_images=random_images(4), train_labels=labels_of(4), t10k_images=random_images(4))
    contains(message(load, str(tmp_path), seed=0), tmp_path, "labels of the test split", "test-labels-idx1-ubyte")


def test_idx_of_other_dimensions(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(labels_of(4)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels_of(4)))
    contains(
        message(load, str(tmp_path), seed=0), "train-images-idx3-ubyte has the shape (4,)", "(count, height, width)"
    )


def test_idx_that_announces_more_than_the_limit(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1))
    contains(message(read_idx, file), file, "PiB of memory")
    file.write_bytes(bytes([0, 0, 8, 4]) + struct.pack(">4I", 0, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    contains(message(read_idx, file), file, "PiB of memory")
    file.write_bytes(gzip.compress(idx_bytes(np.zeros((40, 100, 100), np.uint8))))
    assert read_idx(file, limit=400_000).shape == (40, 100, 100)
    contains(message(read_idx, file, limit=399_999), "390.6 KiB of memory")


def test_idx_that_unpacks_to_more_than_it_announces(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(gzip.compress(idx_bytes(random_images(4)) + bytes(50 << 20)))
    contains(message(read_idx, file), "too long", "136 bytes", "it has 137 or more")


def test_idx_of_too_many_dimensions(tmp_path):
    (tmp_path / "file").write_bytes(bytes([0, 0, 8, 255]) + b"\0\0\0\1" * 255 + b"x")
    contains(message(read_idx, tmp_path / "file"), "is not an IDX file", "00 00 08 ff", "1 to 4")
