"""Tables of findings: each row is an example, each column a finding, and one column the diagnosis."""

import shlex
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
from .sheet import SheetOptions, read_sheet

MISSING = frozenset({"", "?", ".", "-", "na", "n/a", "nan", "null", "none"})
"""Texts that stand for a missing value, in lower case."""
MOST_CATEGORIES = 20
INDEX_NAMES = ("", "unnamed: 0", "__index_level_0__")
"""Names, in lower case, by which pandas and R write a first column with the numbers or names of the rows."""
CODES = (-9, -99, -999, -9999, -1, 999, 9999)
"""Numbers that often stand for a missing one."""
FEWEST_ROWS = 20
"""Number of rows from which different whole numbers in all of them are unlikely to be a measure."""


@dataclass(frozen=True)
class TableOptions(SheetOptions):
    """How files of tables and signals are read."""

    label: str = ""
    """Column of the table with the diagnosis; for signals, first or last: its place in a line. Empty: label."""
    ignore: tuple[str, ...] = ()
    """Columns of the table to ignore."""
    normal: str = ""
    """Class of the normal cases. Empty: the first class, in numerical or alphabetical order."""
    missing: tuple[str, ...] = ()
    """Values that stand for a missing one, as in --missing -9 Unknown, besides empty fields, NA, ? and the like."""
    keep_row_numbers: FlagCreatePairsOff[bool] = False
    """Take a first column with the numbers or names of the rows for a finding."""
    keep_spellings: FlagCreatePairsOff[bool] = False
    """Take spellings such as ill and Ill, or 1 and 1.0, for different classes."""
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


DEFAULTS = TableOptions()


def read_table(path: Path, options: TableOptions = DEFAULTS) -> Table:
    """Reads a file of a table, see ``sheet.read_sheet``, whose first line has the columns' names.

    Without these (``no_header``), the columns are named by their numbers, or "first" and "last".
    Raises UserError, with the line, for a file that cannot be read.
    """
    label, ignore, no_header = options.label, list(options.ignore), options.no_header
    names, lines, found_notes = _cells(path, options, no_header)
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
            table.append((name, _column(path, name, cells, notes)))
            notes += _doubts(name, table[-1][1])
    if not table:
        raise UserError(f"{path} has no column besides {quoted(label)}; give at least one finding")
    values = np.stack([column for _, column in table], 1)
    missing = np.argwhere(np.frompyfunc(lambda value: value == "" or value != value, 1, 1)(values).astype(bool))
    if len(missing):
        row, place = missing[0]
        notes.append(
            f"{len(missing)} values are missing (the first: line {lines[row][0]}, column {quoted(table[place][0])}): a "
            "missing number is replaced by the training median, and a feature says so"
        )
    if labels is None:
        raise UserError(f"--ignore names {quoted(label)}, the column of the diagnosis; leave it out")
    classes = [label.strip().lower() for label in labels]
    for name, column in table:
        if len(set(zip(column, classes))) == len(set(column)) == len(set(classes)) > 1:
            notes.append(
                f"column {quoted(name)} says the diagnosis of every row: if it is another form of it, --ignore "
                f"{shlex.quote(visible(name))} leaves it out"
            )
    return Table(tuple(name for name, _ in table), values, labels, tuple(line for line, _ in lines), tuple(notes))


def with_labels(files: Mapping[str, Path], options: TableOptions) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of parts without those for testing that lack the training file's column of the diagnosis, and notes."""
    label, kept, notes = (options.label or "label").strip().lower(), {}, []
    for part, file in files.items():
        sheet = read_sheet(file, options, 1)
        names = [name.strip().lower() for name in (sheet.names or (sheet.rows[0][1] if sheet.rows else ()))]
        if part == "train" or options.no_header or label in names or not names or all(map(is_number, names)):
            kept[part] = file
        else:
            notes.append(
                f"{visible(file.name)} is not read: it has no column {quoted(options.label or 'label')}, as where "
                "competitions keep the answers (predict takes it)"
            )
    return kept, tuple(notes)


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


