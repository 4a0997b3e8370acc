"""Utterances as examples: batches of log-mel features with transcripts, augmented anew in each epoch of training.

``speech_input`` says what a model's inputs are: the spectrum of recordings, or features that are given.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..losses.base import Targets
from .audio import Spectrum, add_noise, change_speed, level_of, log_mel, normalise
from .sequences import TranscribedSequences, is_feasible, transcripts
from .speech import LOUDER, Recordings, join

SHORTEST, LONGER = 64, 1.6  # frames of the shortest batch, and the factor to the next size: few shapes compile


Frames = Callable[[np.ndarray, int], np.ndarray]
"""``(lengths, longest) -> lengths``: the model's numbers of output frames for utterances with these numbers of input
frames, in a batch padded to ``longest``."""


@runtime_checkable
class Alphabet(Protocol):
    """What turns a transcript into labels, of which 0 is CTC's blank; see ``vocabulary.Characters``."""

    def __len__(self) -> int: ...

    def encode(self, text: str, /) -> np.ndarray: ...

    def decode(self, ids: np.ndarray, /) -> str: ...


class WaveformAugmentation(NamedTuple):
    """Random changes of signals in training.

    speed: largest relative change of speed. noise: lowest and highest level of white noise, in decibels below the
    signal.
    """

    speed: float = 0.0
    noise: tuple[float, float] = (100.0, 100.0)


class Randomness(NamedTuple):
    """Random changes of signals, with the seed and the epoch of which they are a function."""

    changes: WaveformAugmentation
    seed: int
    epoch: int


@dataclass(frozen=True, eq=False)
class Utterances:
    """Recordings as examples: the inputs are features and their numbers of frames, the targets are ``Transcripts``.

    alphabet: of the transcripts; unknown characters are left out.
    normalised: see ``features``. random: random changes; None: none.
    """

    recordings: Recordings
    alphabet: Alphabet
    spectrum: Spectrum
    frames: Frames
    normalised: str = "bands"
    random: Randomness | None = None

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def lengths(self) -> np.ndarray:
        """Number of frames of each utterance, before random changes."""
        return self.spectrum.frames(np.asarray([len(signal) for signal in self.recordings.signals]))

    @cached_property
    def labels(self) -> list[np.ndarray]:
        """The ids of each transcript."""
        return labels_of(self.recordings.texts, self.alphabet)

    @cached_property
    def feasible(self) -> np.ndarray:
        """Which utterances are long enough for their transcripts: bool, (utterances,)."""
        return is_feasible(self.labels, self.frames(self.lengths, int(self.lengths.max())))

    def of(self, rows: Sequence[int]) -> "Utterances":
        """The utterances at these rows."""
        return replace(self, recordings=self.recordings.of(rows))

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Targets]:
        """Inputs: normalised log-mel features (rows, frames, mels), 0 after each utterance's end, and lengths (rows,).

        ``frames`` is one of few numbers, so that there are few different shapes.
        """
        changes = self.random.changes if self.random else WaveformAugmentation()
        signals = [self.recordings.signals[row] for row in rows]
        lengths = np.asarray([len(signal) for signal in signals], np.int32)
        slowest = 1 - changes.speed
        longest = 1 + self.spectrum.frames(int(np.ceil(lengths.max() / slowest)))
        samples = self.spectrum.window_samples + (_batch_frames(longest) - 1) * self.spectrum.hop_samples
        padded = np.zeros((len(rows), int(samples * slowest)), np.float32)
        for row, signal in zip(padded, signals):
            row[: len(signal)] = signal
        key = None
        if self.random:
            key = jax.random.fold_in(jax.random.key(self.random.seed), self.random.epoch)
            key = jax.random.fold_in(key, int(rows[0]))  # no other batch of the epoch begins with this row
        arguments = self.spectrum, self.normalised, changes, samples, key, padded, lengths
        features, counts = map(np.asarray, _compiled_features()(*arguments))
        return (features, counts), Targets(transcripts(self.labels, rows, self.frames(counts, features.shape[1])))


@dataclass(frozen=True, eq=False)
class FeatureUtterances(TranscribedSequences):
    """Utterances that are given as features, as examples. recordings: with the features as their signals."""

    recordings: Recordings = field(kw_only=True)

    def of(self, rows: Sequence[int]) -> "FeatureUtterances":
        """The utterances at these rows."""
        sequences, labels = ([values[row] for row in rows] for values in (self.sequences, self.labels))
        return replace(self, sequences=sequences, labels=labels, recordings=self.recordings.of(rows))


def labels_of(texts: Sequence[str], alphabet: Alphabet) -> list[np.ndarray]:
    """The ids of each transcript, without those that the alphabet does not know."""
    return [ids[ids != 0] for ids in map(alphabet.encode, texts)]


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
    """Features of signals (batch, time), which are changed at random if there is a key and padded to ``samples``."""
    if key is not None:
        keys = jax.random.split(key)
        signals, lengths = change_speed(keys[0], signals, lengths, changes.speed)
        signals = add_noise(keys[1], signals, lengths, *changes.noise)
    signals = jnp.pad(signals, ((0, 0), (0, max(0, samples - signals.shape[1]))))[:, :samples]
    return features(spectrum, normalised, signals, lengths)


def features(
    spectrum: Spectrum, normalised: str, signals: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Normalised log-mel features (batch, frames, mels) of signals (batch, time), and their numbers of frames.

    lengths: samples of each signal. normalised: "bands" normalises each mel band of an utterance to mean 0 and
    deviation 1, "level" all bands together. "level" is for single words: these are so short that a band's mean tells
    the vowel.
    """
    log_mels, counts = log_mel(spectrum, signals), spectrum.frames(lengths)
    scale = level_of(log_mels, counts) if normalised == "level" else None
    return normalise(log_mels, counts, scale), counts


@dataclass(frozen=True, eq=False)
class AugmentedUtterances:
    """Training utterances that differ from epoch to epoch: recordings are connected anew and changed at random.

    connected: number of recordings of one speaker that make up an utterance.
    """

    utterances: Utterances
    connected: int
    changes: WaveformAugmentation
    seed: int

    def __len__(self) -> int:
        counts = Counter(self.utterances.recordings.speakers).values()
        return sum(count // self.connected for count in counts)

    def at(self, epoch: int) -> Utterances:
        """The utterances of an epoch."""
        recordings, rate = self.utterances.recordings, self.utterances.spectrum.rate
        if self.connected > 1:
            generator = np.random.default_rng((self.seed, epoch))
            recordings = join(recordings, self.connected, rate, generator, LOUDER)
        return replace(self.utterances, recordings=recordings, random=Randomness(self.changes, self.seed, epoch))
