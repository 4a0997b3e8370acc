"""NumPy archives with MedMNIST's names (``train_images``, ``train_labels``) or Keras' (``x_train``, ``y_train``)."""

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from .dataset import Source, with_numbers_as_classes
from .limits import Readable, default_limit, open_file, parsing, read_at_most, require_memory
from .pixels import ChannelAxis, channels_last

PARTS = {
    "train": ("train",),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
NAMES = {
    "images": ("{}_images", "x_{}", "{}_x", "images_{}", "{}_data", "{}_features"),
    "labels": ("{}_labels", "y_{}", "{}_y", "labels_{}"),
}
"""How the arrays of a part are named, in any case."""
UNSPLIT = {
    "images": ("images", "image", "x", "data", "features"),
    "labels": ("labels", "label", "y", "target", "targets"),
}
"""How arrays without a part are named, which are the training part."""
LONGEST_HEADER = 1_000
"""Bytes of an array's header; one of numbers needs about 100."""


def read_npz(path: Path, limit: int | None = None, channel_axis: ChannelAxis = "") -> Source:
    """The labelled images in a NumPy archive; the classes are the numbers or texts that occur as labels.

    Images are (examples, height, width), or with channels as the last or the second axis; with floats, integers from 0
    to 255 or 65535, or bools. Labels are whole numbers, texts or bools of shape (examples,) or (examples, 1), or rows
    (examples, classes) that are one-hot.

    limit: bytes of memory that the arrays may take; None: half of the machine's memory. channel_axis: see
    ``channels_last``.
    Raises UserError for an archive that cannot be read, or whose arrays are not of this kind.
    """
    arrays, names, notes = _read_archive(path, default_limit() if limit is None else limit)
    parts = {}
    for part, (short, *_) in PARTS.items():
        if part != "train" and not any((part, kind) in arrays for kind in NAMES):
            continue
        for kind, (name, *_) in NAMES.items():
            if (part, kind) not in arrays:
                has = visible(", ".join(names)) or "none"
                raise UserError(
                    f"{path} has no array {name.format(short)!r}; its arrays are {has}. "
                    "Name them train_images and train_labels (or x_train and y_train), and likewise val_ and test_ if "
                    "there are such splits"
                )
        images, moved = channels_last(path, *arrays[part, "images"], channel_axis)
        labels, guessed = _labels(path, *arrays[part, "labels"])
        parts[part] = images, labels
        notes += moved + guessed
    if len({labels.dtype.kind for _, labels in parts.values()}) > 1:
        raise UserError(f"{path} has numbers as labels in one split and texts in another; save one kind")
    source = with_numbers_as_classes(path, parts)
    return source._replace(notes=tuple(notes))


def _read_archive(path: Path, limit: int) -> tuple[dict[tuple[str, str], tuple[str, np.ndarray]], list[str], list[str]]:
    """The arrays in an archive by part and kind, with their names; the names of all; and a note on the others."""
    arrays: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
    rest = limit  # what is left of it
    problem = f"{path} cannot be read as a NumPy archive"
    with open_file(path) as file, parsing(problem, "write it with numpy.savez"), zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for place, key in _places(members).items():
            arrays[place] = key, read_member(archive, members[key], f"{path}: {key}", rest)
            rest -= arrays[place][1].nbytes
    unused = sorted(set(members) - {key for key, _ in arrays.values()})
    notes = [f"{path.name} has {len(unused)} more arrays, which are not used: {visible(', '.join(unused), 80)}"]
    return arrays, sorted(members), notes if unused and arrays else []


def _places(names: Iterable[str]) -> dict[tuple[str, str], str]:
    """The part and kind of the arrays that have one of the known names."""
    by_name: dict[str, str] = {}
    for name in names:
        by_name.setdefault(name.lower(), name)
    places = {}
    for kind, forms in NAMES.items():
        for part, words in PARTS.items():
            known = [form.format(word) for word in words for form in forms]
            known += UNSPLIT[kind] if part == "train" else ()
            if name := next((by_name[name] for name in known if name in by_name), None):
                places[part, kind] = name
    return places


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limit: int) -> np.ndarray:
    """The array in a member of an archive. name: for messages. limit, errors: see ``read_array``."""
    # Others, which NumPy does not write, are unpacked whole by zipfile, whatever their size.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{name} is compressed by another method than numpy.savez_compressed's; write it with that")
    with archive.open(member) as file:
        return read_array(file, name, limit)


def read_array(file: Readable, name: str, limit: int) -> np.ndarray:
    """The array in a file that ``numpy.save`` wrote: numbers or texts, never Python objects.

    name: of the array, for messages. limit: bytes that the array may take.
    Raises UserError for an array that needs more, or is not what its header says, and other exceptions for a header
    that cannot be read.
    """
    start = io.BytesIO(read_at_most(file, LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise UserError(f"{name} has version {version} of NumPy's format, which no numbers need; write it again")
    shape, fortran_order, dtype = readers[version](start)
    if dtype.hasobject:
        raise UserError(f"{name} has Python objects; save numbers, or texts by array.astype(str)")
    if any(size < 0 for size in shape):
        raise UserError(f"{name} has the shape {shape}; write it again")
    size = math.prod(shape) * dtype.itemsize
    require_memory(name, size, limit)
    content = bytearray(start.read())
    content += read_at_most(file, size + 1 - len(content))
    if len(content) != size:
        relation = "less" if len(content) < size else "more"
        raise UserError(f"{name} has {relation} than the {size} bytes that its header announces; write it again")
    values = np.frombuffer(content, dtype) if size else np.empty(0, dtype)
    array = values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _labels(path: Path, key: str, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """One label for each example, a whole number or a text, and a note where it was guessed."""
    where = f"{path}: {key} has the shape {labels.shape} and type {labels.dtype}"
    is_column = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if labels.dtype.kind not in "buifUS" or not (is_column or labels.ndim == 2):
        raise UserError(f"{where}; labels are one whole number or text an example: (examples,) or (examples, 1)")
    if not is_column:
        is_one_hot = (
            labels.dtype.kind in "buif" and ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
        )
        if not is_one_hot:
            raise UserError(
                f"{where}, and its rows are not one-hot; labels are one whole number or text an example (several for "
                "one image are not supported): (examples,) or (examples, 1)"
            )
        return labels.argmax(1), (f"{key} has one-hot rows of {labels.shape[1]}: the place of a row's 1 is its class",)
    labels = labels.reshape(-1)
    if labels.dtype.kind in "US":
        if labels.dtype.kind == "S":
            labels = np.char.decode(labels, "utf-8", "backslashreplace")
        return labels, ()
    if labels.dtype.kind == "b":
        return labels.astype(str), ()
    if labels.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.abs(labels) < 2**53) | (labels != np.round(labels)))
        if wrong.size:
            raise UserError(
                f"{path}: {key} has {labels[wrong[0]]} at index {wrong[0]}, which is no whole number ({wrong.size} "
                "such labels in all); labels are classes, not amounts: save whole numbers or texts"
            )
        labels = labels.astype(np.int64)
    return labels, ()