def read_rows(
    path: Path, columns: Columns, options: TableOptions = DEFAULTS, notes: list[str] | None = None
) -> np.ndarray:
    """The features of a file's rows, for a model trained on ``columns``: float32, (rows, features).

    The file may have its columns in any order, and others besides; columns without names have the places of the
    training table's. notes: are extended by what was guessed or is not used.

    Raises UserError if a column is missing, or has a category that the training rows do not have.
    """
    no_header = all(column.name.startswith("column ") for column in columns.columns)
    names, lines, found_notes = _cells(path, options, no_header and not _names_columns(path, columns, options))
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


def _names_columns(path: Path, columns: Columns, options: TableOptions) -> bool:
    first = read_sheet(path, options, 1).rows
    return bool(first) and columns.columns[0].name in map(str.strip, first[0][1])


def _cells(
    path: Path, options: TableOptions, no_header: bool
) -> tuple[list[str], list[tuple[int, list[str]]], list[str]]:
    """The columns' names, the line number and fields of every row that is not empty, and notes."""
    sheet = read_sheet(path, options)
    lines, notes = sheet.rows, list(sheet.notes)
    if sheet.names:
        names = list(sheet.names)
    elif no_header:
        names = [f"column {number}" for number in range(1, len(lines[0][1]) + 1)] if lines else []
    else:
        names, lines = ([name.strip() for name in lines[0][1]], lines[1:]) if lines else ([], [])
    if not lines:
        raise UserError(f"{path} has no rows; after the line with the columns' names it needs one row for each example")
    names, lines = _without_empty_columns(names, lines, notes)
    if not no_header and not sheet.names and all(len(row) == len(names) + 1 for _, row in lines):
        names = ["", *names]  # as R writes the names of rows
    while len(names) > 1 and _is_index(names[0], [row[0].strip() for _, row in lines]):
        if options.keep_row_numbers:
            names[0] = names[0] or "row"
            break
        which = quoted(names[0]) if names[0] else "which has no name"
        first = quoted(lines[0][1][0].strip())
        notes.append(
            f"the first column, {which}, is left out: it has the numbers or names of the rows (the first: {first}; "
            "--keep-row-numbers takes it for a finding)"
        )
        names, lines = names[1:], [(line, row[1:]) for line, row in lines]
    if options.missing:
        wanted = {value.strip().lower() for value in options.missing}
        lines = [(line, ["" if cell.strip().lower() in wanted else cell for cell in row]) for line, row in lines]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if twice - {""}:
        raise UserError(
            f"{path}: the first line names {quoted(max(twice))} twice; every column needs a name of its own in the "
            "first line: remove what stands before the names, or use --no-header"
        )
    if "" in names:
        raise UserError(
            f"{path}: column {names.index('') + 1} has no name in the first line; write one there, or remove what "
            "stands before the line of the names, or use --no-header"
        )
    remedy = "correct it" if len(names) > 1 else "remove what stands before the names of the columns"
    for line, row in lines:
        if len(row) != len(names):
            raise UserError(f"{path}: line {line} has {len(row)} fields, and the first line {len(names)}; {remedy}")
    return names, lines, notes


