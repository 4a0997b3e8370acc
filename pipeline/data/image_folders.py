"""Labelled images in class-named folders: held in memory, or streamed where they are too many."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from ..display import visible
from ..errors import UserError
from .dataset import Source
from .folder import ClassFolders, counted, find_class_folders, first_of
from .image_files import FORMATS_IN_WORDS, SUFFIXES, Form, Header, decode, read_header
from .limits import require_memory, size_in_words
from .sizes import default_size, parse_size, size_note
from .streamed import Streamed, digest, select, sums_of

T = TypeVar("T")

Streaming = Literal["auto", "always", "never"]
HELD_BYTES = 1 << 29
"""Bytes of pixels up to which the images of a folder are held in memory; more are streamed.

The number is the same on every machine, so that a run is resumed and evaluated elsewhere with the same data.
"""
UNREADABLE_SHARE = 0.1
"""Share of a folder's images that may be left out because they cannot be read."""
_FILES_AT_A_TIME = 4_096


_NO_SUMS = np.empty(0, np.uint64)


class _Seen(NamedTuple):
    """What is kept of an image that has been decoded. digest, sums: of its pixels, if they are streamed."""

    notes: tuple[str, ...]
    digest: bytes = b""
    sums: np.ndarray = _NO_SUMS


def read_class_folders(path: Path, size: str = "", fit: str = "resize", stream: Streaming = "auto") -> Source:
    """The images in ``path/CLASS/*``, or in ``path/train/CLASS/*`` and likewise in ``val`` and ``test``.

    Classes are the folders' names in alphabetical order. If some images are greyscale and some are in colour, all are
    converted to colour. Every file is decoded once before training, so that those which cannot be read are found: a few
    are left out, with a note.

    size: "N" or "HEIGHTxWIDTH" of all images; "": see ``default_size``. fit: see ``resized``.
    stream: whether the pixels are ``Streamed`` instead of held in memory; "auto": above ``HELD_BYTES``.
    Raises UserError if the folder has no classes, a class has no image that can be read, or many images cannot be read.
    """
    found = find_class_folders(path, SUFFIXES)
    if not found.classes:
        raise UserError(
            f"{path} has no folders in it; put the images of each class into a folder with its name "
            f"({FORMATS_IN_WORDS}), or give IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, ...)"
        )
    files = [file for pairs in found.files.values() for file, _ in pairs]
    found_headers = _each(read_header, files)
    headers = [header for header in found_headers if isinstance(header, Header)]
    sizes = [header.size for header in headers] or [(1, 1)]  # of no image: each is refused when it is decoded
    chosen, notes = parse_size(size) if size else default_size(sizes), list(found.notes)
    if chosen and not size:
        notes.append(size_note(sizes, chosen, fit))
    form = Form.of(headers, chosen or sizes[0], fit)
    grey = [file for file, header in zip(files, found_headers) if isinstance(header, Header) and header.is_grey]
    if grey and form.channels == 3:
        notes.append(
            f"greyscale becomes colour, which others have: {counted(len(grey), 'image')}{first_of(path, grey)}"
        )
    needed = len(files) * int(np.prod(form.shape)) * form.dtype.itemsize
    is_streamed = stream == "always" or (stream == "auto" and needed > HELD_BYTES)
    if is_streamed:
        number = counted(len(files), "image")
        notes.append(f"{number} would take {size_in_words(needed)} of memory: each batch is decoded when it is needed")
        seen = _each(partial(_look_at, form), files)
        pixels = _streamed(files, seen, form)
    else:
        require_memory(f"the set of {len(files)} images such as {files[0]}", needed)
        pixels, seen = _read_all(files, form)
    _require_readable(path, found, seen)
    notes += _image_notes(path, files, seen)
    return Source(_parts(found, seen, pixels), found.classes, tuple(notes), None, fit if chosen else "")


