"""Ratings of items by users: MovieLens' files as they come, tables of one's own, and tasters of real wines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from .known import folder_of
from .rating_files import RatingColumns, RatingSource, read_folder, read_table, take_rows
from .synthetic.wine import wine_tasters

TEST_SHARE = 0.2
MOVIELENS = {"u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"}
MOVIELENS_MIRRORS = ("https://files.grouplens.org/datasets/movielens/ml-100k/",)
KNOWN = ("wine", "movielens-100k")
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
        parts["train"], parts["validation"] = take_rows(parts["train"], ~held), take_rows(parts["train"], held)
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


def _find(name: str, encoding: str, folds: int, fold: int, ranking: bool) -> RatingSource:
    if name == "wine":
        return wine_tasters()
    path = movielens() if name == "movielens-100k" else Path(name)
    if path.is_dir():
        return read_folder(path, encoding, folds, fold, ranking)
    if path.is_file():
        return RatingSource({"train": read_table(path, encoding)}, {})
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


def _check_scale(name: str, read: RatingColumns, scale: tuple[float, float] | None) -> None:
    if scale is None or read.values is None:
        return
    outside = np.flatnonzero((read.values < scale[0]) | (read.values > scale[1]))
    if len(outside):
        raise UserError(
            f"{name}: line {read.lines[outside[0]]} has the rating {read.values[outside[0]]:g}, outside the scale from "
            f"{scale[0]:g} to {scale[1]:g} ({len(outside)} such lines in all); correct it, or give another --scale"
        )


def _without_duplicates(read: RatingColumns, notes: list[str]) -> RatingColumns:
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
    return take_rows(read, np.sort(np.fromiter(latest.values(), int)))


def _share(random: np.random.Generator, size: int, share: float) -> np.ndarray:
    """True for so large a share of ``size``, and for one at least."""
    chosen = np.zeros(size, bool)
    chosen[random.permutation(size)[: max(1, round(share * size))]] = True
    return chosen


def _fold(read: RatingColumns, folds: int, fold: int, seed: int) -> tuple[RatingColumns, RatingColumns]:
    """The training ratings and the test's: a random part of so many, or a random fifth."""
    size = len(read.lines)
    if folds > size:
        raise UserError(f"there are {size} ratings, too few for {folds} parts; choose a smaller --folds")
    if folds:  # every rating is in one part, whatever the seed of a run
        test = np.random.default_rng(0).permutation(size) % folds == fold - 1
    else:
        test = _share(np.random.default_rng((seed, 0)), size, TEST_SHARE)
    return take_rows(read, ~test), take_rows(read, test)


def _last_left_out(name: str, read: RatingColumns, notes: list[str]) -> dict[str, RatingColumns]:
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
    return {part: take_rows(read, its) for part, its in rows.items()}


def _names(names: np.ndarray) -> tuple[str, ...]:
    """Of all there are, behind the empty one of the place for those that are not among them."""
    return ("", *sorted(set(names), key=_in_order))


def _in_order(name: str) -> tuple[bool, int, str]:
    """Numbers in their order, before all else."""
    is_number = name.isascii() and name.isdigit()
    return (not is_number, int(name) if is_number else 0, name)


def _placed(read: RatingColumns, users: Sequence[str], items: Sequence[str]) -> Ratings:
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
