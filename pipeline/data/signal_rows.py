"""Signals in rows: each line of a file has the samples of one signal and its class.

Text files have numbers alone, and no line of names: of this format are the MIT-BIH heartbeats (class last) and the UCR
archive's files (class first, white space, tabs or commas between the numbers). Files of sktime (``.ts``) and Weka
(``.arff``) begin with a description; a line of the former may have several channels.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .delimited import is_number, suffix_of
from .limits import LARGEST
from .sheet import USUAL, WORKBOOKS, Sheet, SheetOptions, read_sheet
from .text import read_guessed

MOST_CLASSES = 50
MOST_MEASURES = 64
"""Columns of a table without names that is told from signals; more numbers in a line are samples."""
LARGEST_STEP = 20
"""Ratio of the magnitudes of neighbouring columns from which they are measures, not samples of one signal."""

_EXAMINED_LINES = 200
_DESCRIBED = (".ts", ".arff")


def row_kind(path: Path, options: SheetOptions = USUAL) -> Literal["table", "signals"]:
    """Whether a file is a table or has signals.

    Raises UserError for lines of numbers without names that are unlike a signal: they may be rows of a table.
    """
    suffix = suffix_of(path)
    if suffix == ".ts" or suffix in WORKBOOKS:
        return "signals" if suffix == ".ts" else "table"
    sheet = read_sheet(path, options, _EXAMINED_LINES)
    if sheet.names:
        stems = {re.sub(r"\d+", "", name) for name in sheet.names[:-1]}
        return "signals" if len(stems) == 1 and len(sheet.names) > 2 else "table"
    if not sheet.rows or not all(is_number(field) for field in sheet.rows[0][1]):
        return "table"
    if _has_measures(sheet):
        raise UserError(
            f"{path} has {len(sheet.rows[0][1])} numbers in each line and no column names, and the numbers are unlike "
            "each other: for a table of measures use --no-header and name the column of the diagnosis, as in --label "
            "last; for signals use --signals"
        )
    return "signals"


def _has_measures(sheet: Sheet) -> bool:
    """Whether neighbouring columns, without the first and the last, differ as samples of a signal do not."""
    size = len(sheet.rows[0][1])
    rows = [row for _, row in sheet.rows if len(row) == size]
    if size > MOST_MEASURES or size < 4:
        return False
    numbers = np.array([[float(cell) if is_number(cell) else np.nan for cell in row[1:-1]] for row in rows])
    sizes = np.abs(np.where(numbers == 0, np.nan, numbers))
    typical = [np.median(column[np.isfinite(column)]) for column in sizes.T if np.isfinite(column).any()]
    steps = np.abs(np.diff(np.log(typical)))
    return bool(len(steps) and steps.max() > np.log(LARGEST_STEP))


def read_signals(
    path: Path, label: str, options: SheetOptions = USUAL
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Signals, float32 (examples, time, channels), their classes as texts, (examples,), and notes.

    label: "first" or "last": the class's column. Anything else: whichever of the two has few different integers; in a
    file that is described (``.ts``, ``.arff``) the last one.
    """
    sheet, channels = _sheet(path, options)
    notes = list(sheet.notes)
    if suffix_of(path) in _DESCRIBED:
        place = 0 if label == "first" else -1
        labels = [row[place].strip() for _, row in sheet.rows]
        numbers = _numbers(path, Sheet([(line, row[1:] if place == 0 else row[:-1]) for line, row in sheet.rows]))
        return _signals(numbers, channels), np.array(labels, object), tuple(notes)
    numbers = _numbers(path, sheet)
    place = _place(path, numbers, label)
    if label not in ("first", "last"):
        which, other = ("first", "last") if place == 0 else ("last", "first")
        notes.append(
            f"each line of {visible(path.name)} is read as a signal of {numbers.shape[1] - 1} samples, and its "
            f"{which} number is the class (--label {other}: the other end; --no-header: a table of measures)"
        )
    samples = numbers[:, 1:] if place == 0 else numbers[:, :-1]
    labels = np.array([_class_name(path, value) for value in numbers[:, place].tolist()], object)
    return _signals(samples, channels), labels, tuple(notes)


