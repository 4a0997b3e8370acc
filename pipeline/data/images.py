"""Labelled images and signals by name or path, ready for training; and single files, ready for prediction."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import known
from .dataset import Dataset, Scaling, Source, Split, complete
from .folder import read_class_folders, read_image
from .idx import find_idx, read_idx_files
from .limits import LARGEST, default_limit, in_range, open_file, parsing
from .npz import read_array, read_npz
from .pixels import with_pixel_range

__all__ = ["KNOWN", "Dataset", "Scaling", "Split", "load", "read_inputs"]

KNOWN = {"digits": known.digits, "mnist": known.mnist, "mnist1d": known.mnist1d}


def load(name_or_path: str, *, seed: int, pixels: str = "") -> Dataset:
    """Loads a known data set by its name, or the user's own data from a path.

    name_or_path: "digits", "mnist" or "mnist1d"; a folder of class-named folders with PNG or JPEG files (or of folders
        train/, val/ and test/ with such folders in them); a folder or a prefix of IDX files; a MedMNIST-style ``.npz``
        file.
    seed: random seed of the validation split, for data without one.
    pixels: the values of black and white in arrays, "LOW:HIGH"; "": guessed, with a note.

    Raises UserError, with the file, for data that cannot be trained on.
    """
    source = KNOWN[name_or_path]() if name_or_path in KNOWN else read(Path(name_or_path), pixels)
    return complete(name_or_path, source, seed=seed)


def read(path: Path, pixels: str | None = None) -> Source:
    """The labelled images at a path: see ``load``."""
    if find_idx(path):
        return with_pixel_range(path, read_idx_files(path), pixels)
    if os.path.isdir(path):
        return read_class_folders(path)
    if path.suffix.lower() == ".npz" and os.path.exists(path):
        return with_pixel_range(path, read_npz(path), pixels)
    raise UserError(
        f"{path} is {'not a data set' if os.path.exists(path) else 'neither a known data set nor an existing path'}; "
        f"known data sets are {', '.join(KNOWN)}, and a path may be a folder of class-named folders of PNG or JPEG "
        "files, a folder or prefix of IDX files, or a .npz file with train_images and train_labels"
    )


def read_inputs(paths: Sequence[str | Path], shape: tuple[int, ...], scaling: Scaling) -> np.ndarray:
    """Model inputs from image or signal files: float32, (files, *shape).

    shape, scaling: those of the training data. Images are PNG or JPEG files of the training images' size; they are
    converted to greyscale or colour like the training images. Signals are ``.npy`` arrays of shape (time, channels), or
    (time,) for a single channel.

    Raises UserError for a file that does not fit the training data, or is so far from them that float32 overflows.
    """
    return np.stack([_read_input(Path(path), shape, scaling) for path in paths])


def _read_input(path: Path, shape: tuple[int, ...], scaling: Scaling) -> np.ndarray:
    if not os.path.isfile(path):
        raise UserError(f"{path} is not a file; give the files to predict by their paths")
    pixels = read_image(path, shape[-1]) if len(shape) == 3 else _read_signal(path)
    if pixels.shape != shape:
        raise UserError(
            f"{path} has the shape {pixels.shape}, but the model was trained on {shape} "
            f"({'height, width' if len(shape) == 3 else 'time'}, channels); crop or resize it"
        )
    return scaling.finite(pixels, str(path))


def _read_signal(path: Path) -> np.ndarray:
    problem, remedy = f"{path} cannot be read as a signal", "this model reads .npy files, written by numpy.save"
    with open_file(path) as file, parsing(problem, remedy):
        signal = read_array(file, str(path), default_limit())
    if signal.dtype.kind not in "buif":
        raise UserError(f"{path} has values of type {signal.dtype}; a signal is an array of numbers")
    if not in_range(signal).all():
        raise UserError(f"{path} has a value that is NaN, infinite or beyond {LARGEST:g}; repair or remove it")
    signal = signal.astype(np.float32)
    return signal[:, None] if signal.ndim == 1 else signal
