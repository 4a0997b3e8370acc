"""IDX files, the format of MNIST: a magic number, the dimensions and the values; plain or gzipped."""

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dataset import Source, numbered

# The magic number is two zero bytes, the type of the values and the number of dimensions; all numbers are big-endian.
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "t10k": "test",
}
NAME = re.compile(rf"[-_.]?({'|'.join(PARTS)})-(images|labels)[-.]idx\d-ubyte(\.gz)?")


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, plain or gzipped. Raises UserError if the file does not match its header."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); copy or download it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise UserError(
            f"{path} is not an IDX file: its first four bytes are {content[:4].hex(' ') or 'missing'}, and should be "
            "00 00, a type (08 for bytes) and the number of dimensions; check that it is the right file"
        )
    dtype, dimensions = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start].ljust(4 * dimensions, b"\0"), ">u4").tolist()
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) < start or len(content) != expected:
        raise UserError(
            f"{path} is {'truncated' if len(content) < expected else 'too long'}: its header announces {expected} "
            f"bytes in the shape {tuple(shape)}, and it has {len(content)}; copy or download it again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def find_idx(path: Path) -> dict[tuple[str, str], Path]:
    """The IDX files in the folder ``path``, or with the prefix ``path``, by split and "images" or "labels".

    With the prefix ``dir/emnist-balanced``, ``dir/emnist-balanced-train-images-idx3-ubyte.gz`` is one of them. If a
    file is there both plain and gzipped, the plain one is used.
    """
    folder, prefix = (path, "") if path.is_dir() else (path.parent, path.name)
    files = {}
    for file in sorted(folder.iterdir(), reverse=True) if folder.is_dir() else ():
        match = NAME.fullmatch(file.name.removeprefix(prefix)) if file.name.startswith(prefix) else None
        if match:
            files[PARTS[match[1]], match[2]] = file
    return files


def read_idx_files(path: Path) -> Source:
    """The images and labels in the files of ``find_idx``; the names of the classes are their numbers."""
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
    return Source(arrays, numbered(arrays["train"][1]))
