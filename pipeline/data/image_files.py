"""Image files: what their headers say, and their pixels."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..extras import extra
from .limits import open_file, parsing, read_content
from .sizes import Size, resized

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Pillow's names of the formats, whatever a file's suffix: it would try dozens of others."""
FORMATS_IN_WORDS = "PNG, JPEG, WebP, BMP, TIFF, GIF or PPM"
MOST_PIXELS = 1 << 25
"""Pixels of one image, as in 8192x4096: a small file can announce any number."""
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
"""EXIF's key of how a camera was held, and those of its values for which height and width change places."""


class Header(NamedTuple):
    """What an image file says before it is decoded. is_deep: whether it has 16 bits, which only greyscale may have."""

    size: Size
    is_grey: bool
    is_deep: bool


class Form(NamedTuple):
    """What all images of a set are brought to. fit: how, see ``resized``. is_deep: uint16 pixels, else uint8."""

    size: Size
    channels: int
    is_deep: bool
    fit: str

    @classmethod
    def of(cls, headers: Sequence[Header], size: Size, fit: str) -> "Form":
        """The form of images of one size: in colour if any of them is, and with 16 bits if any of them has."""
        is_grey = all(header.is_grey for header in headers)
        return cls(size, 1 if is_grey else 3, any(header.is_deep for header in headers), fit)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return *self.size, self.channels

    @property
    def dtype(self) -> np.dtype:
        """The type of the pixels."""
        return np.dtype(np.uint16 if self.is_deep else np.uint8)


class Decoded(NamedTuple):
    """An image, and notes on what of its file is not used as it is: the same texts for all images of that kind."""

    pixels: np.ndarray
    notes: tuple[str, ...]


def read_header(path: Path) -> Header:
    """What an image file's header says. Raises UserError for a file that is no image, or has too many pixels."""
    with open_file(path) as file, _image_errors(path):
        image = _opened(path, file)
        is_turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _TURNED
        size = (image.width, image.height) if is_turned else (image.height, image.width)
        return Header(size, _is_grey(image.mode), _is_deep(image.mode))


def read_image(path: Path, channels: int | None = None, size: Size | None = None, fit: str = "resize") -> np.ndarray:
    """The pixels of an image file, (height, width, channels): uint8, or uint16 for 16-bit greyscale.

    Transparent parts are white; of several frames or pages the first is read.
    channels: 1 to convert the image to greyscale, 3 to convert it to colour; None: as the file is.
    size: to which it is brought by ``fit``, see ``resized``; None: as it is.
    Raises UserError for a file that is no such image, is broken, or has more than ``MOST_PIXELS`` pixels.
    """
    return _decode(path, channels, size, fit).pixels


def decode(path: Path, form: Form) -> Decoded:
    """An image file in the form of its set. Raises UserError for what cannot be read."""
    image = _decode(path, form.channels, form.size, form.fit)
    pixels = image.pixels
    if form.is_deep and pixels.dtype == np.uint8:
        pixels = pixels * np.uint16(257)
    if pixels.shape != form.shape or pixels.dtype != form.dtype:
        raise UserError(f"{path} is not what its header said: repair or remove it, and leave it alone while it is read")
    return image._replace(pixels=pixels)


def _decode(path: Path, channels: int | None, size: Size | None, fit: str) -> Decoded:
    content = io.BytesIO(read_content(path))  # of which Pillow cannot read more bytes than there are
    with _image_errors(path):
        image = _opened(path, content)
        notes = _notes_on(image)
        if size and image.format == "JPEG":  # which is decoded faster at a half, a quarter or an eighth of its size
            is_turned = image.getexif().get(_ORIENTATION) in _TURNED
            image.draft(None, size if is_turned else size[::-1])
        with extra("train"):
            from PIL import ImageOps

        upright = ImageOps.exif_transpose(image)
        if _is_deep(upright.mode):
            pixels = np.asarray(upright)
            if pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
                raise ValueError(f"it has values from {pixels.min()} to {pixels.max()}, beyond 16 bits")
            pixels = pixels.astype(np.uint16)[..., None]
        elif upright.mode == "F":
            raise ValueError("it has fractions as values, whose black and white are unknown")
        else:
            grey = _is_grey(upright.mode) if channels is None else channels == 1
            upright, is_transparent = _on_white(upright)
            notes += ("transparent parts become white",) if is_transparent else ()
            pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    pixels = resized(pixels, size, fit) if size else pixels
    pixels = np.repeat(pixels, 3, axis=2) if channels == 3 and pixels.shape[2] == 1 else pixels
    return Decoded(pixels, notes)


def _notes_on(image: Any) -> tuple[str, ...]:
    """Notes on what is lost or changed when an image that is not yet decoded is read, but for its transparency."""
    notes = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # which has previews of a photograph
        notes.append("the first of several frames or pages is read")
    if image.mode in _OTHER_COLOURS:
        notes.append(f"{image.mode} colours become RGB")
    if _is_deep(image.mode):
        notes.append("grey values of 16 bits are read with 65535 as white")
    elif f"{image.mode};16" in str([tile[3] for tile in image.tile]):  # as Pillow's decoders name it
        notes.append("of the 16 bits of each colour the upper 8 are read")
    return tuple(notes)


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA", "F") or _is_deep(mode)


def _is_deep(mode: str) -> bool:
    return mode.startswith("I")


def _image_errors(path: Path) -> Any:
    return parsing(f"{path} cannot be read as an image", f"it must be a {FORMATS_IN_WORDS} file: repair or remove it")


def _opened(path: Path, file: Any) -> Any:
    """Pillow's image in a file that is open, of which only the header is read."""
    with extra("train"):
        from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("it is of none of these formats") from None
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.width}x{image.height}"
        raise UserError(f"{path} is {size}, and an image may have {MOST_PIXELS:,} pixels; resize it")
    return image


def _on_white(image: Any) -> tuple[Any, bool]:
    """A Pillow image without transparency, and whether it had any."""
    if not image.has_transparency_data:
        return image, False
    with extra("train"):
        from PIL import Image

    colours = image.convert("RGBA")
    if colours.getchannel("A").getextrema()[0] == 255:
        return image, False
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours), True
