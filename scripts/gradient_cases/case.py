"""A layer with an input to check it at, and the numbers that inputs are made of."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from pipeline.layers.base import Context, Layer, PyTree
from pipeline.verify.check import verify
from pipeline.verify.report.report import Report
from pipeline.verify.targets import draw_params


@dataclass(frozen=True, eq=False)
class Case:
    """A layer, an input, and the parts of the context that matter. Names are "Layer" or "Layer/special feature"."""

    name: str
    layer: Layer
    x: PyTree
    train: bool = False
    mask: Any = None
    memory_mask: Any = None

    def params(self) -> PyTree:
        """Random parameters: those of fresh biases and scales, zeros and ones, would hide what they multiply."""
        return draw_params(self.layer, self.x)

    def context(self) -> Context:
        """The context of the layer's call, with a fixed key."""
        return Context(self.train, jax.random.key(2), self.mask, self.memory_mask)

    def verify(self, **options: Any) -> Report:
        """The report of ``pipeline.verify.verify``, whose options it takes."""
        return verify(self.layer, self.params(), self.x, self.context(), **options)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    """Normally distributed numbers times ``scale``; always the same for the same shape."""
    return scale * np.random.default_rng((3, *shape)).normal(size=shape)


def ties(*shape: int) -> np.ndarray:
    """-1, 0 and 1: equal maxima in most windows, zeros at every kink."""
    return np.random.default_rng((4, *shape)).integers(-1, 2, shape).astype(np.float64)


def ids(count: int, *shape: int) -> np.ndarray:
    """Random integers in [0, count); some occur twice."""
    return np.random.default_rng((5, count, *shape)).integers(0, count, shape, np.int32)


def shares(*shape: int) -> np.ndarray:
    """Random numbers in [0, 1]: probabilities, or weights."""
    return np.random.default_rng((6, *shape)).uniform(size=shape)


def mask(size: int, *lengths: int) -> np.ndarray:
    """(examples, size): True at the first ``length`` positions of each."""
    return np.arange(size)[None] < np.asarray(lengths)[:, None]


def ended(x: np.ndarray, *lengths: int, padding: int = 0) -> np.ndarray:
    """Ids with ``padding`` after the first ``length`` of each example."""
    return np.where(mask(x.shape[1], *lengths), x, np.int32(padding))


def padded(*shape: int) -> np.ndarray:
    """Weights 1, and 0 for the last index of the first axis: a padded batch."""
    return np.concatenate([np.ones((shape[0] - 1, *shape[1:])), np.zeros((1, *shape[1:]))])
