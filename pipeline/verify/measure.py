"""The one measure of how far a manual cotangent is from autodiff's."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ..layers.base import PyTree

NOISE = 1e-13
"""A leaf whose largest number is below this share of its layer's is rounding noise (a bias before BatchNorm)."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of a leaf from its reference.

    relative_error: max|value - reference| / max|reference|; infinite where a number is missing (NaN) or the reference
        is zero throughout and the value is not.
    index: that of the worst element, whose two numbers are ``value`` and ``reference``.
    distance: |value - reference| of the worst element.
    """

    relative_error: float
    index: tuple[int, ...]
    value: Any
    reference: Any
    distance: float = math.inf

    def __str__(self) -> str:
        text = f"at {list(self.index)}: {self.value:.10g} instead of {self.reference:.10g}"
        if self.reference and math.isfinite(abs(self.value)) and math.isfinite(abs(self.reference)):
            text += f" (ratio {self.value / self.reference:.6g})"
        return text


def relative_errors(manual: PyTree, autodiff: PyTree) -> dict[str, float]:
    """max|manual - autodiff| / max|autodiff| of every leaf, by its path ("layers/0/kernel").

    0/0 is 0. A leaf whose max|autodiff| is below 1e-13 of its layer's largest is measured on that layer's scale. A NaN
    makes the error infinite. Where both trees have None there is no leaf.

    Raises ValueError where structures or shapes differ.

    >>> manual, autodiff = {"kernel": np.array([2.0, -4.0])}, {"kernel": np.array([2.0, -5.0])}
    >>> relative_errors(manual, autodiff)
    {'kernel': 0.2}
    """
    return {path: difference.relative_error for path, difference in differences(manual, autodiff).items()}


def differences(values: PyTree, references: PyTree) -> dict[str, Difference]:
    """Every leaf's largest difference, by its path."""
    if jax.tree.structure(values) != jax.tree.structure(references):
        raise ValueError(f"the structures differ: {jax.tree.structure(values)} and {jax.tree.structure(references)}")
    arrays = by_path(references)
    sizes = {path: largest(array) for path, array in arrays.items()}
    result = {}
    for path, value in by_path(values).items():
        if value.shape != arrays[path].shape:
            raise ValueError(f"{path} has shape {value.shape}; its reference has {arrays[path].shape}")
        layer, _, _ = path.rpartition("/")
        around = max(size for other, size in sizes.items() if not layer or other.startswith(f"{layer}/"))
        result[path] = difference(value, arrays[path], around)
    return result


def difference(value: Any, reference: Any, around: float) -> Difference:
    """The largest difference of two arrays of one shape.

    around: the largest number of the layer they belong to, for leaves that are only noise beside it.
    """
    value, reference = np.asarray(value), np.asarray(reference)
    return _difference(value, reference, scale(reference, around))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|one - other| of every element: 0 where they are equal (infinities, too), infinite where one is NaN."""
    with np.errstate(all="ignore"):
        apart = np.where(one == other, 0.0, np.abs(one - other))
    return np.where(np.isnan(apart), np.inf, apart)


def scale(reference: np.ndarray, around: float) -> float:
    """The number that a leaf's differences are divided by: its own largest, or the layer's where that is only noise."""
    size = largest(reference)
    return size if size >= NOISE * around else around


def largest(array: Any) -> float:
    """The largest finite absolute value; 0 where there is none."""
    array = np.asarray(array)
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def by_path(tree: PyTree) -> dict[str, np.ndarray]:
    """The tree's leaves as float64 (complex128) arrays."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_of(path): to_float64(leaf) for path, leaf in leaves}


def to_float64(leaf: Any) -> np.ndarray:
    """The array in float64, or in complex128 where it is complex."""
    array = np.asarray(leaf)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def path_of(path: Any) -> str:
    """A leaf's path as text: "layers/0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _difference(value: np.ndarray, reference: np.ndarray, scale: float) -> Difference:
    if not value.size:
        return Difference(0.0, (), math.nan, math.nan, 0.0)
    distance = distances(value, reference)
    index = np.unravel_index(np.argmax(distance), distance.shape)
    worst = float(distance[index])
    error = worst / scale if worst and scale else worst and math.inf
    return Difference(error, tuple(map(int, index)), value[index].item(), reference[index].item(), worst)
