"""Data sets for diagnosis, by name or path: tables of findings, medical images or signals."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..display import visible
from ..errors import UserError
from ..losses.base import Targets
from . import images, known
from .class_names import merge_spellings
from .dataset import (
    Arrays,
    Dataset,
    Source,
    Split,
    complete,
    in_folds,
    standardised,
    with_held_out,
    without_copies,
)
from .idx import find_idx
from .images import ImageOptions
from .parts import notes_on_copies
from .signal_rows import equally_long, read_signals, row_kind
from .table import DEFAULTS, Columns, TableOptions, read_table, with_labels
from .table_files import SUFFIXES, find_files

Kind = Literal["table", "images", "signals"]
UNLIKE = "unlike normal"
"""Name of the class of all abnormal cases."""
KNOWN: Mapping[str, Kind] = {"breast-cancer": "table", "pneumoniamnist": "images"}


@dataclass(frozen=True, eq=False)
class Cases(Dataset):
    """A labelled data set whose class 0 is the normal one.

    columns: of a table, whose splits hold its features as pixels (examples, features); None for images and signals.
    """

    columns: Columns | None = None

    @property
    def kind(self) -> Kind:
        """The kind of the examples."""
        if self.columns:
            return "table"
        return "images" if len(self.input_shape) == 3 else "signals"


def load(
    name_or_path: str,
    *,
    seed: int,
    options: TableOptions = DEFAULTS,
    image_options: ImageOptions = images.DEFAULTS,
    folds: int = 0,
    fold: int = 1,
) -> Cases:
    """Loads a known data set by its name, or the user's own data from a path.

    name_or_path: "breast-cancer" or "pneumoniamnist"; a file of a table or of signals (see ``sheet``; signals if its
        first line has numbers, not the columns' names); a folder with one such file, or one for training and others
        for validation and testing, by their names; a MedMNIST-style ``.npz`` file; a folder of class-named folders of
        images.
    options: how tables and signals are read. image_options: see ``images.load``.
    seed, folds, fold: see ``dataset.complete``.

    Raises UserError, with file and line, for data that cannot be trained on.
    """
    kind = kind_of(name_or_path, options)
    if kind == "table":
        names, parts, classes, notes = _table(name_or_path, options)
        source = Source(parts, classes, notes)
    else:
        if options.ignore:
            raise UserError(f"--ignore names columns of a table, and {name_or_path} has {kind}; leave it out")
        are_signals, names = kind == "signals", ()
        source = _signals(name_or_path, options) if are_signals else _images(name_or_path, image_options)
    if kind != "images":
        source = source._replace(notes=source.notes + image_options.unused(source))
    parts, classes, notes, *_ = source
    parts, classes = _with_normal_first(name_or_path, parts, classes, options.normal)
    if kind != "table":
        source = source._replace(parts=dict(parts), classes=classes)
        data = complete(name_or_path, source, seed=seed, folds=folds, fold=fold)
        return Cases(**{entry.name: getattr(data, entry.name) for entry in fields(Dataset)})
    if folds:
        parts = in_folds(name_or_path, parts, classes, folds, fold)
    parts = with_held_out(name_or_path, parts, classes, seed)
    rows = {part: [hash(tuple(map(str, row))) for row in values.tolist()] for part, (values, _) in parts.items()}
    notes = (*notes, *notes_on_copies(rows, "rows"))
    columns = Columns.learn(names, parts["train"][0])
    features = {part: (columns.encode(values), labels) for part, (values, labels) in parts.items()}
    return Cases(name_or_path, *standardised(name_or_path, features), classes, notes, columns=columns)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Examples weighted by their class. weights: float32, (classes,)."""

    split: Split
    weights: np.ndarray

    @classmethod
    def balanced(cls, split: Split, cases: Cases) -> "Weighted":
        """Weights by which every class counts as much as the others, however many training examples it has."""
        counts = np.bincount(cases.train.labels, minlength=len(cases.classes))
        return cls(split, (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32))

    def __len__(self) -> int:
        return len(self.split)

    @property
    def is_streamed(self) -> bool:
        """Whether ``take`` decodes files."""
        return self.split.is_streamed

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, Targets]:
        """Inputs, and labels with weights (rows,)."""
        inputs, labels = self.split.take(rows)
        return inputs, Targets(labels, self.weights[labels])


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """The normal examples of a split, each of which is its own target: for an autoencoder."""

    split: Split

    def __len__(self) -> int:
        return int((self.split.labels == 0).sum())

    @property
    def is_streamed(self) -> bool:
        """Whether ``take`` decodes files."""
        return self.split.is_streamed

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, Targets]:
        """Inputs, and the same inputs as targets."""
        inputs, _ = self.split.take(np.flatnonzero(self.split.labels == 0)[rows])
        return inputs, Targets(inputs)


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Inputs without labels. inputs: scaled for the model, (cases, ...)."""

    inputs: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs, and zeros in place of labels."""
        return self.inputs[rows], np.zeros(len(rows), np.int32)


