"""Rows of the user's files by the names of their columns: tables with a heading, and JSON, one object a line."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..display import quoted, visible
from ..errors import UserError
from .delimited import comma_separated, delimiter_option, suffix_of
from .limits import require_unicode

JSON = (".jsonl", ".ndjson", ".json")
TABLES = (".tsv", ".csv", ".txt")
DELIMITERS = {".tsv": "\t,;|", ".csv": ",;\t|", ".txt": "\t,;|"}
"""Delimiters that are tried, by suffix: the first one under which the heading has the columns is taken."""

Row = tuple[int, dict[str, str]]


@dataclass(frozen=True)
class Column:
    """A column that a reader looks for.

    name: what the reader calls it; known: the names that it may have in a file, in lower case. option: the
    command-line option that names it, and chosen: that option's value. optional: whether a file may lack it.
    is_path: whether its values are names of files, which need not be Unicode.
    """

    name: str
    known: tuple[str, ...]
    option: str = ""
    chosen: str = ""
    optional: bool = False
    is_path: bool = False

    def place_in(self, heading: Sequence[str]) -> int | None:
        """Its place among the names of a heading, None if it is not there."""
        if self.chosen:
            names, wanted = [name.strip().lower() for name in heading], [self.chosen.strip().lower()]
        else:
            names, wanted = list(map(_plain, heading)), map(_plain, self.known)
        return next((names.index(name) for name in wanted if name in names), None)

    def place_chosen(self, path: Path, heading: Sequence[str], names: str = "its first line names") -> int | None:
        """``place_in``. Raises UserError if there is no column with the chosen name.

        names: what the message says before the heading's names.
        """
        place = self.place_in(heading)
        if place is None and self.chosen:
            raise UserError(
                f"{self.option} is {quoted(self.chosen)}, but {path} has no such column: {names} {_listed(heading)}"
            )
        return place


def _plain(name: str) -> str:
    """The letters and digits of a name in lower case: userId, user_id and user_id:token are the same."""
    return re.sub(r"[\W_]", "", name.lower().partition(":")[0])


def _listed(heading: Sequence[str]) -> str:
    return visible(", ".join(repr(name.strip().lower()) for name in heading))


def read_rows(
    path: Path, content: str, columns: Sequence[Column], notes: list[str], chosen_delimiter: str | None = None
) -> list[Row]:
    """Every row's number and its fields by ``Column.name``; an empty dict for an empty line.

    notes: are extended by what was guessed, and by the columns that are not used. chosen_delimiter: the value of the
    option --delimiter, "" for a guess; None if there is no such option.
    Raises UserError if a column is missing, or if a row does not have the heading's fields.
    """
    if "\n" not in content:
        content = content.replace("\r", "\n")
    if suffix_of(path) in JSON:
        return _json_rows(path, content, columns, notes)
    usual = DELIMITERS.get(suffix_of(path), DELIMITERS[".csv"])
    delimiters = delimiter_option(chosen_delimiter) if chosen_delimiter else usual
    for delimiter in delimiters:
        heading = _heading(path, content, delimiter)
        if all(column.optional or column.place_in(heading) is not None for column in columns):
            break
    else:
        delimiter = delimiters[0]
        heading = _heading(path, content, delimiter)
    if delimiter != delimiters[0]:
        option = "" if chosen_delimiter is None else " (--delimiter names another)"
        notes.append(f"{visible(path.name)}: its fields are separated by {delimiter!r}{option}")
    places = _places(path, heading, columns, notes, "its first line names")
    lines = _tab_separated(path, content, len(heading), notes) if delimiter == "\t" else None
    lines = comma_separated(path, content, delimiter) if lines is None else lines
    next(lines)
    result = []
    for line, row in lines:
        if any(row) and len(row) != len(heading):
            raise UserError(
                f"{path}: line {line} has {len(row)} fields, and the first line {len(heading)}; correct it: a field "
                "with the delimiter in it needs quotation marks"
            )
        result.append((line, {name: row[place] for name, place in places.items()} if any(row) else {}))
    return result


def _heading(path: Path, content: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return [_unquoted(name) for name in content.split("\n", 1)[0].removesuffix("\r").split("\t")]
    return next(comma_separated(path, content, delimiter))[1]


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def _places(
    path: Path, heading: Sequence[str], columns: Sequence[Column], notes: list[str], names: str
) -> dict[str, int]:
    """The place of each column in a heading, and notes on guesses and on columns that are not used."""
    places = {}
    for column in columns:
        place = column.place_chosen(path, heading, names)
        if place is not None:
            places[column.name] = place
            if not column.chosen and column.option and heading[place].strip().lower() != column.known[0]:
                name = quoted(heading[place].strip())
                notes.append(
                    f"{visible(path.name)}: column {name} is the {column.name} ({column.option} names another)"
                )
        elif not column.optional:
            remedy = (
                f"it must name {' and '.join(c.known[0] for c in columns if not c.optional)}: add such a first line"
            )
            if column.option:
                remedy += f" (known names: {', '.join(column.known)}); {column.option} chooses another column"
            raise UserError(f"{path} has no column {column.known[0]!r}: {names} {_listed(heading)}; {remedy}")
    unused = [name.strip() for place, name in enumerate(heading) if place not in places.values()]
    if unused:
        notes.append(f"{visible(path.name)}: columns that are not used: {visible(', '.join(map(repr, unused)))}")
    return places


def _tab_separated(path: Path, content: str, width: int, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows of fields between tabs: quoted, if all lines are so read as rows of ``width`` fields, and else not."""
    if '\t"' in content or '\n"' in content:
        csv.field_size_limit(max(csv.field_size_limit(), len(content)))
        reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t", strict=True)
        try:
            quoted_rows = [(reader.line_num, row) for row in reader]
        except csv.Error:
            quoted_rows = []
        special = sum(any(mark in field for field in row for mark in '\t\n"') for _, row in quoted_rows)
        if special and all(len(row) == width or not any(row) for _, row in quoted_rows):
            notes.append(f"{visible(path.name)}: fields in quotation marks are read as in a .csv file")
            yield from quoted_rows
            return
    lines = content.removesuffix("\n").split("\n")
    yield from ((i, line.removesuffix("\r").split("\t")) for i, line in enumerate(lines, 1))


