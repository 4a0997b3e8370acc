"""Ratings of items by users: MovieLens' files as they come, tables of one's own, and tasters of real wines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.delimited import comma_separated
from pipeline.data.known import folder_of
from pipeline.data.text import read_encoded
from pipeline.errors import UserError

TEST_SHARE = 0.2
MOVIELENS = {"u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"}
MOVIELENS_MIRRORS = ("https://files.grouplens.org/datasets/movielens/ml-100k/",)
MOVIELENS_FOLDS = 5
KNOWN = ("wine", "movielens-100k")
COLUMNS = {
    "user": ("user", "userid", "user_id", "uid"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "product", "product_id"),
    "rating": ("rating", "ratings", "value", "score", "stars"),
    "timestamp": ("timestamp", "time", "unix_timestamp"),
}
"""What a first line may call them."""
RATING_FILES = ("u.data", "ratings.csv", "ratings.dat", "ratings.tsv")
TITLE_FILES = ("u.item", "movies.csv", "movies.dat")
UNSEEN = 0
"""The place of every user and item that no training rating is of."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """Who rated what, how, and when: arrays (ratings,).

    users, items: places among the names of ``RatingData``, int32. values: float32; 1 where there was none.
    times: seconds, float64, or None where there are none.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: np.ndarray) -> "Ratings":
        times = None if self.times is None else self.times[rows]
        return Ratings(self.users[rows], self.items[rows], self.values[rows], times)


@dataclass(frozen=True, eq=False)
class RatingData:
    """Ratings in three splits, with the names of users and items at their places.

    users, items: place 0 (``UNSEEN``) is for all that no training rating is of.
    titles: of items, by their names, where there are some.
    scale: the lowest and the highest rating.
    notes: what a user should know about the data.
    floor: the least error that any model could have, where the ratings were drawn by one that is known.
    """

    name: str
    users: tuple[str, ...]
    items: tuple[str, ...]
    titles: Mapping[str, str]
    train: Ratings
    validation: Ratings
    test: Ratings
    scale: tuple[float, float]
    notes: tuple[str, ...] = ()
    floor: float | None = None

    def title(self, item: int) -> str:
        """Or, where it has none, its name."""
        return self.titles.get(self.items[item], self.items[item])


