"""Files of ratings: lines 'user item rating [timestamp]', MovieLens' own files, and titles of items."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..display import quoted
from ..errors import UserError
from .delimited import comma_separated
from .limits import LARGEST
from .text import read_encoded

MOVIELENS_FOLDS = 5
COLUMNS = {
    "user": ("user", "userid", "user_id", "uid"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "product", "product_id"),
    "rating": ("rating", "ratings", "value", "score", "stars"),
    "timestamp": ("timestamp", "time", "unix_timestamp"),
}
"""Names of the columns in a first line."""


RATING_FILES = ("u.data", "ratings.csv", "ratings.dat", "ratings.tsv")


TITLE_FILES = ("u.item", "movies.csv", "movies.dat")


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


def read_folder(path: Path, encoding: str, folds: int, fold: int, ranking: bool) -> RatingSource:
    """The ratings in a folder with MovieLens' files: ``u.data``, or ``ratings.csv``, ``.dat`` or ``.tsv``; and titles.

    MovieLens 100K has five official folds: ``u1.base``, ``u1.test`` and so on. If these files are missing, the folds
    are
    made as the official ones were: lines 1 to 20,000 of ``u.data`` are the first test split, and so on. With ``folds``
    0, the first fold's test split is used. ranking: the official folds do not apply.
    """
    titles: dict[str, str] = {}
    for name in TITLE_FILES:
        if os.path.exists(path / name):
            titles |= read_titles(path / name, encoding)
    files = [path / f"u{fold}.{part}" for part in ("base", "test")]
    if not ranking and folds in (0, MOVIELENS_FOLDS) and all(map(os.path.exists, files)):
        base, test = (read_table(file, encoding) for file in files)
        return RatingSource({"train": base, "test": test}, titles)
    whole = next((path / name for name in RATING_FILES if os.path.exists(path / name)), None)
    if whole is None:
        raise UserError(f"{path} has none of the files {', '.join(RATING_FILES)}; put the ratings into one of these")
    ratings = read_table(whole, encoding)
    if not ranking and folds in (0, MOVIELENS_FOLDS) and path.name == "movielens-100k":
        part = len(ratings.lines) // MOVIELENS_FOLDS
        test = np.arange(len(ratings.lines)) // part == fold - 1
        return RatingSource({"train": take_rows(ratings, ~test), "test": take_rows(ratings, test)}, titles)
    return RatingSource({"train": ratings}, titles)


def read_titles(path: Path, encoding: str = "") -> dict[str, str]:
    """Titles of items, by name: from ``u.item`` (separated by "|"), ``movies.csv``, or ``movies.dat`` (by "::")."""
    titles = {}
    with_bars = path.name == "u.item"
    rows = (
        ((i, line.split("|" if with_bars else "::")) for i, line in enumerate(_lines(path, encoding or "latin-1"), 1))
        if path.suffix != ".csv"
        else comma_separated(path, read_encoded(path, encoding or "utf-8"))
    )
    for line, fields in rows:
        if len(fields) < 2:
            raise UserError(f"{path}: line {line} has no title: it must have an item and its title; correct it")
        titles[fields[0].strip()] = fields[1].strip()
    return titles


def read_table(path: Path, encoding: str = "") -> RatingColumns:
    """A file with lines ``user item rating [timestamp]``, separated by tabs, commas, semicolons, "::" or spaces.

    The separator is that of the first line. The first line may name the columns (MovieLens'
    ``userId,movieId,rating,timestamp``), which may then be in any order; without a rating column, every line is an item
    that the user chose. Names of users and items are any strings.

    Raises UserError for an empty file and, with the number, for a line that cannot be read.
    """
    content = read_encoded(path, encoding or ("latin-1" if path.suffix == ".dat" else "utf-8"))
    first = next((line for line in content.split("\n") if line.strip()), None)
    if first is None:
        raise UserError(f"{path} is empty; it must have lines 'user item rating [timestamp]'")
    separator = next((mark for mark in ("::", "\t", ",", ";") if mark in first), None)
    if separator == ",":
        rows: Iterator[tuple[int, list[str]]] = comma_separated(path, content)
    else:
        rows = ((i, line.split(separator)) for i, line in enumerate(content.split("\n"), 1))
    columns: dict[str, int] | None = None
    size = 0
    users, items, values, times, lines = [], [], [], [], []
    for line, fields in rows:
        fields = [field.strip() for field in fields]
        if not any(fields):
            continue
        if columns is None:
            columns, named = _columns(path, fields)
            size = len(fields)
            if named:
                continue
        if len(fields) != size:
            raise UserError(f"{path}: line {line} has {len(fields)} fields, and the first line {size}; correct it")
        user, item = fields[columns["user"]], fields[columns["item"]]
        if not user or not item:
            raise UserError(f"{path}: line {line} has no {'item' if user else 'user'}; add it, or remove the line")
        users.append(user)
        items.append(item)
        lines.append(line)
        for kind, numbers in (("rating", values), ("timestamp", times)):
            if kind in columns:
                numbers.append(_number(path, line, kind, fields[columns[kind]]))
    if not lines:
        raise UserError(f"{path} has no ratings: its only line has the names of the columns")
    return RatingColumns(
        np.array(users, object),
        np.array(items, object),
        np.array(values, np.float32) if values else None,
        np.array(times, np.float64) if times else None,
        np.array(lines),
    )


def _columns(path: Path, fields: Sequence[str]) -> tuple[dict[str, int], bool]:
    """The place of each column, and whether ``fields``, those of the first line, are the columns' names."""
    names = [name.lower() for name in fields]
    places = {kind: next((i for i, name in enumerate(names) if name in known), None) for kind, known in COLUMNS.items()}
    if places["user"] is not None and places["item"] is not None:
        return {kind: i for kind, i in places.items() if i is not None}, True
    if not 2 <= len(fields) <= 4:
        raise UserError(
            f"{path} has {len(fields)} columns, and its first line does not name them; it must have user, item, rating "
            "and maybe timestamp, or a first line with the names user, item, rating, timestamp"
        )
    return dict(zip(("user", "item", "rating", "timestamp"), range(len(fields)))), False


def _number(path: Path, line: int, kind: str, text: str) -> float:
    place = f"{path}: line {line} has the {kind} {quoted(text)}"
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{place}, which is not a number; correct it") from error
    if not abs(value) <= LARGEST:
        raise UserError(f"{place}, which is not finite or beyond {LARGEST:g}; correct it")
    return value


def _lines(path: Path, encoding: str) -> list[str]:
    return [line for line in read_encoded(path, encoding).split("\n") if line.strip()]


def take_rows(columns: RatingColumns, rows: np.ndarray) -> RatingColumns:
    """The rows with these numbers, or where ``rows`` is True."""
    values, times = (None if column is None else column[rows] for column in (columns.values, columns.times))
    return RatingColumns(columns.users[rows], columns.items[rows], values, times, columns.lines[rows])
