"""Simple relations to the right cotangent: sign, factor, transposed, shifted, another leaf's, an array as a factor."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.verify import jaxprs
from pipeline.verify.diagnose.numbers import described
from pipeline.verify.diagnose.suspect import (
    Hypothesis,
    Suspect,
    as_found,
    close,
    constant_ratio,
    factors_along,
    largest,
    listed,
    orders,
    shifted,
    spread_over,
)
from pipeline.verify.rule import is_key
from pipeline.verify.trial import Seen


def simple(suspect: Suspect) -> Iterator[Hypothesis]:
    leaf, right = suspect.leaf, suspect.reference
    yield Hypothesis(
        "missing", "it is zero throughout: no gradient arrives", lambda seen: np.zeros_like(seen.reference[leaf])
    )
    yield from _cotangent(suspect)
    yield Hypothesis("sign", "wrong sign: it is minus what it must be", lambda seen: -seen.reference[leaf])
    ratio = constant_ratio(suspect.manual, right)
    if ratio is not None:
        words = described(ratio, suspect.rule, suspect.seen)
        yield Hypothesis("factor", f"off by the constant {words}", lambda seen: ratio * seen.reference[leaf])
        yield from _scalar_factors(suspect)
    for axes, order in orders(right.shape):
        text = f"transposed: axes {axes} are swapped"
        yield Hypothesis("transposed", text, lambda seen, order=order: seen.reference[leaf].transpose(order))
    for count in range(1, min(right.ndim, 3) + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if all(right.shape[axis] > 1 for axis in axes):
                text = f"flipped: reversed along axis {listed(axes)}"
                yield Hypothesis("flipped", text, lambda seen, axes=axes: np.flip(seen.reference[leaf], axes))
    for axis, by in itertools.product(range(right.ndim), (1, -1, 2, -2)):
        if right.shape[axis] > abs(by):
            text = f"shifted by {by} along axis {axis}"
            for fill in (True, False):
                yield Hypothesis(
                    "shifted", text, lambda seen, a=axis, b=by, f=fill: shifted(seen.reference[leaf], a, b, f)
                )
            if right.shape[axis] > 2 * abs(by):
                text += ", but for the border"
                yield Hypothesis("shifted", text, lambda seen, a=axis, b=by: _shifted_inside(suspect, seen, a, b))
    for axis, (words, reduce) in itertools.product(range(right.ndim), (("summed", np.sum), ("averaged", np.mean))):
        if right.shape[axis] > 1:

            def spread(seen: Seen, axis: int = axis, reduce: Callable = reduce) -> np.ndarray:
                its = seen.reference[leaf]
                return np.broadcast_to(reduce(its, axis, keepdims=True), its.shape)

            yield Hypothesis("extra sum", f"{words} over axis {axis}, along which it must vary", spread)
    if right.size > 2 and not np.iscomplexobj(right):
        yield from _permuted(suspect)
    for other in suspect.rule.floats:
        if other != leaf and suspect.seen.reference[other].shape == right.shape:
            swapped = suspect.found.wrong.get(other) is not None and close(
                suspect.seen.manual.get(other), right, suspect.tolerance
            )
            kind, text = "other leaf", f"it is the cotangent of `{other}`"
            if swapped:
                kind, text = (
                    "swapped",
                    f"two leaves are swapped: `{leaf}` has the cotangent of `{other}`, and the reverse",
                )
            yield Hypothesis(kind, text, lambda seen, other=other: seen.reference[other])
            yield Hypothesis(kind, f"{text}, with the wrong sign", lambda seen, other=other: -seen.reference[other])


def _permuted(suspect: Suspect) -> Iterator[Hypothesis]:
    """The same values in another order."""
    leaf, right = suspect.leaf, suspect.reference
    for axis in [axis for axis in range(right.ndim) if right.shape[axis] > 2 and right.ndim > 1] + [None]:

        def in_order(seen: Seen, axis: int | None = axis) -> np.ndarray | None:
            found, expected = (np.sort(each[leaf], axis) for each in (seen.manual, seen.reference))
            return seen.manual[leaf] if close(found, expected, suspect.tolerance) else None

        along = "" if axis is None or right.ndim == 1 else f" along axis {axis}"
        text = f"the right values stand at wrong places{along}: they are in another order"
        yield Hypothesis("permuted", text, in_order)


def _shifted_inside(suspect: Suspect, seen: Seen, axis: int, by: int) -> np.ndarray:
    """The shifted cotangent with the rule's own border, which padding makes another one."""
    manual = seen.manual[suspect.leaf]
    moved = shifted(seen.reference[suspect.leaf], axis, by, fill=False)
    for edge in (slice(0, abs(by)), slice(-abs(by), None)):
        border = [slice(None)] * moved.ndim
        border[axis] = edge
        moved[tuple(border)] = manual[tuple(border)]
    return moved