def _each(function: Callable[[Path], T], files: Sequence[Path]) -> list[T | UserError]:
    """What a function makes of each file, or its UserError."""

    def attempt(file: Path) -> T | UserError:
        try:
            return function(file)
        except UserError as error:
            return error

    results: list[T | UserError] = []
    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter's lock while it decodes
        for start in range(0, len(files), _FILES_AT_A_TIME):  # each that waits takes a kilobyte
            results += pool.map(attempt, files[start : start + _FILES_AT_A_TIME])
    return results


def _look_at(form: Form, file: Path) -> _Seen:
    image = decode(file, form)
    return _Seen(image.notes, digest(image.pixels), sums_of(image.pixels))


def _streamed(files: Sequence[Path], seen: Sequence[_Seen | UserError], form: Form) -> Streamed:
    """All files; those that cannot be read with zeros for what is known of the others."""
    digests = np.zeros((len(files), 32), np.uint8)
    sums = np.zeros((len(files), 3, form.channels), np.uint64)
    for row, image in enumerate(seen):
        if isinstance(image, _Seen):
            digests[row], sums[row] = np.frombuffer(image.digest, np.uint8), image.sums
    return Streamed(files, partial(_pixels, form), digests, sums, form.shape, form.dtype)


def _pixels(form: Form, file: Path) -> np.ndarray:
    return decode(file, form).pixels


def _read_all(files: Sequence[Path], form: Form) -> tuple[np.ndarray, list[_Seen | UserError]]:
    """The pixels of all files; those that cannot be read are left as they come."""
    pixels = np.empty((len(files), *form.shape), form.dtype)
    rows = {file: row for row, file in enumerate(files)}

    def read(file: Path) -> _Seen:
        image = decode(file, form)
        pixels[rows[file]] = image.pixels
        return _Seen(image.notes)

    return pixels, _each(read, files)


def _parts(
    found: ClassFolders, seen: Sequence[_Seen | UserError], pixels: np.ndarray | Streamed
) -> dict[str, tuple[np.ndarray | Streamed, np.ndarray]]:
    """The images that could be read, by part."""
    parts, start = {}, 0
    for part, pairs in found.files.items():
        rows = np.array([row for row in range(start, start + len(pairs)) if isinstance(seen[row], _Seen)], int)
        labels = np.array([label for _, label in pairs], int)[rows - start]
        parts[part] = select(pixels, slice(start, start + len(pairs)) if len(rows) == len(pairs) else rows), labels
        start += len(pairs)
    return parts


def _require_readable(path: Path, found: ClassFolders, seen: Sequence[_Seen | UserError]) -> None:
    for label, name in enumerate(found.classes):
        of_class = [image for image, (_, other) in zip(seen, found.files["train"]) if other == label]
        if all(isinstance(image, UserError) for image in of_class):
            raise UserError(f"no image of class {name!r} can be read: {of_class[0]}")
    rest = iter(seen)
    for part, pairs in found.files.items():
        of_part = list(islice(rest, len(pairs)))
        if pairs and all(isinstance(image, UserError) for image in of_part):
            raise UserError(f"no image of the {part} part can be read: {of_part[0]}")
    errors = [image for image in seen if isinstance(image, UserError)]
    if len(errors) > max(1, UNREADABLE_SHARE * len(seen)):
        raise UserError(
            f"{path}: {len(errors):,} of {counted(len(seen), 'image')} cannot be read, which is more than "
            f"{UNREADABLE_SHARE:.0%}: repair or remove them (the first: {errors[0]})"
        )


def _image_notes(root: Path, files: Sequence[Path], seen: Sequence[_Seen | UserError]) -> list[str]:
    errors = [image for image in seen if isinstance(image, UserError)]
    notes = []
    if errors:
        number = f"{len(errors):,} of {counted(len(seen), 'image')}"
        notes.append(f"left out: {number} (the first: {visible(str(errors[0]))})")
    kinds: dict[str, list[Path]] = {}
    for file, image in zip(files, seen):
        for note in () if isinstance(image, UserError) else image.notes:
            kinds.setdefault(note, []).append(file)
    return notes + [f"{note}: {counted(len(which), 'image')}{first_of(root, which)}" for note, which in kinds.items()]