class Read(NamedTuple):
    """A file's columns, line by line: names, numbers, and the number of the line each stood in."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray | None
    times: np.ndarray | None
    lines: np.ndarray


class Found(NamedTuple):
    """What a reader found. parts: "train", and "test" where the data have their own."""

    parts: Mapping[str, Read]
    titles: Mapping[str, str]
    notes: tuple[str, ...] = ()
    floor: float | None = None


def load(
    name_or_path: str,
    *,
    seed: int,
    ranking: bool = False,
    scale: tuple[float, float] | None = None,
    validation: float = 0.1,
    folds: int = 0,
    fold: int = 1,
    encoding: str = "",
) -> RatingData:
    """The ratings of that name, or the user's own at that path.

    name_or_path: "wine" or "movielens-100k"; a file of lines ``user item rating [timestamp]`` between tabs, commas,
        "::" or spaces; a folder with MovieLens' files.
    seed: of what is held out for validation, and for the test where nothing else says which ratings are.
    ranking: every user's last item by time is the test split, the one before it the validation split; whatever its
        rating, an item counts as chosen.
    scale: the lowest and the highest rating; None: as they are found.
    validation: the share of the training ratings that is held out.
    folds, fold: of a cross-validation, whose part ``fold`` of so many is the test split; MovieLens' official five where
        the data have these. 0 folds: the data's own test split (the first fold), else a random fifth.
    encoding: of the files; "": UTF-8, and latin-1 for ``u.item`` and ``.dat`` files.

    Raises UserError, saying what is wrong and where, for anything that cannot be trained on.
    """
    found = _find(name_or_path, encoding, folds, fold, ranking)
    notes = list(found.notes)
    parts = {}
    for part, read in found.parts.items():
        if not ranking and read.values is None:
            raise UserError(
                f"{name_or_path} has no ratings: its lines have a user and an item and no third column; add one, or "
                "choose --objective ranking, which needs none"
            )
        _check_scale(name_or_path, read, scale)
        parts[part] = _without_duplicates(read, notes)
    every = parts["train"]
    if not ranking and "test" not in parts:
        parts["train"], parts["test"] = _fold(every, folds, fold, seed)
    random = np.random.default_rng((seed, 1))
    if ranking:
        parts = _last_left_out(name_or_path, every, notes)
    else:
        held = _share(random, len(parts["train"].lines), validation)
        parts["train"], parts["validation"] = _taken(parts["train"], ~held), _taken(parts["train"], held)
        for part in ("train", "validation", "test"):
            if not len(parts[part].lines):
                raise UserError(f"{name_or_path} has too few ratings: none is left for the {part} split; give more")
    users, items = (_names(getattr(parts["train"], of)) for of in ("users", "items"))
    splits = {part: _placed(read, users, items) for part, read in parts.items()}
    notes += _unseen(splits["test"])
    values = np.concatenate([split.values for split in splits.values()])
    return RatingData(
        name_or_path,
        users=users,
        items=items,
        titles=found.titles,
        **splits,
        scale=scale or (float(values.min()), float(values.max())),
        notes=tuple(notes),
        floor=found.floor,
    )


def _find(name: str, encoding: str, folds: int, fold: int, ranking: bool) -> Found:
    if name == "wine":
        return wine_tasters()
    path = movielens() if name == "movielens-100k" else Path(name)
    if path.is_dir():
        return read_folder(path, encoding, folds, fold, ranking)
    if path.is_file():
        return Found({"train": read_table(path, encoding)}, {})
    raise UserError(
        f"{path} is neither a known set of ratings nor an existing path; known ones are {', '.join(KNOWN)}, and a path "
        "may be a file of lines 'user item rating [timestamp]' between tabs, commas, :: or spaces, or a folder with "
        "MovieLens' files"
    )


def movielens() -> Path:
    """The folder of MovieLens 100K (Harper & Konstan 2015): 100,000 ratings of 1,682 films by 943 people, in 1997-98.

    ``$PIPELINE_DATA/movielens-100k`` or the user's cache; where it is in neither, u.data is downloaded into the cache.
    """
    return folder_of(MOVIELENS, MOVIELENS_MIRRORS, shared="movielens-100k", cached="movielens-100k")


def read_folder(path: Path, encoding: str, folds: int, fold: int, ranking: bool) -> Found:
    """MovieLens' files: ``u.data``, ``ratings.csv``, ``.dat`` or ``.tsv``; official folds, and titles, where they are.

    The folds of MovieLens 100K are ``u1.base``, ``u1.test`` and so on; or, where these are not there, lines 1 to 20,000
    of ``u.data`` and so on, which is how they were made. Without folds the first one's test split is the test split.
    """
    titles: dict[str, str] = {}
    for name in TITLE_FILES:
        if (path / name).is_file():
            titles |= read_titles(path / name, encoding)
    files = [path / f"u{fold}.{part}" for part in ("base", "test")]
    if not ranking and folds in (0, MOVIELENS_FOLDS) and all(file.is_file() for file in files):
        base, test = (read_table(file, encoding) for file in files)
        return Found({"train": base, "test": test}, titles)
    whole = next((path / name for name in RATING_FILES if (path / name).is_file()), None)
    if whole is None:
        raise UserError(f"{path} has none of the files {', '.join(RATING_FILES)}; put the ratings into one of these")
    read = read_table(whole, encoding)
    if not ranking and folds in (0, MOVIELENS_FOLDS) and path.name == "movielens-100k":
        part = len(read.lines) // MOVIELENS_FOLDS
        test = np.arange(len(read.lines)) // part == fold - 1
        return Found({"train": _taken(read, ~test), "test": _taken(read, test)}, titles)
    return Found({"train": read}, titles)


def read_titles(path: Path, encoding: str = "") -> dict[str, str]:
    """Titles of items by their names: ``u.item`` (split at "|"), ``movies.csv`` or ``movies.dat`` (at "::")."""
    titles = {}
    with_bars = path.name == "u.item"
    rows = (
        ((i, line.split("|" if with_bars else "::")) for i, line in enumerate(_lines(path, encoding or "latin-1"), 1))
        if path.suffix != ".csv"
        else comma_separated(path, read_encoded(path, encoding or "utf-8"))
    )
    for line, fields in rows:
        if len(fields) < 2:
            raise UserError(f"{path}: line {line} has no title: an item and its title must stand in it; correct it")
        titles[fields[0].strip()] = fields[1].strip()
    return titles


def read_table(path: Path, encoding: str = "") -> Read:
    """A file of lines ``user item rating [timestamp]`` between tabs, commas, "::" or spaces, as its first line says.

    The first line may name the columns (MovieLens' ``userId,movieId,rating,timestamp``), which then stand in any order;
    without a rating column every line is an item that the user chose. Names are any strings.

    Raises UserError for an empty file and, with its number, for a line that cannot be read.
    """
    content = read_encoded(path, encoding or ("latin-1" if path.suffix == ".dat" else "utf-8"))
    first = next((line for line in content.split("\n") if line.strip()), None)
    if first is None:
        raise UserError(f"{path} is empty; it must have lines 'user item rating [timestamp]'")
    separator = next((its for its in ("::", "\t", ",", ";") if its in first), None)
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
        for kind, its in (("rating", values), ("timestamp", times)):
            if kind in columns:
                its.append(_number(path, line, kind, fields[columns[kind]]))
    if not lines:
        raise UserError(f"{path} has no ratings: it has nothing but the names of its columns")
    return Read(
        np.array(users, object),
        np.array(items, object),
        np.array(values, np.float32) if values else None,
        np.array(times, np.float64) if times else None,
        np.array(lines),
    )


def _columns(path: Path, fields: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Where each column stands, and whether the file's first line, which this is, names them."""
    names = [name.lower() for name in fields]
    found = {kind: next((i for i, name in enumerate(names) if name in known), None) for kind, known in COLUMNS.items()}
    if found["user"] is not None and found["item"] is not None:
        return {kind: i for kind, i in found.items() if i is not None}, True
    if not 2 <= len(fields) <= 4:
        raise UserError(
            f"{path} has {len(fields)} columns, and its first line does not name them; it must have user, item, rating "
            "and maybe timestamp, or a first line with the names user, item, rating, timestamp"
        )
    return dict(zip(("user", "item", "rating", "timestamp"), range(len(fields)))), False


def _number(path: Path, line: int, kind: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"{path}: line {line} has the {kind} {text!r}, which is no number; correct it") from error
    if not np.isfinite(value):
        raise UserError(f"{path}: line {line} has the {kind} {text!r}, which is not finite; correct it")
    return value


def _lines(path: Path, encoding: str) -> list[str]:
    return [line for line in read_encoded(path, encoding).split("\n") if line.strip()]


def _check_scale(name: str, read: Read, scale: tuple[float, float] | None) -> None:
    if scale is None or read.values is None:
        return
    outside = np.flatnonzero((read.values < scale[0]) | (read.values > scale[1]))
    if len(outside):
        raise UserError(
            f"{name}: line {read.lines[outside[0]]} has the rating {read.values[outside[0]]:g}, outside the scale from "
            f"{scale[0]:g} to {scale[1]:g} ({len(outside)} such lines in all); correct it, or give another --scale"
        )


def _without_duplicates(read: Read, notes: list[str]) -> Read:
    """Of several ratings of one item by one user the latest: by time, or by its place in the file."""
    order = np.arange(len(read.lines)) if read.times is None else np.argsort(read.times, kind="stable")
    latest = dict(zip(zip(read.users[order], read.items[order]), order.tolist()))
    if len(latest) == len(read.lines):
        return read
    by = "by its timestamp" if read.times is not None else "the one furthest down"
    notes.append(
        f"{len(read.lines) - len(latest)} ratings left out: their users rated the same items again, and the latest "
        f"counts ({by})"
    )
    return _taken(read, np.sort(np.fromiter(latest.values(), int)))


def _taken(read: Read, rows: np.ndarray) -> Read:
    values, times = (None if column is None else column[rows] for column in (read.values, read.times))
    return Read(read.users[rows], read.items[rows], values, times, read.lines[rows])


def _share(random: np.random.Generator, size: int, share: float) -> np.ndarray:
    """True for so large a share of ``size``, and for one at least."""
    chosen = np.zeros(size, bool)
    chosen[random.permutation(size)[: max(1, round(share * size))]] = True
    return chosen


def _fold(read: Read, folds: int, fold: int, seed: int) -> tuple[Read, Read]:
    """The training ratings and the test's: a random part of so many, or a random fifth."""
    size = len(read.lines)
    if folds > size:
        raise UserError(f"there are {size} ratings, too few for {folds} parts; choose a smaller --folds")
    if folds:  # every rating is in one part, whatever the seed of a run
        test = np.random.default_rng(0).permutation(size) % folds == fold - 1
    else:
        test = _share(np.random.default_rng((seed, 0)), size, TEST_SHARE)
    return _taken(read, ~test), _taken(read, test)


def _last_left_out(name: str, read: Read, notes: list[str]) -> dict[str, Read]:
    """Every user's last item is tested, and the one before it validated; of users with fewer than 3 all are trained."""
    if read.times is None:
        raise UserError(
            f"{name} has no timestamps, and --objective ranking tests every user's last item; add a fourth column with "
            "the time of each rating, or choose --objective rating"
        )
    order = np.lexsort((read.lines, read.times, read.users.astype(str)))
    users = read.users[order]
    last = np.append(users[1:] != users[:-1], True)
    ends = np.flatnonzero(last)
    counts = np.diff(np.append(-1, ends))
    ends, few = ends[counts >= 3], counts < 3
    if not len(ends):
        raise UserError(
            f"{name} has no user with 3 items at least, which training, validation and test need; give more"
        )
    if few.any():
        notes.append(f"{few.sum()} users have fewer than 3 items: these are trained on, and nothing of them is tested")
    held = np.zeros(len(users), bool)
    held[ends] = held[ends - 1] = True
    rows = {"train": order[~held], "validation": order[ends - 1], "test": order[ends]}
    return {part: _taken(read, its) for part, its in rows.items()}


def _names(names: np.ndarray) -> tuple[str, ...]:
    """Of all there are, behind the empty one of the place for those that are not among them."""
    return ("", *sorted(set(names), key=_in_order))


def _in_order(name: str) -> tuple[bool, int, str]:
    """Numbers in their order, before all else."""
    is_number = name.isascii() and name.isdigit()
    return (not is_number, int(name) if is_number else 0, name)


def _placed(read: Read, users: Sequence[str], items: Sequence[str]) -> Ratings:
    places = ({name: place for place, name in enumerate(names)} for names in (users, items))
    users_at, items_at = (
        np.fromiter((its.get(name, UNSEEN) for name in column), np.int32, len(column))
        for its, column in zip(places, (read.users, read.items))
    )
    values = np.ones(len(read.lines), np.float32) if read.values is None else read.values
    return Ratings(users_at, items_at, values, read.times)


def _unseen(test: Ratings) -> list[str]:
    """A note on test ratings that no training rating shares a user or an item with."""
    counts = [np.count_nonzero(ids == UNSEEN) for ids in (test.users, test.items)]
    return [
        f"{count} test ratings are of {what} without a training rating: they are answered by what is known of the other"
        for count, what in zip(counts, ("users", "items"))
        if count
    ]


def wine_tasters() -> Found:
    """Ratings from 1 to 5 by 300 simulated tasters of scikit-learn's 178 real wines: 15,000, with timestamps.

    The wines and what a laboratory found in them (13 measurements: Forina et al. 1988) are real. The tasters are not:
    each has a level and a taste, a direction among the wines' four principal components, and rates

        round(3.0 + 0.8 z_q + b_u + t_u . z_i + e),    between 1 and 5,

    where z_i are a wine's four components, each of variance 1, z_q is the first of them, b_u and t_u are normal with
    deviations 0.4 and 0.5, and e with 0.5. Everyone has 50 wines, drawn with weights exp(what they would rate them),
    and drinks what they like best rather late. As the tasters are known, so is the least possible error.
    """
    from sklearn.datasets import load_wine

    data: Any = load_wine()
    measured = (data.data - data.data.mean(0)) / data.data.std(0)
    components = np.linalg.svd(measured, full_matrices=False)[0][:, :4] * np.sqrt(len(measured))
    components *= np.sign(components[np.abs(components).argmax(0), range(4)])  # a decomposition leaves signs open
    random = np.random.default_rng(0)
    tasters, each = 300, 50
    levels = random.normal(0, 0.4, tasters)[:, None]
    liking = 3.0 + 0.8 * components[:, 0] + levels + random.normal(0, 0.5, (tasters, 4)) @ components.T
    users = np.repeat(np.arange(tasters), each)
    drawn = np.argsort(-liking - random.gumbel(size=liking.shape), axis=1)[:, :each]
    items = np.take_along_axis(
        drawn, np.argsort(random.gumbel(size=drawn.shape) + np.take_along_axis(liking, drawn, 1)), 1
    )
    items = items.reshape(-1)
    expected = liking[users, items]
    values = np.clip(np.rint(expected + random.normal(0, 0.5, len(items))), 1, 5).astype(np.float32)
    times = np.tile(np.arange(each), tasters) * 86_400.0
    names = np.array([f"wine-{i + 1}" for i in range(len(measured))], object)
    read = Read(
        np.array([f"taster-{u + 1}" for u in users], object), names[items], values, times, np.arange(1, len(items) + 1)
    )
    titles = {
        name: f"cultivar {kind + 1}, {row[0]:.1f} % alcohol, colour {row[9]:.1f}"
        for name, kind, row in zip(names, data.target, data.data)
    }
    floor = float(np.sqrt(np.mean((np.clip(expected, 1, 5) - values) ** 2)))
    return Found({"train": read}, titles, floor=floor)
