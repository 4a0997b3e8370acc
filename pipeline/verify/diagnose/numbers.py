"""The likely origin of a number: 32 is the size of an axis, 0.0884 is 1/sqrt(128), 1.43 is 1/0.7."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..programs.jaxprs import numbers
from ..rule import Rule, is_key


def describe_number(number: float, rule: Rule, observation: Any) -> str:
    """The number and its likely origin: "32 = the size of axis 0 of `x`"."""
    digits = f"{number:.6g}"
    candidates = list(_candidates(rule, observation))
    meanings = [text for text, value in candidates if abs(value - number) <= 1e-7 * abs(number)]
    negated = (f"-({text})" for text, value in candidates if abs(value + number) <= 1e-7 * abs(number))
    meanings = meanings or list(itertools.islice(negated, 1))
    meanings = [text for text in dict.fromkeys(meanings) if text != digits]
    return f"{digits} = {' (or '.join(meanings[:2])}{')' * (len(meanings) > 1)}" if meanings else digits


def _sizes(rule: Rule, observation: Any) -> Iterator[tuple[str, int]]:
    """Sizes of axes; of several equal ones, the first argument's first axis is the likeliest."""
    arrays = list(zip(rule.leaves, observation.probe.arrays)) + list(observation.y.items())
    for name, array in arrays:
        if is_key(array):
            continue
        for axis, size in enumerate(np.shape(array)):
            batch = ", the batch size" if axis == 0 and name == rule.leaves[0] else ""
            yield f"the size of axis {axis} of `{name}`{batch}", size
        if np.ndim(array) > 1:
            yield f"the number of elements of `{name}`", int(np.size(array))
    for name, array in arrays:
        if not is_key(array) and np.ndim(array) > 2:
            yield f"the number of positions of `{name}`", int(np.prod(np.shape(array)[:-1]))
            yield f"the number of positions of `{name}` in an example", int(np.prod(np.shape(array)[1:-1]))


def _candidates(rule: Rule, observation: Any) -> Iterator[tuple[str, float]]:
    sizes = [(text, n) for text, n in _sizes(rule, observation) if n > 1]  # a factor of 1 explains nothing
    for text, n in sizes:
        yield text, n
        yield f"1/{n}, one over {text}", 1 / n
        yield f"sqrt({n}), of {text}", math.sqrt(n)
        yield f"1/sqrt({n}), of {text}", 1 / math.sqrt(n)
        yield f"{n}/{n - 1}, of {text}", n / (n - 1)
        yield f"{n - 1}/{n}, of {text}", (n - 1) / n
    for text, n in sizes:
        yield f"{n} squared, of {text}", n * n
        yield f"1/{n} squared, of {text}", 1 / (n * n)
        yield f"2/{n}, of {text}", 2 / n
        yield f"{n}/2, of {text}", n / 2
    for value in numbers(rule.define, list(observation.probe.arrays)):
        if not 1e-100 < abs(value) < 1e100 or abs(value) == 1.0:
            continue
        yield f"the constant {value:.6g} in the function", value
        yield f"1/{value:.6g}, one over a constant in the function (1/keep, if it is a keep probability)", 1 / value
        yield f"1 - {value:.6g}, of a constant in the function", 1 - value
        yield f"1/(1 - {value:.6g}), of a constant in the function (1/keep, if it is a dropout rate)", 1 / (1 - value)
        yield f"{value:.6g} squared", value * value
        yield f"1/{value:.6g} squared", 1 / value**2
    unequal = dict.fromkeys(n for _, n in sizes)
    for a in unequal:
        for b in unequal:
            if a != b:
                yield f"{a}/{b}, a ratio of sizes", a / b
