"""Audio: reading files, spectral features, and random changes for training.

A signal is mono, float32 between -1 and 1. Except for reading, all functions are pure functions in jax.numpy of padded
batches: signals (batch, samples) or features (batch, frames, features), with the length of each row, (batch,).
"""

import io
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import UserError
from ..extras import extra
from ..options import require_between
from .limits import open_file, parsing, read_content, require_memory

LEAST_POWER = 1e-10
"""Lowest power of a mel band, so that the logarithm of silence is finite. A full-scale sine has about 1e4."""
RATES = (1_000, 1_000_000)
"""Lowest and highest sampling rate of a file, in Hz: any other is in a damaged header."""
LOUDEST = 2.0**31
"""Largest sample of a file of floats, where a program left integers unscaled: its power fits into float32."""
BLOCK = 1 << 20
"""Number of samples that are read at a time."""
UNKNOWN_RIFF_SIZE = 0x7FFFF000


def read_audio(
    path: Path, rate: int, limit: int | None = None, rates: list[int] | None = None, channels: list[int] | None = None
) -> Float[np.ndarray, " samples"]:
    """A WAV or FLAC file (or another that libsndfile reads) as a mono signal with ``rate`` samples per second.

    Integer samples are scaled to between -1 and 1, floats are not; channels are averaged; other sampling rates are
    resampled with soxr.

    limit: bytes of memory that the signal may take; None: half of the machine's memory. rates, channels: are extended
    by the sampling rate of the file and its number of channels.
    Raises UserError for a file that is not audio, is cut off or empty, announces a sampling rate outside ``RATES``, has
    samples that are not finite, or needs more memory than the limit.
    """
    with extra("speech"):
        import soundfile
        import soxr

    if not os.path.isfile(path):
        raise UserError(f"{path} is not a file; give the path of a WAV or FLAC file")
    problem, remedy = f"{path} cannot be read as a recording", "it must be a WAV or FLAC file: convert or remove it"
    size = _riff_size(path)
    has_size = size is None or 0 < size < UNKNOWN_RIFF_SIZE
    # Soundfile encodes a str, and fails where a name is not UTF-8.
    source: Any = (None if has_size else _with_size(path)) or os.fsencode(path)
    with parsing(problem, remedy), soundfile.SoundFile(source) as file:
        file_rate, announced = file.samplerate, file.frames
        if not RATES[0] <= file_rate <= RATES[1]:
            raise UserError(
                f"{path} announces {file_rate:,} samples a second; a recording has from {RATES[0]:,} to {RATES[1]:,}: "
                "convert it again, or remove it"
            )
        mono = _read_mono(file, path, 1 + rate / file_rate, limit)
    if has_size and (len(mono) < announced or (size and path.stat().st_size < size + 8)):
        raise UserError(
            f"{path} is cut off after {len(mono) / file_rate:.2f} seconds: it is shorter than its header says; "
            "copy it again, or remove it"
        )
    signal = mono if file_rate == rate else soxr.resample(mono, file_rate, rate)
    if not len(signal):
        at = f" at {rate} Hz: it has {len(mono)} at {file_rate} Hz" if len(mono) else ""
        raise UserError(f"{path} is a recording without samples{at}; remove it")
    if rates is not None:
        rates.append(file_rate)
    if channels is not None:
        channels.append(file.channels)
    return signal


