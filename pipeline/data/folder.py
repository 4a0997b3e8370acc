"""Files in class-named folders, and image files."""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..display import visible
from ..errors import UserError
from ..extras import extra
from .dataset import LONGEST_CLASS, Source
from .limits import list_folder, open_file, parsing, read_content, require_memory
from .parts import NAMES_WITH_EVAL
from .sizes import Size, default_size, parse_size, resized, size_note

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow's names of the formats, whatever a file's suffix: it would try dozens of others."""
FORMATS_IN_WORDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
MOST_PIXELS = 1 << 25
"""Pixels of one image, as in 8192x4096: a small file can announce any number."""
PARTS = {name: part for part, names in NAMES_WITH_EVAL.items() for name in names}
"""What folders of a part are named, in any case."""
JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
"""Files and folders that programs leave behind, in lower case; so are all whose names begin with a dot."""
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
"""EXIF's key of how a camera was held, and those of its values for which height and width change places."""


class _Image(NamedTuple):
    pixels: np.ndarray
    is_transparent: bool
    has_frames: bool


def read_image(path: Path, channels: int | None = None) -> np.ndarray:
    """The pixels of an image file, (height, width, channels): uint8, or uint16 for 16-bit greyscale.

    Transparent parts are white; of several frames or pages the first is read.
    channels: 1 to convert the image to greyscale, 3 to convert it to colour; None: as the file is.
    Raises UserError for a file that is no such image, is broken, or has more than ``MOST_PIXELS`` pixels.
    """
    return _decoded(path, channels).pixels


def _decoded(path: Path, channels: int | None = None) -> _Image:
    content = io.BytesIO(read_content(path))  # of which Pillow cannot read more bytes than there are
    with _image_errors(path):
        image = _opened(path, content)
        has_frames = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"  # which has previews of a photograph
        with extra("train"):
            from PIL import ImageOps

        upright = ImageOps.exif_transpose(image)
        is_transparent = False
        if upright.mode.startswith("I"):
            pixels = np.asarray(upright)
            if pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
                raise ValueError(f"it has values from {pixels.min()} to {pixels.max()}, beyond 16 bits")
            pixels = pixels.astype(np.uint16)[..., None]
        elif upright.mode == "F":
            raise ValueError("it has fractions as values, whose black and white are unknown")
        else:
            grey = upright.mode in ("1", "L", "LA") if channels is None else channels == 1
            upright, is_transparent = _on_white(upright)
            pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    pixels = np.repeat(pixels, 3, axis=2) if channels == 3 and pixels.shape[2] == 1 else pixels
    return _Image(pixels, is_transparent, has_frames)


def _image_errors(path: Path) -> Any:
    return parsing(f"{path} cannot be read as an image", f"it must be a {FORMATS_IN_WORDS} file: repair or remove it")


def _opened(path: Path, file: Any) -> Any:
    """Pillow's image in a file that is open, of which only the header is read."""
    with extra("train"):
        from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("it is of none of these formats") from None
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.width}x{image.height}"
        raise UserError(f"{path} is {size}, and an image may have {MOST_PIXELS:,} pixels; resize it")
    return image


def _on_white(image: Any) -> tuple[Any, bool]:
    """A Pillow image without transparency, and whether it had any."""
    if not image.has_transparency_data:
        return image, False
    with extra("train"):
        from PIL import Image

    colours = image.convert("RGBA")
    if colours.getchannel("A").getextrema()[0] == 255:
        return image, False
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours), True


def _size_of(path: Path) -> Size:
    """Height and width of an image, by its file's header."""
    with open_file(path) as file, _image_errors(path):
        image = _opened(path, file)
        is_turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _TURNED
        return (image.width, image.height) if is_turned else (image.height, image.width)


def read_class_folders(path: Path, size: str = "", fit: str = "resize") -> Source:
    """The images in ``path/CLASS/*``, or in ``path/train/CLASS/*`` and likewise in ``val`` and ``test``.

    Classes are the folders' names in alphabetical order. If some images are greyscale and some are in colour, all are
    converted to colour. Those that cannot be read are left out, with a note.

    size: "N" or "HEIGHTxWIDTH" of all images; "": see ``default_size``. fit: see ``resized``.
    """
    found = find_class_folders(path, SUFFIXES)
    if not found.classes:
        raise UserError(
            f"{path} has no folders in it; put the images of each class into a folder with its name "
            f"({FORMATS_IN_WORDS}), or give IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, ...)"
        )
    files = [file for pairs in found.files.values() for file, _ in pairs]
    sizes = _each(_size_of, files) if not size else []
    known = [pair for pair in sizes if isinstance(pair, tuple)]
    chosen, notes = parse_size(size) if size else default_size(known) if known else None, list(found.notes)
    if chosen and known:
        notes.append(size_note(known, chosen, fit))
    images = _read_images(files, chosen, fit)
    notes += _image_notes(path, files, images)

    parts, start = {}, 0
    for part, pairs in found.files.items():
        labelled = [(image, label) for image, (_, label) in zip(images[start : start + len(pairs)], pairs)]
        start += len(pairs)
        for label in range(len(found.classes)) if part == "train" else ():
            of_class = [image for image, other in labelled if other == label]
            if all(isinstance(image, UserError) for image in of_class):
                raise UserError(f"no image of class {found.classes[label]!r} can be read: {of_class[0]}")
        read = [(image.pixels, label) for image, label in labelled if isinstance(image, _Image)]
        parts[part] = [pixels for pixels, _ in read], np.array([label for _, label in read], int)
    return Source(_stacked(parts), found.classes, tuple(notes), None, fit if chosen else "")


