"""Files with rows of fields, separated by tabs in a ``.tsv`` file and by commas in a ``.csv`` file.

Readers of tables and ratings recognise the delimiter by the first lines instead: ``guess_delimiter``.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from ..display import quoted, visible
from ..errors import UserError

DELIMITERS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ","}
"""Delimiters that are recognised, by name; of several that fit equally well, the first one is meant."""

_SNIFFED_LINES = 20
_LONGEST_FIELD = 2**31 - 1


def suffix_of(path: Path) -> str:
    """The suffix of a file in lower case, without the ``.gz`` of a packed one.

    >>> suffix_of(Path("Heart.CSV.gz"))
    '.csv'
    """
    return PurePath(path.name.lower().removesuffix(".gz")).suffix


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


def comma_separated(path: Path, content: str, delimiter: str = ",", **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """``rows`` of fields that may be quoted, separated by commas or another character, whatever the file's suffix.

    dialect: further options of ``csv.reader``.
    """
    reader = csv_reader(io.StringIO(content or "\n", newline=""), delimiter=delimiter, strict=True, **dialect)
    try:
        yield from ((reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} cannot be read ({error}); correct it") from error


def csv_reader(lines: Iterable[str], **options: Any) -> Any:
    """A ``csv.reader`` of fields of any length: see there."""
    csv.field_size_limit(_LONGEST_FIELD)  # for the whole process; what a file may take is limited before
    return csv.reader(lines, **options)


def split_rows(path: Path, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """``rows`` with any delimiter; " " is any white space.

    Fields between tabs or "::" may hold quotation marks; those around a whole field are removed.
    """
    if len(delimiter) == 1 and delimiter not in "\t ":
        yield from comma_separated(path, content, delimiter, skipinitialspace=True)
        return
    for number, line in enumerate(content.split("\n"), 1):
        fields = _between_spaces(line) if delimiter == " " else line.removesuffix("\r").split(delimiter)
        yield number, [_unquoted(field) if '"' in field else field for field in fields]


def _between_spaces(line: str) -> list[str]:
    """What stands between white space, which fields in quotation marks may have too: R writes such."""
    if '"' not in line:
        return line.split()
    words = " ".join(line.split())
    return next(csv_reader([words], delimiter=" "), []) if words.count('"') % 2 == 0 else words.split(" ")


def _unquoted(field: str) -> str:
    text = field.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if is_quoted else field


def guess_delimiter(content: str) -> str:
    r"""The delimiter of the first lines, "" if they have none: it divides most of them as the first one.

    White space, " ", is a delimiter if the first line has numbers only, or half of the lines' words after it are
    numbers, of which there are equally many in each line.

    >>> guess_delimiter("age;dose;label\n50;1,5;ill\n"), guess_delimiter("a,b\n1,2\n"), guess_delimiter("word")
    (';', ',', '')
    """
    lines = list(islice((line for line in io.StringIO(content, newline=None) if line.strip()), _SNIFFED_LINES))
    best, fitting = "", 0
    for delimiter in DELIMITERS.values():
        sizes = [len(fields) for fields in csv_reader(lines, delimiter=delimiter)]
        count = sizes.count(sizes[0]) if sizes and sizes[0] > 1 else 0
        if count > fitting:
            best, fitting = delimiter, count
    if best or not lines:
        return best
    first, *others = (_between_spaces(line) for line in lines)
    are_numbers = len(first) > 1 and all(map(is_number, first))
    return " " if are_numbers or _are_columns(first, others) else ""


def _are_columns(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether words are the columns of a table with a heading, from which R leaves out the name of the rows' names."""
    if len(others) < 2 or len(first) < 2 or len({len(row) for row in others}) > 1:
        return False
    words = [word for row in others for word in row]
    return len(others[0]) - len(first) in (0, 1) and 2 * sum(map(is_number, words)) >= len(words)


def note_on_delimiter(path: Path, content: str, chosen: str, notes: list[str], otherwise: str = ",") -> str:
    """The delimiter of a file: the one that an option names, or a guess, which a note says where it is unusual.

    otherwise: the delimiter if nothing tells it.
    """
    named = delimiter_option(chosen)
    if named:
        return named
    usual = {".csv": ",", ".tsv": "\t"}.get(suffix_of(path), "")
    first = next((line for line in content.split("\n") if line.strip()), "")
    if usual == "\t" and usual in first:
        return usual
    delimiter = "::" if "::" in first else guess_delimiter(content) or usual or otherwise
    if delimiter != usual and delimiter in first:
        name = next((name for name, mark in DELIMITERS.items() if mark == delimiter), f"{delimiter!r}")
        name = "white space" if delimiter == " " else name
        notes.append(f"{visible(path.name)}: its delimiter is taken to be {name} (--delimiter names another)")
    return delimiter


def without_comments(path: Path, content: str, notes: list[str]) -> tuple[str, str]:
    """A file's content with empty lines for those that begin with "#" before all others, and the last one of these.

    >>> without_comments(Path("a.csv"), "# age, dose\\n50,1\\n", [])
    ('\\n50,1\\n', ' age, dose')
    """
    if not content.lstrip().startswith("#"):
        return content, ""
    lines, count, last = (content if "\n" in content else content.replace("\r", "\n")).split("\n"), 0, ""
    for place, line in enumerate(lines):
        if line.strip() and not line.startswith("#"):
            break
        if line.strip():
            count, last, lines[place] = count + 1, line.lstrip("#").rstrip("\r"), ""
    notes.append(f"{count} lines at the beginning of {visible(path.name)} left out: they begin with #")
    return "\n".join(lines), last


def without_separator_line(content: str) -> tuple[str, str]:
    """A file's content with an empty first line, if that is Excel's ``sep=;``, and the delimiter that it names.

    >>> without_separator_line("sep=;\\nage;dose\\n")
    ('\\nage;dose\\n', ';')
    """
    match = re.match(r"\"?sep=(.)\"?[ ]*\r?(?=\n)", content, re.IGNORECASE)
    return (content[match.end() :], match[1]) if match else (content, "")


def is_number(text: str) -> bool:
    """Whether a text is a number, which may be infinite or NaN. Unlike in Python, 1_000 is none."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def delimiter_option(text: str) -> str:
    """The delimiter that ``--delimiter`` names: a character, "::", or a word such as "tab"; "" if it names none."""
    delimiter = {**DELIMITERS, "\\t": "\t", "space": " ", "::": "::", "": ""}.get(text, text)
    if delimiter != "::" and len(delimiter) > 1:
        raise UserError(f"--delimiter is {quoted(text)}; give one character, or {', '.join(DELIMITERS)} or space")
    return delimiter


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
