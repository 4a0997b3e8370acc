"""Integers in a rule's Python code, which its traced program no longer shows."""

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any


def integers(*functions: Callable, modules: bool = False) -> set[int]:
    """The integers above 2 that functions use: constants, and variables of their closures and modules.

    Functions in their closures are searched, too, where wrappers keep what they wrap; those beside them in their own
    modules only with ``modules``.

    >>> scale = 7
    >>> sorted(integers(lambda x: x * 5 + scale))
    [5, 7]
    """
    return {number for function in functions for number in _of(function, set(), modules) if number > 2}


def _of(function: Any, visited: set[int], modules: bool) -> Iterator[int]:
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, FunctionType) or id(function) in visited:
        return
    visited.add(id(function))
    codes = list(_codes(function.__code__))
    names = {name for code in codes for name in code.co_names}
    values = [value for code in codes for value in code.co_consts]
    values += [function.__globals__[name] for name in names if name in function.__globals__]
    beside = [value for value in values if getattr(value, "__module__", None) == function.__module__]
    values += [function.__defaults__, function.__kwdefaults__ and tuple(function.__kwdefaults__.values())]
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        values.append(value)
        yield from _of(value, visited, modules)
    for value in beside if modules else ():
        yield from _of(value, visited, modules)
    for value in values:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                yield number


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of those defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
