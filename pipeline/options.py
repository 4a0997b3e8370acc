"""Checks of option values. They raise UserError, which names the option as it is typed on the command line."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from .errors import UserError

LARGEST = 2**31 - 1
"""The largest integer of JAX's default type, int32."""
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127
"""The largest number of float32, in which models are trained: larger ones become infinite in it."""
SEEDS = 2**32
"""Number of different random seeds: JAX silently takes a seed modulo this, and numpy refuses larger ones."""


def require_numbers(options: object, group: str = "") -> None:
    """Raises UserError unless every number among the fields is one that training can compute with.

    Floats must be finite in float32, integers must fit into int32, and ``seed`` must be one of ``SEEDS``. Tuples are
    checked entry by entry, dataclasses among the fields field by field. group: see ``require_at_least``.
    """
    for entry in dataclasses.fields(options):  # pyright: ignore[reportArgumentType]
        value = getattr(options, entry.name)
        if dataclasses.is_dataclass(value):
            require_numbers(value, f"{group}{entry.name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                require(math.isfinite(number), options, entry.name, "a finite number", group)
                low, high = -LARGEST_FLOAT, LARGEST_FLOAT
            elif isinstance(number, int):
                low, high = (0, SEEDS - 1) if entry.name == "seed" else (-LARGEST, LARGEST)
            else:
                continue
            require(number >= low, options, entry.name, f"at least {low}", group)
            require(number <= high, options, entry.name, f"at most {high}", group)


def require_at_least(options: object, *, group: str = "", **least: int | float) -> None:
    """Raises UserError unless each named field of ``options`` is at least the number given for it.

    group: prefix of the options on the command line, such as "stop.".
    """
    for field, low in least.items():
        require(getattr(options, field) >= low, options, field, f"at least {low}", group)


def require_between(options: object, *, group: str = "", **ranges: tuple[int | float, int | float]) -> None:
    """Raises UserError unless each named field of ``options`` is in its range, ends included, or None.

    Of a tuple, every entry must be in the range.
    """
    for field, (low, high) in ranges.items():
        value = getattr(options, field)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        within = all(low <= number <= high for number in numbers)
        require(within, options, field, f"from {low} to {high}", group)


def require_shares(options: object, *fields: str, group: str = "") -> None:
    """Raises UserError unless each named field of ``options`` is at least 0 and less than 1."""
    for field in fields:
        require(0 <= getattr(options, field) < 1, options, field, "at least 0 and less than 1", group)


def require_sizes(options: object, *fields: str) -> None:
    """Raises UserError unless each named field of ``options`` is a tuple of numbers that are at least 1."""
    for field in fields:
        sizes = getattr(options, field)
        require(len(sizes) > 0 and min(sizes) >= 1, options, field, "one or more numbers of at least 1")


def require(holds: bool, options: object, field: str, range_: str, group: str = "") -> None:
    """Raises UserError unless ``holds``. range_: what the field must be, to follow "it must be" in the message."""
    if not holds:
        value = getattr(options, field)
        text = " ".join(map(str, value)) or "empty" if isinstance(value, tuple) else value
        raise UserError(f"--{flag(group + field)} is {text}; it must be {range_}")


def require_equal_heads(width: int, heads: int) -> None:
    """Raises UserError unless ``width`` can be divided into ``heads`` equal parts of an even size.

    The size must be even because rotary positions rotate pairs of features.
    """
    if width % (2 * heads):
        raise UserError(
            f"--width is {width} and --heads is {heads}, but each head needs an equal and even share of the width; "
            f"choose a width that is a multiple of {2 * heads}"
        )


def flag(name: str) -> str:
    """An option's name as it is typed on the command line.

    >>> flag("batch_size")
    'batch-size'
    """
    return name.replace("_", "-")


def differences(config: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The options in which two configurations of one class differ, by their dotted names, with both values."""
    for entry in dataclasses.fields(config):
        value, other_value = getattr(config, entry.name), getattr(other, entry.name)
        if dataclasses.is_dataclass(value) and type(value) is type(other_value):
            yield from differences(value, other_value, f"{prefix}{entry.name}.")
        elif value != other_value:
            yield prefix + entry.name, (value, other_value)
