"""Reading labelled images: what comes out of every format, and what is said about files that are wrong."""

import gzip
import os
import random
import struct
from pathlib import Path

import numpy as np
import pooch
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.data import known
from pipeline.data.dataset import Scaling, Source, complete
from pipeline.data.folder import read_image
from pipeline.data.idx import read_idx
from pipeline.data.images import load, read_inputs
from pipeline.errors import UserError

DATA = Path(os.environ.get("PIPELINE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needs(path: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / path).exists(), reason=f"{DATA / path} is not there; set PIPELINE_DATA")


def random_images(count: int, shape: tuple[int, ...] = (6, 5), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, compress: bool = False, prefix: str = "", **arrays: np.ndarray) -> Path:
    """``train_images=...`` becomes train-images-idx3-ubyte."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        file = f"{prefix}{name.replace('_', '-')}-idx{array.ndim}-ubyte"
        (folder / (file + ".gz" * compress)).write_bytes(gzip.compress(content) if compress else content)
    return folder


def write_class_folders(root: Path, images: np.ndarray, labels: np.ndarray, suffix: str = ".png") -> Path:
    for number, (image, label) in enumerate(zip(images, labels)):
        folder = root / f"class-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03d}{suffix}")
    return root


def labels_of(count: int, classes: int = 3) -> np.ndarray:
    return (np.arange(count) % classes).astype(np.uint8)


def all_pixels(dataset) -> np.ndarray:
    return np.concatenate([split.pixels for split in (dataset.train, dataset.validation, dataset.test)])


def rows(array: np.ndarray) -> list[bytes]:
    return sorted(row.tobytes() for row in array)


# What is read


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


def test_class_folders(tmp_path):
    images, labels = random_images(40), labels_of(40)
    write_class_folders(tmp_path, images, labels)
    (tmp_path / "class-0" / "notes.txt").write_text("no image")
    dataset = load(str(tmp_path), seed=0)
    assert dataset.classes == ("class-0", "class-1", "class-2")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (27, 3, 10)
    assert rows(all_pixels(dataset)) == rows(images[..., None])
    for split in (dataset.train, dataset.validation, dataset.test):
        which = [np.flatnonzero((images == image[..., 0]).all((1, 2)))[0] for image in split.pixels]
        np.testing.assert_array_equal(split.labels, labels[which])


def test_class_folders_in_splits(tmp_path):
    images = random_images(18, (6, 5, 3))
    for part, chosen in (("train", slice(0, 9)), ("val", slice(9, 12)), ("test", slice(12, 18))):
        write_class_folders(tmp_path / part, images[chosen], labels_of(18)[chosen])
    dataset = load(str(tmp_path), seed=0)
    assert dataset.input_shape == (6, 5, 3)
    assert rows(dataset.train.pixels) == rows(images[:9])
    assert rows(dataset.validation.pixels) == rows(images[9:12])
    assert rows(dataset.test.pixels) == rows(images[12:])


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "tram"):
        write_class_folders(tmp_path, random_images(8), np.full(8, 0))
        (tmp_path / "class-0").rename(tmp_path / name)
    assert load(str(tmp_path), seed=0).classes == ("train", "tram")


def test_jpeg_files(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 16, dtype=np.uint8), (12, 16, 16))
    write_class_folders(tmp_path, smooth, labels_of(12), ".JPG")
    np.testing.assert_allclose(all_pixels(load(str(tmp_path), seed=0))[..., 0].astype(int), smooth, atol=3)


def test_grey_and_colour_files_become_colour(tmp_path):
    grey, colour = random_images(6), random_images(6, (6, 5, 3), seed=1)
    write_class_folders(tmp_path, grey, np.full(6, 0))
    write_class_folders(tmp_path, colour, np.full(6, 1))
    expected = np.concatenate([np.repeat(grey[..., None], 3, 3), colour])
    assert rows(all_pixels(load(str(tmp_path), seed=0))) == rows(expected)


def test_grey_files_of_16_bits_keep_them(tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 5), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png")[..., 0], deep)


def test_files_of_8_and_16_bits_are_on_one_scale(tmp_path):
    images = random_images(12)
    write_class_folders(tmp_path, images, labels_of(12))
    Image.fromarray(images[0].astype(np.uint16) * 257).save(tmp_path / "class-0" / "000.png")
    dataset = load(str(tmp_path), seed=0)
    assert rows(all_pixels(dataset)) == rows(images[..., None].astype(np.uint16) * 257)


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


def test_digits():
    dataset = load("digits", seed=0)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [1213, 135, 449]
    assert dataset.input_shape == (8, 8, 1)
    pixels, _ = load_digits(return_X_y=True)
    assert rows(all_pixels(dataset) * 16) == rows(pixels.astype(np.float32))


def test_mnist_1d():
    # The package seeds the global generators; ours go on from where they were, so that they stay different.
    datasets, after = [], []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        datasets.append(load("mnist1d", seed=0))
        after.append((random.random(), np.random.rand()))
    assert after[0][0] != after[1][0]
    assert after[0][1] != after[1][1]
    one, two = datasets
    assert [len(split) for split in (one.train, one.validation, one.test)] == [3600, 400, 1000]
    assert one.input_shape == (40, 1)
    np.testing.assert_array_equal(one.train.pixels, two.train.pixels)


@needs("mnist")
def test_mnist(monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(DATA))
    dataset = load("mnist", seed=0)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [55_000, 5_000, 10_000]
    assert dataset.input_shape == (28, 28, 1)
    # The first test digits, in order, as everybody knows them.
    assert dataset.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    np.testing.assert_allclose([*dataset.scaling.mean, *dataset.scaling.deviation], [0.1307, 0.3081], atol=2e-4)


@needs("pneumoniamnist/pneumoniamnist.npz")
def test_medmnist():
    dataset = load(str(DATA / "pneumoniamnist" / "pneumoniamnist.npz"), seed=0)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [4_708, 524, 624]
    assert np.bincount(dataset.test.labels).tolist() == [234, 390]


# Splits


def test_splits_share_no_example_and_are_stratified():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    images = np.arange(1000, dtype=np.uint16)[:, None, None, None]
    dataset = complete("x", Source({"train": (images, labels)}, ("a", "b", "c")), seed=0)
    assert sorted(all_pixels(dataset).ravel().tolist()) == list(range(1000))
    for split, size in ((dataset.test, 250), (dataset.validation, 75), (dataset.train, 675)):
        np.testing.assert_allclose(np.bincount(split.labels), np.array([0.6, 0.3, 0.1]) * size, atol=1)


def test_the_seed_moves_the_validation_split_but_not_the_test_split():
    one, same, other = (load("digits", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.validation.pixels, same.validation.pixels)
    np.testing.assert_array_equal(one.test.pixels, other.test.pixels)
    assert not np.array_equal(one.validation.labels, other.validation.labels)


# Scaling


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_scaling_standardises_every_channel(dtype):
    pixels = np.random.default_rng(0).integers(0, 200, (50, 4, 3, 2)).astype(dtype)
    pixels[..., 1] //= 3
    scaled = Scaling.of(pixels)(pixels)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), 1, atol=1e-5)


def test_scaling_only_centres_a_constant_channel():
    pixels = np.full((5, 2, 2, 1), 77, np.uint8)
    np.testing.assert_allclose(Scaling.of(pixels)(pixels), 0, atol=1e-6)


def test_all_splits_have_the_training_splits_scaling():
    train, test = random_images(20)[..., None], (random_images(6, seed=1) // 4)[..., None]
    parts = {
        "train": (train[:10], labels_of(10)),
        "validation": (train[10:], labels_of(10)),
        "test": (test, labels_of(6)),
    }
    dataset = complete("x", Source(parts, ("a", "b", "c")), seed=0)
    expected = (test / 255 - (train[:10] / 255).mean()) / (train[:10] / 255).std()
    np.testing.assert_allclose(dataset.test.inputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(dataset.test.take(np.array([3, 1]))[0], dataset.test.inputs[[3, 1]])


# Single files


def test_a_file_is_read_as_the_training_images_were(tmp_path):
    images = random_images(40)
    write_class_folders(tmp_path, images, labels_of(40))
    dataset = load(str(tmp_path), seed=0)
    files = [tmp_path / "class-1" / "001.png", tmp_path / "class-2" / "002.png"]
    inputs = read_inputs(files, dataset.input_shape, dataset.scaling)
    np.testing.assert_array_equal(inputs, dataset.scaling(images[1:3, ..., None]))


def test_a_file_becomes_grey_or_colour(tmp_path):
    scaling = Scaling((0.0,), (1.0,))
    grey = random_images(1)[0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(grey[..., None], 3, 2)).save(tmp_path / "colour.png")
    expected = (grey / 255).astype(np.float32)[..., None]
    np.testing.assert_allclose(read_inputs([tmp_path / "colour.png"], (6, 5, 1), scaling)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(
        read_inputs([tmp_path / "grey.png"], (6, 5, 3), scaling)[0], np.repeat(expected, 3, 2), rtol=1e-6
    )


def test_a_png_of_a_digit_is_on_the_scale_of_digits(tmp_path):
    dataset = load("digits", seed=0)
    Image.fromarray((dataset.test.pixels[0, ..., 0] * 255).astype(np.uint8)).save(tmp_path / "digit.png")
    inputs = read_inputs([tmp_path / "digit.png"], dataset.input_shape, dataset.scaling)
    np.testing.assert_allclose(inputs[0], dataset.test.inputs[0], atol=0.02)


def test_a_signal_is_read_from_npy(tmp_path):
    signal = np.linspace(-1, 1, 40)
    np.save(tmp_path / "signal.npy", signal)
    inputs = read_inputs([str(tmp_path / "signal.npy")], (40, 1), Scaling((0.5,), (2.0,)))
    np.testing.assert_allclose(inputs, ((signal - 0.5) / 2)[None, :, None], rtol=1e-6)


# What is said about mistakes


def message(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def contains(text: str, *parts: object) -> None:
    for part in parts:
        assert str(part) in text, f"{part!r} is not in {text!r}"


def test_unknown_name():
    contains(
        message(load, "mnits", seed=0), "mnits", "neither a known data set", "digits, mnist, mnist1d", "a path may be"
    )


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "table.csv").write_text("a,b")
    contains(message(load, str(tmp_path / "table.csv"), seed=0), "table.csv", "is not a data set", ".npz")


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


def test_label_out_of_range(tmp_path):
    write_idx(
        tmp_path, train_images=random_images(6), train_labels=labels_of(6),
        test_images=random_images(4), test_labels=np.array([0, 1, 3, 2], np.uint8),
    )  # fmt: skip
    contains(message(load, str(tmp_path), seed=0), "test split", "label 3 at index 2", "out of range", "0 to 2")
    np.savez(tmp_path / "set.npz", train_images=random_images(4), train_labels=np.array([0, 1, -1, 0]))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "train split", "label -1 at index 2", "out of range")


def test_empty_set(tmp_path):
    write_idx(tmp_path, train_images=random_images(0), train_labels=labels_of(0))
    contains(message(load, str(tmp_path), seed=0), "train split", "is empty")


def test_empty_folder(tmp_path):
    contains(message(load, str(tmp_path), seed=0), tmp_path, "has no folders", "each class into a folder")


def test_empty_class_folder(tmp_path):
    write_class_folders(tmp_path, random_images(4), labels_of(4))
    (tmp_path / "class-9").mkdir()
    contains(message(load, str(tmp_path), seed=0), tmp_path / "class-9", "holds no .png")


def test_a_single_class(tmp_path):
    write_class_folders(tmp_path, random_images(4), labels_of(4, 1))
    contains(message(load, str(tmp_path), seed=0), "single class, class-0", "at least two")


def test_a_class_with_one_image(tmp_path):
    write_class_folders(tmp_path, random_images(9), np.array([0] * 4 + [1] * 4 + [2]))
    contains(message(load, str(tmp_path), seed=0), "no test split", "class 'class-2'", "only one training example")


def test_a_class_that_training_does_not_have(tmp_path):
    write_class_folders(tmp_path / "train", random_images(9), labels_of(9))
    write_class_folders(tmp_path / "test", random_images(9), labels_of(9, 4))
    contains(message(load, str(tmp_path), seed=0), tmp_path / "test" / "class-3", "is no class of")


def test_images_of_mixed_size(tmp_path):
    write_class_folders(tmp_path, random_images(5), labels_of(5))
    Image.fromarray(random_images(1, (6, 9))[0]).save(tmp_path / "class-2" / "scaled_float.png")
    contains(message(load, str(tmp_path), seed=0), "scaled_float.png is 9x6", "000.png is 5x6", "one size")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("keep", [0, 20, -30])
def test_a_broken_image_file(tmp_path, suffix, keep):
    write_class_folders(tmp_path, random_images(6, (32, 32)), labels_of(6), suffix)
    file = tmp_path / "class-1" / f"004{suffix}"
    file.write_bytes(file.read_bytes()[:keep])
    contains(message(load, str(tmp_path), seed=0), file, "cannot be read as an image", "repair or remove")


def test_pixels_that_are_nan(tmp_path):
    images = random_images(8).astype(np.float32)
    images[5, 2, 2] = np.nan
    images[6, 0, 0] = np.inf
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels_of(8))
    contains(
        message(load, str(tmp_path / "set.npz"), seed=0), "train split", "NaN or infinite in image 5", "2 such images"
    )


def test_pixels_beyond_16_bits(tmp_path):
    np.savez(tmp_path / "set.npz", train_images=np.full((4, 2, 2), 70_000), train_labels=labels_of(4))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "from 70000 to 70000", "0 to 255")


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


def test_mnist_is_neither_there_nor_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)

    def retrieve(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    contains(
        message(load, "mnist", seed=0), "could not be downloaded", "no route to host", "t10k-labels-idx1-ubyte.gz",
        tmp_path / "cache" / "backhand" / "mnist", "PIPELINE_DATA",
    )  # fmt: skip


def test_mnist_is_downloaded_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)

    def retrieve(url, known_hash, fname, path):
        if url.startswith(known.MNIST_MIRRORS[0]):
            raise ValueError("another checksum")
        Path(path).mkdir(parents=True, exist_ok=True)
        images = "images" in fname
        content = gzip.compress(idx_bytes(random_images(30) if images else labels_of(30, 10)))
        (Path(path) / fname).write_bytes(content)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(load("mnist", seed=0).test) == 30
    monkeypatch.setattr(pooch, "retrieve", None)
    assert len(load("mnist", seed=0).test) == 30, "the second time it is in the cache"


def test_predicting_a_file_of_another_size_or_none(tmp_path):
    Image.fromarray(random_images(1, (9, 9))[0]).save(tmp_path / "large.png")
    scaling = Scaling((0.0,), (1.0,))
    contains(message(read_inputs, [tmp_path / "large.png"], (6, 5, 1), scaling), "large.png", "(9, 9, 1)", "(6, 5, 1)")
    contains(message(read_inputs, [tmp_path / "none.png"], (6, 5, 1), scaling), "none.png", "is not a file")
    contains(message(read_inputs, [tmp_path / "large.png"], (40, 1), scaling), "cannot be read as a signal", ".npy")
    np.savez(tmp_path / "many.npz", np.zeros(40))
    contains(message(read_inputs, [tmp_path / "many.npz"], (40, 1), scaling), "cannot be read as a signal", ".npy")