def _without_empty_columns(
    names: list[str], lines: list[tuple[int, list[str]]], notes: list[str]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names and rows without the columns that have neither a name nor a value: delimiters at the ends make such."""
    size = len(names)
    while size and not names[size - 1]:
        size -= 1
    rows = [(line, row if any(map(str.strip, row[size:])) else row[:size]) for line, row in lines]
    is_cut = len(names) > size or any(len(row) > size for _, row in lines)
    if size and is_cut and all(len(row) == size for _, row in rows):
        notes.append("the delimiter at the ends of lines is left out: no column comes after it")
        names, lines = names[:size], rows
    empty = [
        place
        for place, name in enumerate(names)
        if not name and all(len(row) == len(names) and not row[place].strip() for _, row in lines)
    ]
    if empty:
        notes.append(f"columns without a name and without values are left out: {', '.join(str(i + 1) for i in empty)}")
        names = [name for place, name in enumerate(names) if place not in empty]
        lines = [(line, [cell for place, cell in enumerate(row) if place not in empty]) for line, row in lines]
    return names, lines


def _is_index(name: str, cells: Sequence[str]) -> bool:
    """Whether a first column has the numbers or names of the rows, by its name; of numbers, whole ones."""
    if name == "#":
        return all(cell == str(number) for number, cell in enumerate(cells, int(cells[0] == "1")))
    return name.lower() in INDEX_NAMES and all(cell.isdecimal() or (cell and not is_number(cell)) for cell in cells)


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


def _column(path: Path, name: str, cells: Sequence[tuple[int, str]], notes: list[str]) -> np.ndarray:
    """The values of a column: numbers if at least half of those that are not missing are numbers, else texts."""
    present = [cell for _, cell in cells if not _is_missing(cell)]
    if all(cell.endswith("%") and is_number(cell[:-1].replace(",", ".")) for cell in present):
        notes.append(f"column {quoted(name)}: the percent signs are left out (the first: {quoted(present[0])})")
        cells = [(line, cell.removesuffix("%").strip().replace(",", ".")) for line, cell in cells]
        return _objects(_number(path, name, line, cell) for line, cell in cells)
    if 2 * sum(is_number(cell) for cell in present) >= len(present):
        return _objects(_number(path, name, line, cell) for line, cell in cells)
    categories = len(set(present))
    if categories > MOST_CATEGORIES:
        raise UserError(
            f"{path}: column {quoted(name)} has {categories} different texts, such as {quoted(present[0])}; a "
            f"column of texts may have {MOST_CATEGORIES}, each of which becomes a feature. Write numbers, or use "
            f"--ignore {visible(name)}"
        )
    texts = visible(", ".join(sorted(set(present))), 80)
    notes.append(
        f"column {quoted(name)} has texts, each of which becomes a feature: {texts} (--ignore leaves the column out)"
    )
    return _objects("" if _is_missing(cell) else cell for _, cell in cells)


def _number(path: Path, name: str, line: int, cell: str) -> float:
    if _is_missing(cell):
        return np.nan
    if not is_number(cell) or not abs(float(cell)) <= LARGEST:
        raise UserError(
            f"{path}: line {line} has {quoted(cell)} in column {quoted(name)}, a column of numbers; write "
            f"a number of at most {LARGEST:g}, name it with --missing if it stands for a missing value, or leave the "
            f"column out with --ignore {visible(name)}"
        )
    return float(cell)


def _doubts(name: str, values: np.ndarray) -> list[str]:
    """Notes on a column whose numbers may be something else than a measure."""
    numbers = values[[not isinstance(value, str) for value in values]].astype(np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) < max(2, len(values) / 2):
        return []
    ignore, called = f"--ignore {shlex.quote(visible(name))} leaves it out", f"column {quoted(name)}"
    if numbers.min() == numbers.max():
        return [f"{called} has the same number in all rows, {numbers[0]:g} ({ignore})"]
    if len(set(numbers.tolist())) == len(numbers) >= FEWEST_ROWS and (numbers % 1 == 0).all():
        return [f"{called} has another whole number in every row: if these only name the rows, {ignore}"]
    for code in CODES:
        others, count = numbers[numbers != code], int((numbers == code).sum())
        is_apart = len(others) and (others.min() >= 0 if code < 0 else others.max() < code / 2 and others.min() >= 0)
        if count > 1 and is_apart:
            return [
                f"{called} has {code} in {count} rows, and otherwise from {others.min():g} to {others.max():g}: if it "
                f"stands for a missing value, --missing {code}"
            ]
    return []


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _quoted(names: Sequence[str]) -> str:
    return visible(", ".join(map(repr, names)))


def _objects(values: Iterable[Any]) -> np.ndarray:
    elements = list(values)
    array = np.empty(len(elements), object)
    array[:] = elements
    return array
