"""Random changes of images, signals, findings and texts that preserve labels: pure functions of a key and a batch.

Images (batch, height, width, channels), signals (batch, time, channels) and findings (batch, features) are
standardised; texts are ids (batch, time). Changes are drawn for each example. Pixels from outside an image repeat or
reflect its edge, so that no background colour is needed.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..errors import UserError
from ..options import require_between
from .vocabulary import PADDING, UNKNOWN_WORD

ELASTIC_SPACING = 6
"""Distance in pixels between the points at which elastic displacements are drawn."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training inputs; 0 (or False) turns a change off."""

    shift: int = 0
    """Largest translation of images, in pixels, repeating the edge; of signals, in time steps, wrapping around."""
    crop_padding: int = 0
    """Number of reflected pixels added on each side of an image, which is then cropped to its size at a random place
    (He et al. 2016)."""
    flip: bool = False
    """Mirror half of the images left to right."""
    cutout: int = 0
    """Side of a square at a random place of an image that is set to the mean, in pixels (DeVries and Taylor 2017)."""
    rotate: float = 0.0
    """Largest rotation of images, in degrees."""
    scale: float = 0.0
    """Largest relative change of an image's size or of a signal's amplitude: by a factor of up to 1 + this."""
    shear: float = 0.0
    """Largest shear of images, in pixels per row; for signals, largest rise of a straight line that is added."""
    elastic: float = 0.0
    """Standard deviation of a smooth random displacement of image pixels, in pixels (Simard et al. 2003)."""
    contrast: float = 0.0
    """Largest relative change of an image's contrast: by a factor of up to 1 + this."""
    brightness: float = 0.0
    """Largest change of an image's brightness, in standard deviations of the training pixels."""
    noise: float = 0.0
    """Standard deviation of added normal noise, in standard deviations of the training inputs."""

    def __post_init__(self) -> None:
        most = {"rotate": 180} | dict.fromkeys(("shift", "crop_padding", "cutout"), 100_000)
        ranges = {field.name: (0, most.get(field.name, 100)) for field in dataclasses.fields(self)}
        require_between(self, group="augmentation.", **ranges)