def _json_rows(path: Path, content: str, columns: Sequence[Column], notes: list[str]) -> list[Row]:
    result, names, seen = [], {}, {}
    needed = " and ".join(f'"{column.known[0]}"' for column in columns if not column.optional)
    for number, fields in json_objects(path, content):
        if not isinstance(fields, dict):
            raise UserError(f"{path}: line {number} must be an object with {needed}")
        seen |= dict.fromkeys(fields)
        heading = list(fields)
        if not names:
            found = {column.name: column.place_in(heading) for column in columns}
            names = {name: heading[place] for name, place in found.items() if place is not None}
        row = {}
        for column in columns:
            name = names.get(column.name)
            if name in fields:
                row[column.name] = _json_text(path, number, column, fields[name])
            elif not column.optional:
                wanted = column.chosen or name or column.known[0]
                option = f"; {column.option} names it" if column.option else ""
                raise UserError(
                    f"{path}: line {number} must be an object with {needed}, and has no {quoted(wanted)}: it has "
                    f"{visible(', '.join(map(repr, heading))) or 'nothing'}{option}"
                )
        result.append((number, row))
    if names:
        _places(path, list(seen), [c for c in columns if c.name in names], notes, "it has")
    return result


def json_objects(path: Path, content: str) -> Iterator[tuple[int, Any]]:
    """Every JSON value with its line, or with its place if the whole file is an array."""
    whole = content.lstrip().startswith("[{") or content.lstrip().startswith("[\n")
    texts = [content] if whole else content.split("\n")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: line {number} is not JSON ({visible(str(error))}); correct it") from error
        yield from enumerate(value, 1) if whole and isinstance(value, list) else [(number, value)]


def _json_text(path: Path, number: int, column: Column, value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise UserError(
            f"{path}: line {number} must be an object with texts: its {column.name} is {quoted(str(value))}"
        )
    text = "" if value is None else str(value)
    return text if column.is_path else require_unicode(text, f"{path}: line {number}")
