"""Files whose lines are rows of fields: tabs between them in a ``.tsv``, commas in a ``.csv``."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError

SUFFIXES = (".tsv", ".csv")


def rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row, with the number of the line it ends at. A ``.tsv`` is split at tabs alone.

    Raises UserError for quotation marks of a ``.csv`` file that do not close.
    """
    if path.suffix != ".tsv":
        yield from comma_separated(path, content)
        return
    lines = content.removesuffix("\n").split("\n")
    yield from ((i, line.removesuffix("\r").split("\t")) for i, line in enumerate(lines, 1))


def comma_separated(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """``rows`` with commas between their fields, whatever the file's name ends in."""
    found = csv.reader(io.StringIO(content or "\n", newline=""), strict=True)
    try:
        yield from ((found.line_num, row) for row in found)
    except csv.Error as error:
        raise UserError(f"{path}: line {found.line_num} cannot be read ({error}); correct it") from error


def named_rows(path: Path, content: str, needed: tuple[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row's fields by the names in the first line, in lower case; nothing of an empty line.

    Raises UserError where a column that is needed is not there, or a row has more or fewer fields than there are names.
    """
    read = rows(path, content)
    columns = [name.strip().lower() for name in next(read)[1]]
    for name in needed:
        if name not in columns:
            raise UserError(
                f"{path} has no column {name!r}: its first line names {', '.join(map(repr, columns))}; it must name "
                f"{' and '.join(needed)}"
            )
    for line, row in read:
        if any(row) and len(row) != len(columns):
            raise UserError(f"{path}: line {line} has {len(row)} fields, and the first line {len(columns)}; correct it")
        yield line, dict(zip(columns[::-1], row[::-1])) if any(row) else {}  # of two columns of a name the first
