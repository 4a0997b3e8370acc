"""Files that are whole or not there: replaced in one step, on the disk before anything depends on them, checked."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError

T = TypeVar("T")


def write(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step: whoever reads it, also after a kill or a power loss, has the old or the new one.

    Text is stored as UTF-8; half a surrogate pair, which UTF-8 does not have, as an escape.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Replaces a file by ``content`` as indented JSON, see ``write``. Paths become text, numpy's numbers JSON's."""
    write(path, json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n")


def read_json(path: Path, parse: Callable[[Any], T], remedy: str) -> T:
    """The content of a JSON file, converted by ``parse``.

    Raises UserError if it cannot be read, or not converted. remedy: what to do then, to follow a semicolon.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except UserError:
        raise
    # What a parser raises for content of other types and shapes than it expects.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{path} cannot be read ({reason}); {remedy}") from error


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows, which has no such list to wait for
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.item()  # a number of numpy or jax
