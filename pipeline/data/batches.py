"""Batches for a training loop, through grain: shuffled by seed, resumable, always of one shape."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np

from pipeline.errors import UserError
from pipeline.losses.base import Targets

# The data are in memory: threads would only contend with the computation for the interpreter.
IN_MEMORY = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)

Batch = tuple[Any, Targets]


@runtime_checkable
class Examples(Protocol):
    """What batches are taken from: ``len`` of it, and the inputs and labels of any rows."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]: ...


def steps_per_epoch(examples: Examples, batch_size: int) -> int:
    """How many whole batches an epoch has. Raises UserError where there is none."""
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1")
    if batch_size > len(examples):
        raise UserError(
            f"a batch of {batch_size} is larger than the training set, which has {len(examples)} examples; choose a "
            f"batch size of at most {len(examples)}"
        )
    return len(examples) // batch_size


def train_batches(examples: Examples, batch_size: int, seed: int) -> grain.DatasetIterator[Batch]:
    """Batches without end, each epoch in a new order that follows from ``seed``.

    An epoch is ``steps_per_epoch`` batches; the remainder, other examples each time, waits for the next epoch, so that
    every batch has one shape. All examples count alike: the targets have no weights.

    The iterator's ``get_state()`` is a small dict of numbers, and ``set_state`` goes on from it, mid-epoch too.
    """
    steps = steps_per_epoch(examples, batch_size)

    @lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(len(examples))

    # One element of the grain pipeline is a batch, gathered at once: shuffling and gathering example by example takes
    # twenty times as long.
    def batch(index: int) -> Batch:
        epoch, step = divmod(index, steps)
        inputs, labels = examples.take(order(epoch)[step * batch_size : (step + 1) * batch_size])
        return inputs, Targets(labels)

    return iter(grain.MapDataset.range(sys.maxsize).map(batch).to_iter_dataset(IN_MEMORY))


def evaluation_batches(examples: Examples, batch_size: int) -> Iterable[Batch]:
    """All examples once, in order; iterable again and again.

    Every batch has ``batch_size`` rows, so that one compiled function serves all: the last one is padded with copies of
    its first example, which have weight 0 in the targets, the others 1 (float32).
    """

    def batch(index: int) -> Batch:
        rows = np.arange(index * batch_size, (index + 1) * batch_size)
        real = rows < len(examples)
        inputs, labels = examples.take(np.where(real, rows, rows[0]))
        return inputs, Targets(labels, real.astype(np.float32))

    return grain.MapDataset.range(-(-len(examples) // batch_size)).map(batch).to_iter_dataset(IN_MEMORY)
