"""Batches of examples, through grain: shuffled by a seed, resumable, and of few different shapes."""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..errors import UserError
from ..extras import extra
from ..losses.base import Targets

if TYPE_CHECKING:
    import grain

BATCHES_AHEAD = 2
"""Batches of streamed examples that are made while the model computes; each is decoded by several threads."""

Batch = tuple[Any, Any]
"""Inputs and targets (``losses.Targets``): pytrees of arrays, or of their ShapeDtypeStructs."""


@runtime_checkable
class Examples(Protocol):
    """A set of examples, from which batches are taken.

    Those whose ``take`` reads files have an attribute ``is_streamed`` that is true: their batches are taken ahead, in
    threads.
    """

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, /) -> tuple[Any, Any]:
        """The inputs and the targets (labels alone, or Targets) of the examples at ``rows``, int (batch,)."""
        ...


@runtime_checkable
class Sequences(Examples, Protocol):
    """Examples of different lengths, which ``take`` pads to the longest in the batch."""

    @property
    def lengths(self) -> np.ndarray:
        """The length of every example: int, (examples,)."""
        ...


@runtime_checkable
class PerEpochExamples(Protocol):
    """Examples that are generated anew for every epoch; their number is always the same."""

    def __len__(self) -> int: ...

    def at(self, epoch: int, /) -> Examples:
        """The examples of an epoch, counted from 0: a function of the epoch alone."""
        ...


def steps_per_epoch(examples: Examples | PerEpochExamples, batch_size: int) -> int:
    """The number of whole batches in an epoch. Raises UserError if there is none."""
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1")
    if batch_size > len(examples):
        raise UserError(
            f"a batch of {batch_size} is larger than the training set, which has {len(examples)} examples; choose a "
            f"batch size of at most {len(examples)}"
        )
    return len(examples) // batch_size


def train_batches(examples: Examples | PerEpochExamples, batch_size: int, seed: int) -> "grain.DatasetIterator[Batch]":
    """An endless iterator over training batches; each epoch shuffles the examples anew, as a function of ``seed``.

    Every batch has ``batch_size`` examples. An epoch has ``steps_per_epoch`` batches and leaves out the remainder,
    which consists of different examples each time.

    ``Sequences`` are batched with others of about the same length, so that there is little padding; which examples of
    similar length share a batch, and the order of the batches, are random too. ``PerEpochExamples`` are generated anew
    for each epoch.

    The iterator's ``get_state()`` is a small dict of numbers; ``set_state`` continues from it, even within an epoch.
    """
    steps = steps_per_epoch(examples, batch_size)

    @lru_cache(maxsize=2)  # epochs, since batches may be taken ahead
    def ordered(epoch: int) -> tuple[Examples, np.ndarray]:
        random = np.random.default_rng((seed, epoch))
        current = examples.at(epoch) if isinstance(examples, PerEpochExamples) else examples
        rows = random.permutation(len(current))[: steps * batch_size]
        if isinstance(current, Sequences):
            rows = rows[np.argsort(current.lengths[rows], kind="stable")]
            return current, random.permutation(rows.reshape(steps, batch_size))
        return current, rows.reshape(steps, batch_size)

    # An element of the grain pipeline is a whole batch: shuffling and gathering example by example takes twenty times
    # as long.
    def batch(index: int) -> Batch:
        epoch, step = divmod(index, steps)
        current, rows = ordered(epoch)
        return batch_of(*current.take(rows[step]))

    return iter(_in_turn(sys.maxsize, batch, _is_streamed(examples)))


def evaluation_batches(examples: Examples, batch_size: int) -> Iterable[Batch]:
    """Batches that contain every example once: in order, or for ``Sequences`` in the order of ``by_length``.

    Every batch has ``batch_size`` rows, so that few functions are compiled. The last batch is padded with copies of its
    first example, which have weight 0 in the targets; the examples have their own weights, or weight 1 (float32).
    The result can be iterated over several times.
    """
    order = by_length(examples) if isinstance(examples, Sequences) else np.arange(len(examples))

    def batch(index: int) -> Batch:
        places = np.arange(index * batch_size, (index + 1) * batch_size)
        real = places < len(examples)
        inputs, targets = batch_of(*examples.take(order[np.where(real, places, places[0])]))
        weights = real.astype(np.float32)
        if targets.weights is not None:
            weights = targets.weights * weights.reshape(-1, *[1] * (targets.weights.ndim - 1))
        return inputs, Targets(targets.values, weights)

    return _in_turn(-(-len(examples) // batch_size), batch, _is_streamed(examples))


def _is_streamed(examples: Examples | PerEpochExamples) -> bool:
    return bool(getattr(examples, "is_streamed", False))


def _in_turn(count: int, batch: Callable[[int], Batch], ahead: bool) -> "grain.IterDataset[Batch]":
    """``batch(0)``, ``batch(1)``, ... up to ``count``. ahead: whether a few are made before they are asked for."""
    with extra("train"):
        import grain

    # Where the data are in memory, threads would only contend with the computation for the interpreter.
    threads = BATCHES_AHEAD if ahead else 0
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return grain.MapDataset.range(count).map(batch).to_iter_dataset(options)


def by_length(examples: Sequences) -> np.ndarray:
    """The order in which ``evaluation_batches`` takes sequences: the shortest first."""
    return np.argsort(examples.lengths, kind="stable")


def batch_of(inputs: Any, labels: Any) -> Batch:
    """A batch from what ``Examples.take`` returns: labels without weights become ``Targets``."""
    return inputs, labels if isinstance(labels, Targets) else Targets(labels)


def first_batch(examples: Examples, size: int) -> Batch:
    """A batch of the first ``size`` examples, or of all where there are fewer."""
    return batch_of(*examples.take(np.arange(min(size, len(examples)))))


def padded(sequences: Sequence[np.ndarray], padding: int = 0, width: int = 0) -> np.ndarray:
    """Sequences of ids as the rows of an array, with ``padding`` after their ends: int32, (sequences, time).

    time is the length of the longest sequence, or ``width`` if that is more, ``rounded_up`` so that there are few
    different shapes.

    >>> padded([np.array([5, 6, 7]), np.array([8])])
    array([[5, 6, 7, 0, 0, 0, 0, 0],
           [8, 0, 0, 0, 0, 0, 0, 0]], dtype=int32)
    """
    longest = max(width, max(len(sequence) for sequence in sequences))
    rows = np.full((len(sequences), rounded_up(longest)), padding, np.int32)
    for row, sequence in zip(rows, sequences):
        row[: len(sequence)] = sequence
    return rows


def rounded_up(length: int) -> int:
    """The next of 8, 12, 16, 24, 32, 48, 64, ...: at most half as much again as ``length``, from 8 upwards.

    >>> rounded_up(33)
    48
    """
    power = 8
    while power * 2 <= length:
        power *= 2
    return next(width for width in (power, power * 3 // 2, power * 2) if width >= length)
