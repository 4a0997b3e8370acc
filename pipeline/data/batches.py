"""Batches for a training loop, through grain: shuffled by seed, resumable, of one shape or of few."""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from pipeline.errors import UserError
from pipeline.losses.base import Targets

if TYPE_CHECKING:
    import grain

Batch = tuple[Any, Any]
"""Inputs, and targets: a loss\'s Targets. Arrays, or in their place their ShapeDtypeStructs."""


@runtime_checkable
class Examples(Protocol):
    """What batches are taken from."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, /) -> tuple[Any, Any]:
        """The inputs, and the labels or whole Targets."""
        ...


@runtime_checkable
class Sequences(Examples, Protocol):
    """Examples of different lengths, which ``take`` pads to that of the longest."""

    @property
    def lengths(self) -> np.ndarray:
        """Of every example: int, (examples,)."""
        ...


@runtime_checkable
class PerEpochExamples(Protocol):
    """Examples that are drawn anew for every epoch, always as many."""

    def __len__(self) -> int: ...

    def at(self, epoch: int, /) -> Examples:
        """Those of an epoch, the first of which is 0: a function of nothing else."""
        ...


def steps_per_epoch(examples: Examples | PerEpochExamples, batch_size: int) -> int:
    """How many whole batches an epoch has. Raises UserError where there is none."""
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1")
    if batch_size > len(examples):
        raise UserError(
            f"a batch of {batch_size} is larger than the training set, which has {len(examples)} examples; choose a "
            f"batch size of at most {len(examples)}"
        )
    return len(examples) // batch_size


def train_batches(examples: Examples | PerEpochExamples, batch_size: int, seed: int) -> "grain.DatasetIterator[Batch]":
    """Batches without end, each epoch in a new order that follows from ``seed``.

    An epoch is ``steps_per_epoch`` batches; the remainder, other examples each time, waits for the next epoch, so that
    every batch has as many. All of these count alike: weights in the targets are the examples' own.

    Where examples have ``lengths``, a batch is made of some that are about equally long, so that little of it is
    padding; which of equal length meet, and in which order the batches come, is drawn anew for each epoch. So are the
    examples themselves, where they are ``PerEpochExamples``.

    The iterator's ``get_state()`` is a small dict of numbers, and ``set_state`` goes on from it, mid-epoch too.
    """
    steps = steps_per_epoch(examples, batch_size)

    @lru_cache(maxsize=1)
    def ordered(epoch: int) -> tuple[Examples, np.ndarray]:
        random = np.random.default_rng((seed, epoch))
        its = examples.at(epoch) if isinstance(examples, PerEpochExamples) else examples
        rows = random.permutation(len(its))[: steps * batch_size]
        if isinstance(its, Sequences):
            rows = rows[np.argsort(its.lengths[rows], kind="stable")]
            return its, random.permutation(rows.reshape(steps, batch_size))
        return its, rows.reshape(steps, batch_size)

    # One element of the grain pipeline is a batch, gathered at once: shuffling and gathering example by example takes
    # twenty times as long.
    def batch(index: int) -> Batch:
        epoch, step = divmod(index, steps)
        its, rows = ordered(epoch)
        return batch_of(*its.take(rows[step]))

    return iter(_in_turn(sys.maxsize, batch))


def evaluation_batches(examples: Examples, batch_size: int) -> Iterable[Batch]:
    """All examples once, in order (of their lengths, where they have some: see ``by_length``); iterable again.

    Every batch has ``batch_size`` rows, so that few compiled functions serve all: the last one is padded with copies of
    its first example, which have weight 0 in the targets, the others their own, or 1 (float32).
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

    return _in_turn(-(-len(examples) // batch_size), batch)


def _in_turn(count: int, batch: Callable[[int], Batch]) -> "grain.IterDataset[Batch]":
    """``batch(0)``, ``batch(1)``, ... up to ``count``."""
    import grain

    # The data are in memory: threads would only contend with the computation for the interpreter.
    in_memory = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return grain.MapDataset.range(count).map(batch).to_iter_dataset(in_memory)


def by_length(examples: Sequences) -> np.ndarray:
    """The order in which ``evaluation_batches`` goes through sequences: the shortest first."""
    return np.argsort(examples.lengths, kind="stable")


def batch_of(inputs: Any, labels: Any) -> Batch:
    """What an example set's ``take`` gives, with its labels, where they are alone, as Targets."""
    return inputs, labels if isinstance(labels, Targets) else Targets(labels)


def padded(sequences: Sequence[np.ndarray], padding: int = 0, width: int = 0) -> np.ndarray:
    """Sequences of ids side by side, ``padding`` behind them: int32, (sequences, time).

    time: of the longest or ``width``, whichever is more, rounded up to one of few numbers, so that few shapes compile.
    """
    longest = max(width, max(len(sequence) for sequence in sequences))
    rows = np.full((len(sequences), rounded_up(longest)), padding, np.int32)
    for row, sequence in zip(rows, sequences):
        row[: len(sequence)] = sequence
    return rows


def rounded_up(length: int) -> int:
    """The next of 8, 12, 16, 24, 32, 48, 64, ...: no batch is more than half as long again as it must be."""
    power = 8
    while power * 2 <= length:
        power *= 2
    return next(width for width in (power, power * 3 // 2, power * 2) if width >= length)