def normal_or_not(cases: Cases) -> Cases:
    """The same cases with all abnormal classes merged into one."""

    def merged(split: Split) -> Split:
        return replace(split, labels=(split.labels > 0).astype(np.int32))

    splits = {part: merged(getattr(cases, part)) for part in ("train", "validation", "test")}
    return replace(cases, **splits, classes=(cases.classes[0], UNLIKE))


def kind_of(name_or_path: str, options: TableOptions = DEFAULTS) -> Kind:
    """The kind of a data set's examples: see ``load``. Raises UserError if there is no such data set."""
    if name_or_path in KNOWN:
        return KNOWN[name_or_path]
    path = Path(name_or_path)
    files, _ = find_files(path)
    if not files and os.path.isdir(path):
        return "images"
    if not files and (path.suffix.lower() == ".npz" or find_idx(path)):
        return "images"
    if not files or not os.path.exists(path):
        what = "is not a data set" if os.path.exists(path) else "is neither a known data set nor an existing path"
        raise UserError(
            f"{path} {what}; known ones are {', '.join(KNOWN)}, and a path may be a table or signals in a file "
            f"({', '.join(SUFFIXES)}, or .gz of these), a folder with one for training and one for testing, a .npz "
            "file with train_images and train_labels, or a folder of class-named folders of images"
        )
    if options.no_header or options.signals:
        return "table" if options.no_header else "signals"
    return row_kind(files["train"], options)


PartsClassesNotes = tuple[dict[str, Arrays], tuple[str, ...], tuple[str, ...]]
"""Labelled examples by part, the names of the classes, and notes for the user."""


def _table(name: str, options: TableOptions) -> tuple[tuple[str, ...], *PartsClassesNotes]:
    if name == "breast-cancer":
        data = known.breast_cancer()
        return data.names, {"train": (data.values.astype(object), data.labels.astype(np.int32))}, data.classes, ()
    files, notes = find_files(Path(name))
    files, unlabelled = with_labels(files, options)
    notes += unlabelled
    tables = {part: read_table(file, options) for part, file in files.items()}
    first = tables["train"]
    for part, table in tables.items():
        if table.names != first.names:
            raise UserError(
                f"{name}: {files[part].name} and {files['train'].name} have different columns; they must be the same"
            )
    labels, merged = {files[part].name: list(map(str.strip, table.labels)) for part, table in tables.items()}, ()
    if not options.keep_spellings:
        lines = {files[part].name: table.lines for part, table in tables.items()}
        unmerged = {files[part].name: table.labels.tolist() for part, table in tables.items()}
        labels, merged = merge_spellings(unmerged, lines, "--keep-spellings")
    parts = {part: (table.values, np.array(labels[files[part].name], object)) for part, table in tables.items()}
    return first.names, *_numbered(parts), notes + merged + _notes({part: each.notes for part, each in tables.items()})


def _notes(notes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    several = len(notes) > 1
    return tuple(f"{part}: {note}" if several else note for part, each in notes.items() for note in each)


def _signals(name: str, options: TableOptions) -> Source:
    files, notes = find_files(Path(name))
    read = {part: read_signals(file, options.label, options) for part, file in files.items()}
    length, uneven, parts = max(map(len, read["train"][0]), default=0), [], {}
    for part, (signals, labels, _) in read.items():
        parts[part] = equally_long(signals, length, visible(files[part].name), uneven), labels
    notes += _notes({part: each for part, (_, _, each) in read.items()})
    return Source(*_numbered(parts), (*notes, *uneven))


def _images(name: str, options: ImageOptions) -> Source:
    is_known = name == "pneumoniamnist"
    source = images.known_images(known.pneumonia_mnist, options) if is_known else images.read(Path(name), options)
    parts, copies = without_copies(source.parts)
    notes = (f"{copies} training images are left out: they are also in another split",) if copies else ()
    return source._replace(parts=parts, notes=source.notes + notes)


def _numbered(parts: Mapping[str, Arrays]) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Labels as positions of their classes, which are in numerical order if all are numbers, else in alphabetical."""
    names = sorted({str(label) for _, labels in parts.values() for label in labels})
    try:
        names.sort(key=float)
    except ValueError:
        names.sort()
    numbers = {name: number for number, name in enumerate(names)}
    numbered = {
        part: (inputs, np.array([numbers[str(label)] for label in labels], np.int32))
        for part, (inputs, labels) in parts.items()
    }
    return numbered, tuple(names)


def _with_normal_first(
    name: str, parts: Mapping[str, Arrays], classes: tuple[str, ...], normal: str
) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    if not normal:
        return dict(parts), classes
    if normal not in classes:
        raise UserError(
            f"--normal is {normal!r}, but the classes of {name} are {visible(', '.join(classes))}; name one of them"
        )
    order = [classes.index(normal), *(i for i, other in enumerate(classes) if other != normal)]
    places = np.argsort(order).astype(np.int32)
    renumbered = {part: (inputs, places[labels]) for part, (inputs, labels) in parts.items()}
    return renumbered, tuple(classes[i] for i in order)
