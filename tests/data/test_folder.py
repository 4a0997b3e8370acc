"""Image files in class-named folders: what is read, and what is said about files that are wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import all_pixels, contains, labels_of, message, random_images, rows, write_class_folders
from PIL import Image

from fuzzing.attempt import limited_memory
from pipeline.data.folder import MOST_PIXELS, read_image
from pipeline.data.images import load


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


def test_empty_folder(tmp_path):
    contains(message(load, str(tmp_path), seed=0), tmp_path, "has no folders", "each class into a folder")


def test_empty_class_folder(tmp_path):
    write_class_folders(tmp_path, random_images(4), labels_of(4))
    (tmp_path / "class-9").mkdir()
    contains(message(load, str(tmp_path), seed=0), tmp_path / "class-9", "holds no .png")


def test_a_class_that_training_does_not_have(tmp_path):
    write_class_folders(tmp_path / "train", random_images(9), labels_of(9))
    write_class_folders(tmp_path / "test", random_images(9), labels_of(9, 4))
    contains(message(load, str(tmp_path), seed=0), tmp_path / "test" / "class-3", "is no class of")


def test_images_of_mixed_size(tmp_path):
    write_class_folders(tmp_path, random_images(5), labels_of(5))
    Image.fromarray(random_images(1, (6, 9))[0]).save(tmp_path / "class-2" / "wide.png")
    contains(message(load, str(tmp_path), seed=0), "wide.png is 9x6", "000.png is 5x6", "one size")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("keep", [0, 20, -30])
def test_a_broken_image_file(tmp_path, suffix, keep):
    write_class_folders(tmp_path, random_images(6, (32, 32)), labels_of(6), suffix)
    file = tmp_path / "class-1" / f"004{suffix}"
    file.write_bytes(file.read_bytes()[:keep])
    contains(message(load, str(tmp_path), seed=0), file, "cannot be read as an image", "repair or remove")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "EPS", "PPM"])
def test_other_formats_are_not_opened_whatever_their_suffix(tmp_path, kind):
    Image.fromarray(random_images(1)[0]).save(tmp_path / "a.png", kind)
    contains(
        message(read_image, tmp_path / "a.png"),
        "a.png cannot be read as an image (it is of neither format)",
        "PNG or JPEG",
    )


def png_header(width: int, height: int) -> bytes:
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))


@pytest.mark.parametrize("width, height", [(MOST_PIXELS, 1), (9_000, 9_000), (2**31 - 1, 2**31 - 1), (0, 0)])
def test_images_of_any_announced_size(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(png_header(width, height) + b"\0\0\0\0IDAT")
    with limited_memory():
        told = message(read_image, tmp_path / "a.png")
    contains(told, tmp_path / "a.png")
    assert f"is {width}x{height}, and an image may have" in told or "cannot be read" in told
    assert "MemoryError" not in told


def test_an_image_of_too_many_pixels(tmp_path):
    Image.new("1", (8_193, 4_096)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 20_000
    contains(
        message(read_image, tmp_path / "a.png"), "is 8193x4096, and an image may have 33,554,432 pixels; resize it"
    )


def test_the_first_image_of_another_size_is_named_before_all_are_read(tmp_path):
    write_class_folders(tmp_path, random_images(30), labels_of(30))
    large = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(large, "PNG")
    for number in (4, 7, 10):
        (tmp_path / "class-1" / f"{number:03d}.png").write_bytes(large.getvalue())
    contains(message(load, str(tmp_path), seed=0), "class-1/004.png is 3000x3000, but", "class-0/000.png is 5x6")


def test_a_chunk_longer_than_its_file_takes_no_memory(tmp_path):
    image = random_images(1)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    place = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:place] + b"\x7f\xff\xff\xff" + content[place + 4 :])
    with limited_memory():
        np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], image)
