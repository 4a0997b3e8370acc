"""Image files in class-named folders: what is read, and what is said about files that are wrong."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from image_files import all_pixels, contains, labels_of, message, random_images, rows, write_class_folders
from PIL import Image

from fuzzing.attempt import limited_memory
from pipeline.data.dataset import visible
from pipeline.data.folder import files_and_notes
from pipeline.data.image_files import MOST_PIXELS, SUFFIXES, read_image
from pipeline.data.images import ImageOptions, load, read_inputs
from pipeline.data.sizes import parse_size, resized


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


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 20, -30])
def test_a_broken_image_file(tmp_path, suffix, keep):
    write_class_folders(tmp_path, np.broadcast_to(random_images(1, (32, 32)), (24, 32, 32)), labels_of(24), suffix)
    for number in (4, 7):
        file = tmp_path / "class-1" / f"{number:03d}{suffix}"
        file.write_bytes(file.read_bytes()[:keep])
    if keep == -30 and suffix == ".gif":
        return  # which is whole without its end
    contains(message(read_image, file), file, "cannot be read as an image", "repair or remove")
    data = load(str(tmp_path), seed=0)
    assert len(all_pixels(data)) == 22
    contains(
        "".join(data.notes), "left out: 2 of 24 images (the first: ", f"class-1/004{suffix} cannot be read as an image"
    )
    for file in (tmp_path / "class-1").iterdir():
        file.write_bytes(b"")
    contains(message(load, str(tmp_path), seed=0), "no image of class 'class-1' can be read", f"001{suffix}")


@pytest.mark.parametrize("kind", ["EPS", "TGA", "ICO"])
def test_other_formats_are_not_opened_whatever_their_suffix(tmp_path, kind):
    Image.fromarray(random_images(1)[0]).save(tmp_path / "a.png", kind)
    contains(
        message(read_image, tmp_path / "a.png"),
        "a.png cannot be read as an image (it is of none of these formats)",
        "PNG, JPEG, WebP, BMP, TIFF, GIF or PPM",
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


def test_large_images_are_made_small_one_by_one(tmp_path):
    write_class_folders(tmp_path, random_images(30), labels_of(30))
    large = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(large, "PNG")
    for number in (4, 7, 10):
        (tmp_path / "class-1" / f"{number:03d}.png").write_bytes(large.getvalue())
    data = load(str(tmp_path), seed=0)
    assert data.input_shape == (6, 5, 3)
    contains(data.notes[0], "6 to 3000 pixels high and 5 to 3000 wide: all are brought to 6x5", "--fit", "--size")


def test_a_chunk_longer_than_its_file_takes_no_memory(tmp_path):
    image = random_images(1)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    place = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:place] + b"\x7f\xff\xff\xff" + content[place + 4 :])
    with limited_memory():
        np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], image)


def smooth(number: int, size: tuple[int, int] = (8, 6)) -> np.ndarray:
    """A picture that lossy formats keep: brighter from left to right for odd numbers, else from top to bottom."""
    row, column = np.indices(size)
    ramp = column / (size[1] - 1) if number % 2 else row / (size[0] - 1)
    return (40 + 150 * ramp + number).astype(np.uint8)


def save(path: Path, number: int = 0, mode: str = "L", size: tuple[int, int] = (8, 6), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth(number, size)).convert(mode).save(path, **options)


def classes(root: Path, suffix: str = ".png", count: int = 16, names=("cat", "dog"), **options) -> Path:
    for number in range(count):
        save(root / names[number % len(names)] / f"{number:02d}{suffix}", number, **options)
    return root


def in_parts(root: Path, *names: str) -> None:
    for name in names:
        classes(root / name)


def put(root: Path, *names: str) -> None:
    """Files that are no images."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def with_subjects(root: Path) -> None:
    for number in range(20):
        save(root / ("cat", "dog")[number % 2] / f"subject{number % 3}" / f"{number}.png", number)
    classes(root, count=4)


def transparent(root: Path) -> None:
    """Black pictures whose shapes are in the alpha channel alone."""
    for number in range(16):
        pixels = np.zeros((8, 6, 4), np.uint8)
        pixels[..., 3] = smooth(number)
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def animated(root: Path) -> None:
    frames = [Image.fromarray(smooth(0)), Image.fromarray(smooth(1))]
    classes(root, ".gif")
    frames[0].save(root / "cat" / "00.gif", save_all=True, append_images=frames[1:])


