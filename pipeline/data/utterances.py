"""Recordings as batches of features with their transcripts, varied anew in each epoch for training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..losses.base import Targets
from ..losses.ctc import Transcripts
from .audio import Spectrum, add_noise, change_speed, level_of, log_mel, normalise
from .batches import rounded_up
from .speech import LOUDER, Recordings, join
from .vocabulary import Characters

SHORTEST, LONGER = 64, 1.6  # frames of the shortest batch, and how much more the next has: few shapes compile


class WaveformAugmentation(NamedTuple):
    """What training does to signals at random.

    speed: the share by which they become faster or slower at most. noise: decibels that white noise is below them, from
    and to.
    """

    speed: float = 0.0
    noise: tuple[float, float] = (100.0, 100.0)


class Randomness(NamedTuple):
    """WaveformAugmentation, and what they are drawn from."""

    changes: WaveformAugmentation
    seed: int
    epoch: int


@dataclass(frozen=True, eq=False)
class Utterances:
    """Recordings as a model is given them: an example is (features, how many frames) and its Transcripts.

    alphabet: of the texts; its first id is CTC's blank, and characters that it has not are left out.
    frames: how many frames the model makes of each utterance's, from those and from the number of the longest.
    normalised: see ``features``.
    """

    recordings: Recordings
    alphabet: Characters
    spectrum: Spectrum
    frames: Callable[[np.ndarray, int], np.ndarray]
    normalised: str = "bands"
    random: Randomness | None = None

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def lengths(self) -> np.ndarray:
        """In frames of features, before changes."""
        return self.spectrum.frames(np.asarray([len(signal) for signal in self.recordings.signals]))

    @cached_property
    def labels(self) -> list[np.ndarray]:
        encoded = (self.alphabet.encode(text) for text in self.recordings.texts)
        return [ids[ids != 0] for ids in encoded]

    @cached_property
    def feasible(self) -> np.ndarray:
        """Which utterances are long enough for their texts: a label needs a frame, and equal neighbours one between."""
        needed = [len(ids) + int((ids[1:] == ids[:-1]).sum()) for ids in self.labels]
        return np.asarray(needed) <= self.frames(self.lengths, int(self.lengths.max()))

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Targets]:
        """Normalised log-mel features (rows, frames, mels) with zeros behind each utterance's end, and their lengths.

        frames: one of few numbers, so that few shapes compile.
        """
        changes = self.random.changes if self.random else WaveformAugmentation()
        signals = [self.recordings.signals[row] for row in rows]
        lengths = np.asarray([len(signal) for signal in signals], np.int32)
        slowest = 1 - changes.speed
        longest = 1 + self.spectrum.frames(int(np.ceil(lengths.max() / slowest)))
        samples = self.spectrum.window_samples + (_batch_frames(longest) - 1) * self.spectrum.hop_samples
        padded = np.zeros((len(rows), int(samples * slowest)), np.float32)
        for its, signal in zip(padded, signals):
            its[: len(signal)] = signal
        key = None
        if self.random:
            key = jax.random.fold_in(jax.random.key(self.random.seed), self.random.epoch)
            key = jax.random.fold_in(key, int(rows[0]))  # no other batch of the epoch begins with this one
        given = self.spectrum, self.normalised, changes, samples, key, padded, lengths
        features, counts = map(np.asarray, _compiled_features()(*given))
        return (features, counts), Targets(self._transcripts(rows, self.frames(counts, features.shape[1])))

    def _transcripts(self, rows: np.ndarray, frames: np.ndarray) -> Transcripts:
        widest = max(1, *(len(ids) for ids in self.labels)) if self.labels else 1
        labels = np.zeros((len(rows), rounded_up(widest)), np.int32)
        for its, row in zip(labels, rows):
            its[: len(self.labels[row])] = self.labels[row]
        lengths = np.asarray([len(self.labels[row]) for row in rows], np.int32)
        return Transcripts(labels, lengths, np.asarray(frames, np.int32))


def _batch_frames(longest: int) -> int:
    frames = SHORTEST
    while frames < longest:
        frames = round(frames * LONGER)
    return frames


@cache
def _compiled_features() -> Any:
    """``_changed_features``, compiled."""
    return compiler.jit(_changed_features, static_argnames=("spectrum", "normalised", "changes", "samples"))


def _changed_features(
    spectrum: Spectrum,
    normalised: str,
    changes: WaveformAugmentation,
    samples: int,
    key: Any,
    signals: jax.Array,
    lengths: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Features of signals (batch, time), changed at random where there is a key, then padded to ``samples``."""
    if key is not None:
        keys = jax.random.split(key)
        signals, lengths = change_speed(keys[0], signals, lengths, changes.speed)
        signals = add_noise(keys[1], signals, lengths, *changes.noise)
    signals = jnp.pad(signals, ((0, 0), (0, max(0, samples - signals.shape[1]))))[:, :samples]
    return features(spectrum, normalised, signals, lengths)


def features(
    spectrum: Spectrum, normalised: str, signals: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log-mel features (batch, frames, mels) of signals (batch, time), and how many frames of each count.

    normalised: whether each of an utterance's "bands" has mean 0 and deviation 1, or all together, its "level". A
    word that is said alone is so short that a band's mean tells its vowel.
    """
    found, counts = log_mel(spectrum, signals), spectrum.frames(lengths)
    scale = level_of(found, counts) if normalised == "level" else None
    return normalise(found, counts, scale), counts


@dataclass(frozen=True, eq=False)
class AugmentedUtterances:
    """Training utterances that are another every epoch: connected in another order, and changed.

    connected: of how many recordings an utterance is made.
    """

    utterances: Utterances
    connected: int
    changes: WaveformAugmentation
    seed: int

    def __len__(self) -> int:
        counts = np.unique(self.utterances.recordings.speakers, return_counts=True)[1]
        return int((counts // self.connected).sum())

    def at(self, epoch: int) -> Utterances:
        recordings, rate = self.utterances.recordings, self.utterances.spectrum.rate
        if self.connected > 1:
            drawn = np.random.default_rng((self.seed, epoch))
            recordings = join(recordings, self.connected, rate, drawn, LOUDER)
        return replace(self.utterances, recordings=recordings, random=Randomness(self.changes, self.seed, epoch))
