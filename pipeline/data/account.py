"""The account of a data set: how much of it was read into which split and class, and what was not used as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..display import visible
from .fingerprint import PARTS

NAMED = 8  # classes whose numbers stand in a line; of more, the fewest and the most


def account(data: Any, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Examples of each split, and of each class where there are classes; and the notes. As JSON.

    data: has ``train``, ``validation`` and ``test``, and where these have ``labels`` also ``classes``.
    """
    splits = {}
    for part in PARTS:
        split = getattr(data, part)
        splits[part] = {"examples": len(split)}
        if hasattr(data, "classes") and hasattr(split, "labels"):
            counts = np.bincount(split.labels, minlength=len(data.classes)).tolist()
            splits[part]["classes"] = dict(zip(data.classes, counts))
    return {"splits": splits, "notes": list(notes)}


def class_line(content: Mapping[str, Any]) -> str:
    """The training examples of the classes in a line, or "" without classes. content: of ``account``.

    >>> class_line({"splits": {"train": {"examples": 5, "classes": {"cat": 3, "dog": 2}}}})
    'training examples of each class: cat 3, dog 2'
    """
    counts = content["splits"]["train"].get("classes", {})
    if len(counts) <= NAMED:
        numbers = ", ".join(f"{visible(name, 40)} {count:,}" for name, count in counts.items())
        return f"training examples of each class: {numbers}" if counts else ""
    fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[fewest] == counts[most]:
        return f"training examples of each of {len(counts):,} classes: {counts[most]:,}"
    return (
        f"training examples of each of {len(counts):,} classes: from {counts[fewest]:,} ({visible(fewest, 40)}) to "
        f"{counts[most]:,} ({visible(most, 40)})"
    )
