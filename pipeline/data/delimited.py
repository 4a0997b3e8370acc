"""Files with rows of fields, separated by tabs in a ``.tsv`` file and by commas in a ``.csv`` file."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ..display import visible
from ..errors import UserError

SUFFIXES = (".tsv", ".csv")


def rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row, with the number of the line on which it ends.

    A ``.tsv`` file has no quotation: it is split at every tab. Raises UserError for a ``.csv`` file with a quotation
    mark that is not closed.

    >>> list(rows(Path("a.csv"), 'label,text\\npos,"good, very good"\\n'))
    [(1, ['label', 'text']), (2, ['pos', 'good, very good'])]
    """
    if path.suffix != ".tsv":
        yield from comma_separated(path, content)
        return
    lines = content.removesuffix("\n").split("\n")
    yield from ((i, line.removesuffix("\r").split("\t")) for i, line in enumerate(lines, 1))


def comma_separated(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """``rows`` of comma-separated fields, whatever the file's suffix."""
    # The module refuses fields above a limit that holds for the whole process, and is not about memory.
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    reader = csv.reader(io.StringIO(content or "\n", newline=""), strict=True)
    try:
        yield from ((reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read ({error}); correct it") from error


def named_rows(path: Path, content: str, needed: tuple[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Every row's fields by the column names in the first line, in lower case; an empty dict for an empty line.

    needed: columns that must be there. Raises UserError if one is missing, or if a row has more or fewer fields than
    the first line.
    """
    lines = rows(path, content)
    columns = [name.strip().lower() for name in next(lines)[1]]
    for name in needed:
        if name not in columns:
            raise UserError(
                f"{path} has no column {name!r}: its first line names {visible(', '.join(map(repr, columns)))}; it "
                f"must name {' and '.join(needed)}"
            )
    for line, row in lines:
        if any(row) and len(row) != len(columns):
            raise UserError(f"{path}: line {line} has {len(row)} fields, and the first line {len(columns)}; correct it")
        # Reversed, so that of two columns with the same name the first one counts.
        yield line, dict(zip(columns[::-1], row[::-1])) if any(row) else {}
