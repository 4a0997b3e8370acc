"""Answers to the user's own inputs: the options of ``predict``, and how answers are printed, for people or programs."""

import csv
import io
import json
import math
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import rich.table
import tyro
from rich.console import Console
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, Positional

from pipeline.display import print_notes, visible, visible_lines
from pipeline.errors import UserError
from pipeline.options import LARGEST, require_between

RunFolder = Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Predictions:
    """The options of every task's ``predict``; a task adds its own."""

    run: RunFolder
    """Folder of the run."""
    json: FlagCreatePairsOff[bool] = field(default=False, kw_only=True)
    """Print the answers as JSON, and nothing else on standard output."""
    csv: FlagCreatePairsOff[bool] = field(default=False, kw_only=True)
    """Print the answers as CSV, and nothing else on standard output."""

    def __post_init__(self) -> None:
        if self.json and self.csv:
            raise UserError("--json and --csv exclude each other; choose one of them")


@dataclass(frozen=True)
class Classify(Predictions):
    """The options of ``predict`` where its answers are classes."""

    top: int = field(default=1, kw_only=True)
    """Number of classes for each input, the likeliest first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, top=(1, LARGEST))


@dataclass(frozen=True)
class Predict(Classify):
    """Classify your own files."""

    inputs: Positional[tuple[Path, ...]]
    """Files, or folders of them."""


class Table(NamedTuple):
    """A table for people. numbers: columns that are aligned right."""

    columns: Sequence[str]
    rows: Iterable[Sequence[str]]
    numbers: Container[str] = ()


class Answers(NamedTuple):
    """A task's answers to the user's inputs.

    records: for programs, one for each input: texts as they were given, numbers, None, and lists of these or of further
    records. shown: for people, a table or lines of text. notes: after it, line by line; for programs on standard error.
    """

    records: Sequence[Mapping[str, Any]]
    shown: Table | str
    notes: Sequence[str] = ()


Ranked = Sequence[tuple[str, float]]
"""Classes of an input with their probabilities, the likeliest first."""


def likeliest(probabilities: np.ndarray, classes: Sequence[str], top: int) -> Ranked:
    """The ``top`` classes of an input; all where there are fewer.

    >>> likeliest(np.array([0.2, 0.5, 0.3]), ("a", "b", "c"), 2)
    [('b', 0.5), ('c', 0.3)]
    """
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(classes[int(i)], float(probabilities[i])) for i in order]


def ranking(ranked: Ranked) -> dict[str, Any]:
    """The field of a record with several classes; of one class, which a record has anyway, none."""
    several = [{"class": name, "probability": probability} for name, probability in ranked]
    return {"classes": several} if len(several) > 1 else {}


def with_classes(table: Table, ranked: Sequence[Ranked]) -> Table:
    """A table with a further column where several classes of each row are asked for."""
    if all(len(classes) == 1 for classes in ranked):
        return table
    cells = ("  ".join(f"{name} {probability:.4f}" for name, probability in classes) for classes in ranked)
    rows = [(*row, cell) for row, cell in zip(table.rows, cells)]
    return table._replace(columns=(*table.columns, "likeliest classes"), rows=rows)


def print_answers(answers: Answers, command: Predictions) -> None:
    """Prints answers as ``command`` asks."""
    if command.json or command.csv:
        print_notes(answers.notes)
        text = json.dumps(_finite(answers.records), indent=2) + "\n" if command.json else _as_csv(answers.records)
        _write(text)
        return
    if isinstance(answers.shown, Table):
        print_table(*answers.shown)
    else:
        print(visible_lines(answers.shown))
    for note in answers.notes:
        print(visible_lines(note))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Container[str] = ()) -> None:
    """Prints a table of the user's own texts, which are never taken for markup. numbers: columns aligned right."""
    table = rich.table.Table()
    for column in columns:
        justify = "right" if column in numbers else "left"
        table.add_column(Text(visible(column)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(text)) for text in row))
    console().print(table)


def console() -> Console:
    """For tables on standard output: as wide as the terminal, or as wide as they need to be in a file."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def _finite(value: Any) -> Any:
    """A value of a record as JSON has it: a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, str | bool | int | None):
        return value
    number = float(value)  # numpy's are no floats to JSON
    return number if math.isfinite(number) else None


def _as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as rows under the names of all their fields; the entries of a list have numbered columns."""
    rows = [_flat(_finite(record)) for record in records]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without lists.

    >>> _flat({"file": "1.png", "classes": [{"class": "b"}, {"class": "c"}], "similar": ["x"]})
    {'file': '1.png', 'class_1': 'b', 'class_2': 'c', 'similar_1': 'x'}
    """
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if not isinstance(value, list):
            flat[name] = value
            continue
        for i, entry in enumerate(value, 1):
            entries = entry if isinstance(entry, Mapping) else {name: entry}
            flat |= {f"{inner}_{i}": content for inner, content in entries.items()}
    return flat


def _write(text: str) -> None:
    """Writes to standard output as UTF-8; what stands for the bytes of a file name that is not UTF-8, as those bytes.

    Another half of a surrogate pair, which UTF-8 does not have, becomes an escape.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
