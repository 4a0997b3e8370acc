"""Fingerprints of data: by which a run that is resumed or evaluated notices that a split is not what it was."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("train", "validation", "test")


def fingerprint(data: Any) -> dict[str, dict[str, Any]]:
    """The number of examples of each split of a data set, and a hash of all that is in it.

    data: has the attributes ``train``, ``validation`` and ``test``, whose parts are arrays, texts and numbers.
    """
    return {part: _of(getattr(data, part)) for part in PARTS}


def differences(stored: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The splits in which two fingerprints differ, in words.

    >>> differences({"test": {"examples": 3, "sha256": "a"}}, {"test": {"examples": 4, "sha256": "b"}})
    ['test had 3 examples and has 4']
    """
    found = []
    for part, before in stored.items():
        now = present[part]
        if before["examples"] != now["examples"]:
            found.append(f"{part} had {before['examples']:,} examples and has {now['examples']:,}")
        elif before != now:
            found.append(f"{part} has as many examples as before, {now['examples']:,}, but others")
    return found


def _of(split: Any) -> dict[str, Any]:
    digest = hashlib.sha256()
    _add(digest, split)
    return {"examples": len(split), "sha256": digest.hexdigest()}


def _add(digest: Any, value: Any) -> None:
    """Adds a value with its type and length, so that no two values look the same."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, str | bytes | int | float | bool | Path | np.generic | None):
        text = repr(value).encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__}{len(text)}:".encode())
        digest.update(text)
    elif dataclasses.is_dataclass(value):
        _add(digest, [getattr(value, field.name) for field in dataclasses.fields(value) if field.compare])
    elif isinstance(value, Mapping):
        _add(digest, list(value.items()))
    else:
        items = list(value)
        digest.update(f"{len(items)}[".encode())
        for item in items:
            _add(digest, item)
