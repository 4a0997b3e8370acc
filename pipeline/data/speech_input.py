"""What a model's inputs are: the spectrum of recordings, or features that are given; with the options of both."""

import os
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ..display import visible
from ..errors import UserError
from ..options import require_between
from . import audio
from .audio import Scale, Spectrum
from .sequences import deltas, feature_scale, normalise
from .speech import Recordings
from .utterances import Alphabet, FeatureUtterances, Frames, Utterances, features, labels_of

Normalisation = Literal["bands", "level", "speaker", "training"]
USUAL_HOP = 0.01
"""Seconds between frames where no file says: the usual ones of speech."""


@dataclass(frozen=True)
class SpectrumOptions:
    """Options of the spectrum of recordings."""

    rate: int = 16_000
    """Sample rate in Hz to which recordings are resampled."""
    mels: int = 40
    """Number of mel bands of the spectrum."""
    window: float = 0.025
    """Length of a frame in seconds."""
    hop: float = 0.010
    """Time from one frame to the next, in seconds."""

    def __post_init__(self) -> None:
        require_between(self, rate=(1000, 192_000), mels=(1, 512), window=(0.001, 1), hop=(0.001, 1))
        self.spectrum  # noqa: B018  (which says what is wrong with it)

    @property
    def spectrum(self) -> Spectrum:
        """The spectrum that the options describe."""
        return Spectrum(self.rate, self.window, self.hop, self.mels)


@dataclass(frozen=True)
class FeatureOptions:
    """Options of speech that is given as features."""

    features: str = ""
    """Path of features that are given in place of recordings: a .npz, .ark or .scp file, or a folder with one, or with
    a .npy or HTK file for each utterance. Texts: beside them, or in what --data names."""
    deltas: int = 0
    """Number of derivatives over time that are added to given features: 1 for deltas, 2 for accelerations too."""
    normalise: Normalisation = "bands"
    """Normalisation to mean 0 and deviation 1: of each feature or mel band of an utterance (bands); of the level of all
    bands together, which suits single short words (level); of each feature of all utterances of a speaker (speaker) or
    of the training set (training). Level is for recordings alone, and the last two for given features."""

    def __post_init__(self) -> None:
        require_between(self, deltas=(0, 4))
        given = bool(self.features)
        if os.path.exists(self.features):  # as a run must find it from any folder
            object.__setattr__(self, "features", os.path.abspath(self.features))
        if self.normalise in ("level",) if given else self.normalise in ("speaker", "training"):
            what = "for recordings, not for --features" if given else "for features that are given with --features"
            raise UserError(f"--normalise is {self.normalise}, which is {what}; choose another")
        if self.deltas and not given:
            raise UserError(f"--deltas is {self.deltas}, and there are no --features to add them to; leave it out")


@runtime_checkable
class SpeechInput(Protocol):
    """How recordings become a model's inputs: by their spectrum, or as features that are given."""

    @property
    def width(self) -> int:
        """Number of features of a frame."""
        ...

    @property
    def hop(self) -> float:
        """Seconds from one frame to the next."""
        ...

    @property
    def description(self) -> str:
        """The features, in a few words."""
        ...

    def utterances(self, recordings: Recordings, alphabet: Alphabet, frames: Frames) -> Utterances | FeatureUtterances:
        """The recordings as examples."""
        ...

    def features(self, signals: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The inputs of a model for a padded batch of signals with these lengths, and their numbers of frames."""
        ...


@dataclass(frozen=True)
class SpectrumInput:
    """Log-mel features of recordings: a ``SpeechInput``. normalised: see ``features``."""

    spectrum: Spectrum
    normalised: str = "bands"

    @property
    def width(self) -> int:
        return self.spectrum.mels

    @property
    def hop(self) -> float:
        return self.spectrum.hop

    @property
    def description(self) -> str:
        return f"{self.spectrum.mels} log-mel bands every {1000 * self.hop:g} ms, {self.spectrum.rate:,} Hz"

    def utterances(self, recordings: Recordings, alphabet: Alphabet, frames: Frames) -> Utterances:
        return Utterances(recordings, alphabet, self.spectrum, frames, self.normalised)

    def features(self, signals: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        return features(self.spectrum, self.normalised, signals, lengths)


@dataclass(frozen=True)
class FeatureInput:
    """Features that are given, as a model's inputs: a ``SpeechInput``.

    features: number of them in the files. deltas, normalise: see ``FeatureOptions``. mean, deviation: of the training
    set, where that normalises.
    """

    features_in_files: int
    hop: float = USUAL_HOP
    deltas: int = 0
    normalise: Normalisation = "bands"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @classmethod
    def of(cls, train: Recordings, hop: float, options: FeatureOptions) -> "FeatureInput":
        """The inputs of a model that is trained on these features.

        Raises UserError if speakers are asked for and none is known.
        """
        if options.normalise == "speaker" and not any(train.speakers):
            raise UserError(
                "--normalise is speaker, and nothing says who speaks: add a column speaker to the texts, or utt2spk to "
                "Kaldi's folder"
            )
        given = cls(train.signals[0].shape[1], hop, options.deltas, options.normalise)
        if options.normalise != "training":
            return given
        scale = feature_scale([deltas(signal, options.deltas) for signal in train.signals])
        mean, deviation = (tuple(np.asarray(values, float).tolist()) for values in scale)
        return replace(given, mean=mean, deviation=deviation)

    @classmethod
    def parse(cls, content: Any) -> "FeatureInput":
        """The inputs that ``dataclasses.asdict`` turned into JSON."""
        return cls(**content | {name: tuple(map(float, content[name])) for name in ("mean", "deviation")})

    @property
    def width(self) -> int:
        """Number of features of a frame, with derivatives."""
        return self.features_in_files * (self.deltas + 1)

    @property
    def description(self) -> str:
        derivatives = f" and {self.deltas} derivatives of each" if self.deltas else ""
        return f"{self.features_in_files} given features{derivatives} every {1000 * self.hop:g} ms"

    @property
    def scale(self) -> Scale | None:
        """The training set's mean and deviation, where that normalises."""
        arrays: Any = (np.asarray(values, np.float32) for values in (self.mean, self.deviation))
        return Scale(*arrays) if self.mean else None

    def prepared(self, recordings: Recordings) -> Recordings:
        """Recordings with derivatives, normalised. An utterance of an unknown speaker is normalised by itself.

        Raises UserError for recordings with other features.
        """
        for name, signal in zip(recordings.names, recordings.signals):
            if signal.shape[1] != self.features_in_files:
                raise UserError(
                    f"{visible(name)} has {signal.shape[1]} features, and the model {self.features_in_files}; give "
                    "features of the same kind"
                )
        signals = [deltas(signal, self.deltas) for signal in recordings.signals]
        speakers = [speaker or place for place, speaker in enumerate(recordings.speakers)]
        groups = speakers if self.normalise == "speaker" else None
        return replace(recordings, signals=normalise(signals, groups, self.scale))

    def utterances(self, recordings: Recordings, alphabet: Alphabet, frames: Frames) -> FeatureUtterances:
        prepared, labels = self.prepared(recordings), labels_of(recordings.texts, alphabet)
        return FeatureUtterances(prepared.signals, labels, frames=frames, recordings=prepared)

    def features(self, signals: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        extended = jax.vmap(lambda signal, length: deltas(signal, self.deltas, length=length))(signals, lengths)
        scale = self.scale
        scale = scale and Scale(jnp.asarray(scale.mean), jnp.asarray(scale.deviation))
        return audio.normalise(extended, lengths, scale), lengths
