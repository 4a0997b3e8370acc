"""Files in class-named folders, and in the folders that are given to predict."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..display import visible
from ..errors import UserError
from .dataset import LONGEST_CLASS
from .limits import list_folder
from .parts import NAMES_WITH_EVAL

PARTS = {name: part for part, names in NAMES_WITH_EVAL.items() for name in names}
"""What folders of a part are named, in any case."""
JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
"""Files and folders that programs leave behind, in lower case; so are all whose names begin with a dot."""


class ClassFolders(NamedTuple):
    """Files in class-named folders.

    files: with their labels, by part; classes: no one if there are no folders; notes: which files are not used.
    """

    files: dict[str, list[tuple[Path, int]]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def find_class_folders(path: Path, suffixes: tuple[str, ...], kind: str = "image") -> ClassFolders:
    """The files in ``path/CLASS/`` and in the folders there, or in ``path/train/CLASS/`` and likewise in other parts.

    suffixes: of the files, in lower case; kind: what one of them is, for notes.
    Raises UserError if a class has no such file in the train part, or if the train part lacks a class.
    """
    root, notes = path, []
    while (inner := _only_folder(root, suffixes)) and inner.name.lower() not in PARTS:
        root = inner
    if root != path:
        notes.append(f"the classes are the folders in {visible(str(root.relative_to(path)))}")
    folders = _part_folders(root, suffixes, kind, notes)
    names = [folder.name for folder in _folders(folders["train"])]
    files, nested, outside, others = {}, [], [], []
    for folder in {root, *folders.values()}:
        for file in list_folder(folder):
            if not os.path.isdir(file) and not _is_junk(file):
                (outside if file.suffix.lower() in suffixes else others).append(file)
    for part, folder in folders.items():
        unknown = [child for child in _folders(folder) if child.name not in names]
        if unknown:
            raise UserError(f"{unknown[0]} is no class of {folders['train']}: that has {visible(', '.join(names))}")
        files[part] = []
        for label, name in enumerate(names):
            of_class = _files_below(folder / name) if os.path.isdir(folder / name) else []
            chosen = [file for file in of_class if file.suffix.lower() in suffixes]
            files[part] += [(file, label) for file in chosen]
            nested += [file for file in chosen if file.parent != folder / name]
            others += [file for file in of_class if file.suffix.lower() not in suffixes]
            if part == "train" and not chosen:
                has = f" (it has {visible(of_class[0].name)})" if of_class else ""
                raise UserError(
                    f"{folder / name} holds no {', '.join(suffixes)} files{has}; add some or remove the folder"
                )
    _require_no_parts_inside(path, nested)
    total = sum(map(len, files.values()))
    if nested:
        notes.append(
            f"in folders inside their class's: {len(nested)} of {counted(total, kind)}{first_of(path, nested)}"
        )
    if outside:
        notes.append(
            f"not used: {counted(len(outside), kind)} outside the classes' folders{first_of(path, sorted(outside))}"
        )
    if others:
        notes.append(f"not used: {counted(len(others), 'other file')}{first_of(path, sorted(others))}")
    if len({name.lower() for name in names}) < len(names):
        alike = [name for name in names if [other.lower() for other in names].count(name.lower()) > 1]
        notes.append(
            f"classes that differ in upper and lower case only are different ones: {visible(', '.join(alike))}"
        )
    return ClassFolders(files, tuple(visible(name, LONGEST_CLASS) for name in names), tuple(notes))


def _only_folder(root: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The only folder in a folder, if that has folders of its own, and files in neither of the two."""
    folders = _folders(root)
    if len(folders) != 1 or not _folders(folders[0]):
        return None
    files = [file for folder in (root, folders[0]) for file in list_folder(folder) if file.suffix.lower() in suffixes]
    return None if any(not os.path.isdir(file) for file in files) else folders[0]


