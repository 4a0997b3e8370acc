"""Tables of findings: each row is an example, each column a finding, and one column the diagnosis."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .delimited import rows
from .limits import LARGEST
from .text import read_encoded

MISSING = frozenset({"", "?", ".", "-", "na", "n/a", "nan", "null", "none"})
"""Texts that stand for a missing value, in lower case."""
MOST_CATEGORIES = 20
REMEDY = "convert it to UTF-8"


@dataclass(frozen=True)
class Column:
    """How a column of a table becomes features, learnt from the training rows.

    A column of numbers becomes one feature, in which a missing number is replaced by the ``median``. If some training
    rows lack the number (``indicated``), a second feature is 1 where it is missing and 0 elsewhere. A column of texts
    becomes one feature for each of its ``categories``: 1 for the row's own category, 0 for all others.
    """

    name: str
    median: float = 0.0
    indicated: bool = False
    categories: tuple[str, ...] = ()

    @classmethod
    def learn(cls, name: str, values: np.ndarray) -> "Column":
        """The column of training rows. values: an object array of floats (NaN: missing) or texts ("": missing)."""
        if any(isinstance(value, str) for value in values):
            return cls(name, categories=tuple(sorted({str(value) for value in values if value})))
        numbers = values.astype(np.float64)
        missing = np.isnan(numbers)
        return cls(name, float(np.median(numbers[~missing])) if not missing.all() else 0.0, bool(missing.any()))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        if self.categories:
            return tuple(f"{self.name} = {category}" for category in self.categories)
        return (self.name, f"{self.name} is missing") if self.indicated else (self.name,)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The features of ``values``: float32, (rows, features). An unknown category has 0 in all features."""
        if self.categories:
            return (values[:, None] == np.asarray(self.categories, object)[None]).astype(np.float32)
        numbers = values.astype(np.float64)
        missing = np.isnan(numbers)
        filled = np.where(missing, self.median, numbers)
        return np.stack([filled, missing] if self.indicated else [filled], -1).astype(np.float32)


@dataclass(frozen=True)
class Columns:
    """The columns of a table, in the order of its file."""

    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, names: Sequence[str], values: np.ndarray) -> "Columns":
        """The columns of training rows. names, values: see ``Table``."""
        return cls(tuple(Column.learn(name, values[:, i]) for i, name in enumerate(names)))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features."""
        return tuple(feature for column in self.columns for feature in column.features)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The features of ``values`` (rows, columns): float32, (rows, features)."""
        return np.concatenate([column.encode(values[:, i]) for i, column in enumerate(self.columns)], 1)

    def stored(self) -> list[dict[str, Any]]:
        """The columns as JSON."""
        return [vars(column) for column in self.columns]

    @classmethod
    def read(cls, stored: Sequence[Mapping[str, Any]]) -> "Columns":
        """The inverse of ``stored``."""
        return cls(tuple(Column(**{**column, "categories": tuple(column["categories"])}) for column in stored))


@dataclass(frozen=True, eq=False)
class Table:
    """The content of a table's file.

    names: of the columns, without the label's. values: an object array (rows, columns): a column of numbers has floats,
    with NaN for a missing one; a column of texts has strings, with "" for a missing one. labels: texts, (rows,).
    notes: which columns were left out, and how many values are missing.
    """

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()


def read_table(path: Path, label: str, ignore: Sequence[str] = ()) -> Table:
    """Reads a ``.csv`` or ``.tsv`` file whose first line has the columns' names.

    label: the column with the diagnosis; ignore: columns to leave out. Raises UserError, with the line, for a file that
    cannot be read.
    """
    names, lines = _cells(path)
    for name in (label, *ignore):
        if name not in names:
            option = "label" if name == label else "ignore"
            raise UserError(
                f"{path} has no column {quoted(name)}: its first line names {_quoted(names)}; name one of these with "
                f"--{option}"
            )
    table, labels, notes = [], None, []
    for place, name in enumerate(names):
        if name in ignore:
            continue
        cells = [(line, row[place]) for line, row in lines]
        if name == label:
            labels = _labels(path, name, cells)
        elif all(_is_missing(cell) for _, cell in cells):
            notes.append(f"column {quoted(name)} is left out: it is empty")
        else:
            table.append((name, _column(path, name, cells)))
    if not table:
        raise UserError(f"{path} has no column besides {quoted(label)}; give at least one finding")
    values = np.stack([column for _, column in table], 1)
    missing = sum(value == "" or value != value for value in values.flat)
    if missing:
        notes.append(
            f"{missing} values are missing: a missing number is replaced by the training median, and a feature says so"
        )
    assert labels is not None
    return Table(tuple(name for name, _ in table), values, labels, tuple(notes))


