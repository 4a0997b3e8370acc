"""Signals in rows: each line of a file has the samples of one signal and its class.

Text files have numbers alone, and no line of names: of this format are the MIT-BIH heartbeats (class last) and the UCR
archive's files (class first, white space, tabs or commas between the numbers; NaN after the end of a shorter signal).
Files of sktime (``.ts``) and Weka (``.arff``) begin with a description; a line of the former may have several channels,
and need not be as long as others.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .delimited import is_number, suffix_of
from .limits import LARGEST, require_memory
from .sheet import USUAL, WORKBOOKS, Sheet, SheetOptions, read_sheet
from .text import read_guessed

MOST_CLASSES = 50
MOST_MEASURES = 64
"""Columns of a table without names that is told from signals; more numbers in a line are samples."""
LARGEST_STEP = 20
"""Ratio of the magnitudes of neighbouring columns from which they are measures, not samples of one signal."""

_EXAMINED_LINES = 200
_DESCRIBED = (".ts", ".arff")

Rows = list[tuple[int, list[float]]]
"""Lines, each with its number and the numbers in it."""


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
) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """Signals, each float32 (time, channels), their classes as texts, (examples,), and notes.

    label: "first" or "last": the class's column. Anything else: whichever of the two has few different integers; in a
    file that is described (``.ts``, ``.arff``) the last one.
    """
    sheet, channels = _sheet(path, options)
    notes = list(sheet.notes)
    if suffix_of(path) in _DESCRIBED:
        place = 0 if label == "first" else -1
        labels = [row[place].strip() for _, row in sheet.rows]
        unlabelled = next((line for (line, _), label in zip(sheet.rows, labels) if not label), None)
        if unlabelled:
            raise UserError(f"{path}: line {unlabelled} has no class; write one after its samples, or remove the line")
        rows = _numbers(path, [(line, row[1:] if place == 0 else row[:-1]) for line, row in sheet.rows])
        return _signals(path, rows, channels), np.array(labels, object), tuple(notes)
    rows = _numbers(path, sheet.rows)
    numbers = np.asarray([row for _, row in rows])
    place = _place(path, numbers, label)
    if label not in ("first", "last"):
        which, other = ("first", "last") if place == 0 else ("last", "first")
        notes.append(
            f"each line of {visible(path.name)} is read as a signal of {numbers.shape[1] - 1} samples, and its "
            f"{which} number is the class (--label {other}: the other end; --no-header: a table of measures)"
        )
    samples = [(line, row[1:] if place == 0 else row[:-1]) for line, row in rows]
    labels = np.array([_class_name(path, value) for value in numbers[:, place].tolist()], object)
    return _signals(path, samples, channels), labels, tuple(notes)


def read_unlabelled(
    path: Path, shape: tuple[int, ...], options: SheetOptions = USUAL, notes: list[str] | None = None
) -> np.ndarray:
    """Signals of a shape (time, channels), one in each line: float32, (examples, time, channels).

    They have no class, unless the file is described (``.ts``, ``.arff``): there, a last field after them is left out.
    Those of a ``.ts`` file are brought to that time, see ``equally_long``; others must have it.
    """
    sheet, channels = _sheet(path, options)
    if notes is not None:
        notes += sheet.notes
    if sheet.rows and channels != shape[1]:
        raise UserError(
            f"{path} has signals of {_counted(channels)}, but the model was trained on {shape[1]}; give a .ts "
            "file with that many in each line, between colons"
        )
    size, suffix = shape[0] * channels, suffix_of(path)
    rows = sheet.rows
    if suffix in _DESCRIBED:
        rows = [(line, row[:-1] if suffix == ".ts" or len(row) == size + 1 else row) for line, row in rows]
    signals = _signals(path, _numbers(path, rows), channels)
    wrong = next((len(signal) for signal in signals if len(signal) != shape[0]), None)
    if wrong and suffix != ".ts":
        raise UserError(
            f"{path} has signals of {wrong} samples, but the model was trained on {shape[0]}; each line must have that "
            "many, and no class"
        )
    return equally_long(signals, shape[0], visible(path.name), [] if notes is None else notes)


def equally_long(signals: Sequence[np.ndarray], length: int, name: str, notes: list[str]) -> np.ndarray:
    """Signals (time, channels) as one array (examples, length, channels).

    Shorter ones keep their last values until their end, longer ones are cut off. name: of their file, for notes.

    >>> equally_long([np.array([[1.0], [2.0]])], 4, "a.ts", [])[0, :, 0].tolist()
    [1.0, 2.0, 2.0, 2.0]
    """
    for which, what in (
        ([i for i, each in enumerate(signals, 1) if len(each) < length], "shorter: they go on with their last values"),
        ([i for i, each in enumerate(signals, 1) if len(each) > length], "longer: their ends are cut off"),
    ):
        if which:
            notes.append(
                f"{len(which)} of {len(signals)} signals of {name} have other than {length} samples, and are {what} "
                f"(the first: number {which[0]})"
            )
    channels = signals[0].shape[1] if signals else 1
    require_memory(f"the set of signals of {length} samples in {name}", 4 * len(signals) * length * channels)
    return np.stack([np.pad(each[:length], ((0, max(0, length - len(each))), (0, 0)), "edge") for each in signals])


def _sheet(path: Path, options: SheetOptions) -> tuple[Sheet, int]:
    """The rows of a file, and the number of channels: a row has all samples of one after those of another.

    Several are only in ``.ts`` files, where the class is the last field of a row, "" if there is none.
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
            signal, last = [*signal, last], [""]
        channels = channels if rows else len(signal)
        if len(signal) != channels or len({len(part) for part in signal}) > 1:
            lengths = ", ".join(str(len(part)) for part in signal[:8])
            raise UserError(
                f"{path}: line {number} has {_counted(len(signal))} of {lengths} samples; all lines must have "
                "the same number of channels, and all channels of a line be equally long: cut them, or pad them"
            )
        rows.append((number, [*(sample for part in signal for sample in part), *last]))
    return Sheet(rows, notes=tuple(notes)), channels


