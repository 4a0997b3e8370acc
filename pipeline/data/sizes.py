"""Images of one size: how it is chosen, and how images are brought to it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import UserError
from ..extras import extra

Fit = Literal["resize", "crop", "pad"]
Size = tuple[int, int]
"""Height and width in pixels."""
LARGEST_SIDE = 64
"""Pixels of the longer side of images whose size nobody has chosen: larger ones take minutes to train on."""
MOST_SIDE = 4_096


def parse_size(text: str) -> Size:
    """The size that ``--size`` names. Raises UserError for anything else.

    >>> parse_size("64"), parse_size("48x64")
    ((64, 64), (48, 64))
    """
    numbers = text.lower().split("x")
    sides = [int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) < 6]
    if len(sides) != len(numbers) or len(sides) > 2 or not 1 <= min(sides) <= max(sides) <= MOST_SIDE:
        raise UserError(f"--size is {text!r}; it must be N or HEIGHTxWIDTH, from 1 to {MOST_SIDE}, as in 64 or 48x64")
    return sides[0], sides[-1]


def default_size(sizes: Sequence[Size]) -> Size | None:
    """The median height and width, at most ``LARGEST_SIDE``; None where all images have one such size already.

    >>> default_size([(300, 200), (300, 200), (500, 500)]), default_size([(28, 20), (28, 20)])
    ((64, 43), None)
    """
    height, width = (sorted(sides)[len(sides) // 2] for sides in zip(*sizes))
    scale = LARGEST_SIDE / max(height, width, LARGEST_SIDE)
    if len(set(sizes)) == 1 and scale == 1:
        return None
    return max(1, round(height * scale)), max(1, round(width * scale))


def size_note(sizes: Sequence[Size], size: Size, fit: str) -> str:
    """What ``default_size`` has chosen, for the user."""
    heights, widths = zip(*sizes)
    return (
        f"images are {_span(heights)} pixels high and {_span(widths)} wide: all are brought to {size[0]}x{size[1]} "
        f"(height x width) by --fit {fit}; --size HEIGHTxWIDTH chooses another size"
    )


def _span(sides: Sequence[int]) -> str:
    low, high = min(sides), max(sides)
    return f"{low}" if low == high else f"{low} to {high}"


def resized(image: np.ndarray, size: Size, fit: str) -> np.ndarray:
    """An image (height, width, channels) with another size, of the same type.

    fit: "resize" stretches it; "crop" keeps its proportions and cuts off what is too long, on both sides; "pad" keeps
        all of it, and repeats the pixels of its edges.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    if fit == "resize":
        return _stretched(image, size)
    scales = size[0] / height, size[1] / width
    if fit == "crop":
        inner = tuple(max(least, round(side * max(scales))) for side, least in zip((height, width), size))
        image = _stretched(image, inner)
        top, left = ((side - least) // 2 for side, least in zip(inner, size))
        return image[top : top + size[0], left : left + size[1]]
    inner = tuple(min(most, max(1, round(side * min(scales)))) for side, most in zip((height, width), size))
    rest = [most - side for side, most in zip(inner, size)]
    margins = [(gap // 2, gap - gap // 2) for gap in rest]
    return np.pad(_stretched(image, inner), [*margins, (0, 0)], mode="edge")


def _stretched(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    with extra("train"):
        from PIL import Image

    height, width = size

    def resize(channels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(channels).resize((width, height), Image.Resampling.BILINEAR))

    if image.dtype == np.uint8 and image.shape[2] == 3:
        return resize(np.ascontiguousarray(image))
    values = image if image.dtype == np.uint8 else image.astype(np.float32)
    result = np.stack([resize(np.ascontiguousarray(values[..., c])) for c in range(image.shape[2])], axis=2)
    return result if image.dtype.kind == "f" else np.rint(result).astype(image.dtype)
