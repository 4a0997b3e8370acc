"""Tables of findings: each row is an example, each column a finding, and one column the diagnosis."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import FlagCreatePairsOff

from ..display import quoted, visible
from ..errors import UserError
from .delimited import is_number
from .limits import LARGEST
from .sheet import read_sheet

MISSING = frozenset({"", "?", ".", "-", "na", "n/a", "nan", "null", "none"})
"""Texts that stand for a missing value, in lower case."""
MOST_CATEGORIES = 20
INDEX_NAMES = ("", "unnamed: 0", "__index_level_0__")
"""Names, in lower case, of a column that pandas writes with the numbers of the rows."""


@dataclass(frozen=True)
class TableOptions:
    """How files of tables and signals are read."""

    label: str = ""
    """Column of the table with the diagnosis; for signals, first or last: its place in a line. Empty: label."""
    ignore: tuple[str, ...] = ()
    """Columns of the table to ignore."""
    normal: str = ""
    """Class of the normal cases. Empty: the first class, in numerical or alphabetical order."""
    delimiter: str = ""
    """Delimiter of text files: a character, or tab, semicolon, pipe, comma or space. Empty: recognised."""
    no_header: FlagCreatePairsOff[bool] = False
    """Read a table whose first line is a row: name its columns by their numbers, as in --label 9 --ignore 1."""
    signals: FlagCreatePairsOff[bool] = False
    """Read each line of numbers as the samples of one signal and its class, however few they are."""


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
    with NaN for a missing one; a column of texts has strings, with "" for a missing one. labels: texts, (rows,), with
    the white space around them; lines: numbers of the lines. notes: what was left out or guessed, and how many values
    are missing.
    """

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray
    lines: tuple[int, ...]
    notes: tuple[str, ...] = ()


def read_table(
    path: Path, label: str, ignore: Sequence[str] = (), delimiter: str = "", no_header: bool = False
) -> Table:
    """Reads a file of a table, see ``sheet.read_sheet``, whose first line has the columns' names.

    label: the column with the diagnosis; ignore: columns to leave out. no_header: the first line is a row; columns are
    then named by their numbers, or "first" and "last". Raises UserError, with the line, for a file that cannot be read.
    """
    names, lines, found_notes = _cells(path, delimiter, no_header)
    if no_header:
        label, *ignore = (_numbered_name(names, name) for name in (label, *ignore))
    label = label or next((name for name in names if name.lower() == "label"), "label")
    for name in (label, *ignore):
        if name not in names:
            raise UserError(_no_column(path, name, names, "label" if name == label else "ignore", no_header))
    table, labels, notes = [], None, list(found_notes)
    for place, name in enumerate(names):
        if name in ignore:
            continue
        if name == label:
            labels = _labels(path, name, [(line, row[place]) for line, row in lines], notes)
            continue
        cells = [(line, row[place].strip()) for line, row in lines]
        if all(_is_missing(cell) for _, cell in cells):
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
    if labels is None:
        raise UserError(f"--ignore names {quoted(label)}, the column of the diagnosis; leave it out")
    return Table(tuple(name for name, _ in table), values, labels, tuple(line for line, _ in lines), tuple(notes))


def _no_column(path: Path, name: str, names: Sequence[str], option: str, no_header: bool) -> str:
    if no_header:
        example = "last" if option == "label" else "1"
        return (
            f"{path} has {len(names)} columns without names: choose with --{option} {example}, or another number from "
            f"1 to {len(names)}; --{option} is {quoted(name)}"
        )
    if 2 * sum(map(is_number, names)) >= len(names):
        return (
            f"{path} has no column {quoted(name)}: its first line, {_quoted(names)}, looks like a row; if the columns "
            "have no names, use --no-header, with the number of the diagnosis's column as in --label 2"
        )
    return (
        f"{path} has no column {quoted(name)}: its first line names {_quoted(names)}; name one of these with --{option}"
    )


def _numbered_name(names: Sequence[str], name: str) -> str:
    """The name of a column without a name: its number, "first" or "last" in the option."""
    number = {"first": "1", "last": str(len(names))}.get(name, name)
    return f"column {number}" if f"column {number}" in names else name


def read_rows(path: Path, columns: Columns, delimiter: str = "", notes: list[str] | None = None) -> np.ndarray:
    """The features of a file's rows, for a model trained on ``columns``: float32, (rows, features).

    The file may have its columns in any order, and others besides; columns without names have the places of the
    training table's. notes: are extended by what was guessed or is not used.

    Raises UserError if a column is missing, or has a category that the training rows do not have.
    """
    no_header = all(column.name.startswith("column ") for column in columns.columns)
    names, lines, found_notes = _cells(path, delimiter, no_header and not _names_columns(path, columns, delimiter))
    places = {name: place for place, name in enumerate(names)}
    others = [name for name in names if name not in {column.name for column in columns.columns}]
    if others:
        found_notes.append(f"columns of {visible(path.name)} that the model does not use: {_quoted(others)}")
    if notes is not None:
        notes += found_notes
    absent = [column.name for column in columns.columns if column.name not in places]
    if absent:
        raise UserError(
            f"{path} has no column {_quoted(absent)}, which the model was trained on; its first line names "
            f"{_quoted(names)}"
        )
    encoded = []
    for column in columns.columns:
        cells = [(line, row[places[column.name]].strip()) for line, row in lines]
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


