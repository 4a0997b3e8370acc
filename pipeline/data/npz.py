"""NumPy archives with MedMNIST's keys: ``train_images``, ``train_labels``, and likewise for ``val`` and ``test``."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from .dataset import Source, with_numbers_as_classes
from .limits import Readable, default_limit, open_file, parsing, read_at_most, require_memory

PARTS = {"train": "train", "val": "validation", "test": "test"}
KEYS = tuple(f"{part}_{kind}" for part in PARTS for kind in ("images", "labels"))
LONGEST_HEADER = 1_000
"""Bytes of an array's header; one of numbers needs about 100."""


def read_npz(path: Path, limit: int | None = None) -> Source:
    """The labelled images in a NumPy archive; the classes are the numbers that occur as labels.

    Images are (examples, height, width) or (examples, height, width, channels), with floats from 0 to 1 or integers
    from 0 to 255 or 65535. Labels are (examples,) or (examples, 1).

    limit: bytes of memory that the arrays may take; None: half of the machine's memory.
    Raises UserError for an archive that cannot be read, or whose arrays are not of this kind.
    """
    arrays, names = _read_archive(path, default_limit() if limit is None else limit)
    parts = {}
    for short, part in PARTS.items():
        keys = f"{short}_images", f"{short}_labels"
        if part != "train" and not any(key in arrays for key in keys):
            continue
        for key in keys:
            if key not in arrays:
                raise UserError(
                    f"{path} has no array {key!r}; its arrays are {visible(', '.join(names)) or 'none'}. Name "
                    "them train_images and train_labels, and likewise val_ and test_ if there are such splits"
                )
        parts[part] = _images(path, keys[0], arrays[keys[0]]), _labels(path, keys[1], arrays[keys[1]])
    return with_numbers_as_classes(path, parts)


def _read_archive(path: Path, limit: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of ``KEYS`` in an archive, and the names of all that it has."""
    arrays: dict[str, np.ndarray] = {}
    rest = limit  # what is left of it
    problem = f"{path} cannot be read as a NumPy archive"
    with open_file(path) as file, parsing(problem, "write it with numpy.savez"), zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for key in KEYS:
            if key in members:
                arrays[key] = _read_member(archive, members[key], f"{path}: {key}", rest)
                rest -= arrays[key].nbytes
    return arrays, sorted(members)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limit: int) -> np.ndarray:
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
        raise UserError(f"{name} has Python objects; save numbers")
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


def _images(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    if images.ndim not in (3, 4) or images.dtype.kind not in "uif":
        raise UserError(
            f"{path}: {key} has the shape {images.shape} and type {images.dtype}; images are numbers of shape "
            "(examples, height, width) or (examples, height, width, channels)"
        )
    return images if images.ndim == 4 else images[..., None]


def _labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "ui" or labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        raise UserError(
            f"{path}: {key} has the shape {labels.shape} and type {labels.dtype}; labels are one whole number an "
            "example, of shape (examples,) or (examples, 1)"
        )
    return labels.reshape(-1)