def augment(config: Augmentation, key: Any, inputs: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """A batch of images, signals or findings with the random changes of ``config``.

    Raises UserError for a change that does not exist for this kind of input, or is too large for it.
    """
    change = {4: _augment_images, 3: _augment_signals, 2: _augment_findings}[inputs.ndim]
    keys = jax.random.split(key, 8)
    inputs = change(config, keys, inputs)
    return add_noise(keys[6], inputs, config.noise) if config.noise else inputs


def _augment_images(
    config: Augmentation, keys: Any, images: Float[Array, "batch height width channels"]
) -> Float[Array, "batch height width channels"]:
    size = min(images.shape[1:3])
    for name in ("shift", "crop_padding", "cutout"):
        if getattr(config, name) >= size:
            raise UserError(
                f"augmentation: {name} is {getattr(config, name)}, too large for images of {images.shape[1]}x"
                f"{images.shape[2]} pixels; it must be below {size}"
            )
    if config.rotate or config.scale or config.shear or config.elastic:
        # A single resampling for all four, since each blurs a little.
        points = affine(keys[0], images.shape, config.rotate, config.scale, config.shear)
        if config.elastic:
            points += elastic(keys[1], images.shape, config.elastic)
        images = sample(images, points)
    if config.shift:
        images = shift(keys[2], images, config.shift)
    if config.crop_padding:
        images = crop(keys[3], images, config.crop_padding)
    if config.flip:
        images = flip(keys[4], images)
    if config.contrast or config.brightness:
        images = relight(keys[7], images, config.contrast, config.brightness)
    return cutout(keys[5], images, config.cutout) if config.cutout else images


def _augment_signals(
    config: Augmentation, keys: Any, signals: Float[Array, "batch time channels"]
) -> Float[Array, "batch time channels"]:
    for name in ("crop_padding", "flip", "cutout", "rotate", "elastic", "contrast", "brightness"):
        if getattr(config, name):
            raise UserError(f"augmentation: {name} is for images, but these are signals; leave it at 0")
    if config.shift:
        signals = circular_shift(keys[0], signals, config.shift)
    if config.scale:
        signals = amplify(keys[1], signals, config.scale)
    return tilt(keys[2], signals, config.shear) if config.shear else signals


def _augment_findings(
    config: Augmentation, keys: Any, findings: Float[Array, "batch features"]
) -> Float[Array, "batch features"]:
    del keys
    for field in dataclasses.fields(config):
        if field.name != "noise" and getattr(config, field.name):
            raise UserError(f"augmentation: {field.name} is for images or signals, but these are tables; leave it at 0")
    return findings


def relight(
    key: Any, images: Float[Array, "batch height width channels"], contrast: float, brightness: float
) -> Float[Array, "batch height width channels"]:
    """Change contrast and brightness of each image, as a different exposure would.

    Deviations from the image's mean are multiplied by a factor between 1 / (1 + contrast) and 1 + contrast, uniform in
    its logarithm; then a number from -brightness to brightness is added to all values.
    """
    stretch, offset = jax.random.uniform(key, (2, len(images), 1, 1, 1), images.dtype, -1, 1)
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + jnp.exp(math.log1p(contrast) * stretch) * (images - mean) + brightness * offset


def shift(
    key: Any, images: Float[Array, "batch height width channels"], most: int
) -> Float[Array, "batch height width channels"]:
    """Translate each image by whole pixels, uniformly from -most to most in both directions, repeating the edge."""
    rows, columns = _moved(key, images.shape, most)
    return _pixels(images, jnp.clip(rows, 0, images.shape[1] - 1), jnp.clip(columns, 0, images.shape[2] - 1))


def crop(
    key: Any, images: Float[Array, "batch height width channels"], padding: int
) -> Float[Array, "batch height width channels"]:
    """Pad each image by reflection (not repeating the edge), and crop its old size at a uniformly random place."""
    rows, columns = _moved(key, images.shape, padding)
    return _pixels(images, _reflected(rows, images.shape[1]), _reflected(columns, images.shape[2]))


def _moved(key: Any, shape: tuple[int, ...], most: int) -> tuple[Int[Array, "batch height"], Int[Array, "batch width"]]:
    """Row and column numbers of the pixels of translated images, which may lie outside the image."""
    offsets = jax.random.randint(key, (shape[0], 2), -most, most + 1, jnp.int32)
    rows, columns = (jnp.arange(size, dtype=jnp.int32)[None] for size in shape[1:3])
    return rows + offsets[:, :1], columns + offsets[:, 1:]


def _reflected(positions: Int[Array, "batch size"], size: int) -> Int[Array, "batch size"]:
    return size - 1 - jnp.abs(size - 1 - jnp.abs(positions))


def _pixels(
    images: Float[Array, "batch height width channels"],
    rows: Int[Array, "batch height"],
    columns: Int[Array, "batch width"],
) -> Float[Array, "batch height width channels"]:
    images = jnp.take_along_axis(images, rows[:, :, None, None], 1, mode="promise_in_bounds")
    return jnp.take_along_axis(images, columns[:, None, :, None], 2, mode="promise_in_bounds")


def flip(key: Any, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    """Mirror each image left to right with probability one half."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def cutout(
    key: Any, images: Float[Array, "batch height width channels"], side: int
) -> Float[Array, "batch height width channels"]:
    """Set a square of each image to 0, the mean of standardised inputs.

    Its centre is a uniformly random pixel, so that a part of the square may lie outside the image.
    """
    batch, height, width, _ = images.shape
    row_key, column_key = jax.random.split(key)
    inside = [
        (distance >= 0) & (distance < side)
        for distance in (
            jnp.arange(size, dtype=jnp.int32)[None]
            - (jax.random.randint(k, (batch, 1), 0, size, jnp.int32) - side // 2)
            for k, size in ((row_key, height), (column_key, width))
        )
    ]
    return jnp.where((inside[0][:, :, None] & inside[1][:, None, :])[..., None], jnp.zeros((), images.dtype), images)


def affine(
    key: Any, shape: tuple[int, ...], degrees: float, scale: float, shear: float
) -> Float[Array, "2 batch height width"]:
    """The row and column from which each pixel comes under a random linear map about the centre of the image.

    The map is a shear, a rotation and a scaling, each uniform within its limit (the scaling in its logarithm).
    """
    batch, height, width, _ = shape
    limits = jnp.array([[jnp.radians(degrees)], [jnp.log1p(scale)], [shear]], jnp.float32)
    angle, log_scale, slope = (limits * jax.random.uniform(key, (3, batch), jnp.float32, -1, 1))[:, :, None, None]
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    y = (jnp.arange(height, dtype=jnp.float32) - middle_row)[None, :, None]
    x = (jnp.arange(width, dtype=jnp.float32) - middle_column)[None, None, :] + slope * y
    cosine, sine = jnp.cos(angle) * jnp.exp(log_scale), jnp.sin(angle) * jnp.exp(log_scale)
    return jnp.stack([cosine * y - sine * x + middle_row, sine * y + cosine * x + middle_column])


def elastic(key: Any, shape: tuple[int, ...], deviation: float) -> Float[Array, "2 batch height width"]:
    """Smooth random displacements of rows and columns: normal on a coarse grid, interpolated with cubic curves."""
    batch, height, width, _ = shape
    grid = (2, batch, *(max(2, -(-size // ELASTIC_SPACING)) for size in (height, width)))
    coarse = deviation * jax.random.normal(key, grid, jnp.float32)
    return jax.image.resize(coarse, (2, batch, height, width), "cubic")


def sample(
    images: Float[Array, "batch height width channels"], points: Float[Array, "2 batch height width"]
) -> Float[Array, "batch height width channels"]:
    """The images' values at these rows and columns: bilinear between pixels, those of the edge outside."""
    batch, height, width, channels = images.shape
    (row, rest_row), (column, rest_column) = (
        _whole_and_rest(points[axis], size) for axis, size in ((0, height), (1, width))
    )
    # XLA gathers twice as fast with one flat index for the four neighbours as with three indices.
    flat = images.reshape(-1, channels)
    corner = jnp.arange(batch, dtype=jnp.int32)[:, None, None] * (height * width) + row * width + column
    v, u = rest_row[..., None].astype(images.dtype), rest_column[..., None].astype(images.dtype)

    def along_row(start: Int[Array, "batch height width"]) -> Float[Array, "batch height width channels"]:
        left, right = (flat.at[start + step].get(mode="clip") for step in (0, 1))
        return (1 - u) * left + u * right

    return (1 - v) * along_row(corner) + v * along_row(corner + width)


def _whole_and_rest(
    positions: Float[Array, "batch height width"], size: int
) -> tuple[Int[Array, "batch height width"], Float[Array, "batch height width"]]:
    """The pixel before each position, at most the last but one, and the distance from it, 0 to 1."""
    positions = jnp.clip(positions, 0, size - 1)
    whole = jnp.minimum(positions.astype(jnp.int32), max(size - 2, 0))
    return whole, positions - whole.astype(positions.dtype)


def circular_shift(
    key: Any, signals: Float[Array, "batch time channels"], most: int
) -> Float[Array, "batch time channels"]:
    """Shift each signal in time by -most to most steps, uniformly, wrapping around."""
    batch, time, _ = signals.shape
    offsets = jax.random.randint(key, (batch, 1), -most, most + 1, jnp.int32)
    steps = (jnp.arange(time, dtype=jnp.int32)[None] + offsets) % time
    return jnp.take_along_axis(signals, steps[:, :, None], 1, mode="promise_in_bounds")


def amplify(key: Any, signals: Float[Array, "batch time channels"], most: float) -> Float[Array, "batch time channels"]:
    """Multiply each signal by a factor between 1 / (1 + most) and 1 + most, uniform in its logarithm."""
    logarithm = jnp.log1p(most) * jax.random.uniform(key, (len(signals), 1, 1), jnp.float32, -1, 1)
    return signals * jnp.exp(logarithm).astype(signals.dtype)


def tilt(key: Any, signals: Float[Array, "batch time channels"], most: float) -> Float[Array, "batch time channels"]:
    """Add to each signal a straight line that is 0 in the middle and rises by -most to most over its length."""
    rise = most * jax.random.uniform(key, (len(signals), 1, 1), jnp.float32, -1, 1)
    line = jnp.linspace(-0.5, 0.5, signals.shape[1], dtype=jnp.float32)[None, :, None]
    return signals + (rise * line).astype(signals.dtype)


def add_noise(key: Any, inputs: Float[Array, "batch ..."], deviation: float) -> Float[Array, "batch ..."]:
    """Add independent normal noise to every value."""
    return inputs + (deviation * jax.random.normal(key, inputs.shape, jnp.float32)).astype(inputs.dtype)


def drop_words(rate: float, key: Any, bags: Int[Array, "batch time bag"]) -> Int[Array, "batch time bag"]:
    """Word dropout (Iyyer et al. 2015): replaces each word by the unknown word with probability ``rate``.

    In half of the cases its n-grams remain, as in a word that no training text has. The model thus learns to judge
    words by their n-grams, what to do with unknown words, and not to rely on a single word.

    bags: ids, see ``SpelledWords``: a word's own id comes first.
    """
    drawn = jax.random.uniform(key, bags.shape[:2])[..., None]
    is_own = jnp.arange(bags.shape[2]) == 0
    dropped = jnp.where(is_own, drawn < rate, drawn < rate / 2) & (bags != PADDING)
    return jnp.where(dropped, jnp.where(is_own, UNKNOWN_WORD, PADDING).astype(bags.dtype), bags)
