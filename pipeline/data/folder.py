"""Files in class-named folders, and image files."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from ..extras import extra
from .dataset import Source
from .limits import list_folder, parsing, read_content, require_memory

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
"""Pillow's names of the formats, whatever a file's suffix: it would try dozens of others."""
LONGEST_NAME = 255
"""Characters of the name of a file or a folder."""
MOST_PIXELS = 1 << 25
"""Pixels of one image, as in 8192x4096: a small file can announce any number."""
PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def read_image(path: Path, channels: int | None = None) -> np.ndarray:
    """The pixels of a PNG or JPEG file, (height, width, channels): uint8, or uint16 for 16-bit greyscale.

    channels: 1 to convert the image to greyscale, 3 to convert it to colour; None: as the file is.
    Raises UserError for a file that is no such image, is broken, or has more than ``MOST_PIXELS`` pixels.
    """
    with extra("train"):
        from PIL import Image, ImageOps, UnidentifiedImageError

    content = io.BytesIO(read_content(path))  # of which Pillow cannot read more bytes than there are
    problem, remedy = f"{path} cannot be read as an image", "it must be a PNG or JPEG file: repair or remove it"
    with parsing(problem, remedy):
        try:
            image = Image.open(content, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError("it is of neither format") from None
        if image.width * image.height > MOST_PIXELS:
            size = f"{image.width}x{image.height}"
            raise UserError(f"{path} is {size}, and an image may have {MOST_PIXELS:,} pixels; resize it")
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            pixels = np.asarray(upright).astype(np.uint16)[..., None]
        else:
            grey = upright.mode in ("1", "L", "LA") if channels is None else channels == 1
            pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.repeat(pixels, 3, axis=2) if channels == 3 and pixels.shape[2] == 1 else pixels


def read_class_folders(path: Path) -> Source:
    """The images in ``path/CLASS/*``, or in ``path/train/CLASS/*`` and likewise in ``val`` and ``test``.

    Classes are the folders' names in alphabetical order. Images are PNG or JPEG files of one size; if some are
    greyscale and some are in colour, all are converted to colour.
    """
    files, classes = labelled_files(path, SUFFIXES)
    if not classes:
        raise UserError(
            f"{path} has no folders in it; put the images of each class into a folder with its name (PNG or JPEG), or "
            "give IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, ...)"
        )
    images = _read_images([file for pairs in files.values() for file, _ in pairs])
    ends = np.cumsum([len(pairs) for pairs in files.values()])
    parts = {
        part: (pixels, np.array([label for _, label in pairs], int))
        for (part, pairs), pixels in zip(files.items(), np.split(images, ends[:-1]))
    }
    return Source(parts, classes)


def labelled_files(path: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, list[tuple[Path, int]]], tuple[str, ...]]:
    """The files in class-named folders with their labels, by part, and the classes; no classes if there are no folders.

    Raises UserError if a class has no file with one of these suffixes, or if the train part lacks a class.
    """
    folders = {PARTS[folder.name]: folder for folder in _folders(path) if folder.name in PARTS and _folders(folder)}
    if "train" not in folders:
        folders = {"train": path}
    names = [folder.name for folder in _folders(folders["train"])]
    files = {}
    for part, folder in folders.items():
        unknown = [child for child in _folders(folder) if child.name not in names]
        if unknown:
            raise UserError(f"{unknown[0]} is no class of {folders['train']}: that has {visible(', '.join(names))}")
        files[part] = [(file, label) for label, name in enumerate(names) for file in _files(folder / name, suffixes)]
    empty = set(range(len(names))) - {label for _, label in files["train"]}
    if empty:
        folder = folders["train"] / names[min(empty)]
        raise UserError(f"{folder} holds no {', '.join(suffixes)} files; add some or remove the folder")
    return files, tuple(visible(name, LONGEST_NAME) for name in names)


def _folders(path: Path) -> list[Path]:
    return [child for child in list_folder(path) if os.path.isdir(child) and not child.name.startswith(".")]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = list_folder(folder) if os.path.isdir(folder) else []
    return [file for file in files if file.suffix.lower() in suffixes and not file.name.startswith(".")]


def _read_images(files: list[Path]) -> np.ndarray:
    """The pixels of files of one size, with the same number of channels: (images, height, width, channels)."""
    first = read_image(files[0])
    require_memory(f"the set of {len(files)} images such as {files[0]}", len(files) * first.nbytes)

    def read_another(file: Path) -> np.ndarray:
        image = read_image(file)
        if image.shape[:2] != first.shape[:2]:
            raise UserError(
                f"{file} is {_size(image)}, but {files[0]} is {_size(first)}; all images must have one size: crop or "
                "resize them"
            )
        return image

    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter's lock while it decodes
        images = [first, *pool.map(read_another, files[1:])]
    if any(image.dtype == np.uint16 for image in images):
        images = [image if image.dtype == np.uint16 else image * np.uint16(257) for image in images]
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images])


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def files_in(paths: Sequence[Path], suffixes: Sequence[str] = ()) -> list[Path]:
    """The files among ``paths`` and in the folders among them, in alphabetical order.

    suffixes: of the files to take from folders; without any, all files.
    Raises UserError if there are none.
    """
    if not paths:
        raise UserError("predict needs the files to answer for: predict RUN FILE...")
    files = []
    for path in paths:
        inside = [path]
        if os.path.isdir(path):
            inside = sorted(file for file in path.rglob("*") if os.path.isfile(file))
            inside = [file for file in inside if not suffixes or file.suffix.lower() in suffixes]
        if not inside:
            kinds = f"{' or '.join(suffixes)} file" if suffixes else "file"
            raise UserError(f"{path} has no {kinds} in it; give files, or a folder of them")
        files += inside
    return files
