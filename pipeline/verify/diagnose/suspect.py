"""A leaf whose cotangent is wrong, and what it means that a hypothesis explains it."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from pipeline.verify.rule import Rule
from pipeline.verify.trial import Judgement, Seen, Values

_EXACT = 1e-8


class Hypothesis(NamedTuple):
    """A kind, its words, and what it predicts for the leaf at a probe (None where it says nothing)."""

    kind: str
    text: str
    predict: Callable[[Seen], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Suspect:
    """A leaf whose cotangent is wrong."""

    found: Judgement
    leaf: str
    seen: Seen
    known: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    """Per probe (by its ``id``), arrays that a mistake may leave out or put in: they take long to collect."""

    @property
    def rule(self) -> Rule:
        return self.found.rule

    @property
    def manual(self) -> np.ndarray:
        return self.seen.manual[self.leaf]

    @property
    def reference(self) -> np.ndarray:
        return self.seen.reference[self.leaf]

    @cached_property
    def tolerance(self) -> float:
        """How closely a hypothesis must explain the leaf: far closer than the error that it is to explain."""
        if self.found.narrow is not None:
            return 64 * float(jnp.finfo(self.found.narrow).eps)
        size = max(largest(self.manual), largest(self.reference), 1e-300)
        return max(1e-12, min(_EXACT, 0.01 * largest(self.manual - self.reference) / size))

    @cached_property
    def others(self) -> list[Seen]:
        """Where else a hypothesis must hold: ordinary probes of the same sizes at which the leaf is wrong too."""
        alike = [
            seen
            for seen in self.found.seen
            if seen is not self.seen and not seen.probe.kind and not self.seen.probe.kind
            and self.leaf in seen.manual and seen.manual[self.leaf].shape == seen.reference[self.leaf].shape
            and np.isfinite(seen.manual[self.leaf]).all() and np.isfinite(seen.reference[self.leaf]).all()
        ]  # fmt: skip
        return alike[:3]

    def same(self, predicted: np.ndarray | None, seen: Seen | None = None) -> bool:
        """Whether this is what the rule gives, to rounding."""
        found = (seen or self.seen).manual[self.leaf]
        if predicted is None or np.shape(predicted) != found.shape or not np.isfinite(predicted).all():
            return False
        size = max(largest(found), largest((seen or self.seen).reference[self.leaf]))
        return bool(np.abs(predicted - found).max(initial=0.0) <= self.tolerance * size)

    def holds(self, predict: Callable[[Seen], np.ndarray | None]) -> bool:
        """Whether a prediction fits here and at the other probes."""
        return all(self.same(predict(seen), seen) for seen in [self.seen, *self.others])

    @cached_property
    def wrong(self) -> np.ndarray:
        """Which elements are wrong."""
        size = max(largest(self.reference), 1e-300)
        return ~(np.abs(self.manual - self.reference) <= self.tolerance * size)

    @cached_property
    def counted(self) -> np.ndarray:
        """Which elements could have been seen to be wrong: not those that are 0 either way."""
        return (self.manual != 0) | (self.reference != 0)

    def arrays(self, seen: Seen | None = None) -> dict[str, Any]:
        return dict(zip(self.rule.leaves, (seen or self.seen).probe.arrays))

    def derived(
        self, seen: Seen, arrays: dict[str, Any] | None = None, d_y: Sequence[Any] | None = None
    ) -> Values | None:
        """Autodiff's cotangents for other arguments or another incoming cotangent of the same shapes."""
        changed = self.arrays(seen) | (arrays or {})
        try:
            return self.found.reference([changed[leaf] for leaf in self.rule.leaves], list(d_y or seen.probe.d_y))[1]
        except Exception:
            return None


def as_found(suspect: Suspect) -> Callable[[Seen], np.ndarray]:
    """A prediction that is always true: for what has been established otherwise."""
    return lambda seen: seen.manual[suspect.leaf]


def orders(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    for i, j in itertools.combinations(range(len(shape)), 2):
        if shape[i] == shape[j] > 1:
            order = list(range(len(shape)))
            order[i], order[j] = j, i
            yield (i, j), tuple(order)


def shifted(array: np.ndarray, axis: int, by: int, fill: bool) -> np.ndarray:
    moved = np.roll(array, by, axis)
    if fill:
        edge = [slice(None)] * array.ndim
        edge[axis] = slice(0, by) if by > 0 else slice(by, None)
        moved[tuple(edge)] = 0
    return moved


def spread_over(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array along the leading axes of ``shape``, or as NumPy broadcasts it; None where neither fits."""
    if array.ndim and array.shape == shape[: array.ndim]:
        return np.broadcast_to(array.reshape(*array.shape, *(1,) * (len(shape) - array.ndim)), shape)
    if array.ndim and array.shape[-1] == 1 and array.shape[:-1] == shape[: array.ndim - 1]:
        return spread_over(array[..., 0], shape)
    try:
        return np.broadcast_to(array, shape) if array.ndim else None
    except ValueError:
        return None


def without(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    result = np.array(array)
    place = [slice(None)] * array.ndim
    place[axis] = index  # pyright: ignore[reportCallIssue, reportArgumentType]
    result[tuple(place)] = 0
    return result


def constant_ratio(manual: np.ndarray, right: np.ndarray) -> float | None:
    """c where manual = c right throughout; None where there is none."""
    norm = float(np.real(np.vdot(right, right)))
    if not norm or not math.isfinite(norm):
        return None
    ratio = float(np.real(np.vdot(right, manual))) / norm
    fits = np.abs(manual - ratio * right).max(initial=0.0) <= 1e-7 * max(largest(manual), abs(ratio) * largest(right))
    return ratio if fits else None


def factors_along(
    manual: np.ndarray, right: np.ndarray, axis: int, tolerance: float, least: int = 2
) -> np.ndarray | None:
    """The factors by which ``manual`` is off at the indices of an axis; None where one factor each does not do.

    least: at how many of them there must be something.
    """
    others = tuple(i for i in range(right.ndim) if i != axis)
    if not others or right.shape[axis] < 2:
        return None
    norm = (right**2).sum(others, keepdims=True)
    if (norm > 0).sum() < least:
        return None
    factors = (manual * right).sum(others, keepdims=True) / np.where(norm, norm, 1.0)
    fits = np.abs(factors * right - manual).max() <= tolerance * max(largest(right), largest(manual))
    return factors[norm > 0].reshape(-1) if fits else None


def close(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two arrays are equal to a tolerance of the larger's largest; None is like nothing."""
    if one is None or np.shape(one) != np.shape(other):
        return False
    return bool(np.abs(one - other).max(initial=0.0) <= tolerance * max(largest(one), largest(other)))


def largest(array: Any) -> float:
    """The largest absolute value; NaN or infinite where the array is, so that no hypothesis fits it."""
    return float(np.abs(np.asarray(array)).max(initial=0.0))


def sample(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values.reshape(-1)[:3]) + (", ..." if values.size > 3 else "")


def place(flags: np.ndarray) -> str:
    return f"at {list(map(int, np.argwhere(flags)[0]))}"


def listed(axes: Sequence[int]) -> str:
    return " and ".join(map(str, axes))