def _signals(path: Path, rows: Rows, channels: int) -> list[np.ndarray]:
    """Rows of samples, one channel after another, each as float32 (time, channels), without the NaN after its end."""
    signals = []
    for line, row in rows:
        signal = np.asarray(row).reshape(channels, -1).T.astype(np.float32)
        missing = np.isnan(signal).sum(1) > 0
        length = len(signal) - int(np.argmin(missing[::-1]))
        if missing[:length].any():
            raise UserError(
                f"{path}: line {line} has NaN as sample {int(missing.argmax()) + 1}, which may stand only after the "
                "end of a signal that is shorter than others; write a number"
            )
        signals.append(signal[:length])
    return signals


def _counted(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _numbers(path: Path, lines: Sequence[tuple[int, list[str]]]) -> Rows:
    """All fields as numbers, NaN included. Only in ``.ts`` files lines may have different numbers of fields."""
    rows: Rows = []
    for line, row in lines:
        if rows and len(row) != len(rows[0][1]) and suffix_of(path) != ".ts":
            raise UserError(
                f"{path}: line {line} has {len(row)} fields, and the first line {len(rows[0][1])}; all signals must be "
                "equally long: cut them, or write NaN after the ends of shorter ones"
            )
        rows.append((line, [_number(path, line, i, field) for i, field in enumerate(row, 1)]))
    if not rows or max(len(row) for _, row in rows) < 2:
        raise UserError(f"{path} has no signals; each line must have the samples of one signal and its class")
    return rows


def _number(path: Path, line: int, place: int, field: str) -> float:
    if field.strip().lower() == "nan":
        return np.nan
    number = float(field) if is_number(field) else np.inf
    if not abs(number) <= LARGEST:
        raise UserError(
            f"{path}: line {line} has {quoted(field.strip())} as field {place}; all must be finite numbers, at most "
            f"{LARGEST:g}"
        )
    return number


def _class_name(path: Path, value: float) -> str:
    if np.isnan(value):
        raise UserError(
            f"{path} has NaN as a class; give each signal one, or choose the other end of lines with --label"
        )
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
