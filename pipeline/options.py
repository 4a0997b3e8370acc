"""What the values of options must be. A mistake is a UserError, which names the option as the command line does."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from .errors import UserError


def require_at_least(options: object, *, group: str = "", **least: int | float) -> None:
    """Each named field of ``options`` is as large as is said. group: what the command line writes before it."""
    for field, low in least.items():
        require(getattr(options, field) >= low, options, field, f"at least {low}", group)


def require_shares(options: object, *fields: str, group: str = "") -> None:
    """Each named field of ``options`` is a part of a whole, and not all of it."""
    for field in fields:
        require(0 <= getattr(options, field) < 1, options, field, "at least 0 and less than 1", group)


def require(holds: bool, options: object, field: str, range_: str, group: str = "") -> None:
    """range_: what the field must be, after "it must be"."""
    if not holds:
        name = group + field.replace("_", "-")
        raise UserError(f"--{name} is {getattr(options, field)}; it must be {range_}")


def require_equal_heads(width: int, heads: int) -> None:
    """Each head of attention has as many features, and an even number of them, since rotary positions turn pairs."""
    if width % (2 * heads):
        raise UserError(
            f"--width is {width}, and --heads {heads}: each head needs an equal and even share of it; "
            f"choose a width that is a multiple of {2 * heads}"
        )


def flag(name: str) -> str:
    """An option as it is typed: ``batch_size`` is ``batch-size``."""
    return name.replace("_", "-")


def differences(config: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The options in which two configurations of one class differ, by their dotted names, with both values."""
    for entry in dataclasses.fields(config):
        value, other_value = getattr(config, entry.name), getattr(other, entry.name)
        if dataclasses.is_dataclass(value) and type(value) is type(other_value):
            yield from differences(value, other_value, f"{prefix}{entry.name}.")
        elif value != other_value:
            yield prefix + entry.name, (value, other_value)
