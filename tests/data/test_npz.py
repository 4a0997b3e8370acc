"""NumPy archives of images: what is read, and what is said about archives that are wrong."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from image_files import DATA, contains, labels_of, message, needs, random_images

from pipeline.data.dataset import visible
from pipeline.data.images import ImageOptions, load
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
    np.savez(tmp_path / "set.npz", a=random_images(4), b=labels_of(4))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "no array 'train_images'", "a, b", "train_labels")
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


COUNT = 24
LABELS = np.arange(COUNT) % 2
GREY = np.random.default_rng(3).integers(0, 256, (COUNT, 6, 5), dtype=np.uint8)
GREY[:, 0, 0], GREY[:, 0, 1] = 0, 255
UNIT = (GREY / 255).astype(np.float32)[..., None]


def arrays(images: np.ndarray = GREY, labels: np.ndarray = LABELS, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {"train_images": images, "train_labels": labels, **more}


# What an archive holds; the pixels that its images have, with white at 1; its classes; and what the notes say.
TAKEN = {
    "medmnist": (arrays(), UNIT, "01", []),
    "labels in a column": (arrays(labels=LABELS[:, None]), UNIT, "01", []),
    "floats to 1": (arrays(UNIT), UNIT, "01", []),
    "floats to 255": (arrays(GREY.astype("f4")), UNIT, "01", ["pixels from 0 to 255: 0 is taken for black and 255"]),
    "floats to 65535": (arrays(GREY * 257.0), UNIT, "01", ["65535 for white", "--pixels LOW:HIGH"]),
    "floats from -1": (arrays(GREY / 127.5 - 1), UNIT, "01", ["pixels from -1 to 1: -1 is taken for black and 1"]),
    "standardised floats": (arrays(GREY / 50.0 - 2), UNIT, "01", ["pixels from -2 to 3.1: -2 is taken for black"]),
    "sixteen levels": (arrays(GREY // 17), GREY[..., None] // 17 / 15, "01", ["pixels from 0 to 15", "15 for white"]),
    "integers 0 and 1": (arrays((GREY > 99).astype("u1")), GREY[..., None] > 99, "01", ["1 for white"]),
    "bytes as 16 bits": (arrays(GREY.astype("u2")), UNIT, "01", ["pixels from 0 to 255", "255 for white"]),
    "twelve bits": (arrays(GREY.astype("u2") * 16), UNIT, "01", ["pixels from 0 to 4080", "4080 for white"]),
    "sixteen bits": (arrays(GREY.astype("u2") * 257), UNIT, "01", []),
    "long integers": (arrays(GREY.astype("i8")), UNIT, "01", []),
    "bools": (arrays(GREY > 99), GREY[..., None] > 99, "01", []),
    "channels first": (
        arrays(np.repeat(GREY[:, None], 3, 1)), np.repeat(UNIT, 3, 3), "01", ["(24, 3, 6, 5): taken for"],
    ),
    "one channel first": (arrays(GREY[:, None]), UNIT, "01", ["(24, 1, 6, 5): taken for (examples, channels"]),
    "channels last": (arrays(np.repeat(GREY[..., None], 3, 3)), np.repeat(UNIT, 3, 3), "01", []),
    "four channels": (arrays(np.repeat(GREY[..., None], 4, 3)), np.repeat(UNIT, 4, 3), "01", ["has 4 channels"]),
    "keras": (
        {"x_train": GREY[:18], "y_train": LABELS[:18], "x_test": GREY[18:], "y_test": LABELS[18:]}, UNIT, "01", [],
    ),
    "keras with validation": (
        {"X_train": GREY[:12], "y_train": LABELS[:12], "X_val": GREY[12:18], "y_val": LABELS[12:18],
         "X_test": GREY[18:], "y_test": LABELS[18:]}, UNIT, "01", [],
    ),
    "no part": ({"X": GREY, "y": LABELS}, UNIT, "01", []),
    "scikit-learn": ({"data": GREY, "target": LABELS}, UNIT, "01", []),
    "half precision": (arrays(UNIT.astype("f2")), UNIT.astype("f2"), "01", []),
    "seven bits": (arrays((GREY // 2).astype("i1")), GREY[..., None] // 2 / 127, "01", ["127 for white"]),
    "an array more": (arrays(ids=LABELS), UNIT, "01", ["1 more arrays, which are not used: ids"]),
    "numbers that are no places": (arrays(labels=np.where(LABELS, 900, 5)), UNIT, ("5", "900"), []),
    "large numbers": (arrays(labels=np.where(LABELS, 3_000_000, 5)), UNIT, ("5", "3000000"), []),
    "floats as labels": (arrays(labels=LABELS.astype("f4")), UNIT, "01", []),
    "bools as labels": (arrays(labels=LABELS > 0), UNIT, ("False", "True"), []),
    "texts as labels": (arrays(labels=np.array(["cat", "d\x1bog"])[LABELS]), UNIT, ("cat", "d\\x1bog"), []),
    "bytes as labels": (arrays(labels=np.array([b"cat", b"dog"])[LABELS]), UNIT, ("cat", "dog"), []),
    "one-hot": (arrays(labels=np.eye(2)[LABELS]), UNIT, "01", ["one-hot rows of 2: the place of a row's 1"]),
    "another scale in the test part": (
        arrays(UNIT[:18], LABELS[:18], test_images=GREY[18:] * 1.0, test_labels=LABELS[18:]),
        np.concatenate([UNIT[:18], GREY[18:, ..., None]]), "01", ["pixels from 0 to 255 in its test part"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_archives_as_people_have_them(tmp_path, kind):
    contents, pixels, classes, notes = TAKEN[kind]
    np.savez(tmp_path / "set.npz", allow_pickle=True, **contents)
    data = load(str(tmp_path / "set.npz"), seed=0)
    assert data.classes == tuple(classes)
    assert len(data.notes) == bool(notes)
    contains("".join(data.notes), *notes)
    splits = (data.train, data.validation, data.test)
    images = np.concatenate([visible(split.pixels) for split in splits])
    places = [int(np.abs(pixels - image).max((1, 2, 3)).argmin()) for image in images]
    assert sorted(places) == list(range(COUNT))
    np.testing.assert_allclose(images, pixels[places], atol=1e-6)
    assert np.concatenate([split.labels for split in splits]).tolist() == LABELS[places].tolist()


REFUSED = {
    "a volume": (arrays(np.zeros((COUNT, 16, 16, 16))), "which are volumes or videos"),
    "a volume with a channel": (arrays(np.zeros((COUNT, 1, 6, 6, 6))), "(24, 1, 6, 6, 6)"),
    "flattened": (arrays(GREY.reshape(COUNT, -1)), "images are numbers of shape"),
    "texts as images": (arrays(GREY.astype(str)), "images are numbers"),
    "a scalar label": (arrays(labels=np.array(3)), "one whole number or text an example"),
    "several labels": (arrays(labels=np.stack([LABELS, 1 - LABELS, LABELS], 1)), "several for one image are not"),
    "amounts": (arrays(labels=LABELS + 0.5), "train_labels has 0.5 at index 0, which is no whole number (24 such"),
    "missing labels": (arrays(labels=np.where(LABELS, np.nan, 0)), "has nan at index 1, which is no whole number (12"),
    "numbers and texts": (
        arrays(test_images=GREY, test_labels=np.array(["a", "b"])[LABELS]), "numbers as labels in one split and texts",
    ),
    "negative integers": (arrays(GREY.astype(int) - 9), "--pixels LOW:HIGH says what is black and white"),
    "infinite in half precision": (arrays(np.where(GREY > 9, GREY / 255, np.inf).astype("f2")), "NaN, infinite"),
    "objects": (arrays(np.array([*GREY, None], object)[:-1]), "save numbers, or texts by array.astype(str)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_archives_that_are_refused(tmp_path, kind):
    contents, expected = REFUSED[kind]
    np.savez(tmp_path / "set.npz", allow_pickle=True, **contents)
    contains(message(load, str(tmp_path / "set.npz"), seed=0), tmp_path / "set.npz", expected)


def test_black_and_white_by_option(tmp_path):
    np.savez(tmp_path / "set.npz", allow_pickle=True, **arrays(GREY / 1.0 - 100))
    data = load(str(tmp_path / "set.npz"), seed=0, options=ImageOptions(pixels="-100:155"))
    assert (data.notes, data.pixel_range) == ((), (-100.0, 155.0))
    assert (data.train.pixels.min(), data.train.pixels.max()) == (0, 1)
    for wrong in ("255", "1:0", "a:b", "0:inf", "0:1:2"):
        options = ImageOptions(pixels=wrong)
        told = message(load, str(tmp_path / "set.npz"), seed=0, options=options)
        contains(told, f"--pixels is '{wrong}'", "LOW:HIGH")
