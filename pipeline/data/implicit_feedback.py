"""What recommenders are trained on: pairs of users and items, or the whole table of both."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.data.ratings import Ratings
from pipeline.losses.base import Targets
from pipeline.losses.ranking import Candidates


@dataclass(frozen=True, eq=False)
class Pairs:
    """A user, one item, and what its rating is beside the baseline: arrays (ratings,)."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Ids (rows,) and (rows, 1), and values (rows, 1)."""
        return (self.users[rows], self.items[rows, None]), self.values[rows, None]


@dataclass(frozen=True, eq=False)
class Table:
    """All users and items at once: one example, whose axes are the table's.

    known: what training ratings are beside the baseline, (users, items), 0 where there is none; targets, weights: what
    is to be predicted, and where it counts.
    """

    known: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return 1

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, Targets]:
        del rows
        return self.known, Targets(self.targets, self.weights)


@dataclass(frozen=True, eq=False)
class Rows:
    """Users, each with the items that it has rated and what it is to be asked: arrays (users, items)."""

    known: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.known)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Targets]:
        return (rows.astype(np.int32), self.known[rows]), Targets(self.targets[rows], self.weights[rows])


def table(ratings: Ratings, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """``values`` of ratings at their users' and items' places; 0, or False, elsewhere."""
    found = np.zeros(shape, values.dtype)
    found[ratings.users, ratings.items] = values
    return found


@dataclass(frozen=True, eq=False)
class NegativeSampling:
    """A user, the item that was chosen, and ``negatives`` others that the user never chose in training.

    train: all that was chosen in training; count: of items, place 0 being none's. The others are drawn evenly, anew for
    every batch, and follow from its rows: the same ones in the same order have the same others.
    """

    ratings: Ratings
    train: Ratings
    count: int
    negatives: int
    seed: int
    sampled_softmax: bool = False

    @cached_property
    def _chosen(self) -> np.ndarray:
        return np.unique(self.train.users.astype(np.int64) * self.count + self.train.items)

    def __len__(self) -> int:
        return len(self.ratings)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
        """Ids (rows,) and (rows, 1 + negatives), the chosen item first; these also as the loss's targets."""
        users, items = self.ratings.users[rows], self.ratings.items[rows]
        random = np.random.default_rng((self.seed, *rows[:8].tolist()))
        others = random.integers(1, self.count, (len(rows), self.negatives), np.int32)
        taken = self._is_chosen(users[:, None], others)
        others[taken] = random.integers(1, self.count, np.count_nonzero(taken), np.int32)
        candidates = np.concatenate([items[:, None], others], 1)
        if self.sampled_softmax:
            return (users, candidates), Targets(Candidates(candidates, np.zeros(candidates.shape, np.float32)))
        return (users, candidates), Targets(candidates)

    def _is_chosen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        keys, chosen = users.astype(np.int64) * self.count + items, self._chosen
        places = np.minimum(np.searchsorted(chosen, keys), len(chosen) - 1)
        return chosen[places] == keys


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """A user with the items that it chose, but for one: that one is the label.

    chosen: bool, (users, items), of the training choices.
    """

    ratings: Ratings
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.ratings)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Ids (rows,) and what is known of each, bool (rows, items); labels (rows,)."""
        users, items = self.ratings.users[rows], self.ratings.items[rows]
        known = self.chosen[users]
        known[np.arange(len(rows)), items] = False
        return (users, known), items
