"""Training without a folder: what a run and its checkpoints are where nothing is written."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp

from ..layers.base import PyTree
from .state import TrainState


class Unsaved:
    """Takes the place of a ``Run``, its ``Checkpoints`` and ``Events``.

    It keeps the best parameters in memory, and nothing else.
    """

    def __init__(self) -> None:
        self._best: PyTree = None

    def __enter__(self) -> "Unsaved":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def log(self, line: Mapping[str, Any]) -> None:
        del line

    def sync(self) -> None:
        return None

    def follow(self) -> None:
        return None

    def wait(self) -> None:
        return None

    def save_best(self, step: int, params: PyTree) -> None:
        """Keeps a copy of the parameters: the next step may reuse their memory."""
        del step
        self._best = jax.tree.map(jnp.copy, params)

    def save_last(self, state: TrainState, progress: Mapping[str, Any]) -> None:
        del state, progress

    def best(self, like: PyTree) -> PyTree | None:
        """The best parameters so far; None if there are none. like: not used."""
        del like
        return self._best
