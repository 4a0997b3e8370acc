"""A leaf whose cotangent is wrong, and what it means that a hypothesis explains it."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..faults import raise_if_own
from ..rule import Rule
from ..trial import Judgement, Observation, Values

_EXACT = 1e-8


class Hypothesis(NamedTuple):
    """A kind, its words, and what it predicts for the leaf at a probe (None where it says nothing)."""

    kind: str
    text: str
    predict: Callable[[Observation], np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Suspect:
    """A leaf whose cotangent is wrong, at an observation of it.

    known_arrays: by the ``id`` of an observation, arrays that a mistake may leave out or put in; they take long to
        collect.
    """

    judgement: Judgement
    leaf: str
    observation: Observation
    known_arrays: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        return self.judgement.rule

    @property
    def manual(self) -> np.ndarray:
        return self.observation.manual[self.leaf]

    @property
    def reference(self) -> np.ndarray:
        return self.observation.reference[self.leaf]

    @cached_property
    def tolerance(self) -> float:
        """How closely a hypothesis must predict the leaf: far closer than the error that it explains."""
        if self.judgement.rule_dtype is not None:
            return 64 * float(jnp.finfo(self.judgement.rule_dtype).eps)
        size = max(largest(self.manual), largest(self.reference), 1e-300)
        return max(1e-12, min(_EXACT, 0.01 * largest(self.manual - self.reference) / size))

    @cached_property
    def others(self) -> list[Observation]:
        """Where else a hypothesis must hold: up to three other observations at ordinary arguments of the same sizes."""
        if self.observation.probe.kind:
            return []
        others = [o for o in self.judgement.observations if o is not self.observation and not o.probe.kind]
        return [o for o in others if self.leaf in o.manual and self._is_comparable(o)][:3]

    def _is_comparable(self, observation: Observation) -> bool:
        manual, reference = observation.manual[self.leaf], observation.reference[self.leaf]
        return manual.shape == reference.shape and bool(np.isfinite(manual).all() and np.isfinite(reference).all())

    def same(self, predicted: np.ndarray | None, observation: Observation | None = None) -> bool:
        """Whether this is the rule's cotangent, up to rounding."""
        observation = observation or self.observation
        manual = observation.manual[self.leaf]
        if predicted is None or np.shape(predicted) != manual.shape or not np.isfinite(predicted).all():
            return False
        size = max(largest(manual), largest(observation.reference[self.leaf]))
        return bool(np.abs(predicted - manual).max(initial=0.0) <= self.tolerance * size)

    def holds(self, predict: Callable[[Observation], np.ndarray | None]) -> bool:
        """Whether a prediction fits here and at the other observations."""
        return all(self.same(predict(observation), observation) for observation in [self.observation, *self.others])

    @cached_property
    def wrong_elements(self) -> np.ndarray:
        """Which elements are wrong."""
        size = max(largest(self.reference), 1e-300)
        return ~(np.abs(self.manual - self.reference) <= self.tolerance * size)

    @cached_property
    def nonzero(self) -> np.ndarray:
        """Which elements are not 0 in both cotangents, where no mistake would show."""
        return (self.manual != 0) | (self.reference != 0)

    def arrays(self, observation: Observation | None = None) -> dict[str, Any]:
        """The arguments of an observation, by leaf."""
        return dict(zip(self.rule.leaves, (observation or self.observation).probe.arrays))

    def derived(
        self, observation: Observation, arrays: dict[str, Any] | None = None, d_y: Sequence[Any] | None = None
    ) -> Values | None:
        """Autodiff's cotangents for other arguments or another incoming cotangent of the same shapes."""
        changed = self.arrays(observation) | (arrays or {})
        try:
            return self.judgement.reference(
                [changed[leaf] for leaf in self.rule.leaves], list(d_y or observation.probe.d_y)
            )[1]
        except Exception as error:  # the function may not be defined there
            raise_if_own(error)
            return None


def as_observed(suspect: Suspect) -> Callable[[Observation], np.ndarray]:
    """A prediction that always fits: for hypotheses that were established in another way."""
    return lambda observation: observation.manual[suspect.leaf]


def orders(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every transposition of two axes of equal size: the two axes, and the order of all axes."""
    for i, j in itertools.combinations(range(len(shape)), 2):
        if shape[i] == shape[j] > 1:
            order = list(range(len(shape)))
            order[i], order[j] = j, i
            yield (i, j), tuple(order)


def shifted(array: np.ndarray, axis: int, by: int, fill: bool) -> np.ndarray:
    """The array shifted along an axis; zeros move in where ``fill``, what moves out otherwise."""
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
    """The array with zeros at one index of an axis."""
    result = np.array(array)
    place = [slice(None)] * array.ndim
    place[axis] = index  # pyright: ignore[reportCallIssue, reportArgumentType]
    result[tuple(place)] = 0
    return result


def constant_ratio(manual: np.ndarray, right: np.ndarray) -> float | None:
    """The constant c with manual = c right everywhere; None where there is none."""
    norm = float(np.real(np.vdot(right, right)))
    if not norm or not math.isfinite(norm):
        return None
    ratio = float(np.real(np.vdot(right, manual))) / norm
    fits = np.abs(manual - ratio * right).max(initial=0.0) <= 1e-7 * max(largest(manual), abs(ratio) * largest(right))
    return ratio if fits else None


def factors_along(
    manual: np.ndarray, right: np.ndarray, axis: int, tolerance: float, least: int = 2
) -> np.ndarray | None:
    """The factor by which ``manual`` is off at each index of an axis; None where such factors do not explain it.

    least: at how many indices ``right`` must not be zero.
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
    """Whether two arrays are equal within a tolerance, relative to the largest number; None equals nothing."""
    if one is None or np.shape(one) != np.shape(other):
        return False
    return bool(np.abs(one - other).max(initial=0.0) <= tolerance * max(largest(one), largest(other)))


def largest(array: Any) -> float:
    """The largest absolute value; NaN or infinite where the array is, so that no hypothesis fits it."""
    return float(np.abs(np.asarray(array)).max(initial=0.0))


def sample(values: np.ndarray) -> str:
    """The first three numbers as text."""
    return ", ".join(f"{value:.4g}" for value in values.reshape(-1)[:3]) + (", ..." if values.size > 3 else "")


def first_place(flags: np.ndarray) -> str:
    """The index of the first element whose flag is set, as text."""
    return f"at {list(map(int, np.argwhere(flags)[0]))}"


def join_axes(axes: Sequence[int]) -> str:
    """Axes as text: "0 and 2"."""
    return " and ".join(map(str, axes))
