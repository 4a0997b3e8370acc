"""IDX files, the format of MNIST: a magic number, the dimensions and the values; plain or gzipped."""

import math
import os
import re
from pathlib import Path

import numpy as np

from ..display import visible
from ..errors import UserError
from .dataset import Source, with_numbers_as_classes
from .limits import list_folder, open_unpacked, read_at_most, require_memory

# The magic number is two zero bytes, the type of the values and the number of dimensions; all numbers are big-endian.
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 4
PARTS = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "t10k": "test",
}
PREFIXED = re.compile(rf"(\w.*?)[-_.]({'|'.join(PARTS)})-(images|labels)[-.]idx\d-ubyte(\.gz)?")
NAME = re.compile(rf"[-_.]?({'|'.join(PARTS)})-(images|labels)[-.]idx\d-ubyte(\.gz)?")


def read_idx(path: Path, limit: int | None = None) -> np.ndarray:
    """The array in an IDX file, plain or gzipped.

    limit: bytes of memory that the array may take; None: half of the machine's memory.
    Raises UserError if the file does not match its header, or needs more memory than the limit.
    """
    with open_unpacked(path) as file:
        magic = read_at_most(file, 4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] > MOST_DIMENSIONS:
            raise UserError(
                f"{path} is not an IDX file: its first four bytes are {magic.hex(' ') or 'missing'}, and should be "
                f"00 00, a type (08 for bytes) and the number of dimensions, 1 to {MOST_DIMENSIONS}; check that it is "
                "the right file"
            )
        dtype, sizes = np.dtype(TYPES[magic[2]]), read_at_most(file, 4 * magic[3])
        shape = np.frombuffer(sizes.ljust(4 * magic[3], b"\0"), ">u4").tolist()
        size = math.prod(shape) * dtype.itemsize
        # A size of 0 counts as 1: NumPy refuses the shape of an empty array, too, if the others are too large.
        require_memory(str(path), math.prod(max(1, length) for length in shape) * dtype.itemsize, limit)
        content = read_at_most(file, size + 1)
    if len(sizes) < 4 * magic[3] or len(content) != size:
        announced, has = 4 + 4 * magic[3] + size, 4 + len(sizes) + len(content)
        raise UserError(
            f"{path} is {'truncated' if has < announced else 'too long'}: its header announces {announced} bytes in "
            f"the shape {tuple(shape)}, and it has {has}{' or more' * (has > announced)}; copy or download it again"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def find_idx(path: Path) -> dict[tuple[str, str], Path]:
    """The IDX files in the folder ``path``, or with the prefix ``path``, by split and "images" or "labels".

    With the prefix ``dir/emnist-balanced``, ``dir/emnist-balanced-train-images-idx3-ubyte.gz`` is one of them. If a
    file is there both plain and gzipped, the plain one is used. A folder in which all have one prefix needs none.
    Raises UserError for a folder in which they have several.
    """
    folder, prefix = (path, "") if os.path.isdir(path) else (path.parent, path.name)
    files = {}
    for file in reversed(list_folder(folder)) if os.path.isdir(folder) else ():
        match = NAME.fullmatch(file.name.removeprefix(prefix)) if file.name.startswith(prefix) else None
        if match:
            files[PARTS[match[1]], match[2]] = file
    if files or folder != path:
        return files
    prefixes = sorted({match[1] for file in list_folder(folder) if (match := PREFIXED.fullmatch(file.name))})
    if len(prefixes) > 1:
        raise UserError(
            f"{path} has IDX files of several sets, {visible(', '.join(prefixes))}; choose one, as in "
            f"{visible(str(path / prefixes[0]))}"
        )
    return find_idx(path / prefixes[0]) if prefixes else files


def read_idx_files(path: Path) -> Source:
    """The images and labels in the files of ``find_idx``; the classes are the numbers that occur as labels."""
    files = find_idx(path)
    arrays = {}
    for part in ["train", *sorted({part for part, _ in files} - {"train"})]:
        for kind in ("images", "labels"):
            if (part, kind) not in files:
                raise UserError(
                    f"{path} has no IDX file for the {kind} of the {part} split; put "
                    f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte (or the same with .gz) there"
                )
        images, labels = (read_idx(files[part, kind]) for kind in ("images", "labels"))
        if images.ndim not in (3, 4) or labels.ndim != 1 or labels.dtype.kind not in "ui":
            raise UserError(
                f"{files[part, 'images']} has the shape {images.shape} and {files[part, 'labels']} {labels.shape}; "
                "images must be (count, height, width) or (count, height, width, channels), labels integers (count,)"
            )
        if len(images) != len(labels):
            raise UserError(
                f"{files[part, 'images']} has {len(images)} images, but {files[part, 'labels']} has {len(labels)} "
                "labels; there must be one for each: check that the two belong together"
            )
        arrays[part] = (images if images.ndim == 4 else images[..., None], labels)
    return with_numbers_as_classes(path, arrays)