def _read_mono(file: Any, path: Path, copies: float, limit: int | None) -> np.ndarray:
    """The mean of the channels of an open file, read in blocks: its header may announce any number of samples.

    copies: how often the memory for the samples is needed.
    """
    blocks, length = [np.zeros(0, np.float32)], 0
    while len(block := file.read(max(1, BLOCK // file.channels), dtype="float32", always_2d=True)):
        if not (np.abs(block) <= LOUDEST).all():
            raise UserError(
                f"{path} has samples that are not finite numbers, or beyond {LOUDEST:.0f}; repair or remove it"
            )
        length += len(block)
        require_memory(str(path), length * copies * block.itemsize, limit)
        blocks.append(block.mean(1))
    return np.concatenate(blocks)


def _riff_size(path: Path) -> int | None:
    """The size in the header of a WAV file, None for another file.

    Libsndfile does not report files that are shorter. Programs that write into a pipe do not know the size: they write
    0, or a number near the largest that signed or unsigned integers hold.
    """
    with open_file(path) as file:
        header = file.read(8)
    return struct.unpack("<I", header[4:])[0] if len(header) == 8 and header[:4] == b"RIFF" else None


def _with_size(path: Path) -> io.BytesIO | None:
    """A WAV file with the size of its samples in the header, if that says 0: libsndfile would read none."""
    with open_file(path) as file:
        header = file.read(1 << 12)
    place = header.find(b"data", 12)
    if place < 0 or header[place + 4 : place + 8] != bytes(4):
        return None
    content = read_content(path)
    content[4:8] = struct.pack("<I", min(len(content) - 8, UNKNOWN_RIFF_SIZE))
    content[place + 4 : place + 8] = struct.pack("<I", min(len(content) - place - 8, UNKNOWN_RIFF_SIZE))
    return io.BytesIO(content)


@dataclass(frozen=True)
class Spectrum:
    """The parameters of spectral features.

    rate: samples per second. window, hop: length of a frame, and distance between frames, in seconds. mels: number of
    bands, equally wide on the mel scale between the frequencies low and high, in Hz; high None: half the rate.

    Frame i begins at sample i hop and lies within the signal; a signal shorter than one window is padded with zeros.
    The window is a periodic Hann window, and the FFT's length the next power of two. The mel scale is HTK's, 2595
    log10(1 + f / 700), and a band's weights are a triangle of height 1 over the power spectrum.
    """

    rate: int = 16_000
    window: float = 0.025
    hop: float = 0.010
    mels: int = 40
    low: float = 20.0
    high: float | None = None

    def __post_init__(self) -> None:
        if self.hop_samples < 1 or self.window_samples < 2:
            raise UserError(
                f"features: a window of {self.window} s or a hop of {self.hop} s is too short at {self.rate} Hz; "
                "both are in seconds, usually 0.025 and 0.01"
            )
        if not 0 <= self.low < self.highest <= self.rate / 2:
            raise UserError(
                f"features: bands from {self.low} to {self.highest} Hz; they must lie between 0 and half the rate, "
                f"{self.rate / 2} Hz"
            )
        empty = np.flatnonzero(mel_weights(self).sum(0) == 0) if self.mels > 0 else [0]
        if len(empty):
            raise UserError(
                f"features: {self.mels} mel bands are too many for a window of {self.window} s, whose spectrum has "
                f"{self.fft // 2 + 1} frequencies (or too few, below 1); choose fewer, or a longer window"
            )

    @property
    def window_samples(self) -> int:
        """Number of samples of a frame."""
        return round(self.window * self.rate)

    @property
    def hop_samples(self) -> int:
        """Number of samples between the beginnings of two frames."""
        return round(self.hop * self.rate)

    @property
    def fft(self) -> int:
        """Length of the FFT."""
        return 1 << (self.window_samples - 1).bit_length()

    @property
    def highest(self) -> float:
        """Upper end of the highest band, in Hz."""
        return self.rate / 2 if self.high is None else self.high

    def frames(self, samples: Any) -> Any:
        """Number of frames of a signal with so many samples, at least 1. samples: an int, or an array of ints.

        >>> Spectrum(rate=16_000).frames(16_000)
        98
        """
        rest = samples - self.window_samples
        return 1 + rest * (rest > 0) // self.hop_samples


@lru_cache(maxsize=8)
def mel_weights(config: Spectrum) -> Float[np.ndarray, "frequencies mels"]:
    """The weight of each frequency of the FFT in each band: triangles between the centres of the neighbouring bands."""
    frequencies = np.arange(config.fft // 2 + 1) * config.rate / config.fft
    ends = 2595 * np.log10(1 + np.array([config.low, config.highest]) / 700)
    corners = 700 * (10 ** (np.linspace(ends[0], ends[1], config.mels + 2) / 2595) - 1)
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies[:, None] - low) / (centre - low)
    falling = (high - frequencies[:, None]) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(config: Spectrum, signals: Float[Array, "batch samples"]) -> Float[Array, "batch frames mels"]:
    """Log-mel features: the natural logarithm of each frame's power in each mel band (at least ``LEAST_POWER``)."""
    short = config.window_samples - signals.shape[1]
    signals = jnp.pad(signals, ((0, 0), (0, max(0, short))))
    starts = np.arange(config.frames(signals.shape[1])) * config.hop_samples
    frames = signals[:, starts[:, None] + np.arange(config.window_samples)]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window_samples) / config.window_samples)
    spectrum = jnp.fft.rfft(frames * hann.astype(signals.dtype), config.fft)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.log(jnp.maximum(power @ mel_weights(config).astype(signals.dtype), LEAST_POWER))


def mfcc(
    config: Spectrum, signals: Float[Array, "batch samples"], coefficients: int = 13
) -> Float[Array, "batch frames coefficients"]:
    """Mel-frequency cepstral coefficients: the first of the orthonormal DCT-II of ``log_mel`` over its bands."""
    if not 1 <= coefficients <= config.mels:
        raise UserError(f"features: {coefficients} coefficients of {config.mels} mel bands; choose 1 to {config.mels}")
    order, band = np.arange(coefficients), np.arange(config.mels)[:, None]
    cosines = np.sqrt(2 / config.mels) * np.cos(np.pi * order * (band + 0.5) / config.mels)
    cosines[:, 0] = np.sqrt(1 / config.mels)
    return log_mel(config, signals) @ cosines.astype(signals.dtype)


class Scale(NamedTuple):
    """Mean and standard deviation of every feature."""

    mean: Float[Array, " features"]
    deviation: Float[Array, " features"]


LEAST_VARIANCE = 1e-5
"""Added to variances, so that a constant feature (silence) becomes 0."""


def scale_of(features: Float[Array, "batch frames features"], lengths: Int[Array, " batch"]) -> Scale:
    """The scale of a whole training set: over all frames, without padding."""
    counts = (jnp.arange(features.shape[1]) < lengths[:, None])[..., None]
    total = counts.sum()
    mean = jnp.where(counts, features, 0).sum((0, 1)) / total
    variance = jnp.where(counts, jnp.square(features - mean), 0).sum((0, 1)) / total
    return Scale(mean, jnp.sqrt(variance + LEAST_VARIANCE))


def level_of(features: Float[Array, "batch frames features"], lengths: Int[Array, " batch"]) -> Scale:
    """The level of each utterance: one mean and deviation for all its features, which depend mostly on the volume."""
    counts = (jnp.arange(features.shape[1]) < lengths[:, None])[..., None]
    total = counts.sum((1, 2), keepdims=True) * features.shape[2]
    mean = jnp.where(counts, features, 0).sum((1, 2), keepdims=True) / total
    variance = jnp.where(counts, jnp.square(features - mean), 0).sum((1, 2), keepdims=True) / total
    return Scale(mean, jnp.sqrt(variance + LEAST_VARIANCE))


def normalise(
    features: Float[Array, "batch frames features"], lengths: Int[Array, " batch"], scale: Scale | None = None
) -> Float[Array, "batch frames features"]:
    """Features with mean 0 and deviation 1, and 0 in padding.

    scale: ``scale_of`` a training set, or ``level_of`` the utterances; None: each utterance's own scale, which removes
    the effects of microphone and volume, but from a short utterance much of its content, too.
    """
    counts = (jnp.arange(features.shape[1]) < lengths[:, None])[..., None]
    if scale is None:
        of_each = jax.vmap(lambda rows, length: scale_of(rows[None], length[None]))(features, lengths)
        scale = Scale(of_each.mean[:, None], of_each.deviation[:, None])
    return jnp.where(counts, (features - scale.mean) / scale.deviation, 0)


@dataclass(frozen=True)
class SpecAugment:
    """Random stripes of normalised features become 0, their mean (SpecAugment without warping: Park et al. 2019)."""

    feature_stripes: int = 2
    """Number of stripes across the features of each utterance."""
    feature_width: int = 8
    """Largest number of neighbouring features in a stripe."""
    time_stripes: int = 2
    """Number of stripes across the frames of each utterance."""
    time_width: int = 20
    """Largest number of frames in a stripe."""
    time_share: float = 0.2
    """Largest share of an utterance's frames in a stripe."""

    def __post_init__(self) -> None:
        require_between(self, group="spec_augment.", feature_stripes=(0, 1000), time_stripes=(0, 1000))
        require_between(self, group="spec_augment.", feature_width=(0, 100_000), time_width=(0, 100_000))
        require_between(self, group="spec_augment.", time_share=(0, 1))


def spec_augment(
    config: SpecAugment, key: Any, features: Float[Array, "batch frames features"], lengths: Int[Array, " batch"]
) -> Float[Array, "batch frames features"]:
    """Features with stripes of random width and place set to 0, drawn for each utterance."""
    batch, frames, bands = features.shape
    feature_key, time_key = jax.random.split(key)
    all_bands = jnp.full(batch, bands, jnp.int32)
    most = jnp.full(batch, min(config.feature_width, bands), jnp.int32)
    hidden = _stripes(feature_key, config.feature_stripes, all_bands, most, bands)[:, None]
    most = jnp.minimum(config.time_width, jnp.floor(config.time_share * lengths)).astype(jnp.int32)
    hidden |= _stripes(time_key, config.time_stripes, lengths, most, frames)[..., None]
    return jnp.where(hidden, 0, features)


def augment_frames(config: SpecAugment, key: Any, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
    """``spec_augment`` of a model's inputs: features and the number of frames of each utterance."""
    features, lengths = inputs
    return spec_augment(config, key, features, lengths), lengths


def _stripes(key: Any, count: int, lengths: Array, most: Array, size: int) -> Array:
    """Which of ``size`` places lie in one of ``count`` stripes of width 0 to ``most``, within each row's length."""
    width_key, place_key = jax.random.split(key)
    shape = (len(lengths), count)
    widths = jnp.floor(jax.random.uniform(width_key, shape, jnp.float32) * (most[:, None] + 1)).astype(jnp.int32)
    room = lengths[:, None] - widths + 1
    starts = jnp.floor(jax.random.uniform(place_key, shape, jnp.float32) * room).astype(jnp.int32)
    places = jnp.arange(size, dtype=jnp.int32)
    return ((places >= starts[..., None]) & (places < (starts + widths)[..., None])).any(1)


def change_speed(
    key: Any, signals: Float[Array, "batch samples"], lengths: Int[Array, " batch"], most: float
) -> tuple[Float[Array, "batch longer"], Int[Array, " batch"]]:
    """Speed perturbation: plays each signal faster or slower, by a factor from 1 - most to 1 + most (Ko et al. 2015).

    The pitch changes with the speed. Signals are interpolated linearly. All rows become as long as the slowest may be,
    with zeros after each row's new length. Returns the signals and their new lengths.
    """
    if not 0 <= most < 1:
        raise UserError(f"speed: the largest change is {most}; it must be at least 0 and less than 1")
    batch, samples = signals.shape
    factors = jax.random.uniform(key, (batch, 1), jnp.float32, 1 - most, 1 + most)
    longest = int(np.ceil(samples / (1 - most)))
    new_lengths = jnp.ceil(lengths / factors[:, 0]).astype(lengths.dtype)
    places = jnp.arange(longest, dtype=jnp.float32) * factors
    before = jnp.minimum(jnp.floor(places).astype(jnp.int32), samples - 1)
    share = (places - before).astype(signals.dtype)
    signals = jnp.where(jnp.arange(samples) < lengths[:, None], signals, 0)
    left = jnp.take_along_axis(signals, before, 1)
    right = jnp.take_along_axis(jnp.pad(signals, ((0, 0), (0, 1))), before + 1, 1)
    interpolated = (1 - share) * left + share * right
    return jnp.where(jnp.arange(longest) < new_lengths[:, None], interpolated, 0), new_lengths


def add_noise(
    key: Any, signals: Float[Array, "batch samples"], lengths: Int[Array, " batch"], least: float, most: float
) -> Float[Array, "batch samples"]:
    """Adds white noise at a random level, from ``least`` to ``most`` decibels below each signal's power.

    Silent signals and padding stay silent.
    """
    if least > most:
        raise UserError(
            f"noise: from {least} to {most} decibels below the signal; the first must not be the larger one"
        )
    level_key, noise_key = jax.random.split(key)
    counts = jnp.arange(signals.shape[1]) < lengths[:, None]
    power = jnp.where(counts, jnp.square(signals), 0).sum(1) / jnp.maximum(lengths, 1)
    decibels = jax.random.uniform(level_key, power.shape, jnp.float32, least, most)
    deviation = jnp.sqrt(power * 10 ** (-decibels / 10)).astype(signals.dtype)
    noise = jax.random.normal(noise_key, signals.shape, jnp.float32).astype(signals.dtype)
    return signals + jnp.where(counts, deviation[:, None] * noise, 0)
