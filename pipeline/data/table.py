"""Tables of findings: a row an example, a column a finding, one of the columns the diagnosis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .delimited import rows
from .text import read_encoded

MISSING = frozenset({"", "?", ".", "-", "na", "n/a", "nan", "null", "none"})
"""What stands where nothing is known, in lower case."""
MOST_CATEGORIES = 20
REMEDY = "convert it to UTF-8"


@dataclass(frozen=True)
class Column:
    """How a column becomes features, learnt from the training rows.

    A column of numbers is one feature, with its ``median`` where the number is missing; and, where some training rows
    lacked it (``indicated``), a second one says by 1 that it was. A column of texts is a feature for each of its
    ``categories``, 1 for the one that is there.
    """

    name: str
    median: float = 0.0
    indicated: bool = False
    categories: tuple[str, ...] = ()

    @classmethod
    def learn(cls, name: str, values: np.ndarray) -> "Column":
        """values: floats, NaN where missing; or texts, empty where missing (objects)."""
        if any(isinstance(value, str) for value in values):
            return cls(name, categories=tuple(sorted({str(value) for value in values if value})))
        numbers = values.astype(np.float64)
        missing = np.isnan(numbers)
        return cls(name, float(np.median(numbers[~missing])) if not missing.all() else 0.0, bool(missing.any()))

    @property
    def features(self) -> tuple[str, ...]:
        if self.categories:
            return tuple(f"{self.name} = {category}" for category in self.categories)
        return (self.name, f"{self.name} is missing") if self.indicated else (self.name,)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """(rows, features); a category that training did not have is none of those it had."""
        if self.categories:
            return (values[:, None] == np.asarray(self.categories, object)[None]).astype(np.float32)
        numbers = values.astype(np.float64)
        missing = np.isnan(numbers)
        filled = np.where(missing, self.median, numbers)
        return np.stack([filled, missing] if self.indicated else [filled], -1).astype(np.float32)


@dataclass(frozen=True)
class Columns:
    """All of a table, in the order of its file."""

    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, names: Sequence[str], values: np.ndarray) -> "Columns":
        """names: of the columns; values: objects, (rows, columns), as in ``Table``."""
        return cls(tuple(Column.learn(name, values[:, i]) for i, name in enumerate(names)))

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(feature for column in self.columns for feature in column.features)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """float32, (rows, features)."""
        return np.concatenate([column.encode(values[:, i]) for i, column in enumerate(self.columns)], 1)

    def stored(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [vars(column) for column in self.columns]

    @classmethod
    def read(cls, stored: Sequence[Mapping[str, Any]]) -> "Columns":
        return cls(tuple(Column(**{**its, "categories": tuple(its["categories"])}) for its in stored))


@dataclass(frozen=True, eq=False)
class Table:
    """names: of the columns but the label's; values: objects, (rows, columns): floats, NaN where missing, in a column
    of numbers, texts, empty where missing, in one of texts.

    labels: texts, (rows,), empty where the file has none. notes: what was left out, and why.
    """

    names: tuple[str, ...]
    values: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()


def read_table(path: Path, label: str, ignore: Sequence[str] = ()) -> Table:
    """The rows of a ``.csv`` or ``.tsv`` file whose first line names the columns.

    label: the column with the diagnosis; ignore: columns to leave out.
    """
    names, found = _cells(path)
    for name in (label, *ignore):
        if name not in names:
            option = "label" if name == label else "ignore"
            raise UserError(
                f"{path} has no column {name!r}: its first line names {', '.join(map(repr, names))}; name one of these "
                f"by --{option}"
            )
    table, labels, notes = [], None, []
    kept = [name for name in names if name not in ignore]
    for name in kept:
        cells = [(line, row[names.index(name)]) for line, row in found]
        if name == label:
            labels = _labels(path, name, cells)
        elif all(_is_missing(cell) for _, cell in cells):
            notes.append(f"column {name!r} is left out: it is empty")
        else:
            table.append((name, _column(path, name, cells)))
    if not table:
        raise UserError(f"{path} has no column besides {label!r}; give at least one finding to judge by")
    values = np.stack([column for _, column in table], 1)
    missing = sum(value == "" or value != value for value in values.flat)
    if missing:
        notes.append(
            f"{missing} values are missing: a number is replaced by the training median, beside a feature that says so"
        )
    assert labels is not None
    return Table(tuple(name for name, _ in table), values, labels, tuple(notes))


def read_rows(path: Path, columns: Columns) -> np.ndarray:
    """A file's rows, encoded by the columns of a trained model, in whatever order and among whatever others they stand.

    float32, (rows, features). Raises UserError where one is not there, or has what training did not have.
    """
    names, found = _cells(path)
    absent = [column.name for column in columns.columns if column.name not in names]
    if absent:
        raise UserError(
            f"{path} has no column {', '.join(map(repr, absent))}, which the model was trained on; its first line "
            f"names {', '.join(map(repr, names))}"
        )
    encoded = []
    for column in columns.columns:
        cells = [(line, row[names.index(column.name)]) for line, row in found]
        if column.categories:
            for line, cell in cells:
                if cell not in column.categories and not _is_missing(cell):
                    raise UserError(
                        f"{path}: line {line} has {cell!r} in column {column.name!r}, where training had "
                        f"{', '.join(column.categories)}; the model cannot judge it"
                    )
            encoded.append(column.encode(_objects("" if _is_missing(cell) else cell for _, cell in cells)))
        else:
            encoded.append(column.encode(_objects(_number(path, column.name, *cell) for cell in cells)))
    return np.concatenate(encoded, 1)


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns' names, and every row's line and fields, without spaces around them; empty lines are left out."""
    read = rows(path, read_encoded(path, "utf-8", REMEDY))
    names = [name.strip() for name in next(read)[1]]
    twice = {name for name in names if names.count(name) > 1}
    if twice or "" in names:
        what = f"names {sorted(twice)[0]!r} twice" if twice - {""} else "has a column without a name"
        raise UserError(f"{path}: the first line {what}; every column needs a name of its own")
    found = [(line, [field.strip() for field in row]) for line, row in read if any(field.strip() for field in row)]
    for line, row in found:
        if len(row) != len(names):
            raise UserError(f"{path}: line {line} has {len(row)} fields, and the first line {len(names)}; correct it")
    if not found:
        raise UserError(f"{path} has no rows; below the line with the columns' names it needs one an example")
    return names, found


