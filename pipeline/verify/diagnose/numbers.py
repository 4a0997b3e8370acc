"""The likely origin of a number: 32 is the size of an axis, 0.0884 is 1/sqrt(128), 1.43 is 1/0.7.

At one set of sizes a 2 may be the batch size, a constant of the function, or the root of a 4. So a number is looked at
again at other sizes: the origins that would give another number there are refuted.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..checks.probes import Sizes
from ..programs.jaxprs import numbers
from ..rule import Rule, is_key
from ..trial import Judgement, Observation, in_float64

Elsewhere = Callable[[Observation], float | None]
"""From an observation at other sizes to the number there; None where it cannot be told."""


def describe_number(
    number: float, rule: Rule, observation: Any, judgement: Judgement | None = None, elsewhere: Elsewhere | None = None
) -> str:
    """The number and its likely origin: "32 = the size of axis 0 of `x`".

    elsewhere: the number at other sizes, by which origins are refuted.
    """
    digits = f"{number:.6g}"
    origins = list(_origins(rule, observation, rare=elsewhere is not None))
    meanings = {text: of for text, of in origins if _near(of(observation), number)}
    if not meanings:
        negated = [(text, of) for text, of in origins if _near(of(observation), -number)][:1]
        meanings = {f"-({text})": lambda at, of=of: -of(at) for text, of in negated}
    if meanings and judgement is not None and elsewhere is not None:
        other = at_other_sizes(judgement)
        there = None if other is None else elsewhere(other)
        holding = {t: of for t, of in meanings.items() if _holds(t, of, number, observation, other, there)}
        if any(text.startswith("the constant") for text in holding):  # which may be the root of a size
            allowed = lambda of: other is None or there is None or _near(of(other), there)  # noqa: E731
            holding |= {t: of for t, of in meanings.items() if "sqrt" in t and allowed(of)}
        meanings = holding
    texts = [text for text in meanings if text != digits]
    texts = [text for text in texts if "a ratio of sizes" not in text] or texts  # which is a size in other words
    return f"{digits} = {' (or '.join(texts[:2])}{')' * (len(texts) > 1)}" if texts else digits


def _holds(
    text: str, of: Callable[[Any], float], number: float, observation: Any, other: Any, there: float | None
) -> bool:
    """Whether other sizes confirm an origin or, where they cannot be had, the number is too odd for a coincidence."""
    if other is not None and there is not None:
        if not _near(of(other), there):
            return False
        if "constant" in text or not _near(of(other), of(observation)):
            return True
    whole = max(abs(number), 1 / max(abs(number), 1e-300))
    small = whole < 4.5 and abs(2 * whole - round(2 * whole)) < 1e-6  # the size of anything
    return "constant" in text or not (small or ("ratio" in text))


def at_other_sizes(judgement: Judgement) -> Observation | None:
    """The rule and autodiff at arguments of other sizes, all different; None where the function or rule allows none."""
    if "other sizes" not in judgement.cache:
        judgement.cache["other sizes"] = None
        with contextlib.suppress(Exception):  # the rule may be written for the sizes of the example
            judgement.cache["other sizes"] = _observe_elsewhere(judgement)
    return judgement.cache["other sizes"]


def _observe_elsewhere(judgement: Judgement) -> Observation | None:
    rule, random = judgement.rule, np.random.default_rng(11)
    sizes = Sizes(rule, [in_float64(array) for array in rule.arrays], seconds=1.0)
    # Even steps, larger than any size: no two sizes that differ now are equal there.
    probe = sizes.resized("other sizes", lambda number, size: (size + 2 * number + 2,) if size > 1 else (), random)
    if probe is None:
        return None
    (y, reference), (manual_y, manual) = judgement.both(probe.arrays, probe.d_y)
    shapes = all(leaf in manual and manual[leaf].shape == reference[leaf].shape for leaf in rule.floats)
    finite = all(np.isfinite(leaf).all() for part in (reference, manual) for leaf in part.values())
    return Observation(probe, reference, manual, y, manual_y) if shapes and finite else None


def _is_root(value: float) -> bool:
    square = value * value
    return 1.5 < square < 1e6 and _near(float(round(square)), square) and not _near(float(round(value)), value)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-7 * abs(other)


def _shapes(rule: Rule, observation: Any) -> dict[str, tuple[int, ...]]:
    arrays = list(zip(rule.leaves, observation.probe.arrays)) + list(observation.y.items())
    return {name: np.shape(array) for name, array in arrays if not is_key(array)}


def _counts(rule: Rule, observation: Any) -> Iterator[tuple[str, Callable[[Any], float]]]:
    """Sizes, with words; of several equal ones, the first argument's first axis is the likeliest."""
    shapes = _shapes(rule, observation)
    of = lambda name, count: lambda at: float(count(_shapes(rule, at)[name]))  # noqa: E731
    rows = {shape[0] for name, shape in shapes.items() if name in observation.y and shape}
    for name, shape in shapes.items():
        for axis in range(len(shape)):
            data = axis == 0 and name in rule.leaves and "/" not in name and shape[0] in rows
            words = f"the size of axis {axis} of `{name}`{', the batch size' * data}"
            yield words, of(name, lambda shape, axis=axis: shape[axis])
        if len(shape) > 1:
            yield f"the number of elements of `{name}`", of(name, math.prod)
    for name, shape in shapes.items():
        if len(shape) > 2:
            yield f"the number of positions of `{name}`", of(name, lambda shape: math.prod(shape[:-1]))
            words = f"the number of positions of `{name}` in an example"
            yield words, of(name, lambda shape: math.prod(shape[1:-1]))


