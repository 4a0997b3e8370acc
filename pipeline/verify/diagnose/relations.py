"""Simple relations to the right cotangent: sign, factor, transposition, shift, another leaf's, an array as a factor."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from ..programs import jaxprs
from ..rule import is_key
from ..trial import Observation
from .numbers import describe_number
from .suspect import (
    Hypothesis,
    Suspect,
    as_observed,
    close,
    constant_ratio,
    factors_along,
    join_axes,
    largest,
    orders,
    shifted,
    spread_over,
)


def simple_relations(suspect: Suspect) -> Iterator[Hypothesis]:
    """The right cotangent negated, scaled, transposed, flipped, shifted, summed or permuted, or another leaf's."""
    leaf, right = suspect.leaf, suspect.reference
    yield Hypothesis(
        "missing",
        "it is zero everywhere: no gradient arrives",
        lambda observation: np.zeros_like(observation.reference[leaf]),
    )
    yield from _cotangent(suspect)
    yield Hypothesis(
        "sign", "wrong sign: it is the right cotangent times -1", lambda observation: -observation.reference[leaf]
    )
    ratio = constant_ratio(suspect.manual, right)
    if ratio is not None:
        elsewhere = lambda at: constant_ratio(at.manual[leaf], at.reference[leaf])  # noqa: E731
        words = describe_number(ratio, suspect.rule, suspect.observation, suspect.judgement, elsewhere)
        yield Hypothesis(
            "factor", f"off by the constant {words}", lambda observation: ratio * observation.reference[leaf]
        )
        yield from _scalar_factors(suspect)
    for axes, order in orders(right.shape):
        text = f"transposed: axes {axes} are swapped"
        yield Hypothesis(
            "transposed", text, lambda observation, order=order: observation.reference[leaf].transpose(order)
        )
    for count in range(1, min(right.ndim, 3) + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if all(right.shape[axis] > 1 for axis in axes):
                text = f"flipped: reversed along axis {join_axes(axes)}"
                yield Hypothesis(
                    "flipped", text, lambda observation, axes=axes: np.flip(observation.reference[leaf], axes)
                )
    for axis, by in itertools.product(range(right.ndim), (1, -1, 2, -2)):
        if right.shape[axis] > abs(by):
            text = f"shifted by {by} along axis {axis}"
            for fill in (True, False):
                yield Hypothesis(
                    "shifted",
                    text,
                    lambda observation, a=axis, b=by, f=fill: shifted(observation.reference[leaf], a, b, f),
                )
            if right.shape[axis] > 2 * abs(by):
                text += ", but for the border"
                yield Hypothesis(
                    "shifted", text, lambda observation, a=axis, b=by: _shifted_inside(suspect, observation, a, b)
                )
    for axis, (words, reduce) in itertools.product(range(right.ndim), (("summed", np.sum), ("averaged", np.mean))):
        if right.shape[axis] > 1:

            def spread(observation: Observation, axis: int = axis, reduce: Callable = reduce) -> np.ndarray:
                right = observation.reference[leaf]
                return np.broadcast_to(reduce(right, axis, keepdims=True), right.shape)

            yield Hypothesis("extra sum", f"{words} over axis {axis}, along which it must vary", spread)
    if right.size > 2 and not np.iscomplexobj(right):
        yield from _permuted(suspect)
    for other in suspect.rule.floats:
        if other != leaf and suspect.observation.reference[other].shape == right.shape:
            swapped = suspect.judgement.wrong_leaves.get(other) is not None and close(
                suspect.observation.manual.get(other), right, suspect.tolerance
            )
            kind, text = "other leaf", f"it is the cotangent of `{other}`"
            if swapped:
                kind, text = (
                    "swapped",
                    f"two leaves are swapped: `{leaf}` has the cotangent of `{other}`, and the other way round",
                )
            yield Hypothesis(kind, text, lambda observation, other=other: observation.reference[other])
            yield Hypothesis(
                kind, f"{text}, with the wrong sign", lambda observation, other=other: -observation.reference[other]
            )


def _permuted(suspect: Suspect) -> Iterator[Hypothesis]:
    """The same values in another order."""
    leaf, right = suspect.leaf, suspect.reference
    for axis in [axis for axis in range(right.ndim) if right.shape[axis] > 2 and right.ndim > 1] + [None]:

        def in_order(observation: Observation, axis: int | None = axis) -> np.ndarray | None:
            manual, expected = (np.sort(each[leaf], axis) for each in (observation.manual, observation.reference))
            return observation.manual[leaf] if close(manual, expected, suspect.tolerance) else None

        along = "" if axis is None or right.ndim == 1 else f" along axis {axis}"
        text = f"the right values are at wrong places{along}: they are in another order"
        yield Hypothesis("permuted", text, in_order)


def _shifted_inside(suspect: Suspect, observation: Observation, axis: int, by: int) -> np.ndarray:
    """The shifted cotangent with the rule's own numbers at the border, which depend on its padding."""
    manual = observation.manual[suspect.leaf]
    moved = shifted(observation.reference[suspect.leaf], axis, by, fill=False)
    for edge in (slice(0, abs(by)), slice(-abs(by), None)):
        border = [slice(None)] * moved.ndim
        border[axis] = edge
        moved[tuple(border)] = manual[tuple(border)]
    return moved


def _cotangent(suspect: Suspect) -> Iterator[Hypothesis]:
    """Whether the rule's result is linear in the incoming cotangent."""
    observation, predict = suspect.observation, as_observed(suspect)
    double = suspect.judgement.manual(observation.probe.arrays, [2 * d for d in observation.probe.d_y])[1].get(
        suspect.leaf
    )
    if double is None or double.shape != suspect.manual.shape or not largest(suspect.manual):
        return
    if close(double, 2 * suspect.manual, 1e-6):
        return
    small = suspect.judgement.manual(observation.probe.arrays, [1e-3 * d for d in observation.probe.d_y])[1][
        suspect.leaf
    ]
    if close(double, suspect.manual, 1e-6) and close(small, suspect.manual, 1e-6):
        ones = suspect.derived(observation, d_y=[np.ones_like(d) for d in observation.probe.d_y])
        same = ones is not None and suspect.same(ones[suspect.leaf])
        yield Hypothesis(
            "cotangent ignored",
            f"the incoming cotangent is ignored{': the result is that of a cotangent of ones' if same else ''}",
            predict,
        )
    for power, words in (
        (-1.0, "divides by the incoming cotangent"),
        (2.0, "multiplies by the incoming cotangent twice"),
    ):
        if close(double, 2**power * suspect.manual, 1e-6):
            yield Hypothesis("cotangent", f"it {words} instead of multiplying by it once", predict)
    yield Hypothesis(
        "cotangent",
        "it is not linear in the incoming cotangent: twice the cotangent does not give twice the result",
        predict,
    )


def _scalar_factors(suspect: Suspect) -> Iterator[Hypothesis]:
    """One factor for the whole leaf that depends on the arguments: a sum or a norm of one of them."""
    for name, number in _scalars(suspect, suspect.observation).items():
        for power, words in ((1, "multiplied by"), (-1, "divided by")):
            if number and math.isfinite(number):
                yield Hypothesis(
                    "factor",
                    f"off by a factor: it is {words} {name} ({number:.6g} here)",
                    lambda observation, name=name, power=power: (
                        _scalars(suspect, observation)[name] ** power * observation.reference[suspect.leaf]
                    ),
                )
    if suspect.reference.size == 1:
        return  # a single number is always off by one factor
    words = describe_number(constant_ratio(suspect.manual, suspect.reference) or 0.0, suspect.rule, suspect.observation)
    yield Hypothesis(
        "factor",
        f"off by one factor that depends on the arguments: {words} here",
        lambda observation: _scaled(suspect, observation),
    )


def _scaled(suspect: Suspect, observation: Observation) -> np.ndarray | None:
    ratio = constant_ratio(observation.manual[suspect.leaf], observation.reference[suspect.leaf])
    return None if ratio is None else ratio * observation.reference[suspect.leaf]


def _scalars(suspect: Suspect, observation: Observation) -> dict[str, float]:
    """Numbers that a mistake may multiply by, each with its words."""
    scalars: dict[str, float] = {}
    for name, array in suspect.arrays(observation).items():
        if is_key(array) or np.iscomplexobj(array):
            continue
        numbers = np.asarray(array, np.float64)
        scalars |= {
            f"the sum of `{name}`": float(numbers.sum()),
            f"the mean of `{name}`": float(numbers.mean()) if numbers.size else 0.0,
            f"the norm of `{name}`": float(np.sqrt((numbers**2).sum())),
            f"the sum of 1 - `{name}`": float((1 - numbers).sum()),
        }
        if numbers.ndim == 0:
            scalars |= {f"`{name}`": float(numbers), f"`{name}` squared": float(numbers) ** 2}
    return scalars | {f"`{name}`": float(np.real(y)) for name, y in observation.y.items() if y.ndim == 0}


def factors(suspect: Suspect) -> Iterator[Hypothesis]:
    """A multiplication or division by an array missing or too many."""
    leaf = suspect.leaf
    for name in _known_arrays(suspect, suspect.observation):
        divides = any(name.startswith(what) for what in ("the standard", "the variance", "the root", "the norm"))
        lacking = lambda at, name=name: _quotient(at.reference[leaf], _known_arrays(suspect, at).get(name))  # noqa: E731
        extra = lambda at, name=name: _product(at.reference[leaf], _known_arrays(suspect, at).get(name))  # noqa: E731
        yield Hypothesis(
            *(
                ("extra factor", f"it is divided by {name} once too often")
                if divides
                else ("missing factor", f"the factor {name} is missing")
            ),
            lacking,
        )
        yield Hypothesis(
            *(
                ("missing factor", f"the division by {name} is missing")
                if divides
                else ("extra factor", f"it is multiplied by {name} once too often")
            ),
            extra,
        )


def _known_arrays(suspect: Suspect, observation: Observation) -> dict[str, np.ndarray]:
    """Arrays that a mistake may leave out or put in, with their words, in the leaf's shape; none is constant."""
    if id(observation) not in suspect.known_arrays:
        suspect.known_arrays[id(observation)] = _collected(suspect, observation)
    return suspect.known_arrays[id(observation)]


def _collected(suspect: Suspect, observation: Observation) -> dict[str, np.ndarray]:
    shape = observation.reference[suspect.leaf].shape
    arrays: dict[str, np.ndarray] = {}
    floats = {f"`{name}`": array for name, array in suspect.arrays(observation).items() if not is_key(array)}
    candidates = floats | {f"the output `{name}`": y for name, y in observation.y.items()}
    with contextlib.suppress(Exception):  # a program that cannot be interpreted explains nothing
        candidates |= jaxprs.intermediates(suspect.rule.define, list(observation.probe.arrays), shape)
    for name, array in candidates.items():
        numbers = np.asarray(array)
        if not np.iscomplexobj(numbers):
            numbers = numbers.astype(np.float64)
        spread = spread_over(numbers, shape)
        if spread is not None:
            arrays[name] = spread
            with np.errstate(all="ignore"):
                arrays |= {
                    f"1 - {name}": 1 - spread,
                    f"1 - {name} squared": 1 - spread**2,
                    f"{name} (1 - {name})": spread * (1 - spread),
                    f"{name} squared": spread**2,
                    f"exp({name})": np.exp(spread),
                    f"2 {name}": 2 * spread,
                }
        if name in floats and numbers.ndim == len(shape) > 0 and numbers.shape[:-1] == shape[:-1]:
            for what, function in _ROWS.items():
                with np.errstate(all="ignore"):
                    arrays[f"{what} of {name} along its last axis"] = np.broadcast_to(function(numbers), shape)
    varied = lambda array: bool(array.size and np.isfinite(array).all() and (array != array.flat[0]).any())  # noqa: E731
    return {name: array for name, array in arrays.items() if varied(array)}


_ROWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the standard deviation": lambda a: a.std(-1, keepdims=True),
    "the variance": lambda a: a.var(-1, keepdims=True),
    "the root mean square": lambda a: np.sqrt((a**2).mean(-1, keepdims=True)),
    "the norm": lambda a: np.sqrt((a**2).sum(-1, keepdims=True)),
    "the sum": lambda a: a.sum(-1, keepdims=True),
    "the maximum": lambda a: a.max(-1, keepdims=True),
}


def _product(a: np.ndarray, b: np.ndarray | None) -> np.ndarray | None:
    return None if b is None else a * b


def _quotient(a: np.ndarray, b: np.ndarray | None) -> np.ndarray | None:
    if b is None or not b.all():
        return None
    return a / b


def rows(suspect: Suspect) -> Iterator[Hypothesis]:
    """Every index of one axis off by a factor of its own."""
    for axis in range(suspect.reference.ndim):
        factors = factors_along(suspect.manual, suspect.reference, axis, suspect.tolerance)
        if factors is not None:
            text = (
                f"each index of axis {axis} is off by a factor of its own ({factors.min():.4g} to {factors.max():.4g})"
            )
            yield Hypothesis("missing factor", text, as_observed(suspect))
