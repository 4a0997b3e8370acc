"""Files of tables and signals at a path: which of them is the training, the validation and the test split."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..display import quoted, visible
from ..errors import UserError
from .delimited import suffix_of
from .limits import list_folder, open_unpacked
from .parts import NAMES_WITH_EVAL
from .sheet import TEXT_SUFFIXES, WORKBOOKS

SUFFIXES = (*TEXT_SUFFIXES, *WORKBOOKS)

_BEGINNING = 512


def is_table_file(path: Path) -> bool:
    """Whether a file has a table or signals: by its suffix, or, without one, by the numbers that it begins with."""
    if path.name.startswith(".") or os.path.isdir(path):
        return False
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return True
    if suffix or not os.path.isfile(path):
        return False
    with open_unpacked(path) as file:
        beginning = bytes(file.read(_BEGINNING))
    return bool(beginning.strip()) and not re.search(rb"[^0-9eEnNaA+.,;:\s-]", beginning)


def find_files(path: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of tables or signals at ``path`` by split, and notes on those that are not read.

    There are none if the path is neither such a file nor a folder with a training file, or with one file alone; beside
    folders, which may have images, there must be a file for testing too.
    Raises UserError if a split has several files.
    """
    if not os.path.isdir(path):
        return ({"train": path} if is_table_file(path) else {}), ()
    everything = list_folder(path)
    inside = [file for file in everything if is_table_file(file)]
    has_folders = any(os.path.isdir(entry) and not entry.name.startswith(".") for entry in everything)
    if len(inside) == 1 and _part(inside[0]) in ("train", "") and not has_folders:
        return {"train": inside[0]}, _unused(path, everything, inside)
    found = {part: [file for file in inside if _part(file) == part] for part in NAMES_WITH_EVAL}
    if len(inside) > 1 and not found["train"] and not has_folders:
        names = visible(", ".join(file.name for file in inside))
        raise UserError(f"{path} has several tables, {names}; give one of them, or name them train, val and test")
    if not found["train"] or (has_folders and not found["test"]):  # class-named folders of images, and a file
        return {}, ()
    files = {part: _preferred(path, part, matches) for part, matches in found.items() if matches}
    return files, _unused(path, everything, list(files.values()))


def _unused(path: Path, everything: Sequence[Path], used: Sequence[Path]) -> tuple[str, ...]:
    """A note on the files of a folder that are not read."""
    rest = [file for file in everything if file not in used and not file.name.startswith(".")]
    rest = [file for file in rest if not os.path.isdir(file)]
    which = ", ".join(file.name for file in used)
    read = f"the splits are {which}" if len(used) > 1 else f"the table is {which}"
    return (f"{len(rest)} files of {path.name} are not read, such as {quoted(rest[0].name)}: {read}",) if rest else ()


def _part(file: Path) -> str:
    """The split that a file's name tells, or ""."""
    stem = file.name.lower().removesuffix(".gz").removesuffix(suffix_of(file))
    words = re.split(r"[^a-z]+", stem)
    for part, names in NAMES_WITH_EVAL.items():
        if any(name in words for name in names):
            return part
    return next(
        (part for part, names in NAMES_WITH_EVAL.items() if stem.startswith(names[0]) or stem.endswith(names[0])), ""
    )


def _preferred(folder: Path, part: str, files: Sequence[Path]) -> Path:
    """The file of a split that stands in a folder in several formats, of which the first of ``SUFFIXES`` is read."""
    stems = {file.name.partition(".")[0] for file in files}
    if len(stems) > 1:
        names = ", ".join(file.name for file in files)
        raise UserError(f"{folder} has several files for the {part} split: {names}; leave one")
    order = (*SUFFIXES, "")
    return min(files, key=lambda file: (order.index(suffix_of(file)), file.name))
