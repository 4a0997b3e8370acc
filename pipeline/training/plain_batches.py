"""Batches from a plain iterable: a list, a data loader, a generator."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np


class PlainBatches:
    """An endless iterator over the batches of an iterable, which begins it again whenever it ends.

    It has no state that could be saved: a run with it cannot be resumed. Arrays of other libraries become numpy's.

    steps: number of batches that training needs, for the errors.

    >>> batches = PlainBatches([np.zeros(2), np.ones(2)], steps=3)
    >>> [next(batches).tolist() for _ in range(3)]
    [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, batches: Iterable[Any], steps: int) -> None:
        self._batches, self._steps = batches, steps
        self._iterator: Iterator[Any] | None = None
        self._count = 0

    def __str__(self) -> str:
        return f"a {type(self._batches).__name__}"

    def __next__(self) -> Any:
        """The next batch. Raises ValueError if there is none and the iterable cannot begin again."""
        for _ in range(2):
            if self._iterator is None:
                self._iterator = iter(self._batches)
            for batch in self._iterator:
                self._count += 1
                return jax.tree.map(self._array, batch)
            if self._iterator is self._batches:
                break
            self._iterator = None
        raise ValueError(f"batches {self._ended()}")

    def _ended(self) -> str:
        kind = type(self._batches).__name__
        if self._iterator is not None:
            return (
                f"ended after {self._count} of the {self._steps} that training needs: a {kind} is an iterator, which "
                "cannot begin again; give a list, a data loader or another object whose __iter__ begins again, an "
                "iterator with more batches, or fewer epochs"
            )
        return f"is an empty {kind}" if not self._count else f"gave nothing in a new pass (a {kind})"

    def _array(self, leaf: Any) -> Any:
        if isinstance(leaf, jax.Array | bool | int | float):
            return leaf
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUMm":
            raise ValueError(
                f"batches: batch {self._count} holds {type(leaf).__name__} ({array.dtype}) where an array of numbers "
                "is needed; convert it before"
            )
        return array


def pass_length(batches: Any) -> int:
    """The number of batches in a pass. Raises ValueError if it is 0 or cannot be known."""
    try:
        length = len(batches)
    except TypeError as error:
        raise ValueError(
            f"batches is a {type(batches).__name__}, which does not say how many it has; give steps_per_epoch"
        ) from error
    if not length:
        raise ValueError(f"batches is an empty {type(batches).__name__}; training needs at least one batch")
    return length