def read_rows(path: Path, columns: Columns) -> np.ndarray:
    """The features of a file's rows, for a model trained on ``columns``: float32, (rows, features).

    The file may have its columns in any order, and others besides. Raises UserError if a column is missing, or has a
    category that the training rows do not have.
    """
    names, lines = _cells(path)
    places = {name: place for place, name in enumerate(names)}
    absent = [column.name for column in columns.columns if column.name not in places]
    if absent:
        raise UserError(
            f"{path} has no column {_quoted(absent)}, which the model was trained on; its first line names "
            f"{_quoted(names)}"
        )
    encoded = []
    for column in columns.columns:
        cells = [(line, row[places[column.name]]) for line, row in lines]
        if column.categories:
            for line, cell in cells:
                if cell not in column.categories and not _is_missing(cell):
                    raise UserError(
                        f"{path}: line {line} has {quoted(cell)} in column {quoted(column.name)}, where training "
                        f"had {visible(', '.join(column.categories))}; the model has not learnt it"
                    )
            encoded.append(column.encode(_objects("" if _is_missing(cell) else cell for _, cell in cells)))
        else:
            encoded.append(column.encode(_objects(_number(path, column.name, *cell) for cell in cells)))
    return np.concatenate(encoded, 1)


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns' names, and the line number and stripped fields of every row that is not empty."""
    lines = rows(path, read_encoded(path, "utf-8", REMEDY))
    names = [name.strip() for name in next(lines)[1]]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if twice or "" in names:
        what = f"names {quoted(max(twice))} twice" if twice - {""} else "has a column without a name"
        raise UserError(f"{path}: the first line {what}; every column needs a name of its own")
    cells = [(line, [field.strip() for field in row]) for line, row in lines if any(field.strip() for field in row)]
    for line, row in cells:
        if len(row) != len(names):
            raise UserError(f"{path}: line {line} has {len(row)} fields, and the first line {len(names)}; correct it")
    if not cells:
        raise UserError(f"{path} has no rows; after the line with the columns' names it needs one row for each example")
    return names, cells


def _labels(path: Path, name: str, cells: Sequence[tuple[int, str]]) -> np.ndarray:
    for line, cell in cells:
        if _is_missing(cell):
            raise UserError(
                f"{path}: line {line} has no diagnosis in column {quoted(name)}; give it one, or remove the line"
            )
    return _objects(cell for _, cell in cells)


def _column(path: Path, name: str, cells: Sequence[tuple[int, str]]) -> np.ndarray:
    """The values of a column: numbers if at least half of those that are not missing are numbers, else texts."""
    present = [cell for _, cell in cells if not _is_missing(cell)]
    if 2 * sum(_is_number(cell) for cell in present) >= len(present):
        return _objects(_number(path, name, line, cell) for line, cell in cells)
    categories = len(set(present))
    if categories > MOST_CATEGORIES:
        raise UserError(
            f"{path}: column {quoted(name)} has {categories} different texts, such as {quoted(present[0])}; a "
            f"column of texts may have {MOST_CATEGORIES}, each of which becomes a feature. Write numbers, or use "
            f"--ignore {visible(name)}"
        )
    return _objects("" if _is_missing(cell) else cell for _, cell in cells)


def _number(path: Path, name: str, line: int, cell: str) -> float:
    if _is_missing(cell):
        return np.nan
    if not _is_number(cell) or not abs(float(cell)) <= LARGEST:
        raise UserError(
            f"{path}: line {line} has {quoted(cell)} in column {quoted(name)}, a column of numbers; write "
            f"a number of at most {LARGEST:g}, leave the field empty if it is unknown, or leave the column out with "
            f"--ignore {visible(name)}"
        )
    return float(cell)


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _quoted(names: Sequence[str]) -> str:
    return visible(", ".join(map(repr, names)))


def _objects(values: Iterator[Any]) -> np.ndarray:
    elements = list(values)
    array = np.empty(len(elements), object)
    array[:] = elements
    return array
