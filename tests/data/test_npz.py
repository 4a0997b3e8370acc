"""NumPy archives of images: what is read, and what is said about archives that are wrong."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from image_files import DATA, contains, labels_of, message, needs, random_images

from pipeline.data.images import load
from pipeline.data.npz import read_npz


def test_npz(tmp_path):
    images, labels = random_images(30, (6, 5, 3)), labels_of(30)
    np.savez(
        tmp_path / "set.npz",
        train_images=images[:20], train_labels=labels[:20, None], val_images=images[20:24],
        val_labels=labels[20:24, None], test_images=images[24:], test_labels=labels[24:, None],
    )  # fmt: skip
    dataset = load(str(tmp_path / "set.npz"), seed=0)
    for split, chosen in (
        (dataset.train, slice(20)),
        (dataset.validation, slice(20, 24)),
        (dataset.test, slice(24, 30)),
    ):
        np.testing.assert_array_equal(split.pixels, images[chosen])
        np.testing.assert_array_equal(split.labels, labels[chosen])


@needs("pneumoniamnist/pneumoniamnist.npz")
def test_medmnist():
    dataset = load(str(DATA / "pneumoniamnist" / "pneumoniamnist.npz"), seed=0)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [4_708, 524, 624]
    assert np.bincount(dataset.test.labels).tolist() == [234, 390]


def test_npz_without_the_keys(tmp_path):
    np.savez(tmp_path / "set.npz", x=random_images(4), y=labels_of(4))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "no array 'train_images'", "x, y", "train_labels")
    np.savez(
        tmp_path / "set.npz", train_images=random_images(4), train_labels=labels_of(4), val_images=random_images(4)
    )
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "no array 'val_labels'")


def test_npz_with_other_shapes(tmp_path):
    np.savez(tmp_path / "set.npz", train_images=labels_of(4), train_labels=labels_of(4))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "train_images has the shape (4,)", "height, width")
    np.savez(tmp_path / "set.npz", train_images=random_images(4), train_labels=np.ones((4, 14), int))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "train_labels has the shape (4, 14)", "whole number")
    np.savez(tmp_path / "set.npz", train_images=random_images(4), train_labels=labels_of(3))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "4 images but 3 labels")
    np.savez(
        tmp_path / "set.npz", train_images=random_images(4), train_labels=labels_of(4),
        test_images=random_images(4, (7, 7)), test_labels=labels_of(4),
    )  # fmt: skip
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "test split", "(7, 7, 1)", "(6, 5, 1)")


@pytest.mark.parametrize("content", [b"", b"no archive", "half"])
def test_broken_npz(tmp_path, content):
    file = tmp_path / "set.npz"
    np.savez(file, train_images=random_images(40), train_labels=labels_of(40))
    file.write_bytes(file.read_bytes()[:600] if content == "half" else content)
    contains(message(load, str(file), seed=0), file, "cannot be read as a NumPy archive")


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def header(shape: str, kind: str = "<f8") -> bytes:
    """The beginning of an array, which has nothing but its header."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def write_zip(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">u2", "|u1"])
def test_arrays_as_other_programs_write_them(tmp_path, version, dtype):
    images = np.asfortranarray(random_images(30), dtype)
    members = {"train_images": npy(images, version), "train_labels": npy(labels_of(30).astype(">i8"), version)}
    source = read_npz(write_zip(tmp_path / "a.npz", members, zipfile.ZIP_STORED))
    pixels, labels = source.parts["train"]
    np.testing.assert_array_equal(pixels[..., 0], images)
    np.testing.assert_array_equal(labels, labels_of(30))
    assert pixels.dtype == images.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "shape, kind, expected",
    [
        ("(1099511627776, 2, 2)", "<f8", "train_images needs at least 32.0 TiB of memory"),
        ("(%s, 2, 2)" % ("9" * 400), "<f8", "train_images needs at least"),
        ("(2, 2, -1)", "<f8", "train_images has the shape (2, 2, -1)"),
        ("(2, 2, 2)", "|O", "train_images has Python objects; save numbers"),
        ("(2, 2, 2)", "<f8", "train_images has less than the 64 bytes that its header announces"),
        ("(2, 2, 2.5)", "<f8", "shape is not valid"),
        ("(" * 100, "<f8", "cannot be read as a NumPy archive"),
        ("(0, 4611686018427387904, 4)", "<f8", "cannot be read as a NumPy archive"),
    ],
)
def test_headers_that_are_wrong(tmp_path, shape, kind, expected):
    path = write_zip(tmp_path / "a.npz", {"train_images": header(shape, kind), "train_labels": npy(labels_of(2))})
    contains(message(load, str(path), seed=0), path, expected)


def test_arrays_that_need_more_than_the_limit(tmp_path):
    members = {"train_images": npy(np.zeros((30, 100, 100))), "train_labels": npy(labels_of(30))}
    path = write_zip(tmp_path / "a.npz", members)
    assert path.stat().st_size < 10_000
    contains(message(read_npz, path, limit=1 << 20), "train_images needs at least 2.3 MiB", "limit is 1.0 MiB")
    assert len(read_npz(path, limit=30 * 80_000 + 30).parts["train"][1]) == 30
    contains(message(read_npz, path, limit=30 * 80_000 + 29), "train_labels needs at least 30 bytes", "29 bytes")


def test_a_version_for_other_arrays(tmp_path):
    members = {"train_images": npy(random_images(4), (3, 0)), "train_labels": npy(labels_of(4))}
    path = write_zip(tmp_path / "a.npz", members)
    contains(message(load, str(path), seed=0), path, "train_images has version (3, 0) of NumPy's format")


def test_more_than_an_array_announces(tmp_path):
    members = {"train_images": npy(random_images(4)) + b"x", "train_labels": npy(labels_of(4))}
    contains(message(load, str(write_zip(tmp_path / "a.npz", members)), seed=0), "train_images has more than the 120")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_everything_at_once(tmp_path, method):
    members = {"train_images": npy(random_images(4)), "train_labels": npy(labels_of(4))}
    path = write_zip(tmp_path / "a.npz", members, method)
    contains(message(load, str(path), seed=0), path, "train_images is compressed by another")


def test_a_scalar_for_the_labels(tmp_path):
    np.savez(tmp_path / "set.npz", train_images=random_images(4), train_labels=np.array(3))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "train_labels has the shape ()", "one whole number")


def test_a_message_does_not_repeat_all_names(tmp_path):
    path = write_zip(tmp_path / "set.npz", {f"x\x1b{i}": npy(np.zeros(1)) for i in range(300)})
    told = message(load, str(path), seed=0)
    contains(told, "its arrays are x\\x1b0, x\\x1b1", "[...]", "train_labels")
    assert len(told) < 600
