"""The parts of a data set: which of them a file's name means, and which examples stand in several of them."""

import re
from collections.abc import Hashable, Iterable, Mapping

NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing"),
}
"""First words of the names of each part's files and folders."""
NAMES_WITH_EVAL = NAMES | {"test": (*NAMES["test"], "eval")}
"""The same for images and tables, whose test part is also called eval."""


def part_of(name: str) -> str | None:
    """The part whose file has a name, by its first word; None if it says none.

    >>> part_of("train-clean.en"), part_of("test_2016.de"), part_of("trainer.tsv")
    ('train', 'test', None)
    """
    first = re.split(r"[^a-z]", name.lower())[0]
    return next((part for part, names in NAMES.items() if first in names), None)


def notes_on_copies(parts: Mapping[str, Iterable[Hashable]], what: str) -> list[str]:
    """Notes on the validation and test examples that are in a part before them, too.

    parts: the examples of each part; what: their name in the notes.
    """
    others, notes = set(parts["train"]), []
    for part, named in (("validation", "training"), ("test", "training or validation")):
        copies = [example in others for example in parts[part]]
        if any(copies):
            count, first = f"{sum(copies):,} of {len(copies):,}", copies.index(True) + 1
            notes.append(f"{count} {part} {what} are among the {named} {what}, too (the first: number {first})")
        others.update(parts[part])
    return notes
