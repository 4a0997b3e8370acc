"""NumPy archives of images: what is read, and what is said about archives that are wrong."""

import numpy as np
import pytest
from image_files import DATA, contains, labels_of, message, needs, random_images

from pipeline.data.images import load


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
