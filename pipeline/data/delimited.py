"""Files whose lines are rows of fields: tabs between them in a ``.tsv``, commas in a ``.csv``."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError

SUFFIXES = (".tsv", ".csv")


def rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row, with the number of the line it ends at. A ``.tsv`` is split at tabs alone.

    Raises UserError for quotation marks that do not close.
    """
    if path.suffix == ".tsv":
        lines = content.removesuffix("\n").split("\n")
        yield from ((i, line.removesuffix("\r").split("\t")) for i, line in enumerate(lines, 1))
        return
    found = csv.reader(io.StringIO(content or "\n", newline=""), strict=True)
    try:
        yield from ((found.line_num, row) for row in found)
    except csv.Error as error:
        raise UserError(f"{path}: line {found.line_num} cannot be read ({error}); correct it") from error