def _cotangent(suspect: Suspect) -> Iterator[Hypothesis]:
    """How the rule's result grows with the incoming cotangent: it must be in proportion."""
    seen, found = suspect.seen, as_found(suspect)
    double = suspect.found.manual(seen.probe.arrays, [2 * d for d in seen.probe.d_y])[1].get(suspect.leaf)
    if double is None or double.shape != suspect.manual.shape or not largest(suspect.manual):
        return
    if close(double, 2 * suspect.manual, 1e-6):
        return
    small = suspect.found.manual(seen.probe.arrays, [1e-3 * d for d in seen.probe.d_y])[1][suspect.leaf]
    if close(double, suspect.manual, 1e-6) and close(small, suspect.manual, 1e-6):
        ones = suspect.derived(seen, d_y=[np.ones_like(d) for d in seen.probe.d_y])
        same = ones is not None and suspect.same(ones[suspect.leaf])
        yield Hypothesis(
            "cotangent ignored",
            f"the incoming cotangent is ignored{': it is what a cotangent of ones gives' if same else ''}",
            found,
        )
    for power, words in (
        (-1.0, "divides by the incoming cotangent"),
        (2.0, "multiplies by the incoming cotangent twice"),
    ):
        if close(double, 2**power * suspect.manual, 1e-6):
            yield Hypothesis("cotangent", f"it {words} instead of multiplying by it once", found)
    yield Hypothesis(
        "cotangent",
        "it is not linear in the incoming cotangent: twice the cotangent does not give twice the result",
        found,
    )


def _scalar_factors(suspect: Suspect) -> Iterator[Hypothesis]:
    """One factor at each probe, but another one at each: a sum or a norm of an argument."""
    for name, number in _scalars(suspect, suspect.seen).items():
        for power, words in ((1, "multiplied by"), (-1, "divided by")):
            if number and math.isfinite(number):
                yield Hypothesis(
                    "factor",
                    f"off by a factor that is {words} {name} ({number:.6g} here)",
                    lambda seen, name=name, power=power: (
                        _scalars(suspect, seen)[name] ** power * seen.reference[suspect.leaf]
                    ),
                )
    if suspect.reference.size == 1:
        return  # one number is always off by one factor
    words = described(constant_ratio(suspect.manual, suspect.reference) or 0.0, suspect.rule, suspect.seen)
    yield Hypothesis(
        "factor",
        f"off by one factor, another one for other arguments: {words} here",
        lambda seen: _scaled(suspect, seen),
    )


def _scaled(suspect: Suspect, seen: Seen) -> np.ndarray | None:
    ratio = constant_ratio(seen.manual[suspect.leaf], seen.reference[suspect.leaf])
    return None if ratio is None else ratio * seen.reference[suspect.leaf]


def _scalars(suspect: Suspect, seen: Seen) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, array in suspect.arrays(seen).items():
        if is_key(array) or np.iscomplexobj(array):
            continue
        numbers = np.asarray(array, np.float64)
        found |= {
            f"the sum of `{name}`": float(numbers.sum()),
            f"the mean of `{name}`": float(numbers.mean()) if numbers.size else 0.0,
            f"the norm of `{name}`": float(np.sqrt((numbers**2).sum())),
            f"the sum of 1 - `{name}`": float((1 - numbers).sum()),
        }
        if numbers.ndim == 0:
            found |= {f"`{name}`": float(numbers), f"`{name}` squared": float(numbers) ** 2}
    return found | {f"`{name}`": float(np.real(y)) for name, y in seen.y.items() if y.ndim == 0}


def factors(suspect: Suspect) -> Iterator[Hypothesis]:
    leaf = suspect.leaf
    for name in _knowns(suspect, suspect.seen):
        divides = any(name.startswith(what) for what in ("the standard", "the variance", "the root", "the norm"))
        lacking = lambda seen, name=name: _quotient(seen.reference[leaf], _knowns(suspect, seen).get(name))  # noqa: E731
        extra = lambda seen, name=name: _product(seen.reference[leaf], _knowns(suspect, seen).get(name))  # noqa: E731
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


def _knowns(suspect: Suspect, seen: Seen) -> dict[str, np.ndarray]:
    """Arrays that a mistake may leave out or put in, in the leaf's shape; none of them constant."""
    if id(seen) not in suspect.known:
        suspect.known[id(seen)] = _collected(suspect, seen)
    return suspect.known[id(seen)]


def _collected(suspect: Suspect, seen: Seen) -> dict[str, np.ndarray]:
    shape = seen.reference[suspect.leaf].shape
    found: dict[str, np.ndarray] = {}
    floats = {f"`{name}`": array for name, array in suspect.arrays(seen).items() if not is_key(array)}
    given = floats | {f"the output `{name}`": y for name, y in seen.y.items()}
    with contextlib.suppress(Exception):  # a program that cannot be taken apart says nothing
        given |= jaxprs.intermediates(suspect.rule.define, list(seen.probe.arrays), shape)
    for name, array in given.items():
        numbers = np.asarray(array)
        if not np.iscomplexobj(numbers):
            numbers = numbers.astype(np.float64)
        spread = spread_over(numbers, shape)
        if spread is not None:
            found[name] = spread
            with np.errstate(all="ignore"):
                found |= {
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
                    found[f"{what} of {name} along its last axis"] = np.broadcast_to(function(numbers), shape)
    varied = lambda array: bool(array.size and np.isfinite(array).all() and (array != array.flat[0]).any())  # noqa: E731
    return {name: array for name, array in found.items() if varied(array)}


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
                f"every index of axis {axis} is off by a factor of its own ({factors.min():.4g} to {factors.max():.4g})"
            )
            yield Hypothesis("missing factor", text, as_found(suspect))
