"""Rows of the user's files by the names of their columns: tables with a heading, and JSON, one object a line."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..display import quoted, visible
from ..errors import UserError
from .delimited import comma_separated, delimiter_option, suffix_of, without_separator_line
from .limits import require_unicode

JSON = (".jsonl", ".ndjson", ".json")
TABLES = (".tsv", ".csv", ".txt")
DELIMITERS = {".tsv": "\t,;|", ".csv": ",;\t|", ".txt": "\t,;|", "": "\t,;|"}
"""Delimiters that are tried, by suffix: the first one under which the heading has the columns is taken."""

Row = tuple[int, dict[str, str]]

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_DIALECTS: dict[str, dict[str, Any]] = {
    "spaces after delimiters are left out": {"skipinitialspace": True},
    "a quotation mark after a backslash is read as one inside a field": {"doublequote": False, "escapechar": "\\"},
}
"""Options of ``csv.reader`` for files that are not written as usual, by the note on them."""


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
        """Its place among the names of a heading, None if it is not there.

        If no name is known, the words after the last point are looked at: of "review.text" it is "text".
        """
        if self.chosen:
            names, wanted = [name.strip().lower() for name in heading], [self.chosen.strip().lower()]
        else:
            names, wanted = list(map(_plain, heading)), list(map(_plain, self.known))
        place = next((names.index(name) for name in wanted if name in names), None)
        if place is None and not self.chosen and any("." in name for name in heading):
            names = [_plain(name.rpartition(".")[2]) if _DOTTED.fullmatch(name) else "" for name in heading]
            place = next((names.index(name) for name in wanted if name in names), None)
        return place

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
    The file may lack a heading if the options choose its columns by their numbers, from 1.
    Raises UserError if a column is missing, or if a row does not have as many fields as the first.
    """
    if "\n" not in content:
        content = content.replace("\r", "\n")
    if not content.strip():
        raise UserError(f"{path} is empty")
    if suffix_of(path) in JSON:
        return _json_rows(path, content, columns, notes)
    content, given = without_separator_line(content)
    content = content.lstrip("\r\n") if given else content
    usual = given or DELIMITERS.get(suffix_of(path), DELIMITERS[".csv"])
    delimiters = delimiter_option(chosen_delimiter) if chosen_delimiter else usual
    delimiter, is_numbered = _delimiter(path, content, columns, delimiters), False
    if not delimiter:
        delimiter = _delimiter_by_numbers(path, content, columns, delimiters)
        is_numbered = bool(delimiter)
    delimiter = delimiter or delimiters[0]
    if delimiter != delimiters[0]:
        option = "" if chosen_delimiter is None else " (--delimiter names another)"
        notes.append(f"{visible(path.name)}: its fields are separated by {delimiter!r}{option}")
    heading = _heading(path, content, delimiter)
    if is_numbered:
        heading = [str(number) for number, _ in enumerate(heading, 1)]
    places = find_places(path, heading, columns, notes, "its first line names")
    lines = _lines(path, content, delimiter, len(heading), notes)
    result = []
    for line, row in islice(lines, int(not is_numbered), None):
        line += bool(given)
        if any(row) and len(row) != len(heading):
            raise UserError(
                f"{path}: line {line} has {len(row)} fields, and the first line {len(heading)}; correct it: a field "
                "with the delimiter in it needs quotation marks"
            )
        result.append((line, {name: row[place] for name, place in places.items()} if any(row) else {}))
    return result


def has_column(path: Path, content: str, column: Column, chosen_delimiter: str = "") -> bool:
    """Whether a file has a column, under any of the delimiters."""
    if suffix_of(path) in JSON:
        fields = next((fields for _, fields in json_objects(path, content)), {})
        return isinstance(fields, dict) and column.place_in(list(dict(flattened(fields)))) is not None
    usual = DELIMITERS.get(suffix_of(path), DELIMITERS[".csv"])
    delimiters = delimiter_option(chosen_delimiter) if chosen_delimiter else usual
    return bool(_delimiter(path, content, [column], delimiters)) or column.chosen.isdecimal()


