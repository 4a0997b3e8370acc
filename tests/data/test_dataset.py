"""Data sets: their splits and their scaling, and what is said about data that cannot be trained on."""

import numpy as np
import pytest
from image_files import all_pixels, contains, labels_of, message, random_images, write_class_folders, write_idx

from pipeline.data.dataset import Scaling, Source, complete
from pipeline.data.images import load


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


def test_a_label_that_training_does_not_have(tmp_path):
    write_idx(
        tmp_path, train_images=random_images(6), train_labels=labels_of(6),
        test_images=random_images(4), test_labels=np.array([0, 1, 3, 2], np.uint8),
    )  # fmt: skip
    contains(message(load, str(tmp_path), seed=0), "test split", "label 3 at index 2", "no training example has")


def test_label_out_of_range():
    source = Source({"train": (random_images(4)[..., None], np.array([0, 1, 2, 0]))}, ("a", "b"))
    contains(message(complete, "x", source, seed=0), "train split", "label 2 at index 2", "out of range", "0 to 1")


@pytest.mark.parametrize("labels", [(5, 900), (-1, 1), (0, 2**31), (2**63, 2**64 - 1)])
def test_the_classes_are_the_labels_that_occur(tmp_path, labels):
    numbers = np.array([labels[i % 3 % 2] for i in range(30)], np.uint64 if labels[1] > 2**63 else np.int64)
    np.savez(tmp_path / "set.npz", train_images=random_images(30), train_labels=numbers)
    dataset = load(str(tmp_path / "set.npz"), seed=0)
    assert dataset.classes == tuple(map(str, labels))
    splits = (dataset.train, dataset.validation, dataset.test)
    assert np.bincount(np.concatenate([split.labels for split in splits])).tolist() == [20, 10]


def test_empty_set(tmp_path):
    write_idx(tmp_path, train_images=random_images(0), train_labels=labels_of(0))
    contains(message(load, str(tmp_path), seed=0), "train split", "is empty")


def test_a_single_class(tmp_path):
    write_class_folders(tmp_path, random_images(4), labels_of(4, 1))
    contains(message(load, str(tmp_path), seed=0), "single class, class-0", "at least two")


def test_a_class_with_one_image(tmp_path):
    write_class_folders(tmp_path, random_images(9), np.array([0] * 4 + [1] * 4 + [2]))
    contains(message(load, str(tmp_path), seed=0), "no test split", "class 'class-2'", "only one training example")


@pytest.mark.parametrize("other", [np.nan, 1e39, 1e300])
@pytest.mark.parametrize("value", [np.inf, -1e39, 3e38])
def test_pixels_that_are_not_finite_in_float32(tmp_path, value, other):
    images = random_images(8).astype(np.float64)
    images[5, 2, 2] = other
    images[6, 0, 0] = value
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels_of(8))
    contains(
        message(load, str(tmp_path / "set.npz"), seed=0),
        "train split of", "set.npz", "NaN, infinite or beyond 1e+37 in image 5", "2 such images",
    )  # fmt: skip


def test_pixels_that_overflow_when_they_are_standardised(tmp_path):
    images = random_images(30).astype(np.float64)
    np.savez(
        tmp_path / "set.npz", train_images=images * 1e-30, train_labels=labels_of(30),
        test_images=images * 1e30, test_labels=labels_of(30),
    )  # fmt: skip
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "test split of", "set.npz", "is not finite", "unit")


def test_pixels_beyond_16_bits(tmp_path):
    np.savez(tmp_path / "set.npz", train_images=np.full((4, 2, 2), 70_000), train_labels=labels_of(4))
    contains(message(load, str(tmp_path / "set.npz"), seed=0), "from 70000 to 70000", "0 to 255")
