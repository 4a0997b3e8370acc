"""What every loss shares: targets that say what counts, and means over only that."""

from abc import abstractmethod
from typing import Any, NamedTuple

from pipeline.layers.base import Layer, PyTree


class Targets(NamedTuple):
    """What the outputs are compared with.

    values: labels, or the numbers to predict.
    weights: one for each example or position (the values' shape, or its leading axes): 0 (or False) for padding, which
        may then hold anything; any other weight is that example's share in the mean. None: all count alike.
    """

    values: Any
    weights: Any = None


class Loss(Layer):
    """A layer over (outputs, targets) whose output is a scalar: a mean over what counts."""

    def init(self, key: Any, x: PyTree) -> PyTree:
        del key, x
        return {}

    @abstractmethod
    def count(self, targets: Targets) -> Any:
        """What the mean divides by: the sum of the weights (a scalar)."""
