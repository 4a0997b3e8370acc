"""Files of ratings: lines 'user item rating [timestamp]', files of public data sets, and titles of items."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..display import quoted, visible
from ..errors import UserError
from .delimited import is_number, note_on_delimiter, split_rows, suffix_of, without_comments, without_separator_line
from .limits import list_folder, require_unicode
from .named_columns import JSON, Column, flattened, json_objects
from .rating_values import in_seconds, ratings_of, time_of
from .sheet import WORKBOOKS, read_sheet
from .text import read_guessed

MOVIELENS_FOLDS = 5
COLUMNS = (
    Column(
        "user",
        (
            *("user", "user_id", "uid", "reviewer_id", "reviewer", "customer", "customer_id", "client", "client_id"),
            *("member", "member_id", "visitor", "visitor_id", "reader", "listener", "username", "user_name", "author"),
            *("user_key", "profile_name", "review_profilename"),
        ),
        "--user-column",
    ),
    Column(
        "item",
        (
            *("item", "item_id", "iid", "movie", "movie_id", "film", "film_id", "product", "product_id", "book"),
            *("book_id", "isbn", "parent_asin", "asin", "anime", "anime_id", "artist", "artist_id", "song", "song_id"),
            *("track", "track_id", "game", "game_id", "business", "business_id", "recipe", "recipe_id", "article"),
            *(
                "article_id",
                "joke",
                "joke_id",
                "video",
                "video_id",
                "news",
                "news_id",
                "beer",
                "beer_id",
                "beer_beerid",
            ),
            *("wine", "wine_id", "place", "place_id", "venue", "venue_id", "restaurant", "hotel", "app", "app_id"),
            *("course", "course_id", "show", "show_id", "podcast", "location_id"),
        ),
        "--item-column",
    ),
    Column(
        "rating",
        (
            *(
                "rating",
                "ratings",
                "overall",
                "stars",
                "score",
                "weight",
                "book_rating",
                "value",
                "plays",
                "play_count",
            ),
            *("user_rating", "review_overall", "review_score", "watch_ratio", "listen_count", "points", "preference"),
        ),
        "--rating-column",
        optional=True,
    ),
    Column(
        "timestamp",
        ("timestamp", "unix_timestamp", "unix_review_time", "time", "datetime", "date", "created_at", "review_time"),
        "--time-column",
        optional=True,
    ),
)
"""The columns of a file of ratings, in the order that they have without a first line that names them."""
RATING_FILES = ("u.data", "ratings.csv", "ratings.dat", "ratings.tsv")
_RATING_WORDS = ("rating", "review", "interaction")
"""Parts of the name of the file of ratings among others of a folder."""
TITLE_FILES = ("u.item", "movies.csv", "movies.dat")

_EXAMINED_LINES = 100
_FEWEST_ITEMS = 10
_FIRST_SECOND = 5e8
_MOST_VALUES = 101
"""Different ratings of a scale such as 0, 0.1, ..., 10; a column of times has more."""
_TABLES = (".csv", ".tsv", ".dat", ".txt", ".inter", ".data", *JSON, *WORKBOOKS)
_OFFICIAL = re.compile(r"u\d\.(base|test)")
_BLOCK = re.compile(r"\d+:")
"""A line before the ratings of an item, in the files of the Netflix prize."""


@dataclass(frozen=True)
class RatingOptions:
    """How files of ratings are read."""

    user_column: str = ""
    """Column of the users: its name in the first line, or its number, from 1, where that names none. Empty:
    recognised."""
    item_column: str = ""
    """Column of the items. Empty: recognised."""
    rating_column: str = ""
    """Column of the ratings; none: read no ratings. Empty: recognised."""
    time_column: str = ""
    """Column of the times, in seconds or as ISO dates; none: read no times. Empty: recognised."""
    delimiter: str = ""
    """Delimiter of the file: a character, ::, or tab, semicolon, pipe, comma or space. Empty: recognised."""
    encoding: str = ""
    """Encoding of the files. Empty: UTF-8, or latin-1 or cp1252 for files that are not UTF-8."""

    def columns(self) -> tuple[Column, ...]:
        """``COLUMNS`` with the names that were chosen, without those that are not to be read."""
        chosen = (self.user_column, self.item_column, self.rating_column, self.time_column)
        return tuple(
            replace(column, chosen=name)
            for column, name in zip(COLUMNS, chosen)
            if not (column.optional and name == "none")
        )


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
    tables = [file for name, file in inside.items() if suffix_of(file) in _TABLES and name not in TITLE_FILES]
    named = [file for file in tables if any(word in file.name.lower() for word in _RATING_WORDS)]
    tables = named if len(named) == 1 else tables
    if whole is None and len(tables) != 1:
        has = f"it has {visible(', '.join(inside))}" if inside else "it is empty"
        raise UserError(
            f"{path} has none of the files {', '.join(RATING_FILES)}: {has}; give the file with the ratings, or name "
            "it so"
        )
    whole = whole or tables[0]
    used = (*TITLE_FILES, whole.name.lower())
    rest = [file.name for name, file in inside.items() if name not in used and not name.startswith((".", "u"))]
    if rest:
        notes.append(
            f"{len(rest)} files of {path.name} are not read, such as {quoted(rest[0])}: the ratings are in "
            f"{visible(whole.name)}"
        )
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
    content = read_guessed(path, encoding, [] if name == "u.item" else notes)
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


def read_table(path: Path, options: RatingOptions, notes: list[str]) -> RatingColumns:
    """A file with lines ``user item rating [timestamp]``, separated by tabs, commas, semicolons, "|", "::" or spaces.

    The first line may name the columns (MovieLens' ``userId,movieId,rating,timestamp``), which may then be in any
    order; without a rating column, every line is an item that the user chose. Names of users and items are any strings.
    The file may also be an Excel or Parquet file, have a JSON object in each line, or be one of the Netflix prize.
    notes: are extended by what is guessed or not used.

    Raises UserError for an empty file and, with the number, for a line that cannot be read.
    """
    if suffix_of(path) in WORKBOOKS:
        sheet = read_sheet(path)
        notes += sheet.notes
        rows = ((line, [field.strip() for field in fields]) for line, fields in sheet.rows)
    else:
        content = read_guessed(path, options.encoding, notes)
        if not content.strip():
            raise UserError(f"{path} is empty; it must have lines 'user item rating [timestamp]'")
        rows = _rows(path, content, options, notes)
    examined = list(islice(rows, _EXAMINED_LINES))
    if not examined:
        raise UserError(f"{path} has no ratings: all of its lines are comments")
    size = len(examined[0][1])
    columns, is_named, is_counted = _columns(path, [fields for _, fields in examined], options, notes)
    users, items, texts, times, lines = [], [], [], [], []
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
        texts += [fields[columns["rating"]]] if "rating" in columns else []
        times += [time_of(path, line, fields[columns["timestamp"]])] if "timestamp" in columns else []
    if not lines:
        raise UserError(f"{path} has no ratings: its only line has the names of the columns")
    table = RatingColumns(
        np.array(users, object),
        np.array(items, object),
        None,
        in_seconds(np.array(times, np.float64), notes) if times else None,
        np.array(lines),
    )
    if "rating" not in columns:
        return table
    values = ratings_of(path, texts, lines, notes)
    given = ~np.isnan(values)
    if not given.any():
        raise UserError(f"{path} has no ratings: all fields of their column are empty; name another: --rating-column")
    return take_rows(table._replace(values=values.astype(np.float32)), given)


def _rows(path: Path, content: str, options: RatingOptions, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row that is not empty, with the number of its line."""
    if suffix_of(path) in JSON or re.match(r"\s*\{.*\}\s*(\n|$)", content):
        yield from _json_rows(path, content)
        return
    content, _ = without_comments(path, content, notes)
    first = next((line.strip() for line in content.split("\n") if line.strip()), "")
    if _BLOCK.fullmatch(first):
        notes.append(f"{visible(path.name)} is read as of the Netflix prize: an item and :, then user,rating,date")
        item = ""
        for line, fields in split_rows(path, content, ","):
            if len(fields) == 1 and _BLOCK.fullmatch(fields[0].strip()):
                item = fields[0].strip()[:-1]
            elif any(fields):
                yield line, [fields[0].strip(), item, *map(str.strip, fields[1:])]
        return
    own_notes = [] if _is_movielens(path) else notes
    content, given = without_separator_line(content)
    delimiter = note_on_delimiter(path, content, options.delimiter or given, own_notes, otherwise=" ")
    for line, fields in split_rows(path, content, delimiter):
        if any(field.strip() for field in fields):
            yield line, [field.strip() for field in fields]


def _is_movielens(path: Path) -> bool:
    """Whether a file has a name of MovieLens, whose columns and delimiters are known."""
    return path.name in ("u.data", "ratings.dat") or bool(_OFFICIAL.fullmatch(path.name))


def _json_rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The values of JSON objects, after their names; those of objects in them have names such as "user.id"."""
    names: list[str] = []
    for line, value in json_objects(path, content):
        if not isinstance(value, dict):
            raise UserError(f"{path}: line {line} is no JSON object; each must be one with a user and an item")
        fields = {name: _text(field) for name, field in flattened(value)}
        if not names:
            names = list(fields)
            yield 0, names
        yield line, [fields.get(name, "") for name in names]


def _text(field: Any) -> str:
    return require_unicode(field if isinstance(field, str) else "" if field is None else json.dumps(field))


def _columns(
    path: Path, rows: Sequence[Sequence[str]], options: RatingOptions, notes: list[str]
) -> tuple[dict[str, int], bool, bool]:
    """The place of each column; whether the first row names the columns; whether the first column numbers the lines."""
    first, columns = rows[0], options.columns()
    chosen = [column.chosen for column in columns if column.chosen]
    if chosen and all(name.isdecimal() for name in chosen):
        return _numbered(path, len(first), columns), False, False
    named = {column.name: column.place_chosen(path, first) for column in columns}
    named = {name: place for name, place in named.items() if place is not None}
    options_named = ", ".join(column.option for column in columns)
    if "user" in named and "item" in named:
        rest = [name or f"column {i + 1}" for i, name in enumerate(first) if i not in named.values()]
        kinds = ", ".join(f"{quoted(first[place])} is the {name}" for name, place in named.items())
        if any(_is_unusual(column, first) for column in columns):
            notes.append(f"columns of {visible(path.name)}: {kinds} ({options_named} name others)")
        if rest:
            hint = "" if "timestamp" in named else " (--time-column names the one of the times)"
            names = visible(", ".join(map(repr, rest)))
            notes.append(f"columns of {visible(path.name)} that are not used: {names}{hint}")
        return named, True, False
    if _is_heading(rows, named):
        if "user" in named and "rating" not in named and _has_items_as_columns(rows):
            raise UserError(
                f"{path} seems to have a column for each item, such as {quoted(first[1])}; write a line for each "
                "rating, with user, item and rating, as pandas.DataFrame.melt does"
            )
        kinds = [kind for kind in ("user", "item") if kind not in named]
        raise UserError(
            f"{path} has no column of the {' and the '.join(kinds)} that is known by its name: its first line names "
            f"{visible(', '.join(map(repr, first)))}; name it with {' and '.join(f'--{kind}-column' for kind in kinds)}"
        )
    is_counted = _counts(rows)
    count = len(first) - is_counted
    if not 2 <= count <= 4:
        raise UserError(
            f"{path} has {count} columns, and its first line does not name them; it must have user, item, rating "
            "and maybe timestamp, or a first line with the names user, item, rating, timestamp; or give the columns' "
            f"numbers with {options_named}"
        )
    if is_counted:
        notes.append(
            f"the first column of {visible(path.name)} is left out: it has the numbers of the lines (--user-column 1 "
            "and the like choose columns)"
        )
    numbered = {column.name: place for column, place in zip(COLUMNS, range(is_counted, len(first)))}
    numbered = {column.name: numbered[column.name] for column in columns if column.name in numbered}
    place = numbered.get("rating", 0)
    if place and len(numbered) == 3 and _are_times([row[place] for row in rows if len(row) > place]):
        raise UserError(
            f"{path} has numbers such as {quoted(first[place])} as the third column, which are times "
            f"rather than ratings; choose its columns: --user-column {1 + is_counted} --item-column {2 + is_counted} "
            f"--time-column {3 + is_counted}"
        )
    if not _is_movielens(path):
        names = ", ".join(numbered)
        notes.append(
            f"{visible(path.name)} does not name its columns: they are taken for {names} (--user-column 1, "
            "--item-column 2 and the like choose others)"
        )
    return numbered, False, is_counted


def _numbered(path: Path, size: int, columns: Sequence[Column]) -> dict[str, int]:
    """The places of columns that are chosen by their numbers."""
    places = {column.name: int(column.chosen[:9]) - 1 for column in columns if column.chosen}
    for column in columns:
        if not column.chosen and not column.optional:
            raise UserError(f"{path}: some columns are chosen by their numbers; choose {column.option} likewise")
        if not 0 <= places.get(column.name, 0) < size:
            raise UserError(
                f"{path} has {size} columns, and {column.option} is {column.chosen}; choose from 1 to {size}"
            )
    return places


def _is_unusual(column: Column, heading: Sequence[str]) -> bool:
    """Whether a column is found by another name than the reader's own, or that name with "id"."""
    place = None if column.chosen else column.place_in(heading)
    own = (column.name, f"{column.name}id", "movieid", "unixtimestamp")
    return place is not None and re.sub(r"[\W_]", "", heading[place].lower().partition(":")[0]) not in own


def _is_heading(rows: Sequence[Sequence[str]], named: Mapping[str, int]) -> bool:
    """Whether the first row has names of columns: one of them is known, or it lacks what the second row has."""
    first = rows[0]
    if "user" in named or "item" in named:
        return True
    if len(rows) < 2 or any(any(map(str.isdigit, name)) for name in first):
        return False
    return all(any(map(str.isdigit, field)) for field in rows[1])


def _are_times(texts: Sequence[str]) -> bool:
    """Whether numbers are seconds, or smaller units, since 1970: different ones, all from ``_FIRST_SECOND`` on."""
    numbers = [float(text) for text in texts if is_number(text)]
    return len(numbers) == len(texts) and min(numbers) >= _FIRST_SECOND and len(set(numbers)) > 1


def _has_items_as_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows seem to have the ratings of all items, of which each user has rated few: numbers, and many gaps."""
    cells = [field for row in rows[1:] for field in row[1:]]
    has_gaps = len(rows[0]) > _FEWEST_ITEMS or not all(cells)
    return len(rows[0]) > 3 and has_gaps and all(not field or is_number(field) for field in cells)


def _counts(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows of at least four columns begin with their numbers, which are not users: ratings come last."""
    start = rows[0][0]
    if len(rows) < 3 or len(rows[0]) < 4 or start not in ("0", "1"):
        return False
    values = {row[-1] for row in rows}
    is_rating = len(rows[0]) > 4 or (all(map(is_number, values)) and len(values) <= min(_MOST_VALUES, len(rows) / 2))
    return is_rating and all(row[0] == str(number) for number, row in enumerate(rows, int(start)))


def take_rows(columns: RatingColumns, rows: np.ndarray) -> RatingColumns:
    """The rows with these numbers, or where ``rows`` is True."""
    values, times = (None if column is None else column[rows] for column in (columns.values, columns.times))
    return RatingColumns(columns.users[rows], columns.items[rows], values, times, columns.lines[rows])