def _part_folders(root: Path, suffixes: tuple[str, ...], kind: str, notes: list[str]) -> dict[str, Path]:
    """The folders of the parts, which have class-named folders in them; or ``root`` as the train part."""
    named = _parts_of(_folders(root))
    parts: dict[str, Path] = {}
    for folder, part in named.items():
        if not part or not _folders(folder):
            continue
        if part in parts:
            raise UserError(f"{parts[part]} and {folder} are both the {part} part; merge them, or rename one")
        parts[part] = folder
    loose = {} if parts else {folder: _files_below(folder) for folder in named}
    if loose and all(named.values()):
        files = [file for of_folder in loose.values() for file in of_folder if file.suffix.lower() in suffixes]
        if files:
            raise UserError(
                f"{files[0].parent} has no class-named folders in it; put the files of each class into a folder with "
                f"its name, as in {files[0].parent.name}/CLASS/{files[0].name}"
            )
    if parts and "train" not in parts:
        raise UserError(
            f"{next(iter(parts.values()))} has class-named folders in it, but {root} has no folder train; add one, or "
            "rename that folder if it is a class"
        )
    for folder, part in named.items() if parts else ():
        if folder in parts.values():
            continue
        files = [file for file in _files_below(folder) if file.suffix.lower() in suffixes]
        if files and len(parts) == 1 and not part:
            raise UserError(
                f"{parts['train']} has class-named folders in it, and beside it is {folder}, which is none of train, "
                "val and test; move or rename one of the two"
            )
        what = "has no class-named folders" if part else "is none of train, val and test"
        if files:
            notes.append(f"not used: {counted(len(files), kind)} in {visible(folder.name)}, which {what}")
    inner = {part: _innermost(folder, suffixes) for part, folder in parts.items()}
    if any(folder.name.lower() not in PARTS or inner[part] != folder for part, folder in parts.items()):
        which = ", ".join(f"{folder.relative_to(root)} for {part}" for part, folder in inner.items())
        notes.append(f"the parts are the folders {visible(which)}")
    return inner or {"train": root}


def _parts_of(folders: Sequence[Path]) -> dict[Path, str | None]:
    """The part that each folder is named like; by a word of its name, as in seg_train, where two parts are so found."""
    exact = {folder: PARTS.get(folder.name.lower()) for folder in folders}
    if any(part and _folders(folder) for folder, part in exact.items()):
        return exact
    by_word = {folder: _part_in(folder.name) for folder in folders}
    is_split = {"train"} < set(by_word.values()) - {None}
    has_classes = any(_folders(folder) for folder, part in by_word.items() if part)
    return by_word if is_split and (has_classes or all(by_word.values())) else exact


def _part_in(name: str) -> str | None:
    """The only part that a word of a name says.

    >>> _part_in("20news-bydate-train"), _part_in("Test_set"), _part_in("strain"), _part_in("train_test")
    ('train', 'test', None, None)
    """
    parts = {PARTS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in PARTS}
    return parts.pop() if len(parts) == 1 else None


def _innermost(folder: Path, suffixes: tuple[str, ...]) -> Path:
    """The folder with the classes of a part, which some archives have once more inside: seg_train/seg_train/CLASS."""
    while (inner := _only_folder(folder, suffixes)) and _part_in(inner.name) == _part_in(folder.name):
        folder = inner
    return folder


def _require_no_parts_inside(path: Path, nested: Sequence[Path]) -> None:
    for file in nested:
        if any(name.lower() in PARTS for name in file.parent.relative_to(path).parts[1:]):
            raise UserError(
                f"{file} is in a folder named like a part inside a class's; put the parts outside: train/CLASS/..., "
                "test/CLASS/..."
            )


def _is_junk(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in JUNK


def _folders(path: Path) -> list[Path]:
    return [child for child in list_folder(path) if os.path.isdir(child) and not _is_junk(child)]


def _files_below(folder: Path) -> list[Path]:
    """The files in a folder and in those inside it, in alphabetical order; a link to a folder counts as a file."""
    files, folders = [], [folder]
    while folders:
        for child in list_folder(folders.pop()):
            if not _is_junk(child):
                (folders if os.path.isdir(child) and not os.path.islink(child) else files).append(child)
    return sorted(files)


def files_in(paths: Sequence[Path], suffixes: Sequence[str] = ()) -> list[Path]:
    """The files among ``paths`` and in the folders among them: see ``files_and_notes``."""
    return files_and_notes(paths, suffixes)[0]


def files_and_notes(paths: Sequence[Path], suffixes: Sequence[str] = ()) -> tuple[list[Path], tuple[str, ...]]:
    """The files among ``paths`` and in the folders among them, in alphabetical order; and notes on the others.

    suffixes: of the files to take from folders; without any, all files.
    Raises UserError if there are none.
    """
    if not paths:
        raise UserError("predict needs the files to answer for: predict RUN FILE...")
    files, notes = [], []
    for path in paths:
        inside = [path]
        if os.path.isdir(path):
            every = _files_below(path)
            inside = [
                file for file in every if os.path.isfile(file) and (not suffixes or file.suffix.lower() in suffixes)
            ]
            others = [file for file in every if file not in set(inside)]
            if others:
                notes.append(
                    f"not read: {counted(len(others), 'other file')} in {visible(str(path))}{first_of(path, others)}"
                )
        if not inside:
            kinds = f"{' or '.join(suffixes)} file" if suffixes else "file"
            raise UserError(f"{path} has no {kinds} in it; give files, or a folder of them")
        files += inside
    return files, tuple(notes)


def counted(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_of(root: Path, files: Sequence[Path]) -> str:
    """Names the first of some files, in brackets after their number."""
    return f" (the first: {visible(str(files[0].relative_to(root)))})"
