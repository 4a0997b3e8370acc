"""Images by name or path, and single files for prediction."""

import numpy as np
import pytest
from image_files import contains, labels_of, message, random_images, write_class_folders
from PIL import Image

from pipeline.data.dataset import Scaling
from pipeline.data.images import load, read_inputs


def test_unknown_name():
    contains(
        message(load, "mnits", seed=0), "mnits", "neither a known data set", "digits, mnist, mnist1d", "a path may be"
    )


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "table.csv").write_text("a,b")
    contains(message(load, str(tmp_path / "table.csv"), seed=0), "table.csv", "is not a data set", ".npz")


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


def test_predicting_a_file_of_another_size_or_none(tmp_path):
    Image.fromarray(random_images(1, (9, 9))[0]).save(tmp_path / "large.png")
    scaling = Scaling((0.0,), (1.0,))
    contains(message(read_inputs, [tmp_path / "large.png"], (6, 5, 1), scaling), "large.png", "(9, 9, 1)", "(6, 5, 1)")
    contains(message(read_inputs, [tmp_path / "none.png"], (6, 5, 1), scaling), "none.png", "is not a file")
    contains(message(read_inputs, [tmp_path / "large.png"], (40, 1), scaling), "cannot be read as a signal", ".npy")
    np.savez(tmp_path / "many.npz", np.zeros(40))
    contains(message(read_inputs, [tmp_path / "many.npz"], (40, 1), scaling), "cannot be read as a signal", ".npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39, -3e38])
def test_a_signal_that_float32_does_not_hold(tmp_path, value):
    np.save(tmp_path / "signal.npy", np.array([1.0, value, 2.0]))
    told = message(read_inputs, [tmp_path / "signal.npy"], (3, 1), Scaling((0.0,), (1.0,)))
    contains(told, "signal.npy has a value that is NaN, infinite or beyond 1e+37")


@pytest.mark.parametrize(
    "signal, expected",
    [
        (np.ones(3, complex), "values of type complex128"),
        (np.array(["a", "b", "c"]), "values of type <U1"),
        (np.array([1, "b", None], object), "has Python objects; save numbers"),
        (np.array(1.0), "has the shape ()"),
    ],
)
def test_a_signal_of_another_kind(tmp_path, signal, expected):
    np.save(tmp_path / "signal.npy", signal)
    told = message(read_inputs, [tmp_path / "signal.npy"], (3, 1), Scaling((0.0,), (1.0,)))
    contains(told, "signal.npy", expected)


def test_a_file_that_is_too_far_from_the_training_data(tmp_path):
    np.save(tmp_path / "signal.npy", np.full(3, 1e30))
    told = message(read_inputs, [tmp_path / "signal.npy"], (3, 1), Scaling((0.0,), (1e-20,)))
    contains(told, "signal.npy has a value that is not finite when it is standardised", "another unit")


def test_a_name_that_is_too_long():
    contains(message(load, "x" * 300, seed=0), "neither a known data set nor an existing path")
    contains(message(read_inputs, ["x" * 300 + ".png"], (3, 3, 1), Scaling((0.0,), (1.0,))), "is not a file")
