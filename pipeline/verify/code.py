"""What stands in a rule's Python code, where its traced program no longer shows it."""

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any


def integers(*functions: Callable) -> set[int]:
    """The integers above 2 that functions name or write out: constants, closures' and modules' variables.

    Followed are functions that stand in their closures, for wrappers hold what they wrap there; not those of modules.
    """
    return {number for function in functions for number in _of(function, set()) if number > 2}


def _of(function: Any, seen: set[int]) -> Iterator[int]:
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    codes = list(_codes(function.__code__))
    names = {name for code in codes for name in code.co_names}
    values = [value for code in codes for value in code.co_consts]
    values += [function.__globals__[name] for name in names if name in function.__globals__]
    values += [function.__defaults__, function.__kwdefaults__ and tuple(function.__kwdefaults__.values())]
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        values.append(held)
        yield from _of(held, seen)
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
