"""Signals in rows: each line of a ``.csv`` or ``.tsv`` file has the samples of one signal and its class, as numbers.

There is no line of names. Of this format are the MIT-BIH heartbeats (class last) and the UCR archive's ECG200 (class
first).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..display import quoted
from ..errors import UserError
from .delimited import rows
from .limits import LARGEST
from .table import REMEDY
from .text import read_encoded

MOST_CLASSES = 50


def has_no_heading(path: Path) -> bool:
    """Whether the first line of a file consists of numbers."""
    _, first = next(rows(path, read_encoded(path, "utf-8", REMEDY)))
    try:
        return bool(first) and [float(field) for field in first] != []
    except ValueError:
        return False


def read_signals(path: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Signals, float32 (examples, time, 1), and their classes as texts, (examples,).

    label: "first" or "last": the class's column. Anything else: whichever of the two has few different integers.
    """
    numbers = _numbers(path)
    place = _place(path, numbers, label)
    samples = numbers[:, 1:] if place == 0 else numbers[:, :-1]
    labels = np.array([_class_name(path, value) for value in numbers[:, place].tolist()], object)
    return samples[..., None].astype(np.float32), labels


def read_unlabelled(path: Path, length: int) -> np.ndarray:
    """Signals of ``length`` samples without a class, one in each line: float32, (examples, time, 1)."""
    numbers = _numbers(path)
    if numbers.shape[1] != length:
        raise UserError(
            f"{path} has signals of {numbers.shape[1]} samples, but the model was trained on {length}; each line must "
            "have that many, and no class"
        )
    return numbers[..., None].astype(np.float32)


def _numbers(path: Path) -> np.ndarray:
    """All fields of a file: float64, (lines, fields)."""
    numbers: list[list[float]] = []
    for line, row in rows(path, read_encoded(path, "utf-8", REMEDY)):
        if not any(field.strip() for field in row):
            continue
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
