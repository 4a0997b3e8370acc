"""The one measure by which a hand-written cotangent and autodiff's are said to disagree."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from pipeline.layers.base import PyTree

NOISE = 1e-13
"""A leaf this small beside its layer's largest is rounding noise (a bias before BatchNorm)."""


@dataclass(frozen=True)
class Difference:
    """Where and how much a leaf differs most from its reference.

    relative_error: max|value - reference| / max|reference|; infinite where a number is missing (NaN) or the reference
        is zero throughout and the value is not.
    index: of the worst element, whose two values are ``value`` and ``reference``.
    """

    relative_error: float
    index: tuple[int, ...]
    value: float
    reference: float


def relative_errors(manual: PyTree, autodiff: PyTree) -> dict[str, float]:
    """max|manual - autodiff| / max|autodiff| of every leaf, by its path ("layers/0/kernel").

    0/0 is 0. A leaf whose max|autodiff| is below 1e-13 of its layer's largest is measured on that layer's scale. What
    is not a number makes the error infinite. Where both trees have None there is no leaf.

    Raises ValueError where structures or shapes differ.
    """
    return {path: difference.relative_error for path, difference in differences(manual, autodiff).items()}


def differences(values: PyTree, references: PyTree, largest_outside: float = 0.0) -> dict[str, Difference]:
    """Every leaf's largest difference, by its path.

    largest_outside: the largest number in what belongs to the same layer and stands outside these trees: an input's
        cotangent is measured beside those of the parameters.
    """
    if jax.tree.structure(values) != jax.tree.structure(references):
        raise ValueError(f"the structures differ: {jax.tree.structure(values)} and {jax.tree.structure(references)}")
    arrays = by_path(references)
    largest = {path: _largest(array) for path, array in arrays.items()}
    found = {}
    for path, value in by_path(values).items():
        if value.shape != arrays[path].shape:
            raise ValueError(f"{path} has shape {value.shape}; its reference has {arrays[path].shape}")
        layer, _, _ = path.rpartition("/")
        around = max(size for other, size in largest.items() if not layer or other.startswith(f"{layer}/"))
        around = max(around, largest_outside)
        scale = largest[path] if largest[path] >= NOISE * around else around
        found[path] = _difference(value, arrays[path], scale)
    return found


def largest(tree: PyTree) -> float:
    """The largest finite absolute value in the tree; 0 where there is none."""
    return max((_largest(array) for array in by_path(tree).values()), default=0.0)


def by_path(tree: PyTree) -> dict[str, np.ndarray]:
    """The tree's leaves as float64 arrays."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_of(path): np.asarray(leaf).astype(np.float64) for path, leaf in leaves}


def path_of(path: Any) -> str:
    """A leaf's path as it is written everywhere: "layers/0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _difference(value: np.ndarray, reference: np.ndarray, scale: float) -> Difference:
    if not value.size:
        return Difference(0.0, (), math.nan, math.nan)
    with np.errstate(invalid="ignore"):
        distance = np.where(value == reference, 0.0, np.abs(value - reference))
    distance = np.where(np.isnan(distance), np.inf, distance)
    index = np.unravel_index(np.argmax(distance), distance.shape)
    worst = float(distance[index])
    error = worst / scale if worst and scale else worst and math.inf
    return Difference(error, tuple(map(int, index)), float(value[index]), float(reference[index]))