def turned(root: Path) -> None:
    """Photographs of a camera that was held upright: 6 high and 8 wide in the file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    classes(root, ".jpg", exif=exif, size=(6, 8), names=("dog", "cat"))


def linked(root: Path) -> None:
    classes(root)
    (root / "cat" / "broken.png").symlink_to("/nonexistent.png")
    (root / "cat" / "loop").symlink_to(root)


# How the files lie; the training, validation and test examples; the shape of one; and what the notes say, in order.
TAKEN = {
    "png": (classes, (10, 2, 4), (8, 6, 1), []),
    "upper case": (partial(classes, suffix=".JPG"), (10, 2, 4), (8, 6, 1), []),
    **{
        f"{suffix} alone": (partial(classes, suffix=suffix), (10, 2, 4), (8, 6, channels), [])
        for suffix, channels in ((".webp", 3), (".bmp", 1), (".tif", 1), (".TIFF", 1), (".gif", 3), (".pgm", 1))
    },
    "some in WebP": (
        lambda root: (classes(root, count=4), classes(root, ".webp")), (13, 2, 5), (8, 6, 3),
        ["greyscale becomes colour, which others have: 4 images (the first: cat/00.png)"],
    ),
    "16 bits": (
        partial(classes, suffix=".tif", mode="I;16"), (10, 2, 4), (8, 6, 1),
        ["grey values of 16 bits are read with 65535 as white: 16 images"],
    ),
    "colours of print": (
        partial(classes, suffix=".jpg", mode="CMYK"), (10, 2, 4), (8, 6, 3), ["CMYK colours become RGB: 16 images"],
    ),
    "one bit": (partial(classes, mode="1"), (10, 2, 4), (8, 6, 1), []),
    "palettes": (partial(classes, mode="P"), (10, 2, 4), (8, 6, 3), []),
    "held upright": (turned, (10, 2, 4), (8, 6, 1), []),
    "transparent": (
        transparent, (10, 2, 4), (8, 6, 3), ["transparent parts become white: 16 images (the first: cat/0.png)"],
    ),
    "animated": (
        animated, (10, 2, 4), (8, 6, 3),
        ["the first of several frames or pages is read: 1 image (the first: cat/00.gif"],
    ),
    "folders in classes": (
        with_subjects, (16, 2, 6), (8, 6, 1),
        ["in folders inside their class's: 20 of 24 images", "cat/subject0/0.png"],
    ),
    "one folder more": (
        lambda root: classes(root / "archive" / "dataset"), (10, 2, 4), (8, 6, 1), ["the folders in archive/dataset"],
    ),
    "one folder more, with parts": (
        lambda root: in_parts(root / "data", "Train", "Test"), (14, 2, 16), (8, 6, 1), ["the folders in data"],
    ),
    "Roboflow's parts": (lambda root: in_parts(root, "train", "valid", "test"), (16, 16, 16), (8, 6, 1), []),
    "parts in capitals": (lambda root: in_parts(root, "Train", "TEST"), (14, 2, 16), (8, 6, 1), []),
    "Training, Testing": (lambda root: in_parts(root, "Training", "Testing"), (14, 2, 16), (8, 6, 1), []),
    "train, dev, eval": (lambda root: in_parts(root, "train", "dev", "eval"), (16, 16, 16), (8, 6, 1), []),
    "parts in longer names": (
        lambda root: in_parts(root, "20news-bydate-train", "20news-bydate-test"), (14, 2, 16), (8, 6, 1),
        ["the parts are the folders 20news-bydate-test for test, 20news-bydate-train for train"],
    ),
    "parts in parts": (
        lambda root: (in_parts(root, "seg_train/seg_train", "seg_test/seg_test"), save(root / "seg_pred/0.png")),
        (14, 2, 16), (8, 6, 1),
        ["not used: 1 image in seg_pred", "seg_test/seg_test for test, seg_train/seg_train for train"],
    ),
    "classes that are called nearly like parts": (
        partial(classes, names=("street", "train station")), (10, 2, 4), (8, 6, 1), [],
    ),
    "a part without classes": (
        lambda root: (in_parts(root, "train"), save(root / "test" / "0.png"), save(root / "test" / "1.png")),
        (10, 2, 4), (8, 6, 1), ["not used: 2 images in test, which has no class-named folders"],
    ),
    "a folder beside the parts": (
        lambda root: (in_parts(root, "train", "test"), save(root / "new" / "0.png")),
        (14, 2, 16), (8, 6, 1), ["not used: 1 image in new, which is none of train, val and test"],
    ),
    "what programs leave": (
        lambda root: (
            classes(root),
            put(root, "__MACOSX/cat/._0.png", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", ".DS_Store"),
            put(root, ".ipynb_checkpoints/0.png", "cat/.ipynb_checkpoints/0.png"),
        ), (10, 2, 4), (8, 6, 1), [],
    ),
    "files of other kinds": (
        lambda root: (classes(root), put(root, "labels.csv", "cat/photo.heic"), save(root / "contact.png")),
        (10, 2, 4), (8, 6, 1),
        ["not used: 1 image outside", "contact.png", "not used: 2 other files", "cat/photo.heic"],
    ),
    "links": (
        linked, (10, 2, 4), (8, 6, 1),
        ["not used: 1 other file (", "cat/loop", "left out: 1 of 17 images", "broken.png"],
    ),
    "classes like others": (
        partial(classes, names=("Cat", "cat", "dog", "eel")), (8, 4, 4), (8, 6, 1),
        ["upper and lower case", "Cat, cat"],
    ),
    "one of another size": (
        lambda root: (classes(root), save(root / "cat" / "large.png", size=(20, 17))),
        (11, 2, 4), (8, 6, 1), ["8 to 20 pixels high and 6 to 17 wide: all are brought to 8x6", "--size HEIGHTxWIDTH"],
    ),
    "large": (
        partial(classes, size=(120, 90)), (10, 2, 4), (64, 48, 1),
        ["120 pixels high and 90 wide: all are brought to 64x48"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_folders_as_people_have_them(tmp_path, kind):
    lay, sizes, shape, notes = TAKEN[kind]
    lay(tmp_path)
    data = load(str(tmp_path), seed=0)
    assert data.input_shape == shape
    contains("\n".join(data.notes), *notes)
    assert bool([note for note in data.notes if " images, too (the first" not in note]) == bool(notes)
    splits = (data.train, data.validation, data.test)
    assert tuple(map(len, splits)) == sizes
    streamed = load(str(tmp_path), seed=0, options=ImageOptions(stream="always"))
    assert (streamed.scaling, streamed.classes, streamed.input_shape) == (data.scaling, data.classes, shape)
    assert set(streamed.notes) - set(data.notes) == {note for note in streamed.notes if "of memory: each batch" in note}
    for held, files in zip(splits, (streamed.train, streamed.validation, streamed.test)):
        assert files.is_streamed and not held.is_streamed
        np.testing.assert_array_equal(files.labels, held.labels)
        np.testing.assert_array_equal(files.pixels[:], held.pixels, strict=True)
    for split in splits if len(data.classes) == 2 else ():
        values = visible(split.pixels).mean(3)
        rise, fall = values[:, :, -1] - values[:, :, 0], values[:, -1] - values[:, 0]
        is_dog = np.abs(rise.mean(1)) > np.abs(fall.mean(1))
        np.testing.assert_array_equal(is_dog, split.labels)


REFUSED = {
    "Kaggle's names": (
        lambda root: [save(root / "train" / f"{name}.{number}.jpg") for name in ("cat", "dog") for number in range(8)],
        "train has no class-named folders in it; put the files of each class into a folder with its name, as in "
        "train/CLASS/cat.0.jpg",
    ),
    "files in parts": (
        lambda root: [save(root / part / f"{number}.png") for part in ("Train", "Test") for number in range(8)],
        "has no class-named folders in it",
    ),
    "files in parts with longer names": (
        lambda root: [save(root / part / "0.png") for part in ("train_images", "test_images")],
        "has no class-named folders in it",
    ),
    "a tenth is broken": (
        lambda root: (classes(root, count=28), put(root, "cat/00.png", "dog/01.png", "dog/03.png")),
        "3 of 28 images cannot be read, which is more than 10%",
    ),
    "a part is broken": (
        lambda root: (in_parts(root, "train"), put(root, "test/cat/0.png", "test/dog/0.png")),
        "no image of the test part can be read: ",
    ),
    "classes with parts inside": (
        lambda root: (classes(root / "cat", names=("train", "test")), classes(root / "dog", names=("train", "test"))),
        "a folder named like a part inside a class's",
    ),
    "two folders of a part": (lambda root: in_parts(root, "train", "val", "dev"), "are both the validation part"),
    "no folder train": (lambda root: (in_parts(root, "test"), classes(root)), "has no folder train"),
    "classes beside train": (lambda root: (in_parts(root, "train"), classes(root)), "beside it is"),
    "a class of other files": (
        lambda root: (classes(root), put(root, "eel/photo.heic")), "eel holds no .png, .jpg, .jpeg",
    ),
    "a class that training does not have": (
        lambda root: (in_parts(root, "train", "val"), save(root / "val" / "eel" / "0.png")), "eel is no class of",
    ),
    "fractions": (lambda root: classes(root, ".tif", mode="F"), "it has fractions as values"),
    "no folders": (lambda root: save(root / "cat.0.png"), "has no folders in it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_folders_that_are_refused(tmp_path, kind):
    lay, expected = REFUSED[kind]
    lay(tmp_path)
    for stream in ("never", "always"):
        contains(message(load, str(tmp_path), seed=0, options=ImageOptions(stream=stream)), tmp_path, expected)


def test_a_folder_to_predict(tmp_path):
    classes(tmp_path, count=2)
    put(tmp_path, "cat/.DS_Store", "__MACOSX/cat/._0.png", "Thumbs.db", "notes.txt")
    files, notes = files_and_notes([tmp_path], SUFFIXES)
    assert [str(file.relative_to(tmp_path)) for file in files] == ["cat/00.png", "dog/01.png"]
    (note,) = notes
    contains(note, "not read: 1 other file in", "(the first: notes.txt)")
    assert files_and_notes([tmp_path / "notes.txt"], SUFFIXES) == ([tmp_path / "notes.txt"], ())


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_are_brought_to_a_size(fit, dtype, channels):
    image = np.zeros((20, 40, channels), dtype)
    image[:, 20:] = 200
    image[:, :2], image[:, -2:] = 100, 100  # which only crop cuts off
    small = resized(image, (10, 10), fit)
    assert small.shape == (10, 10, channels) and small.dtype == dtype
    assert (small[5, 2].max() < 40) and (small[5, 6].min() > 160)
    assert (abs(small[5, 0].astype(float) - 100).max() < 60) == (fit != "crop")
    rows_differ = (np.ptp(small[:, 6].astype(float), axis=0) > 1).any()
    assert not rows_differ


@pytest.mark.parametrize("text", ["", "0", "8x", "x8", "8x8x8", "-8", "5000", "8.0", "a", "9" * 5000])
def test_sizes_that_are_none(text):
    contains(message(parse_size, text), "--size is", "N or HEIGHTxWIDTH")


@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
def test_size_by_option_in_training_and_prediction(tmp_path, fit):
    classes(tmp_path, size=(20, 30))
    data = load(str(tmp_path), seed=0, options=ImageOptions("10x8", fit))
    assert (data.input_shape, data.fit, data.notes) == ((10, 8, 1), fit, ())
    inputs = read_inputs([tmp_path / "cat" / "00.png"], data.input_shape, data.scaling, data.fit)
    images = np.concatenate([split.inputs for split in (data.train, data.validation, data.test)])
    assert (images == inputs[0]).all((1, 2, 3)).sum() == 1


def test_options_without_effect_are_named(tmp_path):
    data = load(str(classes(tmp_path)), seed=0, options=ImageOptions(fit="crop", pixels="0:1"))
    contains("".join(data.notes), "--fit crop is not used", "--pixels 0:1 is not used")


def test_arrays_and_known_images_are_brought_to_a_size(tmp_path):
    images = np.stack([smooth(number, (80, 60)) for number in range(16)])
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(16) % 2)
    data = load(str(tmp_path / "set.npz"), seed=0)
    assert (data.input_shape, data.fit, data.train.pixels.dtype) == ((64, 48, 1), "resize", np.uint8)
    contains(data.notes[0], "80 pixels high and 60 wide")
    assert load(str(tmp_path / "set.npz"), seed=0, options=ImageOptions("8")).input_shape == (8, 8, 1)
    assert load("digits", seed=0, options=ImageOptions("12x16", "pad")).input_shape == (12, 16, 1)
    contains(message(load, "mnist1d", seed=0, options=ImageOptions("8")), "--size is 8", "signals")
