"""Images as users have them: what the account says of them, or what the refusal says."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import Case, Content, check, read, refused, saved
from PIL import Image

from tasks.image_recognition import ImageRecognition

TASK = ImageRecognition()


def picture(number: int, suffix: str, mode: str = "RGB", size: tuple[int, int] = (12, 12), **options: Any) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels if mode == "RGBA" else pixels[..., :3])
    kinds = {".jpg": "JPEG", ".tiff": "TIFF", ".pgm": "PPM"}
    return saved(partial(image.convert(mode).save, format=kinds.get(suffix, suffix[1:].upper()), **options))


def folder(*parts: str, suffix: str = ".png", inside: str = "", count: int = 12, **options: Any) -> dict[str, Content]:
    """Two classes of pictures, in each of the parts if there are any."""
    return {
        f"{part}{name}/{inside}{i}{suffix}": picture(len(part) + 100 * i + (name == "cat"), suffix.lower(), **options)
        for part in (parts or ("",))
        for name in ("cat", "dog")
        for i in range(count)
    }


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


FOLDERS = {
    "the batch is larger than the set": read("ok", folder(), "16 train", "batches of 8 examples", "12x12x3, height x"),
    "sizes differ": read(
        "sizes",
        folder() | {"cat/5.png": picture(5, ".png", size=(20, 17))},
        "12 to 17 pixels high and 12 to 20 wide: all are brought to 12x12",
        "--size HEIGHTxWIDTH",
    ),
    "a size is chosen": read("sizes", folder(size=(20, 17)), "of shape 10x8x3", options="--size 10x8 --fit pad"),
    "EXIF turns pictures": read(
        "exif",
        folder(suffix=".jpg", size=(20, 14), exif=exif(6)),
        "of shape 20x14x3",
    ),
    "WebP alone": read("webp", folder(suffix=".webp"), "16 train"),
    "BMP alone": read("bmp", folder(suffix=".bmp"), "16 train"),
    "TIFF alone": read("tiff", folder(suffix=".tiff"), "16 train"),
    "GIF alone": read("gif", folder(suffix=".gif"), "16 train"),
    "PGM alone": read("pgm", folder(suffix=".pgm", mode="L"), "16 train", "12x12x1"),
    "some in WebP": read(
        "half",
        folder(count=4, mode="L") | folder(suffix=".webp", count=40),
        "59 train",
        "greyscale becomes colour, which others have: 8 images",
    ),
    "upper-case suffixes": read("upper", {n.upper(): c for n, c in folder(suffix=".jpg").items()}, "CAT 8, DOG 8"),
    "folders in classes": read("nested", folder(inside="subject1/"), "inside their class's: 24 of 24 images"),
    "train, valid and test": read("roboflow", folder("train/", "valid/", "test/"), "24 train, 24 validation, 24 test"),
    "train and dev": read("dev", folder("train/", "dev/"), "24 validation"),
    "train, validate and test": read("a", folder("train/", "validate/", "test/"), "24 validation"),
    "Train and Test": read("capitals", folder("Train/", "Test/"), "24 test"),
    "Training and Testing": read("longer", folder("Training/", "Testing/"), "24 test"),
    "seg_train in itself": read(
        "intel",
        folder("seg_train/seg_train/", "seg_test/seg_test/"),
        "24 test",
        "seg_train/seg_train for train",
    ),
    "one folder more": read("extra", folder("dataset/"), "the classes are the folders in dataset"),
    "what macOS and Windows leave": read(
        "macos",
        folder() | {"__MACOSX/cat/._0.png": b"x", ".DS_Store": b"x", "cat/Thumbs.db": b"x"},
        "cat 8, dog 8",
    ),
    "checkpoints of notebooks": read("jupyter", folder() | {".ipynb_checkpoints/0.png": b"x"}, "cat 8, dog 8"),
    "transparent": read("logos", folder(mode="RGBA"), "parts become white: 24 images (the first: cat/0.png)"),
    "CMYK": read("print", folder(suffix=".jpg", mode="CMYK"), "CMYK colours become RGB: 24 images"),
    "16 bits": read(
        "deep",
        {
            name: saved(partial(Image.fromarray(np.full((12, 12), 257 * i, np.uint16)).save, format="PNG"))
            for i, name in enumerate(folder())
        },
        "grey values of 16 bits are read with 65535 as white: 24 images",
    ),
    "a broken file": read(
        "broken",
        folder() | {"cat/3.png": b"<html>404"},
        "left out: 1 of 24 images (the first: ",
        "3.png cannot be",
    ),
    "files of other kinds": read("heic", folder() | {"cat/photo.heic": b"x"}, "not used: 1 other file (", "photo.heic"),
    "a class of other files": refused("heic", folder() | {"eel/photo.heic": b"x"}, "eel holds no .png", "photo.heic"),
    "no classes": refused("flat", {"cat.0.png": picture(0, ".png")}, "put the images of each class"),
    "parts without classes": refused(
        "kaggle",
        {"train_images/0.png": picture(0, ".png"), "test_images/0.png": picture(1, ".png")},
        "has no class-named folders in it",
        "CLASS/0.png",
    ),
    "one picture of a class": refused("rare", folder() | {"eel/0.png": picture(0, ".png")}, "'eel' has only one"),
}


def arrays(
    name: str = "train_{}s", images: Callable = np.asarray, labels: Callable = np.asarray, **more: Any
) -> Callable[[Path], None]:
    """40 pictures and their labels, 0 and 1, each changed by a function. name: of the arrays."""
    own: dict[str, Any] = {
        name.format("image"): images(np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8)),
        name.format("label"): labels(np.arange(40) % 2),
    }
    return lambda path: np.savez(path, **own, **more)


def idx(path: Path, names: Sequence[str]) -> None:
    """The files of a set as EMNIST has them, with a name before their own."""
    path.mkdir()
    pixels, labels = (
        np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8),
        np.arange(40, dtype=np.uint8) % 2,
    )
    for name in names:
        for kind, values in (("images", pixels), ("labels", labels)):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (path / f"{name}-train-{kind}-idx{values.ndim}-ubyte").write_bytes(head + values.tobytes())


KERAS: dict[str, Any] = {
    f"{kind}_{part}": np.random.default_rng(0).integers(0, 256, (20, 12, 12), np.uint8)
    if kind == "x"
    else np.arange(20) % 2
    for kind in "xy"
    for part in ("train", "test")
}
ARCHIVES = {
    "floats to 255": read(
        "a.npz",
        arrays(images=lambda x: x.astype(np.float32)),
        "0 is taken for black and 255 for white, also in files to predict; --pixels LOW:HIGH names others",
    ),
    "floats to 1": read("a.npz", arrays(images=lambda x: x / 255.0), "0 13, 1 14"),
    "bools": read("a.npz", arrays(images=lambda x: x > 99), "0 13, 1 14"),
    "channels first": read(
        "a.npz",
        arrays(images=lambda x: x.transpose(0, 3, 1, 2)),
        "(40, 3, 12, 12): taken for (examples, channels, height, width) (--channel-axis last: it is not)",
        "12x12x3",
    ),
    "channels that are not first": read(
        "a.npz",
        arrays(images=lambda x: x.transpose(0, 3, 1, 2)),
        "of shape 3x12x12",
        options="--channel-axis last",
    ),
    "many channels first": read(
        "a.npz",
        arrays(images=lambda x: np.tile(x, 2).transpose(0, 3, 1, 2)),
        "of shape 12x12x6",
        options="--channel-axis first",
    ),
    "a folder has no axis of channels": read(
        "ok",
        folder(),
        "--channel-axis first is not used",
        options="--channel-axis first",
    ),
    "volumes": refused(
        "a.npz",
        arrays(images=lambda x: np.stack([x[..., 0]] * 16, 1)),
        "(40, 16, 12, 12), which are volumes",
    ),
    "flattened": refused("a.npz", arrays(images=lambda x: x.reshape(40, -1)), "train_images has the shape (40, 432)"),
    "Keras' names": read("a.npz", lambda path: np.savez(path, **KERAS), "18 train, 2 validation, 20 test"),
    "names without a part": read("a.npz", arrays("{}s"), "0 13, 1 14"),
    "other names": refused("a.npz", arrays("arr_{}"), "its arrays are arr_image, arr_label"),
    "classes 5 and 900": read("a.npz", arrays(labels=lambda y: 5 + 895 * y), "5 13, 900 14"),
    "classes 5 and 3,000,000": read("a.npz", arrays(labels=lambda y: 5 + 2_999_995 * y), "5 13, 3000000 14"),
    "labels in a column": read("a.npz", arrays(labels=lambda y: y[:, None]), "0 13, 1 14"),
    "floats as labels": read("a.npz", arrays(labels=lambda y: y.astype(np.float32)), "0 13, 1 14"),
    "texts as labels": read("a.npz", arrays(labels=lambda y: np.array(["cat", "dog"])[y]), "cat 13, dog 14"),
    "bools as labels": read("a.npz", arrays(labels=lambda y: y > 0), "False 13, True 14"),
    "one-hot labels": read("a.npz", arrays(labels=lambda y: np.eye(2)[y]), "one-hot rows of 2: the place of a row's 1"),
    "several labels": refused("a.npz", arrays(labels=lambda y: np.ones((40, 3))), "its rows are not one-hot"),
    "one label": refused("a.npz", arrays(labels=lambda y: y[0]), "train_labels has the shape ()"),
    "fractions as labels": refused("a.npz", arrays(labels=lambda y: y / 2), "0.5 at index 1, which is no whole number"),
    "objects": refused("a.npz", arrays(labels=lambda y: y.astype(object)), "train_labels has Python objects"),
    "another array": read("a.npz", arrays(notes=np.zeros(3)), "has 1 more arrays, which are not used: notes"),
    "a missing pixel": refused("a.npz", arrays(images=lambda x: np.where(x == 7, np.nan, x)), "pixel that is NaN"),
    "no archive": refused("a.npz", b"hello", "cannot be read as a NumPy archive"),
    "singular names": read("a.npz", arrays("{}"), "0 13, 1 14"),
    "IDX files of a set": read("emnist", partial(idx, names=("emnist-letters",)), "27 train, 3 validation"),
    "IDX files of two sets": refused("emnist", partial(idx, names=("a", "b")), "of several sets, a, b; choose one"),
    "one array": refused("a.npy", saved(lambda file: np.save(file, np.zeros(3))), "is not a data set"),
}


@pytest.mark.parametrize("kind", FOLDERS | ARCHIVES)
def test_images_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = (FOLDERS | ARCHIVES)[kind]
    check(TASK, case, tmp_path, capsys, monkeypatch)
