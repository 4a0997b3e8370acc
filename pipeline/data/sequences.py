"""Sequences of feature vectors: ragged float arrays (frames, features), normalised, padded and batched.

Everything here works on anybody's arrays: features of speech, readings of sensors, positions of joints. From arrays to
training batches of a recogniser:

>>> import numpy as np
>>> from backhand.data import evaluation_batches
>>> random = np.random.default_rng(0)
>>> sequences = [random.normal(size=(frames, 13)) for frames in (30, 52, 47)]
>>> sequences = normalise([deltas(sequence) for sequence in sequences])
>>> labels = [np.array([1, 2]), np.array([2, 1, 2]), np.array([1])]
>>> (features, lengths), targets = next(iter(evaluation_batches(TranscribedSequences(sequences, labels), 3)))
>>> features.shape, lengths.tolist(), targets.values.labels.shape
((3, 56, 39), [30, 47, 52], (3, 8))
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..losses.base import Targets
from ..losses.ctc import Transcripts
from .audio import LEAST_VARIANCE, Scale
from .batches import padded, rounded_up

BUCKETS = 5
"""Number of lengths to which batches are padded: each is compiled once."""
EXCESS = 0.1
"""Share of frames that padding may add where that saves a bucket."""
MULTIPLE = 8
"""Lengths to which batches are padded are multiples of this."""


def deltas(features: Any, order: int = 2, window: int = 2, length: Any = None) -> Any:
    """A sequence (frames, features) with its first ``order`` derivatives over time beside it.

    The derivative is the slope of the regression line through the 2 ``window`` + 1 frames around each frame t:

        d_t = sum_k k (x_{t+k} - x_{t-k}) / (2 sum_k k^2),  k = 1, ..., window

    (Furui 1986; Young et al., The HTK Book, 5.9), where the first and the last frame are repeated before the beginning
    and after the end. A second derivative is that of the first. Kaldi's add-deltas is the same except in the 2
    ``window`` frames at each end, for which it repeats the frames themselves and not their derivatives.

    features: a NumPy or JAX array, float. length: number of frames before padding, of a padded sequence; None: all.
    Returns (frames, features (order + 1)), of the same kind; what it has after ``length`` is of no use.

    >>> deltas(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]), order=1)[:, 1].tolist()
    [0.5, 0.8, 1.0, 0.8, 0.5]
    """
    if order < 0 or window < 1:
        raise ValueError(f"deltas of order {order} over {window} frames; order is at least 0, and window at least 1")
    space = features.__array_namespace__()
    last = (len(features) if length is None else length) - 1
    places = space.arange(len(features))
    after, before = ([space.clip(places + sign * k, 0, last) for k in range(1, window + 1)] for sign in (1, -1))
    parts = [features]
    for _ in range(order):
        x = parts[-1]
        slopes = sum(k * (x[later] - x[earlier]) for k, (later, earlier) in enumerate(zip(after, before), 1))
        parts.append(slopes / (2 * sum(k * k for k in range(1, window + 1))))
    return space.concatenate(parts, axis=1)


def feature_scale(sequences: Sequence[Float[np.ndarray, "_ features"]]) -> Scale:
    """Mean and standard deviation of every feature over all frames of ``sequences``: float32, (features,)."""
    count = sum(map(len, sequences))
    mean = sum(np.sum(sequence, 0, dtype=np.float64) for sequence in sequences) / count
    variance = sum(np.square(sequence - mean).sum(0) for sequence in sequences) / count
    return Scale(np.float32(mean), np.float32(np.sqrt(variance + LEAST_VARIANCE)))  # pyright: ignore[reportArgumentType]


def normalise(
    sequences: Sequence[Float[np.ndarray, "_ features"]],
    groups: Sequence[Hashable] | None = None,
    scale: Scale | None = None,
) -> list[Float[np.ndarray, "_ features"]]:
    """Sequences whose features have mean 0 and deviation 1: float32.

    groups: a group for each sequence, such as its speaker: mean and deviation are those of the group. None: each
        sequence has its own.
    scale: a mean and deviation for all of them instead, such as the ``feature_scale`` of the training set.

    >>> normalise([np.array([[1.0], [3.0]]), np.array([[5.0], [7.0]])], groups=["anna", "anna"])[0].ravel().round(2)
    array([-1.34, -0.45], dtype=float32)
    """
    if scale is not None:
        return [_scaled(sequence, scale) for sequence in sequences]
    members: dict[Hashable, list[int]] = {}
    for place in range(len(sequences)):
        members.setdefault(place if groups is None else groups[place], []).append(place)
    scales = {place: scale for rows in members.values() for scale in [_scale(sequences, rows)] for place in rows}
    return [_scaled(sequence, scales[place]) for place, sequence in enumerate(sequences)]


def _scale(sequences: Sequence[np.ndarray], rows: Sequence[int]) -> Scale:
    return feature_scale([sequences[row] for row in rows])


def _scaled(sequence: np.ndarray, scale: Scale) -> np.ndarray:
    return ((sequence - scale.mean) / scale.deviation).astype(np.float32)


def stretch(sequence: Float[np.ndarray, "_ features"], factor: float) -> Float[np.ndarray, "_ features"]:
    """A sequence that takes ``factor`` times as many frames, at least 1, by linear interpolation.

    >>> stretch(np.array([[0.0], [1.0], [2.0]]), 5 / 3).ravel().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    frames = max(1, round(len(sequence) * factor))
    places = np.linspace(0, len(sequence) - 1, frames)
    before = np.minimum(places.astype(int), max(0, len(sequence) - 2))
    share = (places - before).astype(sequence.dtype)[:, None]
    return (1 - share) * sequence[before] + share * sequence[np.minimum(before + 1, len(sequence) - 1)]


