"""Sheets: rows of texts from delimited text, Weka's ARFF, Excel and Parquet files."""

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..display import quoted, visible
from ..errors import UserError
from ..extras import extra
from .delimited import csv_reader, delimiter_option, guess_delimiter, split_rows, suffix_of
from .limits import parsing, read_content, require_memory
from .text import read_encoded

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".data", ".ts", ".arff")
WORKBOOKS = (".xlsx", ".xls", ".parquet")
REMEDY = "convert it to UTF-8"
CELL_COST = 60
"""Bytes of memory for each cell of a workbook."""
XML_COST = 10
"""Bytes of memory for each byte of a workbook when it is unpacked."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """The rows of a file that are not empty, as texts.

    rows: with the number of the line on which each ends. names: of the columns, if the format has them apart from the
    rows. notes: what was guessed.
    """

    rows: list[tuple[int, list[str]]]
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_sheet(path: Path, delimiter: str = "", most: int | None = None) -> Sheet:
    """The rows of a file of any of the formats, which its suffix tells.

    delimiter: see ``delimited.delimiter_option``; "": recognised by the first lines, a tab in a ``.tsv`` file.
    most: number of rows after which reading stops.
    Raises UserError for a file that cannot be read.
    """
    suffix = suffix_of(path)
    if suffix in WORKBOOKS:
        return _read_workbook(path, suffix)
    content = read_encoded(path, "utf-8", REMEDY)
    if suffix == ".arff":
        return _read_arff(path, content)
    mark = delimiter_option(delimiter) or ("\t" if suffix == ".tsv" else guess_delimiter(content) or ",")
    return with_decimal_points(path, list(islice(_filled(split_rows(path, content, mark)), most)), mark)


def with_decimal_points(path: Path, rows: list[tuple[int, list[str]]], delimiter: str) -> Sheet:
    """Rows whose numbers have decimal points for decimal commas, which stand between delimiters other than a comma."""
    if delimiter == ",":
        return Sheet(rows)
    count, first, are_thousands = 0, "", True
    for line, row in rows:
        for place, cell in enumerate(row):
            if "," in cell and _DECIMAL_COMMA.fullmatch(cell.strip()):
                row[place] = cell.strip().replace(",", ".")
                count, first = count + 1, first or f"{quoted(cell.strip())} in line {line}"
                are_thousands = are_thousands and bool(_THOUSANDS.fullmatch(cell.strip()))
    if count and are_thousands:
        raise UserError(
            f"{path} has {first}: it may be a decimal comma or a separator of thousands; write a decimal point, or no "
            "separators"
        )
    note = f"{count:,} decimal commas, the first one {first}, are read as decimal points"
    return Sheet(rows, notes=(note,) if count else ())


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