def _labels(path: Path, name: str, cells: Sequence[tuple[int, str]]) -> np.ndarray:
    for line, cell in cells:
        if _is_missing(cell):
            raise UserError(f"{path}: line {line} has no diagnosis in column {name!r}; give it one, or remove the line")
    return _objects(cell for _, cell in cells)


def _column(path: Path, name: str, cells: Sequence[tuple[int, str]]) -> np.ndarray:
    """Numbers, if most of what is there is one; else texts, of a few kinds."""
    there = [cell for _, cell in cells if not _is_missing(cell)]
    if 2 * sum(_is_number(cell) for cell in there) >= len(there):
        return _objects(_number(path, name, line, cell) for line, cell in cells)
    kinds = len(set(there))
    if kinds > MOST_CATEGORIES:
        raise UserError(
            f"{path}: column {name!r} has {kinds} different texts, such as {there[0]!r}; a column of texts may have "
            f"{MOST_CATEGORIES}, each of which becomes a finding. Write numbers, or leave it out by --ignore {name}"
        )
    return _objects("" if _is_missing(cell) else cell for _, cell in cells)


def _number(path: Path, name: str, line: int, cell: str) -> float:
    if _is_missing(cell):
        return np.nan
    if not _is_number(cell):
        raise UserError(
            f"{path}: line {line} has {cell!r} in column {name!r}, which is of numbers; write a number, leave it empty "
            f"where none is known, or leave the column out by --ignore {name}"
        )
    return float(cell)


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _objects(values: Iterator[Any]) -> np.ndarray:
    found = list(values)
    array = np.empty(len(found), object)
    array[:] = found
    return array