def bucket_lengths(
    lengths: Sequence[int] | np.ndarray, buckets: int = BUCKETS, excess: float = EXCESS
) -> tuple[int, ...]:
    """At most ``buckets`` lengths to which sequences of these ``lengths`` are padded, with the least padding in all.

    Each is a multiple of ``MULTIPLE``; the last one holds the longest sequence. Found by dynamic programming over the
    different lengths.

    excess: fewer buckets are chosen where they have at most this share of frames more, since each is compiled once.

    >>> bucket_lengths([10, 11, 12, 100, 101, 300], buckets=3)
    (16, 104, 304)
    """
    sizes, counts = np.unique(-(-np.maximum(lengths, 1) // MULTIPLE) * MULTIPLE, return_counts=True)
    upto = np.concatenate([[0], np.cumsum(counts)])
    # cost[i]: the least number of padded frames of the first i different lengths, in the buckets so far.
    cost = np.concatenate([[0.0], np.full(len(sizes), np.inf)])
    steps, costs = [], []
    for _ in range(min(buckets, len(sizes))):
        ways = cost[None, :-1] + sizes[:, None] * (upto[1:, None] - upto[None, :-1])
        ways = np.where(np.tri(len(sizes), dtype=bool), ways, np.inf)
        steps.append(ways.argmin(1))
        cost = np.concatenate([[0.0], ways.min(1)])
        costs.append(cost[-1])
    enough = next(count for count, frames in enumerate(costs, 1) if frames <= (1 + excess) * min(costs))
    chosen, end = [], len(sizes)
    for step in reversed(steps[:enough]):
        if end:
            chosen.append(int(sizes[end - 1]))
            end = int(step[end - 1])
    return tuple(reversed(chosen))


def bucket(length: int, sizes: Sequence[int]) -> int:
    """The first of ``sizes`` that is at least ``length``; for a longer one, ``rounded_up``."""
    return next((size for size in sizes if size >= length), rounded_up(length))


def pad(
    sequences: Sequence[Float[np.ndarray, "_ features"]], size: int = 0
) -> tuple[Float[np.ndarray, "batch size features"], Int[np.ndarray, " batch"]]:
    """Sequences as one float32 array with zeros after their ends, and their lengths (int32).

    size: number of frames to pad to; 0: that of the longest.

    >>> batch, lengths = pad([np.ones((2, 1)), np.ones((3, 1))])
    >>> batch[..., 0].tolist(), lengths.tolist()
    ([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [2, 3])
    """
    lengths = np.asarray([len(sequence) for sequence in sequences], np.int32)
    batch = np.zeros((len(sequences), max(size, lengths.max()), sequences[0].shape[1]), np.float32)
    for row, sequence in zip(batch, sequences):
        row[: len(sequence)] = sequence
    return batch, lengths


def frame_mask(lengths: Int[np.ndarray, " batch"], size: int) -> Bool[np.ndarray, "batch size"]:
    """True at the frames of each row before its length: the ``mask`` of a ``Context``."""
    return np.arange(size) < np.asarray(lengths)[:, None]


@dataclass(frozen=True, eq=False)
class FeatureSequences:
    """Sequences as examples: batches of sequences of similar length, padded to one of few lengths.

    sequences: (frames, features) each. labels: (sequences, ...), any array.
    sizes: the lengths that batches are padded to; (): ``bucket_lengths``.

    The inputs of a batch are (features, lengths), as ``layers.masking.MaskedByLength`` takes them.
    """

    sequences: Sequence[np.ndarray]
    labels: Any
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_sequences(self.sequences, self.labels)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def lengths(self) -> np.ndarray:
        """Number of frames of each sequence."""
        return self._lengths

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.asarray([len(sequence) for sequence in self.sequences], np.int64)

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return self.sizes or bucket_lengths(self.lengths)

    def inputs(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The padded features (rows, size, features) and the lengths (rows,) of some sequences."""
        return pad([self.sequences[row] for row in rows], bucket(int(self.lengths[rows].max()), self._sizes))

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
        """Inputs and labels of the examples at ``rows``."""
        return self.inputs(rows), np.asarray(self.labels)[rows]


def _same(lengths: np.ndarray, size: int) -> np.ndarray:
    del size
    return lengths


@dataclass(frozen=True, eq=False)
class TranscribedSequences(FeatureSequences):
    """Sequences with their transcripts, as examples for the CTC loss: the targets are ``Transcripts``.

    labels: int, the labels of each sequence; 0 is CTC's blank, and no label.
    frames: ``(lengths, size) -> lengths``: the model's numbers of output frames for sequences with these numbers of
        input frames, in a batch padded to ``size``. See ``models.acoustic.frames_after``; by default, the same.
    """

    labels: Sequence[np.ndarray]
    frames: Callable[[np.ndarray, int], np.ndarray] = _same

    @cached_property
    def feasible(self) -> np.ndarray:
        """Which sequences are long enough for their transcripts: bool, (sequences,)."""
        return is_feasible(self.labels, self.frames(self.lengths, int(self.lengths.max())))

    def of(self, rows: Sequence[int]) -> "TranscribedSequences":
        """The examples at these rows."""
        sequences, labels = ([values[row] for row in rows] for values in (self.sequences, self.labels))
        return replace(self, sequences=sequences, labels=labels)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Targets]:
        """Inputs and transcripts of the examples at ``rows``."""
        features, lengths = self.inputs(rows)
        return (features, lengths), Targets(transcripts(self.labels, rows, self.frames(lengths, features.shape[1])))


@dataclass(frozen=True, eq=False)
class StretchedSequences:
    """Transcribed sequences that are faster or slower in each epoch of training, at random: ``PerEpochExamples``.

    most: largest relative change of a sequence's number of frames; 0: none.
    """

    examples: TranscribedSequences
    most: float
    seed: int

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, epoch: int) -> TranscribedSequences:
        """The examples of an epoch."""
        if not self.most:
            return self.examples
        factors = np.random.default_rng((self.seed, epoch)).uniform(1 - self.most, 1 + self.most, len(self))
        sequences = [stretch(sequence, factor) for sequence, factor in zip(self.examples.sequences, factors)]
        sizes = bucket_lengths([round(length * (1 + self.most)) for length in self.examples.lengths])
        return replace(self.examples, sequences=sequences, sizes=self.examples.sizes or sizes)


def is_feasible(labels: Sequence[np.ndarray], frames: np.ndarray) -> np.ndarray:
    """Which numbers of frames are enough for CTC: one for each label, and another between equal neighbours."""
    needed = [len(ids) + int((ids[1:] == ids[:-1]).sum()) for ids in map(np.asarray, labels)]
    return np.asarray(needed) <= frames


def transcripts(labels: Sequence[np.ndarray], rows: np.ndarray, frames: np.ndarray) -> Transcripts:
    """The labels at ``rows`` as CTC's targets, padded to the longest of all. frames: of the rows."""
    widest = max(map(len, labels), default=0)
    chosen = [np.asarray(labels[row], np.int32) for row in rows]
    lengths = np.asarray([len(ids) for ids in chosen], np.int32)
    return Transcripts(padded(chosen, width=widest), lengths, np.asarray(frames, np.int32))


def require_sequences(sequences: Sequence[np.ndarray], labels: Any) -> None:
    """Raises ValueError unless there are arrays (frames, features) with equal features, as many as labels."""
    shapes = [np.shape(sequence) for sequence in sequences]
    wrong = [
        place for place, shape in enumerate(shapes) if len(shape) != 2 or shape[1] != shapes[0][-1] or not shape[0]
    ]
    if wrong:
        raise ValueError(
            f"sequence {wrong[0]} has the shape {shapes[wrong[0]]}, and the first one {shapes[0]}; each must be "
            "(frames, features), with at least one frame and equally many features"
        )
    if not shapes or len(shapes) != len(labels):
        raise ValueError(f"{len(shapes)} sequences and {len(labels)} labels; there must be as many, and at least one")
