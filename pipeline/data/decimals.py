"""Decimal commas and separators of thousands in the numbers of a table, written as Python reads numbers."""

import re
from pathlib import Path
from typing import Literal

from ..display import quoted
from ..errors import UserError

DecimalMark = Literal["", "comma", "point"]

_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][+-]?\d+)?|[+-]?\d{1,3}(?:\.\d{3}){2,}")
"""Numbers with a decimal comma, or with points between thousands."""
_POINT = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+\.\d+|[+-]?\d{1,3}(?:,\d{3}){2,}|[+-]?[1-9]\d{0,2},\d{3}")
"""Numbers with commas between thousands."""
_POINTED = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
"""Numbers whose point may separate thousands."""

Rows = list[tuple[int, list[str]]]
Cells = list[tuple[int, list[str], int]]
"""Numbers of lines, their fields, and the place of one of these."""


def with_decimal_points(path: Path, rows: Rows, decimal: DecimalMark = "") -> list[str]:
    """Writes the numbers in ``rows`` with decimal points alone, and gives a note on what is changed.

    rows: numbers of lines, and their fields. decimal: "" if the numbers are to show it.
    Raises UserError where they do not show it.
    """
    cells = [
        (line, row, place)
        for line, row in rows
        for place, cell in enumerate(row)
        if ("," in cell or cell.count(".") > 1) and (_COMMA.fullmatch(cell.strip()) or _POINT.fullmatch(cell.strip()))
    ]
    if not cells and decimal != "comma":
        return []
    decimal = decimal or _recognised(path, rows, cells)
    if decimal == "point":
        note = "commas in {:,} numbers, the first one {}, separate thousands (--decimal comma: they are decimal commas)"
        return _rewrite(cells, _POINT, ",", note)
    note = "points in {:,} numbers, the first one {}, separate thousands (--decimal point: they are decimal points)"
    thousands = _rewrite(_pointed(rows), _POINTED, ".", note)
    note = "{:,} decimal commas, the first one {}, are read as decimal points (--decimal point: they are none)"
    return [*_rewrite(cells, _COMMA, ".", note), *thousands]


def _rewrite(cells: Cells, pattern: re.Pattern[str], separator: str, note: str) -> list[str]:
    """Writes the cells that fit a pattern without separators of thousands, and gives the note, if any does."""
    count, first = 0, ""
    for line, row, place in cells:
        cell = row[place].strip()
        if pattern.fullmatch(cell):
            row[place] = cell.replace(separator, "").replace(",", ".")
            count, first = count + 1, first or f"{quoted(cell)} in line {line}"
    return [note.format(count, first)] if count else []


def _recognised(path: Path, rows: Rows, cells: Cells) -> DecimalMark:
    texts = [row[place].strip() for _, row, place in cells]
    has_commas = any(_COMMA.fullmatch(text) and not _AMBIGUOUS.fullmatch(text) for text in texts)
    has_points = any(_POINT.fullmatch(text) and not _AMBIGUOUS.fullmatch(text) for text in texts)
    if has_commas and not has_points:
        return "comma"
    line, row, place = cells[0]
    if not has_commas and (has_points or any(_has_point(cell) for _, row in rows for cell in row)):
        return "point"
    raise UserError(
        f"{path} has {quoted(row[place].strip())} in line {line}: it may be a decimal comma or a separator of "
        "thousands; say which with --decimal comma or --decimal point"
    )


def _has_point(cell: str) -> bool:
    """Whether a cell is a number with a decimal point."""
    return bool(re.fullmatch(r"[+-]?\d*\.\d+", cell.strip()))


def _pointed(rows: Rows) -> Cells:
    """The cells such as 1.234 of columns that have no other numbers with a point."""
    others, cells = set(), []
    for line, row in rows:
        for place, cell in enumerate(row):
            if "." in cell and _POINTED.fullmatch(cell.strip()):
                cells.append((line, row, place))
            elif "." in cell and _has_point(cell):
                others.add(place)
    return [cell for cell in cells if cell[2] not in others]
