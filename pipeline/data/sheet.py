"""Sheets: rows of texts from delimited text, Weka's ARFF, Excel and Parquet files."""

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..display import quoted, visible
from ..errors import UserError
from ..extras import extra
from .decimals import DecimalMark, with_decimal_points
from .delimited import (
    csv_reader,
    is_number,
    note_on_delimiter,
    split_rows,
    suffix_of,
    without_comments,
    without_separator_line,
)
from .limits import parsing, read_content, require_memory
from .named_columns import Column, Row, find_places
from .text import read_guessed

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".data", ".ts", ".arff")
WORKBOOKS = (".xlsx", ".xls", ".parquet")
CELL_COST = 60
"""Bytes of memory for each cell of a workbook."""
XML_COST = 10
"""Bytes of memory for each byte of a workbook when it is unpacked."""

_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class SheetOptions:
    """How text files of rows are read."""

    delimiter: str = ""
    """Delimiter of text files: a character, or tab, semicolon, pipe, comma or space. Empty: recognised."""
    decimal: DecimalMark = ""
    """Decimal mark of numbers such as 1,234: comma, or point, where a comma separates thousands. Empty: recognised."""
    encoding: str = ""
    """Encoding of text files. Empty: UTF-8, or latin-1 or cp1252 for files that are not UTF-8."""


USUAL = SheetOptions()


@dataclass(frozen=True)
class Sheet:
    """The rows of a file that are not empty, as texts.

    rows: with the number of the line on which each ends. names: of the columns, if the format has them apart from the
    rows. notes: what was guessed.
    """

    rows: list[tuple[int, list[str]]]
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_sheet(path: Path, options: SheetOptions = USUAL, most: int | None = None) -> Sheet:
    """The rows of a file of any of the formats, which its suffix tells.

    options: the delimiter is recognised by the first lines, and the decimal mark by all numbers, if they name none.
    Lines that begin with "#" before the first row are left out; the last one names the columns if it has as many
    fields as the row after it, which has numbers. most: number of rows after which reading stops.
    Raises UserError for a file that cannot be read.
    """
    suffix, notes = suffix_of(path), []
    if suffix in WORKBOOKS:
        return _read_workbook(path, suffix)
    content = read_guessed(path, options.encoding, notes)
    if suffix == ".arff" or content.lstrip()[:9].lower() == "@relation":
        return replace(_read_arff(path, content), notes=tuple(notes))
    content, comment = without_comments(path, content, notes)
    content, given = without_separator_line(content)
    mark = note_on_delimiter(path, content, options.delimiter or given, notes)
    rows = list(islice(_filled(split_rows(path, content, mark)), most))
    names = next((fields for _, fields in split_rows(path, comment, mark)), []) if comment else []
    is_heading = rows and 1 < len(names) == len(rows[0][1]) and any(map(is_number, rows[0][1]))
    if is_heading and not any(map(is_number, names)):
        rows.insert(0, (rows[0][0] - 1, names))
        notes[-1] += "; the last one names the columns"
    notes += with_decimal_points(path, rows, options.decimal)
    return Sheet(rows, notes=tuple(notes))


def read_workbook_rows(path: Path, columns: Sequence[Column], notes: list[str]) -> list[Row]:
    """The rows of an Excel or Parquet file by the columns that its first row names: see ``named_columns.read_rows``."""
    sheet = read_sheet(path)
    notes += sheet.notes
    if not sheet.rows:
        raise UserError(f"{path} is empty")
    (_, heading), *rows = sheet.rows
    places = find_places(path, heading, columns, notes, "its first row names")
    return [(line, {name: row[place] for name, place in places.items()}) for line, row in rows]


def _filled(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    return ((line, row) for line, row in rows if any(field.strip() for field in row))


def _read_arff(path: Path, content: str) -> Sheet:
    """The rows after ``@data``, and the names of the attributes."""
    names, lines, start = [], content.split("\n"), 0
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line.lower() == "@data":
            start = number
            break
        attribute = _ATTRIBUTE.match(line)
        if attribute and attribute[2].lower().startswith("relational"):
            raise UserError(f"{path}: line {number} has a relational attribute, which is not read; give plain columns")
        if attribute:
            names.append(attribute[1].strip("'\""))
    if not start or not names:
        raise UserError(f"{path} has no @attribute lines before a line @data; correct it")
    rows = []
    for line_number, line in enumerate(lines[start:], start + 1):
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        if text.startswith("{"):
            raise UserError(f"{path}: line {line_number} is sparse, which is not read; write every value")
        quote = "'" if "'" in text else '"'
        with parsing(f"{path}: line {line_number} cannot be read", "correct it"):
            rows.append((line_number, next(csv_reader([text], quotechar=quote, skipinitialspace=True))))
    return Sheet(rows, tuple(names))


def _read_workbook(path: Path, suffix: str) -> Sheet:
    """The first sheet of an Excel file, or a Parquet file, through pandas."""
    try:
        with extra("tables"):
            import pandas  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(f"{path} cannot be read: {error}; or save it as a .csv file") from error

    content = io.BytesIO(read_content(path))
    notes: tuple[str, ...] = ()
    with parsing(f"{path} cannot be read as {suffix}", "save it again, or as a .csv file"):
        try:
            if suffix == ".parquet":
                _require_memory_for_parquet(path, content)
                frame = pandas.read_parquet(content)
                heading = [list(map(str, frame.columns))]
                if frame.index.name:
                    notes = (f"the index {quoted(str(frame.index.name))} of {visible(path.name)} is not read",)
            else:
                if suffix == ".xlsx":
                    _require_memory_for_xlsx(path, content)
                book = pandas.ExcelFile(content)
                sheets = list(map(str, book.sheet_names))
                frame, heading = pandas.read_excel(book, sheet_name=0, header=None, dtype=object), []
                if len(sheets) > 1:
                    notes = (
                        f"{len(sheets) - 1} sheets of {visible(path.name)} are not read, such as {quoted(sheets[1])}: "
                        f"only the first one is, {quoted(sheets[0])}",
                    )
        except ImportError as error:
            raise UserError(f"{path} needs a package: pip install 'backhand[tables]' ({error})") from error
    values: Sequence[Sequence[Any]] = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    rows = [*heading, *([_text(cell) for cell in row] for row in values)]
    return Sheet(list(_filled((number, row) for number, row in enumerate(rows, 1))), notes=notes)


def _require_memory_for_parquet(path: Path, content: io.BytesIO) -> None:
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    shape = parquet.ParquetFile(content).metadata
    require_memory(str(path), CELL_COST * shape.num_rows * max(1, shape.num_columns))
    content.seek(0)


def _require_memory_for_xlsx(path: Path, content: io.BytesIO) -> None:
    """Raises UserError if the sheets unpack to more than the limit, or if the cells of the first do.

    A sheet's cells are all up to the last row and the last column that has one, and a few bytes can name the last one.
    """
    from openpyxl import load_workbook  # pyright: ignore[reportMissingModuleSource, reportMissingImports]

    with zipfile.ZipFile(content) as archive:
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in archive.infolist()):
            raise UserError(f"{path} is compressed by another method than Excel's; save it again")
        require_memory(str(path), XML_COST * sum(member.file_size for member in archive.infolist()))
    sheet, rows, columns = load_workbook(content, read_only=True).worksheets[0], 0, 1
    sheet.reset_dimensions()  # what the file says they are
    for row in sheet.iter_rows(values_only=True):
        rows, columns = rows + 1, max(columns, len(row))
        require_memory(str(path), CELL_COST * rows * columns)
    content.seek(0)


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)
