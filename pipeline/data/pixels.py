"""What the pixels of arrays mean: which axes they have, and which numbers are black and white."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ..display import quoted
from ..errors import UserError
from .dataset import Arrays, Source
from .limits import in_range

ChannelAxis = Literal["", "first", "last"]
MOST_CHANNELS = 15
"""Arrays with more values at each place are volumes or videos, not images."""
_FEW_LEVELS = 16
_COMMON_WHITES = (255.0, 65_535.0)


def channels_last(
    path: Path, key: str, images: np.ndarray, axis: ChannelAxis = ""
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images as (examples, height, width, channels), and a note where their axes were moved.

    axis: of the channels, after the examples; "": the first one if it has at most 4 values and the others more.
    Raises UserError for arrays of other shapes and types, such as volumes. key: of the array, for messages.

    >>> images, notes = channels_last(Path("a.npz"), "x_train", np.zeros((5, 3, 8, 8)))
    >>> images.shape, len(notes)
    ((5, 8, 8, 3), 1)
    """
    if images.ndim not in (3, 4) or images.dtype.kind not in "buif":
        raise UserError(
            f"{path}: {key} has the shape {images.shape} and type {images.dtype}; images are numbers of shape "
            "(examples, height, width) or (examples, height, width, channels)"
        )
    if images.ndim == 3:
        return images[..., None], ()
    shape, notes = images.shape, ()
    if axis == "first" or (not axis and shape[1] <= 4 < min(shape[2:])):
        images = np.moveaxis(images, 1, 3)
        notes = (
            f"{key} has the shape {shape}: taken for (examples, channels, height, width) (--channel-axis last: it is "
            "not)",
        )
    channels = images.shape[3]
    if channels > MOST_CHANNELS or (not axis and channels > 4 and 2 * channels > min(images.shape[1:3])):
        raise UserError(
            f"{path}: {key} has the shape {shape}, which are volumes or videos, and this task takes images of 1 to "
            f"{MOST_CHANNELS} channels; save slices or frames of shape (examples, height, width), or name the axis of "
            "the channels with --channel-axis"
        )
    if channels not in (1, 3):
        notes += (f"{key} has {channels} channels: image files, which have 1 or 3, cannot be predicted",)
    return images, notes


def with_pixel_range(path: Path, source: Source, pixels: str = "") -> Source:
    """The same images with black at 0 and white at 1 (255 in uint8), as those of image files are.

    pixels: the values of black and white, "LOW:HIGH"; "": guessed from the training images, with a note where these are
        neither floats from 0 to 1 nor integers from 0 to 255 or 65535.
    Raises UserError for ``pixels`` of another form.
    """
    train = source.parts["train"][0]
    if train.dtype.kind == "b":
        parts = {part: (images.astype(np.uint8) * 255, labels) for part, (images, labels) in source.parts.items()}
        return source._replace(parts=parts)
    if pixels:
        low, high = _parsed(pixels)
        return source._replace(parts=_between(source.parts, low, high), pixel_range=(low, high))
    ranges = {
        part: (float(images.min()), float(images.max())) for part, (images, _) in source.parts.items() if images.size
    }
    if "train" not in ranges or not in_range(np.array(list(ranges.values()))).all():
        return source  # which is refused with its place
    least, most = ranges["train"]
    guess, notes = _guess(least, most, train.dtype), list(source.notes)
    if guess:
        notes.append(
            f"{path.name} has pixels from {least:g} to {most:g}: {guess[0]:g} is taken for black and {guess[1]:g} for "
            "white, also in files to predict; --pixels LOW:HIGH names others"
        )
    for part, (low, high) in ranges.items():
        if high - low > 4 * (most - least) or 4 * (high - low) < most - least:
            notes.append(
                f"{path.name} has pixels from {low:g} to {high:g} in its {part} part, taken to be on one scale"
            )
    if not guess:
        return source._replace(notes=tuple(notes))
    return source._replace(parts=_between(source.parts, *guess), notes=tuple(notes), pixel_range=guess)


def _parsed(pixels: str) -> tuple[float, float]:
    try:
        low, high = map(float, pixels.split(":"))
    except ValueError:
        low = high = 0.0
    if not (low < high and in_range(np.array([low, high])).all()):
        raise UserError(
            f"--pixels is {quoted(pixels)}; it must be LOW:HIGH, the values of black and white, as in 0:255"
        )
    return low, high


def _guess(least: float, most: float, dtype: np.dtype) -> tuple[float, float] | None:
    """Black and white, where they are not what the type says.

    >>> _guess(0.0, 255.0, np.dtype("f4")), _guess(-1.0, 1.0, np.dtype("f4")), _guess(0.0, 1.0, np.dtype("u1"))
    ((0.0, 255.0), (-1.0, 1.0), (0.0, 1.0))
    >>> _guess(0.0, 1.0, np.dtype("f4")), _guess(3.0, 254.0, np.dtype("u1"))
    (None, None)
    """
    byte, word = _COMMON_WHITES
    if dtype.kind in "ui":
        if least < 0 or most > word or most == 0:
            return None  # which is refused, or all black
        if most <= _FEW_LEVELS:
            return 0.0, most
        if dtype == np.int8:
            return 0.0, float(np.iinfo(dtype).max)
        if most <= byte:
            return (0.0, byte) if dtype == np.uint16 else None
        return (0.0, most) if most < word / 2 else None
    if least >= 0 and most <= 1:
        return None
    if least >= -1 and most <= 1:
        return -1.0, 1.0
    for white in _COMMON_WHITES:
        if least >= 0 and white / 2 < most <= white:
            return 0.0, white
    return (min(least, 0.0), most) if most > least else None


def _between(parts: Mapping[str, Arrays], low: float, high: float) -> dict[str, Arrays]:
    """Images with ``low`` at 0 and ``high`` at 1, in float32."""
    scaled = {}
    for part, (images, labels) in parts.items():
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with its place
            values = images.astype(np.float32)
            values -= np.float32(low)
            values /= np.float32(high - low)
        scaled[part] = values, labels
    return scaled
