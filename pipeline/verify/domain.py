"""Where a rule must hold, as its author says: which numbers its arguments may have, and which sizes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import UserError
from .rule import Rule, is_float

Numbers = Literal["positive", "not negative", "unit"] | tuple[float, float] | Callable[[np.ndarray], Any]
"""Which numbers an array may have: a name, the lowest and the highest, or a function that says which are allowed."""

_NAMED = {"positive": (math.ulp(0.0), math.inf), "not negative": (0.0, math.inf), "unit": (0.0, 1.0)}


def multiples_of(number: int) -> Callable[[int], bool]:
    """The condition on a size that it is a multiple of a number, as kernels have it that work on whole tiles.

    >>> multiples_of(4)(8), multiples_of(4)(9)
    (True, False)
    """
    if number < 1:
        raise UserError(f"multiples_of({number}): the number must be at least 1")
    return lambda size: size > 0 and size % number == 0


@dataclass(frozen=True)
class Domain:
    """What an author says about the arguments of a rule.

    numbers: for arguments by name, which numbers they may have; or a function of all arguments, whether it allows them.
    sizes: "fixed", or for axes by name which sizes they may have: a function such as ``multiples_of(4)``, or "fixed".
        An axis is named "x:1" (axis 1 of argument x), "rows" (axis 0 of every argument), or "columns" (the last axis of
        every argument that has two or more).
    """

    numbers: Mapping[str, Numbers] | Callable[..., Any] | None = None
    sizes: Literal["fixed"] | Mapping[str, Any] | None = None

    def check(self, rule: Rule) -> None:
        """Raises UserError where a name belongs to nothing, or the example arguments are outside."""
        if isinstance(self.sizes, str) and self.sizes != "fixed":
            raise UserError(f'sizes={self.sizes!r}: it must be "fixed" or a dict such as {{"rows": multiples_of(4)}}')
        if isinstance(self.numbers, Mapping):
            for name, numbers in self.numbers.items():
                if not any(_belongs(leaf, name) for leaf in rule.leaves):
                    raise UserError(f"domain: there is no argument {name!r}; there are {', '.join(rule.leaves)}")
                if isinstance(numbers, str) and numbers not in _NAMED:
                    raise UserError(f"domain: {name}: {numbers!r} is none of {', '.join(_NAMED)}")
        if self.within(rule, rule.arrays, rule.arrays) is not rule.arrays:
            raise UserError(f"domain: the example arguments of {rule.subject} are outside of it")
        for name in self.sizes if isinstance(self.sizes, Mapping) else ():
            if not any(_names_axis(name, leaf, axis, array.ndim) for leaf, array, axis in _axes(rule)):
                raise UserError(f'sizes: there is no axis {name!r}; write "rows", "columns", or "{rule.leaves[0]}:0"')

    def within(self, rule: Rule, arrays: list[Any], examples: list[Any]) -> list[Any] | None:
        """The arrays, with numbers of the example for those outside of the domain; None where that does not help.

        The very list that was given is returned where all is within.
        """
        if self.numbers is None:
            return arrays
        if not isinstance(self.numbers, Mapping):
            return arrays if bool(self.numbers(*rule.pack(arrays))) else None
        result = list(arrays)
        for name, numbers in self.numbers.items():
            for i, leaf in enumerate(rule.leaves):
                if _belongs(leaf, name) and is_float(arrays[i]):
                    result[i] = _put_within(result[i], np.asarray(examples[i]), numbers)
        if any(array is None for array in result):
            return None
        return arrays if all(new is old for new, old in zip(result, arrays)) else result

    def allows(self, rule: Rule, place: int, axis: int, size: int) -> bool:
        """Whether an axis of the array at a place may have another size than the example's."""
        if self.sizes is None or self.sizes == "fixed":
            return self.sizes is None
        ndim = np.ndim(rule.arrays[place])
        conditions = [c for name, c in self.sizes.items() if _names_axis(name, rule.leaves[place], axis, ndim)]
        return all(callable(condition) and condition(size) for condition in conditions)


def _belongs(leaf: str, name: str) -> bool:
    return leaf == name or leaf.startswith(f"{name}/")


def _axes(rule: Rule) -> list[tuple[str, Any, int]]:
    return [(leaf, array, axis) for leaf, array in zip(rule.leaves, rule.arrays) for axis in range(np.ndim(array))]


def _names_axis(name: str, leaf: str, axis: int, ndim: int) -> bool:
    if name in ("rows", "columns"):
        return axis == 0 if name == "rows" else ndim > 1 and axis == ndim - 1
    argument, _, number = name.rpartition(":")
    return _belongs(leaf, argument) and number == str(axis)


def _put_within(array: Any, example: np.ndarray, numbers: Numbers) -> Any:
    if array is None:
        return None
    low, high = -math.inf, math.inf
    if callable(numbers):
        allowed = np.broadcast_to(np.asarray(numbers(np.asarray(array)), bool), np.shape(array))
    else:
        low, high = _NAMED[numbers] if isinstance(numbers, str) else numbers
        allowed = (np.asarray(array) >= low) & (np.asarray(array) <= high)
    if allowed.all():
        return array
    if array.shape == example.shape:
        return np.where(allowed, array, example)
    if callable(numbers):
        return None
    inside = example[(example >= low) & (example <= high)]
    return np.clip(array, inside.min(), inside.max())