def read_unlabelled(
    path: Path, shape: tuple[int, ...], options: SheetOptions = USUAL, notes: list[str] | None = None
) -> np.ndarray:
    """Signals of a shape (time, channels), one in each line: float32, (examples, time, channels).

    They have no class, unless the file is described (``.ts``, ``.arff``): there, a last field after them is left out.
    """
    sheet, channels = _sheet(path, options)
    if notes is not None:
        notes += sheet.notes
    if sheet.rows and channels != shape[1]:
        raise UserError(
            f"{path} has signals of {_counted(channels)}, but the model was trained on {shape[1]}; give a .ts "
            "file with that many in each line, between colons"
        )
    size = shape[0] * channels
    if suffix_of(path) in _DESCRIBED:
        sheet = Sheet([(line, row[:-1] if len(row) == size + 1 else row) for line, row in sheet.rows])
    numbers = _numbers(path, sheet)
    if numbers.shape[1] != size:
        raise UserError(
            f"{path} has signals of {numbers.shape[1] // channels} samples, but the model was trained on {shape[0]}; "
            "each line must have that many, and no class"
        )
    return _signals(numbers, channels)


def _sheet(path: Path, options: SheetOptions) -> tuple[Sheet, int]:
    """The rows of a file, and the number of channels: a row has all samples of one after those of another.

    Several are only in ``.ts`` files, where the class is the last field of a row.
    """
    if suffix_of(path) != ".ts":
        return read_sheet(path, options), 1
    rows, notes, channels = [], [], 1
    for number, line in enumerate(read_guessed(path, options.encoding, notes).split("\n"), 1):
        text = line.strip()
        if not text or text.startswith(("#", "@")):
            continue
        if "(" in text:
            raise UserError(
                f"{path}: line {number} has times of samples; only signals at equal times are read: write the values "
                "alone, between commas"
            )
        *signal, last = [part.split(",") for part in text.split(":")]
        if len(last) > 1 or not signal:  # there is no class
            signal, last = [*signal, last], []
        channels = channels if rows else len(signal)
        if len(signal) != channels or len({len(part) for part in signal}) > 1:
            lengths = ", ".join(str(len(part)) for part in signal[:8])
            raise UserError(
                f"{path}: line {number} has {_counted(len(signal))} of {lengths} samples; all lines must have "
                "the same number of channels, and all channels be equally long: cut them, or pad them with zeros"
            )
        rows.append((number, [*(sample for part in signal for sample in part), *last]))
    return Sheet(rows, notes=tuple(notes)), channels


def _signals(numbers: np.ndarray, channels: int) -> np.ndarray:
    """Rows of samples, one channel after another, as float32 (examples, time, channels)."""
    return numbers.reshape(len(numbers), channels, -1).swapaxes(1, 2).astype(np.float32)


def _counted(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _numbers(path: Path, sheet: Sheet) -> np.ndarray:
    """All fields of a file: float64, (lines, fields)."""
    numbers: list[list[float]] = []
    for line, row in sheet.rows:
        if numbers and len(row) != len(numbers[0]):
            raise UserError(
                f"{path}: line {line} has {len(row)} fields, and the first line {len(numbers[0])}; all signals must be "
                "equally long: cut them, or pad them with zeros"
            )
        numbers.append([_number(path, line, i, field) for i, field in enumerate(row, 1)])
    if not numbers or len(numbers[0]) < 2:
        raise UserError(f"{path} has no signals; each line must have the samples of one signal and its class")
    return np.asarray(numbers)


def _number(path: Path, line: int, place: int, field: str) -> float:
    try:
        number = float(field)
    except ValueError:
        number = np.nan
    if not abs(number) <= LARGEST:
        raise UserError(
            f"{path}: line {line} has {quoted(field.strip())} as field {place}; all must be finite numbers, at most "
            f"{LARGEST:g}"
        )
    return number


def _class_name(path: Path, value: float) -> str:
    if abs(value) >= 2**53:
        raise UserError(f"{path} has the class {value:g}, too large to be told from the next; number classes from 0")
    return str(int(value)) if value.is_integer() else str(value)


def _place(path: Path, numbers: np.ndarray, label: str) -> int:
    if label in ("first", "last"):
        return 0 if label == "first" else -1
    fitting = [place for place in (0, -1) if _is_of_classes(numbers[:, place])]
    if len(fitting) == 1:
        return fitting[0]
    which = "both the first and the last" if fitting else "neither the first nor the last"
    raise UserError(
        f"{path}: {which} column looks like classes (few different whole numbers); choose it with --label first or "
        "--label last"
    )


def _is_of_classes(column: Sequence[float] | np.ndarray) -> bool:
    different = np.unique(column)
    return bool((different == np.round(different)).all()) and len(different) <= MOST_CLASSES
