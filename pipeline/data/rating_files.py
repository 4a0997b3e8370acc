"""Files of ratings: lines 'user item rating [timestamp]', files of public data sets, and titles of items."""

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .delimited import guess_delimiter, is_number, split_rows
from .limits import LARGEST, TEXT_COST, list_folder, read_content
from .text import decoded, read_encoded

MOVIELENS_FOLDS = 5
COLUMNS = {
    "user": (
        *("user", "userid", "uid", "reviewerid", "reviewer", "customer", "customerid", "client", "clientid"),
        *("member", "memberid", "visitor", "visitorid", "reader", "listener", "username"),
    ),
    "item": (
        *("item", "itemid", "iid", "movie", "movieid", "film", "filmid", "product", "productid", "book", "bookid"),
        *("isbn", "parentasin", "asin", "anime", "animeid", "artist", "artistid", "song", "songid", "track", "trackid"),
        *("game", "gameid", "business", "businessid", "recipe", "recipeid", "article", "articleid"),
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score", "weight", "bookrating", "value"),
    "timestamp": (
        *("timestamp", "unixtimestamp", "unixreviewtime", "time", "datetime", "date", "createdat", "reviewtime"),
    ),
}
"""Names of the columns in a first line, in lower case, letters and digits alone; the first one found is meant."""
OPTIONS = {"user": "user_column", "item": "item_column", "rating": "rating_column", "timestamp": "time_column"}
RATING_FILES = ("u.data", "ratings.csv", "ratings.dat", "ratings.tsv")
TITLE_FILES = ("u.item", "movies.csv", "movies.dat")

_EXAMINED_LINES = 100
_MOST_VALUES = 101
"""Different ratings of a scale such as 0, 0.1, ..., 10; a column of times has more."""
_LATEST_SECOND = 1e11


@dataclass(frozen=True)
class RatingOptions:
    """How files of ratings are read."""

    user_column: str = ""
    """Column of the users in a file whose first line names the columns. Empty: recognised."""
    item_column: str = ""
    """Column of the items. Empty: recognised."""
    rating_column: str = ""
    """Column of the ratings; none: read no ratings. Empty: recognised."""
    time_column: str = ""
    """Column of the times, in seconds or as ISO dates; none: read no times. Empty: recognised."""
    encoding: str = ""
    """Encoding of the files. Empty: UTF-8, or latin-1 for files that are not UTF-8."""


DEFAULTS = RatingOptions()


class RatingColumns(NamedTuple):
    """The columns of a file of ratings: arrays (ratings,).

    users, items: names; values: float32; times: seconds, float64; lines: numbers of the lines in the file.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray | None
    times: np.ndarray | None
    lines: np.ndarray


class RatingSource(NamedTuple):
    """Ratings as a reader returns them, before splits are held out.

    parts: "train", and "test" if the data have their own test split; titles: of items, by name; notes: for the user;
    floor: see ``ratings.RatingData``.
    """

    parts: Mapping[str, RatingColumns]
    titles: Mapping[str, str]
    notes: tuple[str, ...] = ()
    floor: float | None = None


def read_folder(path: Path, options: RatingOptions, folds: int, fold: int, ranking: bool) -> RatingSource:
    """The ratings in a folder with MovieLens' files: ``u.data``, or ``ratings.csv``, ``.dat`` or ``.tsv``; and titles.

    MovieLens 100K has five official folds: ``u1.base``, ``u1.test`` and so on. If these files are missing, the folds
    are made as the official ones were: lines 1 to 20,000 of ``u.data`` are the first test split, and so on. With
    ``folds`` 0, the first fold's test split is used. ranking: the official folds do not apply.
    """
    titles: dict[str, str] = {}
    notes: list[str] = []
    inside = {file.name.lower(): file for file in list_folder(path)}
    for name in TITLE_FILES:
        if name in inside:
            titles |= read_titles(inside[name], options.encoding, notes)
    files = [path / f"u{fold}.{part}" for part in ("base", "test")]
    if not ranking and folds in (0, MOVIELENS_FOLDS) and all(map(os.path.exists, files)):
        base, test = (read_table(file, options, notes) for file in files)
        return RatingSource({"train": base, "test": test}, titles, tuple(notes))
    whole = next((inside[name] for name in RATING_FILES if name in inside), None)
    if whole is None:
        raise UserError(
            f"{path} has none of the files {', '.join(RATING_FILES)}; give the file with the ratings, or name it so"
        )
    used = (*TITLE_FILES, whole.name.lower())
    rest = [file.name for name, file in inside.items() if file.suffix in (".csv", ".dat", ".tsv") and name not in used]
    if rest:
        notes.append(f"{len(rest)} files of {path.name} are not read, such as {quoted(rest[0])}")
    ratings = read_table(whole, options, notes)
    if not ranking and folds in (0, MOVIELENS_FOLDS) and path.name == "movielens-100k":
        part = len(ratings.lines) // MOVIELENS_FOLDS
        test = np.arange(len(ratings.lines)) // part == fold - 1
        parts = {"train": take_rows(ratings, ~test), "test": take_rows(ratings, test)}
        return RatingSource(parts, titles, tuple(notes))
    return RatingSource({"train": ratings}, titles, tuple(notes))


def read_titles(path: Path, encoding: str, notes: list[str]) -> dict[str, str]:
    """Titles of items, by name: from ``u.item`` (separated by "|"), ``movies.csv``, or ``movies.dat`` (by "::")."""
    name = path.name.lower()
    by = {"u.item": "|", "movies.dat": "::"}.get(name, ",")
    # Titles in u.item, which is latin-1 by its description, may have quotation marks.
    content = _read(path, encoding, [] if name == "u.item" else notes)
    rows = (
        ((i, line.split(by)) for i, line in enumerate(content.split("\n"), 1) if line.strip())
        if by != ","
        else split_rows(path, content, by)
    )
    titles = {}
    for line, fields in rows:
        if len(fields) < 2:
            raise UserError(f"{path}: line {line} has no title: it must have an item and its title; correct it")
        titles[fields[0].strip()] = fields[1].strip()
    return titles


def _read(path: Path, encoding: str, notes: list[str]) -> str:
    """The text of a file: in the given encoding, else in UTF-8 (or as its mark says) or in latin-1, with a note."""
    if encoding:
        return read_encoded(path, encoding)
    content = read_content(path, cost=TEXT_COST)
    try:
        return decoded(path, content, notes=notes)
    except UserError:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise
    notes.append(f"{visible(path.name)} is read as latin-1: it is not UTF-8 (--encoding names another)")
    return decoded(path, content, "latin-1")


def read_table(path: Path, options: RatingOptions, notes: list[str]) -> RatingColumns:
    """A file with lines ``user item rating [timestamp]``, separated by tabs, commas, semicolons, "|", "::" or spaces.

    The separator is that of the first lines. The first line may name the columns (MovieLens'
    ``userId,movieId,rating,timestamp``), which may then be in any order; without a rating column, every line is an item
    that the user chose. Names of users and items are any strings. notes: are extended by what is guessed or not used.

    Raises UserError for an empty file and, with the number, for a line that cannot be read.
    """
    content = _read(path, options.encoding, notes)
    first = next((line for line in content.split("\n") if line.strip()), None)
    if first is None:
        raise UserError(f"{path} is empty; it must have lines 'user item rating [timestamp]'")
    if re.fullmatch(r"\s*\{.*\}\s*", first):
        raise UserError(f"{path} looks like JSON; write a table with the columns user, item, rating and timestamp")
    separator = "::" if "::" in first else guess_delimiter(content) or " "
    split = ((line, [field.strip() for field in fields]) for line, fields in split_rows(path, content, separator))
    rows = ((line, fields) for line, fields in split if any(fields))
    examined = list(islice(rows, _EXAMINED_LINES))
    size = len(examined[0][1])
    columns, is_named, is_counted = _columns(path, [fields for _, fields in examined], options, notes)
    users, items, values, times, lines = [], [], [], [], []
    commas: list[int] = []
    for number, (line, fields) in enumerate(islice(chain(examined, rows), int(is_named), None)):
        if len(fields) != size:
            raise UserError(f"{path}: line {line} has {len(fields)} fields, and the first line {size}; correct it")
        user, item = fields[columns["user"]], fields[columns["item"]]
        if not user or not item:
            raise UserError(f"{path}: line {line} has no {'item' if user else 'user'}; add it, or remove the line")
        if is_counted and fields[0] != str(number + int(examined[0][1][0])):
            raise UserError(
                f"{path}: line {line} has {quoted(fields[0])} in the first column, which has the numbers of the lines "
                "before; name the columns in a first line such as 'number,user,item,rating'"
            )
        users.append(user)
        items.append(item)
        lines.append(line)
        if "rating" in columns:
            text = fields[columns["rating"]]
            if "," in text and separator != ",":
                text = text.replace(",", ".")
                commas.append(line)
            values.append(_number(path, line, "rating", text))
        if "timestamp" in columns:
            times.append(_time(path, line, fields[columns["timestamp"]]))
    if commas:
        notes.append(
            f"{len(commas)} ratings with a comma, the first in line {commas[0]}, are read with a decimal point instead"
        )
    if not lines:
        raise UserError(f"{path} has no ratings: its only line has the names of the columns")
    return RatingColumns(
        np.array(users, object),
        np.array(items, object),
        np.array(values, np.float32) if values else None,
        _seconds(np.array(times, np.float64), notes) if times else None,
        np.array(lines),
    )


def _columns(
    path: Path, rows: Sequence[Sequence[str]], options: RatingOptions, notes: list[str]
) -> tuple[dict[str, int], bool, bool]:
    """The place of each column; whether the first row names the columns; whether the first column numbers the lines."""
    first = rows[0]
    chosen = {kind: getattr(options, option) for kind, option in OPTIONS.items()}
    places = {kind: _place(path, kind, first, chosen[kind]) for kind in COLUMNS}
    if places["user"] is not None and places["item"] is not None:
        named = {kind: place for kind, place in places.items() if place is not None}
        rest = [name or f"column {i + 1}" for i, name in enumerate(first) if i not in named.values()]
        if rest:
            hint = "" if "timestamp" in named else " (--time-column names the one of the times)"
            names = visible(", ".join(map(repr, rest)))
            notes.append(f"columns of {visible(path.name)} that are not used: {names}{hint}")
        return named, True, False
    if _is_heading(rows, places):
        kinds = [kind for kind in ("user", "item") if places[kind] is None]
        raise UserError(
            f"{path} has no column of the {' and the '.join(kinds)} that is known by its name: its first line names "
            f"{visible(', '.join(map(repr, first)))}; name it with {' and '.join(f'--{kind}-column' for kind in kinds)}"
        )
    is_counted = _counts(rows)
    count = len(first) - is_counted
    if not 2 <= count <= 4:
        raise UserError(
            f"{path} has {count} columns, and its first line does not name them; it must have user, item, rating "
            "and maybe timestamp, or a first line with the names user, item, rating, timestamp"
        )
    if is_counted:
        notes.append(f"the first column of {visible(path.name)} is left out: it has the numbers of the lines")
    numbered = {kind: place for kind, place in zip(COLUMNS, range(is_counted, len(first))) if chosen[kind] != "none"}
    return numbered, False, is_counted


def _place(path: Path, kind: str, names: Sequence[str], chosen: str) -> int | None:
    """The place of a column among the names of the first line, or None."""
    if chosen == "none" and kind in ("rating", "timestamp"):
        return None
    if chosen:
        lower = [name.lower() for name in names]
        if chosen.lower() not in lower:
            option = OPTIONS[kind].replace("_", "-")
            raise UserError(
                f"{path} has no column {quoted(chosen)}: its first line names {visible(', '.join(map(repr, names)))}; "
                f"name one of these with --{option}"
            )
        return lower.index(chosen.lower())
    plain = [re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]) for name in names]
    return next((plain.index(name) for name in COLUMNS[kind] if name in plain), None)


def _is_heading(rows: Sequence[Sequence[str]], places: Mapping[str, int | None]) -> bool:
    """Whether the first row has names of columns: one of them is known, or it lacks what the second row has."""
    first = rows[0]
    if any(places[kind] is not None for kind in ("user", "item")):
        return True
    if len(rows) < 2 or any(any(map(str.isdigit, name)) for name in first):
        return False
    return all(any(map(str.isdigit, field)) for field in rows[1])


def _counts(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows of at least four columns begin with their numbers, which are not users: ratings come last."""
    start = rows[0][0]
    if len(rows) < 3 or len(rows[0]) < 4 or start not in ("0", "1"):
        return False
    values = {row[-1] for row in rows}
    is_rating = len(rows[0]) > 4 or (all(map(is_number, values)) and len(values) <= min(_MOST_VALUES, len(rows) / 2))
    return is_rating and all(row[0] == str(number) for number, row in enumerate(rows, int(start)))


def _number(path: Path, line: int, kind: str, text: str) -> float:
    place = f"{path}: line {line} has the {kind} {quoted(text)}"
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{place}, which is not a number; correct it") from error
    if not abs(value) <= LARGEST:
        raise UserError(f"{place}, which is not finite or beyond {LARGEST:g}; correct it")
    return value


def _time(path: Path, line: int, text: str) -> float:
    """Seconds: of a number, or of an ISO date, which is in UTC unless it says otherwise."""
    if is_number(text):
        return _number(path, line, "timestamp", text)
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: line {line} has the timestamp {quoted(text)}, which is neither a number of seconds nor an ISO "
            "date such as 2015-03-31; correct it, or use --time-column none"
        ) from error


def _seconds(times: np.ndarray, notes: list[str]) -> np.ndarray:
    if np.median(times) <= _LATEST_SECOND:
        return times
    notes.append(f"times such as {times[0]:.0f} are read as milliseconds: as seconds they lie thousands of years ahead")
    return times / 1000


def take_rows(columns: RatingColumns, rows: np.ndarray) -> RatingColumns:
    """The rows with these numbers, or where ``rows`` is True."""
    values, times = (None if column is None else column[rows] for column in (columns.values, columns.times))
    return RatingColumns(columns.users[rows], columns.items[rows], values, times, columns.lines[rows])
