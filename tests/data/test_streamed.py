"""Folders of images that are decoded batch by batch: the same data as those that are held in memory."""

import numpy as np
import pytest
from image_files import contains, labels_of, message, random_images, write_class_folders
from PIL import Image

from pipeline.data import image_folders
from pipeline.data.batches import evaluation_batches, train_batches
from pipeline.data.dataset import in_folds, without_copies
from pipeline.data.fingerprint import differences, fingerprint
from pipeline.data.images import ImageOptions, load
from pipeline.data.streamed import Streamed

ALWAYS = ImageOptions(stream="always")


@pytest.fixture
def folder(tmp_path):
    return write_class_folders(tmp_path, random_images(48, (6, 5, 3)), labels_of(48))


def test_batches_are_the_same_and_go_on_where_they_were(folder):
    held, streamed = (load(str(folder), seed=0, options=options).train for options in (ImageOptions(), ALWAYS))
    expected, batches = train_batches(held, 4, seed=1), train_batches(streamed, 4, seed=1)
    state = {}
    for number in range(20):  # more than two epochs
        if number == 13:
            state = batches.get_state()
            assert state == expected.get_state()
        for one, other in zip(next(expected), next(batches)):
            np.testing.assert_array_equal(getattr(one, "values", one), getattr(other, "values", other), strict=True)
    resumed = train_batches(streamed, 4, seed=1)
    resumed.set_state(state)
    again = train_batches(held, 4, seed=1)
    again.set_state(state)
    for _ in range(3):
        np.testing.assert_array_equal(next(resumed)[0], next(again)[0])
    for (one, _), (other, _) in zip(evaluation_batches(held, 5), evaluation_batches(streamed, 5), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_more_pixels_than_are_held(folder, monkeypatch):
    assert not load(str(folder), seed=0).train.is_streamed
    monkeypatch.setattr(image_folders, "HELD_BYTES", 48 * 6 * 5 * 3 - 1)
    data = load(str(folder), seed=0)
    assert data.train.is_streamed
    contains(data.notes[0], "48 images would take 4.2 KiB of memory: each batch is decoded when it is needed")
    assert not load(str(folder), seed=0, options=ImageOptions(stream="never")).train.is_streamed


def test_files_that_change_while_a_run_goes_on(folder):
    data = load(str(folder), seed=0, options=ALWAYS)
    pixels = data.train.pixels
    assert isinstance(pixels, Streamed)
    Image.new("RGB", (5, 6)).save(pixels.files[3])
    pixels.files[4].unlink()
    contains(message(data.train.take, np.array([2, 3])), pixels.files[3], "is not the image that it was")
    contains(message(list, evaluation_batches(data.train, 4)), "is not the image that it was")
    contains(message(data.train.take, np.array([4])), pixels.files[4], "cannot be opened")


def test_the_fingerprint_is_of_the_pixels(folder, tmp_path_factory):
    def of(path):
        return fingerprint(load(str(path), seed=0, options=ALWAYS))

    before, elsewhere = of(folder), tmp_path_factory.mktemp("moved") / "photos"
    folder.rename(elsewhere)
    assert of(elsewhere) == before
    file = load(str(elsewhere), seed=0, options=ALWAYS).test.pixels.files[0]
    Image.new("RGB", (5, 6)).save(file)
    assert differences(before, of(elsewhere)) == ["test has as many examples as before, 12, but others"]


def test_copies_and_folds(tmp_path):
    images = random_images(12)
    write_class_folders(tmp_path / "train", images, labels_of(12))
    write_class_folders(tmp_path / "test", images[[*range(6), *range(3, 6)]], labels_of(9))
    held, streamed = (image_folders.read_class_folders(tmp_path, stream=stream) for stream in ("never", "always"))
    (without, count), (files, same) = (without_copies(source.parts) for source in (held, streamed))
    assert count == same == 6
    np.testing.assert_array_equal(files["train"][0][:], without["train"][0])
    folds = [in_folds("x", source.parts, source.classes, 3, 2) for source in (held, streamed)]
    for part in ("train", "test"):
        one, other = (fold[part][0] for fold in folds)
        assert isinstance(other, Streamed)
        np.testing.assert_array_equal(other[:], one)
    for options in (ImageOptions(), ALWAYS):
        told = "9 of 9 test images are among the training or validation images, too"
        contains("".join(load(str(tmp_path), seed=0, options=options).notes), told)


def test_arrays_are_not_streamed(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=random_images(24), y_train=labels_of(24))
    data = load(str(tmp_path / "set.npz"), seed=0, options=ALWAYS)
    contains("".join(data.notes), "--stream always is not used")
