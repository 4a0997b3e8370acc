"""NumPy archives with MedMNIST's keys: ``train_images``, ``train_labels``, and likewise for ``val`` and ``test``."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import UserError
from .dataset import Source, numbered

PARTS = {"train": "train", "val": "validation", "test": "test"}


def read_npz(path: Path) -> Source:
    """The labelled images in a NumPy archive; the names of the classes are their numbers.

    Images are (examples, height, width) or (examples, height, width, channels), with floats from 0 to 1 or integers
    from 0 to 255 or 65535. Labels are (examples,) or (examples, 1).
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read as a NumPy archive ({error}); write it with numpy.savez") from error
    parts = {}
    for short, part in PARTS.items():
        keys = f"{short}_images", f"{short}_labels"
        if part != "train" and not any(key in arrays for key in keys):
            continue
        for key in keys:
            if key not in arrays:
                raise UserError(
                    f"{path} has no array {key!r}; its arrays are {', '.join(sorted(arrays)) or 'none'}. Name them "
                    "train_images and train_labels, and likewise val_ and test_ if there are such splits"
                )
        parts[part] = _images(path, keys[0], arrays[keys[0]]), _labels(path, keys[1], arrays[keys[1]])
    return Source(parts, numbered(parts["train"][1]))


def _images(path: Path, key: str, images: np.ndarray) -> np.ndarray:
    if images.ndim not in (3, 4) or images.dtype.kind not in "uif":
        raise UserError(
            f"{path}: {key} has the shape {images.shape} and type {images.dtype}; images are numbers of shape "
            "(examples, height, width) or (examples, height, width, channels)"
        )
    return images if images.ndim == 4 else images[..., None]


def _labels(path: Path, key: str, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "ui" or labels.shape not in ((len(labels),), (len(labels), 1)):
        raise UserError(
            f"{path}: {key} has the shape {labels.shape} and type {labels.dtype}; labels are one whole number an "
            "example, of shape (examples,) or (examples, 1)"
        )
    return labels.reshape(-1)
