"""Checks of option values. They raise UserError, which names the option as it is typed on the command line."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from .errors import UserError


def require_at_least(options: object, *, group: str = "", **least: int | float) -> None:
    """Raises UserError unless each named field of ``options`` is at least the number given for it.

    group: prefix of the options on the command line, such as "stop.".
    """
    for field, low in least.items():
        require(getattr(options, field) >= low, options, field, f"at least {low}", group)


def require_shares(options: object, *fields: str, group: str = "") -> None:
    """Raises UserError unless each named field of ``options`` is at least 0 and less than 1."""
    for field in fields:
        require(0 <= getattr(options, field) < 1, options, field, "at least 0 and less than 1", group)


def require(holds: bool, options: object, field: str, range_: str, group: str = "") -> None:
    """Raises UserError unless ``holds``. range_: what the field must be, to follow "it must be" in the message."""
    if not holds:
        raise UserError(f"--{group}{flag(field)} is {getattr(options, field)}; it must be {range_}")


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