def _delimiter(path: Path, content: str, columns: Sequence[Column], delimiters: str) -> str:
    """The first delimiter under which the heading has all columns that a file must have, "" if there is none."""
    for delimiter in delimiters:
        with suppress(UserError):
            heading = _heading(path, content, delimiter)
            if all(column.optional or column.place_in(heading) is not None for column in columns):
                return delimiter
    return ""


def _delimiter_by_numbers(path: Path, content: str, columns: Sequence[Column], delimiters: str) -> str:
    """The first delimiter under which the first line has the columns that are chosen by numbers, "" if there is none.

    It is the heading's names that count if the options do not choose all columns by numbers.
    """
    needed = [column.chosen for column in columns if column.chosen or not column.optional]
    if not all(chosen.isdecimal() and int(chosen[:9]) for chosen in needed):
        return ""
    for delimiter in delimiters:
        with suppress(UserError):
            if len(_heading(path, content, delimiter)) >= max(int(chosen[:9]) for chosen in needed):
                return delimiter
    return ""


def _heading(path: Path, content: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return [_unquoted(name) for name in content.split("\n", 1)[0].removesuffix("\r").split("\t")]
    return next(comma_separated(path, content, delimiter))[1]


def _lines(path: Path, content: str, delimiter: str, width: int, notes: list[str]) -> Iterable[tuple[int, list[str]]]:
    """All rows with their lines' numbers: as the format has it, or in another dialect if that alone fits all lines."""
    if delimiter == "\t":
        return _tab_separated(path, content, width, notes)
    try:
        rows = list(comma_separated(path, content, delimiter))
        error = None
    except UserError as raised:
        rows, error = [], raised
    has_quotes = any(field.startswith(' "') and field.endswith('"') for _, row in rows for field in row)
    if rows and not has_quotes and all(len(row) == width or not any(row) for _, row in rows):
        return rows
    for note, dialect in _DIALECTS.items():
        with suppress(UserError):
            others = list(comma_separated(path, content, delimiter, **dialect))
            if all(len(row) == width or not any(row) for _, row in others):
                notes.append(f"{visible(path.name)}: {note}")
                return others
    if error:
        raise error
    return rows


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def find_places(
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
                numbers = (f"{c.option} {i}" for i, c in enumerate((c for c in columns if not c.optional), 1))
                remedy += f"; in a file without such a line by their numbers, as in {' '.join(numbers)}"
            raise UserError(f"{path} has no column {column.known[0]!r}: {names} {_listed(heading)}; {remedy}")
    unused = [
        name.strip() or f"column {place + 1}" for place, name in enumerate(heading) if place not in places.values()
    ]
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
        places = [column.place_in(list(fields)) for column in columns if not column.optional]
        if any(place is None or isinstance(list(fields.values())[place], dict) for place in places):
            fields = dict(flattened(fields))
        seen |= dict.fromkeys(fields)
        heading = list(fields)
        if not names:
            found = {column.name: column.place_in(heading) for column in columns}
            names = {name: heading[place] for name, place in found.items() if place is not None}
        row = {}
        for column in columns:
            name = names.get(column.name)
            if name is not None and name in fields:
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
        find_places(path, list(seen), [c for c in columns if c.name in names], notes, "it has")
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


def flattened(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a JSON object; those of objects inside it have names such as "user.id"."""
    for name, field in value.items():
        if isinstance(field, dict):
            yield from flattened(field, f"{before}{name}.")
        else:
            yield before + name, field


def _json_text(path: Path, number: int, column: Column, value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise UserError(
            f"{path}: line {number} must be an object with texts: its {column.name} is {quoted(str(value))}"
        )
    text = "" if value is None else str(value)
    return text if column.is_path else require_unicode(text, f"{path}: line {number}")