def _each(function: Callable[[Path], T], files: Sequence[Path]) -> list[T | UserError]:
    """What a function makes of each file, or its UserError."""

    def attempt(file: Path) -> T | UserError:
        try:
            return function(file)
        except UserError as error:
            return error

    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter's lock while it decodes
        return list(pool.map(attempt, files))


def _read_images(files: Sequence[Path], size: Size | None, fit: str) -> list[_Image | UserError]:
    """The images in files, of one size: ``size``, or that of the first."""
    first, pixels = None, None
    for first in files:
        with suppress(UserError):
            pixels = _decoded(first).pixels
            break
    if pixels is None:
        return _each(_decoded, files)
    shape = size or pixels.shape[:2]
    require_memory(
        f"the set of {len(files)} images such as {first}",
        len(files) * shape[0] * shape[1] * pixels.shape[2] * pixels.itemsize,
    )

    def read(file: Path) -> _Image:
        image = _decoded(file)
        return image._replace(pixels=resized(image.pixels, shape, fit))

    return _each(read, files)


def _image_notes(root: Path, files: Sequence[Path], images: Sequence[_Image | UserError]) -> list[str]:
    unreadable = [image for image in images if isinstance(image, UserError)]
    notes = []
    if unreadable:
        number = f"{len(unreadable):,} of {_counted(len(images), 'image')}"
        notes.append(f"left out: {number} (the first: {visible(str(unreadable[0]))})")
    kinds = {
        "is_transparent": "transparent parts become white",
        "has_frames": "the first of several frames or pages is read",
    }
    for kind, text in kinds.items():
        which = [file for file, image in zip(files, images) if getattr(image, kind, False)]
        if which:
            notes.append(f"{text}: {_counted(len(which), 'image')}{_first(root, which)}")
    return notes


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _first(root: Path, files: Sequence[Path]) -> str:
    return f" (the first: {visible(str(files[0].relative_to(root)))})"


