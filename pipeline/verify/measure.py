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
    index: of the worst element, whose two values are ``value`` (by hand) and ``reference``.
    distance: |value - reference| there.
    """

    relative_error: float
    index: tuple[int, ...]
    value: Any
    reference: Any
    distance: float = math.inf

    def __str__(self) -> str:
        text = f"at {list(self.index)}: {self.value:.10g}, and {self.reference:.10g} was expected"
        if self.reference and math.isfinite(abs(self.value)) and math.isfinite(abs(self.reference)):
            text += f" (ratio {self.value / self.reference:.6g})"
        return text


def relative_errors(manual: PyTree, autodiff: PyTree) -> dict[str, float]:
    """max|manual - autodiff| / max|autodiff| of every leaf, by its path ("layers/0/kernel").

    0/0 is 0. A leaf whose max|autodiff| is below 1e-13 of its layer's largest is measured on that layer's scale. What
    is not a number makes the error infinite. Where both trees have None there is no leaf.

    Raises ValueError where structures or shapes differ.
    """
    return {path: difference.relative_error for path, difference in differences(manual, autodiff).items()}


def differences(values: PyTree, references: PyTree) -> dict[str, Difference]:
    """Every leaf's largest difference, by its path."""
    if jax.tree.structure(values) != jax.tree.structure(references):
        raise ValueError(f"the structures differ: {jax.tree.structure(values)} and {jax.tree.structure(references)}")
    arrays = by_path(references)
    sizes = {path: largest(array) for path, array in arrays.items()}
    found = {}
    for path, value in by_path(values).items():
        if value.shape != arrays[path].shape:
            raise ValueError(f"{path} has shape {value.shape}; its reference has {arrays[path].shape}")
        layer, _, _ = path.rpartition("/")
        around = max(size for other, size in sizes.items() if not layer or other.startswith(f"{layer}/"))
        found[path] = difference(value, arrays[path], around)
    return found


def difference(value: Any, reference: Any, around: float) -> Difference:
    """The largest difference of two arrays of one shape. around: the largest number of the layer they belong to."""
    value, reference = np.asarray(value), np.asarray(reference)
    return _difference(value, reference, scale(reference, around))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|one - other| of every element: 0 where they are equal, infinite where a number is missing."""
    with np.errstate(all="ignore"):
        apart = np.where(one == other, 0.0, np.abs(one - other))
    return np.where(np.isnan(apart), np.inf, apart)


def scale(reference: np.ndarray, around: float) -> float:
    """What a leaf's difference is measured on: its own largest number, or the layer's where that is only noise."""
    size = largest(reference)
    return size if size >= NOISE * around else around


def largest(array: Any) -> float:
    """The largest finite absolute value; 0 where there is none."""
    array = np.asarray(array)
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def by_path(tree: PyTree) -> dict[str, np.ndarray]:
    """The tree's leaves as float64 (complex128) arrays."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_of(path): wide(leaf) for path, leaf in leaves}


def wide(leaf: Any) -> np.ndarray:
    """The array in float64, or in complex128 where it is complex."""
    array = np.asarray(leaf)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def path_of(path: Any) -> str:
    """A leaf's path as it is written everywhere: "layers/0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _difference(value: np.ndarray, reference: np.ndarray, scale: float) -> Difference:
    if not value.size:
        return Difference(0.0, (), math.nan, math.nan, 0.0)
    distance = distances(value, reference)
    index = np.unravel_index(np.argmax(distance), distance.shape)
    worst = float(distance[index])
    error = worst / scale if worst and scale else worst and math.inf
    return Difference(error, tuple(map(int, index)), value[index].item(), reference[index].item(), worst)
