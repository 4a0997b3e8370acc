"""Rows of a text file whose fields are separated by tabs or commas."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError


def rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row of a ``.tsv`` (split at tabs alone) or ``.csv`` file, with the line that it ends at.

    content: what stands in the file. Raises UserError for a row of a ``.csv`` file that cannot be read.
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