def _stacked(parts: dict[str, tuple[list[np.ndarray], np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images of one size as arrays with the same type and number of channels."""
    images = [image for pixels, _ in parts.values() for image in pixels]
    is_deep = any(image.dtype == np.uint16 for image in images)
    channels = max(image.shape[2] for image in images)

    def common(image: np.ndarray) -> np.ndarray:
        image = image * np.uint16(257) if is_deep and image.dtype == np.uint8 else image
        return np.broadcast_to(image, (*image.shape[:2], channels))

    empty = np.empty((0, *images[0].shape[:2], channels), images[0].dtype)
    return {
        part: (np.stack([common(image) for image in pixels]) if pixels else empty, labels)
        for part, (pixels, labels) in parts.items()
    }


class ClassFolders(NamedTuple):
    """Files in class-named folders.

    files: with their labels, by part; classes: no one if there are no folders; notes: which files are not used.
    """

    files: dict[str, list[tuple[Path, int]]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def find_class_folders(path: Path, suffixes: tuple[str, ...], kind: str = "image") -> ClassFolders:
    """The files in ``path/CLASS/`` and in the folders there, or in ``path/train/CLASS/`` and likewise in other parts.

    suffixes: of the files, in lower case; kind: what one of them is, for notes.
    Raises UserError if a class has no such file in the train part, or if the train part lacks a class.
    """
    root, notes = path, []
    while inner := _only_folder(root, suffixes):
        root = inner
    if root != path:
        notes.append(f"the classes are the folders in {visible(str(root.relative_to(path)))}")
    folders = _part_folders(root, suffixes, kind, notes)
    names = [folder.name for folder in _folders(folders["train"])]
    files, nested, outside, others = {}, [], [], []
    for folder in {root, *folders.values()}:
        for file in list_folder(folder):
            if not os.path.isdir(file) and not _is_junk(file):
                (outside if file.suffix.lower() in suffixes else others).append(file)
    for part, folder in folders.items():
        unknown = [child for child in _folders(folder) if child.name not in names]
        if unknown:
            raise UserError(f"{unknown[0]} is no class of {folders['train']}: that has {visible(', '.join(names))}")
        files[part] = []
        for label, name in enumerate(names):
            of_class = _files_below(folder / name) if os.path.isdir(folder / name) else []
            chosen = [file for file in of_class if file.suffix.lower() in suffixes]
            files[part] += [(file, label) for file in chosen]
            nested += [file for file in chosen if file.parent != folder / name]
            others += [file for file in of_class if file.suffix.lower() not in suffixes]
            if part == "train" and not chosen:
                has = f" (it has {visible(of_class[0].name)})" if of_class else ""
                raise UserError(
                    f"{folder / name} holds no {', '.join(suffixes)} files{has}; add some or remove the folder"
                )
    _require_no_parts_inside(path, nested)
    total = sum(map(len, files.values()))
    if nested:
        notes.append(f"in folders inside their class's: {len(nested)} of {_counted(total, kind)}{_first(path, nested)}")
    if outside:
        notes.append(
            f"not used: {_counted(len(outside), kind)} outside the classes' folders{_first(path, sorted(outside))}"
        )
    if others:
        notes.append(f"not used: {_counted(len(others), 'other file')}{_first(path, sorted(others))}")
    if len({name.lower() for name in names}) < len(names):
        alike = [name for name in names if [other.lower() for other in names].count(name.lower()) > 1]
        notes.append(
            f"classes that differ in upper and lower case only are different ones: {visible(', '.join(alike))}"
        )
    return ClassFolders(files, tuple(visible(name, LONGEST_CLASS) for name in names), tuple(notes))


def _only_folder(root: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The only folder in a folder, if that has folders of its own, and files in neither of the two."""
    folders = _folders(root)
    if len(folders) != 1 or folders[0].name.lower() in PARTS or not _folders(folders[0]):
        return None
    files = [file for folder in (root, folders[0]) for file in list_folder(folder) if file.suffix.lower() in suffixes]
    return None if any(not os.path.isdir(file) for file in files) else folders[0]


def _part_folders(root: Path, suffixes: tuple[str, ...], kind: str, notes: list[str]) -> dict[str, Path]:
    """The folders of the parts, which have class-named folders in them; or ``root`` as the train part."""
    parts: dict[str, Path] = {}
    for folder in _folders(root):
        part = PARTS.get(folder.name.lower())
        if not part or not _folders(folder):
            continue
        if part in parts:
            raise UserError(f"{parts[part]} and {folder} are both the {part} part; merge them, or rename one")
        parts[part] = folder
    if parts and "train" not in parts:
        raise UserError(
            f"{next(iter(parts.values()))} has class-named folders in it, but {root} has no folder train; add one, or "
            "rename that folder if it is a class"
        )
    for folder in _folders(root) if parts else ():
        if folder in parts.values():
            continue
        files = [file for file in _files_below(folder) if file.suffix.lower() in suffixes]
        if files and len(parts) == 1 and folder.name.lower() not in PARTS:
            raise UserError(
                f"{parts['train']} has class-named folders in it, and beside it is {folder}, which is none of train, "
                "val and test; move or rename one of the two"
            )
        what = "has no class-named folders" if folder.name.lower() in PARTS else "is none of train, val and test"
        if files:
            notes.append(f"not used: {_counted(len(files), kind)} in {visible(folder.name)}, which {what}")
    return parts or {"train": root}


def _require_no_parts_inside(path: Path, nested: Sequence[Path]) -> None:
    for file in nested:
        if any(name.lower() in PARTS for name in file.parent.relative_to(path).parts[1:]):
            raise UserError(
                f"{file} is in a folder named like a part inside a class's; put the parts outside: train/CLASS/..., "
                "test/CLASS/..."
            )


def _is_junk(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in JUNK


def _folders(path: Path) -> list[Path]:
    return [child for child in list_folder(path) if os.path.isdir(child) and not _is_junk(child)]


def _files_below(folder: Path) -> list[Path]:
    """The files in a folder and in those inside it, in alphabetical order; a link to a folder counts as a file."""
    files, folders = [], [folder]
    while folders:
        for child in list_folder(folders.pop()):
            if not _is_junk(child):
                (folders if os.path.isdir(child) and not os.path.islink(child) else files).append(child)
    return sorted(files)


def files_in(paths: Sequence[Path], suffixes: Sequence[str] = ()) -> list[Path]:
    """The files among ``paths`` and in the folders among them: see ``files_and_notes``."""
    return files_and_notes(paths, suffixes)[0]


def files_and_notes(paths: Sequence[Path], suffixes: Sequence[str] = ()) -> tuple[list[Path], tuple[str, ...]]:
    """The files among ``paths`` and in the folders among them, in alphabetical order; and notes on the others.

    suffixes: of the files to take from folders; without any, all files.
    Raises UserError if there are none.
    """
    if not paths:
        raise UserError("predict needs the files to answer for: predict RUN FILE...")
    files, notes = [], []
    for path in paths:
        inside = [path]
        if os.path.isdir(path):
            every = _files_below(path)
            inside = [
                file for file in every if os.path.isfile(file) and (not suffixes or file.suffix.lower() in suffixes)
            ]
            others = [file for file in every if file not in set(inside)]
            if others:
                notes.append(
                    f"not read: {_counted(len(others), 'other file')} in {visible(str(path))}{_first(path, others)}"
                )
        if not inside:
            kinds = f"{' or '.join(suffixes)} file" if suffixes else "file"
            raise UserError(f"{path} has no {kinds} in it; give files, or a folder of them")
        files += inside
    return files, tuple(notes)