def _names_columns(path: Path, columns: Columns, delimiter: str) -> bool:
    first = read_sheet(path, delimiter, 1).rows
    return bool(first) and columns.columns[0].name in map(str.strip, first[0][1])


def _cells(path: Path, delimiter: str, no_header: bool) -> tuple[list[str], list[tuple[int, list[str]]], list[str]]:
    """The columns' names, the line number and fields of every row that is not empty, and notes."""
    sheet = read_sheet(path, delimiter)
    lines, notes = sheet.rows, list(sheet.notes)
    if sheet.names:
        names = list(sheet.names)
    elif no_header:
        names = [f"column {number}" for number in range(1, len(lines[0][1]) + 1)] if lines else []
    else:
        names, lines = ([name.strip() for name in lines[0][1]], lines[1:]) if lines else ([], [])
    if not lines:
        raise UserError(f"{path} has no rows; after the line with the columns' names it needs one row for each example")
    names, lines = _without_trailing(names, lines, notes)
    if len(names) > 1 and names[0].lower() in INDEX_NAMES and _counts(row[0].strip() for _, row in lines):
        which = quoted(names[0]) if names[0] else "which has no name"
        notes.append(f"the first column, {which}, is left out: it has the numbers of the rows")
        names, lines = names[1:], [(line, row[1:]) for line, row in lines]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if twice or "" in names:
        what = f"names {quoted(max(twice))} twice" if twice - {""} else "has a column without a name"
        raise UserError(f"{path}: the first line {what}; every column needs a name of its own, in the first line")
    remedy = "correct it" if len(names) > 1 else "remove what stands before the names of the columns"
    for line, row in lines:
        if len(row) != len(names):
            raise UserError(f"{path}: line {line} has {len(row)} fields, and the first line {len(names)}; {remedy}")
    return names, lines, notes


def _without_trailing(
    names: list[str], lines: list[tuple[int, list[str]]], notes: list[str]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names and rows without the empty column that a delimiter at the ends of lines makes."""
    size = len(names) if names[-1] else len(names) - 1
    rows = [(line, row[:size] if len(row) == size + 1 and not row[-1].strip() else row) for line, row in lines]
    is_trailing = size > 0 and all(len(row) == size for _, row in rows)
    if not is_trailing or (size == len(names) and all(len(row) == size for _, row in lines)):
        return names, lines
    notes.append("the delimiter at the ends of lines is left out: no column comes after it")
    return names[:size], rows


def _counts(cells: Iterable[str]) -> bool:
    """Whether the texts are 0, 1, 2 and so on, or 1, 2, 3."""
    texts = list(cells)
    return any(all(text == str(number) for number, text in enumerate(texts, start)) for start in (0, 1))


def _labels(path: Path, name: str, cells: Sequence[tuple[int, str]], notes: list[str]) -> np.ndarray:
    labels = [cell.strip() for _, cell in cells]
    named_none = [line for (line, _), label in zip(cells, labels) if label.lower() == "none"]
    for (line, _), label in zip(cells, labels):
        if _is_missing(label) and label.lower() != "none":
            raise UserError(
                f"{path}: line {line} has no diagnosis in column {quoted(name)}; give it one, or remove the line"
            )
    if named_none:
        notes.append(
            f"{len(named_none)} rows, the first in line {named_none[0]}, have 'None' as their diagnosis, which counts "
            "as a class; remove them if it means that there is no diagnosis"
        )
    numbers = {float(label) for label in labels if is_number(label)}
    if len(numbers) > MOST_CATEGORIES and (
        len(numbers) > len(labels) / 2 or not all(number.is_integer() for number in numbers)
    ):
        raise UserError(
            f"{path}: column {quoted(name)} has {len(numbers)} different numbers, such as {labels[0]}: it is a "
            "quantity (a target of regression), and a diagnosis needs classes; name another column with --label, or "
            "write ranges such as 'low' and 'high'"
        )
    return _objects(cell for _, cell in cells)


def _column(path: Path, name: str, cells: Sequence[tuple[int, str]]) -> np.ndarray:
    """The values of a column: numbers if at least half of those that are not missing are numbers, else texts."""
    present = [cell for _, cell in cells if not _is_missing(cell)]
    if 2 * sum(is_number(cell) for cell in present) >= len(present):
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
    if not is_number(cell) or not abs(float(cell)) <= LARGEST:
        raise UserError(
            f"{path}: line {line} has {quoted(cell)} in column {quoted(name)}, a column of numbers; write "
            f"a number of at most {LARGEST:g}, leave the field empty if it is unknown, or leave the column out with "
            f"--ignore {visible(name)}"
        )
    return float(cell)


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _quoted(names: Sequence[str]) -> str:
    return visible(", ".join(map(repr, names)))


def _objects(values: Iterable[Any]) -> np.ndarray:
    elements = list(values)
    array = np.empty(len(elements), object)
    array[:] = elements
    return array