_OF_SIZES: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("{1}", lambda n: n),
    ("1/{0}, one over {1}", lambda n: 1 / n),
    ("sqrt({0}), of {1}", math.sqrt),
    ("1/sqrt({0}), of {1}", lambda n: 1 / math.sqrt(n)),
    ("{0}/{0} - 1, of {1}", lambda n: n / (n - 1)),
    ("{0} - 1 over {0}, of {1}", lambda n: (n - 1) / n),
)
_RARER: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("{0} - 1, of {1}", lambda n: n - 1),
    ("1/({0} - 1), of {1}", lambda n: 1 / (n - 1)),
    ("{0} squared, of {1}", lambda n: n * n),
    ("1/{0} squared, of {1}", lambda n: 1 / (n * n)),
    ("2/{0}, of {1}", lambda n: 2 / n),
    ("{0}/2, of {1}", lambda n: n / 2),
)
_OF_CONSTANTS: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("the constant {:.6g} in the function", lambda c: c),
    ("1/{:.6g}, one over a constant in the function (1/keep, if it is a keep probability)", lambda c: 1 / c),
    ("1 - {:.6g}, of a constant in the function", lambda c: 1 - c),
    ("1/(1 - {:.6g}), of a constant in the function (1/keep, if it is a dropout rate)", lambda c: 1 / (1 - c)),
    ("{:.6g} squared", lambda c: c * c),
    ("1/{:.6g} squared", lambda c: 1 / (c * c)),
)


def _origins(rule: Rule, observation: Any, rare: bool) -> Iterator[tuple[str, Callable[[Any], float]]]:
    """Words and the number they mean at an observation, the likely ones first.

    rare: whether the number can be refuted, so that forms that fit many numbers do no harm.
    """
    counts = [(words, of) for words, of in _counts(rule, observation) if of(observation) > 1]
    for forms in (_OF_SIZES, _RARER if rare else ()):
        for words, of in counts:
            size = of(observation)
            for form, function in forms:
                if size > 2 or "- 1" not in form:
                    spoken = form.replace("{0}/{0} - 1", "{0}/({0} - 1)").format(f"{size:.0f}", words)
                    yield spoken, lambda at, of=of, function=function: function(max(of(at), 2))
    constants = numbers(rule.define, list(observation.probe.arrays))
    for value in constants:
        if not 1e-100 < abs(value) < 1e100 or abs(value) == 1.0:
            continue
        for form, function in _OF_CONSTANTS:
            result = function(value)
            root = f" = sqrt({value**2:.0f})" if _is_root(value) else ""
            yield form.format(value).replace(f"{value:.6g}", f"{value:.6g}{root}"), lambda at, result=result: result
    unequal = dict.fromkeys(of(observation) for _, of in counts)
    first = {size: of for _, of in reversed(counts) for size in [of(observation)]}
    for a in unequal:
        for b in unequal:
            if a != b:
                ratio = lambda at, a=a, b=b: first[a](at) / first[b](at)  # noqa: E731
                yield f"{a:.0f}/{b:.0f}, a ratio of sizes", ratio
