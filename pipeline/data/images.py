"""Labelled images and signals by name or path, ready for training; and single files, ready for prediction."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import known
from .dataset import Dataset, Scaling, Source, Split, complete
from .idx import find_idx, read_idx_files
from .image_files import FORMATS_IN_WORDS, read_image
from .image_folders import Streaming, read_class_folders
from .limits import LARGEST, default_limit, in_range, open_file, parsing
from .npz import read_array, read_npz
from .parts import notes_on_copies
from .pixels import ChannelAxis, with_pixel_range
from .sizes import Fit, Size, default_size, parse_size, resized, size_note
from .streamed import Streamed, digests_of

__all__ = ["KNOWN", "Dataset", "ImageOptions", "Scaling", "Split", "load", "read_inputs"]


@dataclass(frozen=True)
class ImageOptions:
    """How images are brought to one size, and what the numbers of arrays of images mean."""

    size: str = ""
    """Size to which images are brought in training and prediction: N or HEIGHTxWIDTH, in pixels. Empty: your own images
    of several sizes, or of more than 64 pixels a side, get a size that is chosen and printed; others keep theirs."""
    fit: Fit = "resize"
    """How images are brought to one size: resize (stretch them), crop (scale them, and cut off the sides) or pad (scale
    them, and repeat the pixels of the edges)."""
    pixels: str = ""
    """Values of black and white in arrays (.npz, IDX): LOW:HIGH, as in 0:255. Empty: guessed from the training images,
    and printed where that is not certain."""
    channel_axis: ChannelAxis = ""
    """Axis of the channels in arrays of images (.npz): first, as (examples, channels, height, width), or last. Empty:
    last, or first where that has at most 4 values and the others more."""
    stream: Streaming = "auto"
    """When to decode the image files of a folder batch by batch instead of holding all in memory: auto (where their
    pixels take more than 512 MiB), always or never. The results are the same."""

    def unused(self, source: Source, path: Path | None = None) -> tuple[str, ...]:
        """Notes on options that these data have no use for. path: of the user's own data."""
        notes = []
        if self.channel_axis and (path is None or path.suffix.lower() != ".npz"):
            notes.append(f"--channel-axis {self.channel_axis} is not used: it is for arrays of images in .npz files")
        if self.size and not source.fit:
            notes.append(f"--size {self.size} is not used: it is for images")
        elif self.fit != "resize" and not source.fit:
            notes.append(f"--fit {self.fit} is not used: no image has another size than the others; --size chooses one")
        if self.pixels and not source.pixel_range:
            notes.append(f"--pixels {self.pixels} is not used: it is for the numbers in arrays of images")
        if self.stream == "always" and not isinstance(source.parts["train"][0], Streamed):
            notes.append("--stream always is not used: it is for folders of image files")
        return tuple(notes)


DEFAULTS = ImageOptions()
KNOWN = {"digits": known.digits, "mnist": known.mnist, "mnist1d": known.mnist1d}


def load(name_or_path: str, *, seed: int, options: ImageOptions = DEFAULTS) -> Dataset:
    """Loads a known data set by its name, or the user's own data from a path.

    name_or_path: "digits", "mnist" or "mnist1d"; a folder of class-named folders of image files (or of folders train/,
        val/ and test/ with such folders in them); a folder or a prefix of IDX files; a ``.npz`` file with the names of
        MedMNIST or Keras.
    seed: random seed of the validation split, for data without one.
    options: what they choose in place of the user becomes a note.

    Raises UserError, with the file, for data that cannot be trained on.
    """
    is_known = name_or_path in KNOWN
    source = known_images(KNOWN[name_or_path], options) if is_known else read(Path(name_or_path), options)
    data = complete(name_or_path, source, seed=seed)
    if is_known:
        return data
    parts = {part: digests_of(getattr(data, part).pixels) for part in ("train", "validation", "test")}
    return replace(data, notes=(*data.notes, *notes_on_copies(parts, "images")))


def read(path: Path, options: ImageOptions = DEFAULTS) -> Source:
    """The labelled images at a path: see ``load``."""
    if not find_idx(path) and os.path.isdir(path):
        source = read_class_folders(path, options.size, options.fit, options.stream)
    else:
        source = with_pixel_range(path, _read_arrays(path, options.channel_axis), options.pixels)
        source = _with_size(source, options.size, options.fit)
    return source._replace(notes=source.notes + options.unused(source, path))


def known_images(make: Callable[[], Source], options: ImageOptions) -> Source:
    """A known data set, whose images keep their size unless an option names another."""
    source = make()
    source = _with_size(source, options.size, options.fit) if options.size else source
    return source._replace(notes=source.notes + options.unused(source))


def _read_arrays(path: Path, channel_axis: ChannelAxis) -> Source:
    if find_idx(path):
        return read_idx_files(path)
    if path.suffix.lower() == ".npz" and os.path.exists(path):
        return read_npz(path, channel_axis=channel_axis)
    raise UserError(
        f"{path} is {'not a data set' if os.path.exists(path) else 'neither a known data set nor an existing path'}; "
        f"known data sets are {', '.join(KNOWN)}, and a path may be a folder of class-named folders of "
        f"{FORMATS_IN_WORDS} files, a folder or prefix of IDX files, or a .npz file with train_images and train_labels"
    )


def _with_size(source: Source, size: str, fit: str) -> Source:
    """Arrays of images brought to a size."""
    if any(pixels.ndim != 4 for pixels, _ in source.parts.values()):
        raise UserError(f"--size is {size}, and these are signals; it is for images: leave it out")
    train = source.parts["train"][0]
    sizes = [(int(train.shape[1]), int(train.shape[2]))]
    chosen = parse_size(size) if size else default_size(sizes) if min(sizes[0]) else None
    if not chosen:
        return source
    parts = {part: (_all_resized(pixels, chosen, fit), labels) for part, (pixels, labels) in source.parts.items()}
    notes = source.notes if size else (*source.notes, size_note(sizes, chosen, fit))
    return source._replace(parts=parts, notes=notes, fit=fit)


def _all_resized(images: np.ndarray, size: Size, fit: str) -> np.ndarray:
    if not images.size:
        return images
    is_byte = images.dtype == np.uint8 or (images.dtype.kind in "ui" and 0 <= images.min() <= images.max() <= 255)
    dtype = np.uint8 if is_byte else np.uint16 if images.dtype.kind in "ui" and images.min() >= 0 else np.float32
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda image: resized(image.astype(dtype, copy=False), size, fit), images)))


def read_inputs(paths: Sequence[str | Path], shape: tuple[int, ...], scaling: Scaling, fit: str = "") -> np.ndarray:
    """Model inputs from image or signal files: float32, (files, *shape).

    shape, scaling, fit: those of the training data. Images are converted to greyscale or colour like the training
    images, and brought to their size if these were, too; otherwise they must have it. Signals are ``.npy`` arrays of
    shape (time, channels), or (time,) for a single channel.

    Raises UserError for a file that does not fit the training data, or is so far from them that float32 overflows.
    """
    return np.stack([_read_input(Path(path), shape, scaling, fit) for path in paths])


def _read_input(path: Path, shape: tuple[int, ...], scaling: Scaling, fit: str) -> np.ndarray:
    if not os.path.isfile(path):
        raise UserError(f"{path} is not a file; give the files to predict by their paths")
    if len(shape) == 3:
        pixels = read_image(path, shape[-1], (shape[0], shape[1]) if fit else None, fit)
    else:
        pixels = _read_signal(path)
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
