"""Training examples of recommenders: pairs of users and items, users with all items, or the whole table of ratings.

Everywhere users and items are their places (see ``ratings.RatingData``), of which place 0 stands for unseen ones.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np

from ..losses.base import Targets
from ..losses.ranking import Candidates
from .batches import Batch
from .ratings import Ratings

Sees = Literal["pairs", "users", "table"]
"""What a model takes: users and items; users, each with a row that says which items the user has rated; or the whole
table of ratings."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a user and an item, each with a rating minus the baseline: arrays (ratings,)."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Users (rows,) and items (rows, 1), and values (rows, 1)."""
        return (self.users[rows], self.items[rows, None]), self.values[rows, None]


@dataclass(frozen=True, eq=False)
class WholeTable:
    """The whole table of users and items as a single example, whose axes are (users, items).

    history: training ratings minus the baseline, 0 where there is none; targets: what the model is to predict;
    weights: 1 where a target counts, else 0.
    """

    history: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return 1

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, Targets]:
        """The table and its targets, each (users, items)."""
        del rows
        return self.history, Targets(self.targets, self.weights)


@dataclass(frozen=True, eq=False)
class UserRows:
    """Users, each with a row of the table: arrays (users, items).

    history: bool, whether the user has rated the item in training; targets, weights: see ``WholeTable``.
    """

    history: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.history)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Targets]:
        """Users (rows,) and their histories (rows, items), and targets (rows, items)."""
        return (rows.astype(np.int32), self.history[rows]), Targets(self.targets[rows], self.weights[rows])


def ratings_matrix(ratings: Ratings, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A matrix (users, items) with the ``values`` of ratings at their users and items, and 0 or False elsewhere.

    values: (ratings,); shape: number of users and of items.

    >>> ratings = Ratings(users=np.array([0, 1]), items=np.array([2, 1]), values=np.array([4.0, 5.0]))
    >>> ratings_matrix(ratings, ratings.values, (2, 3))
    array([[0., 0., 4.],
           [0., 5., 0.]])
    """
    matrix = np.zeros(shape, values.dtype)
    matrix[ratings.users, ratings.items] = values
    return matrix


@dataclass(frozen=True, eq=False)
class NegativeSampling:
    """Users, each with an item that the user chose and ``negatives`` items that the user never chose in training.

    ratings: the choices that are the examples; train: all choices in training; count: number of items, with place 0.
    sampled_softmax: whether the targets are ``Candidates`` for a sampled softmax, or the items themselves.

    The negatives are drawn uniformly and anew for every batch. They are a function of the batch's rows: the same rows
    in the same order have the same negatives.
    """

    ratings: Ratings
    train: Ratings
    count: int
    negatives: int
    seed: int
    sampled_softmax: bool = False

    @cached_property
    def _choices(self) -> np.ndarray:
        """One sorted number for each pair of a user and an item chosen in training."""
        return np.unique(self.train.users.astype(np.int64) * self.count + self.train.items)

    def __len__(self) -> int:
        return len(self.ratings)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], Any]:
        """Users (rows,) and items (rows, 1 + negatives), the chosen item first; the items are also the targets."""
        users, items = self.ratings.users[rows], self.ratings.items[rows]
        random = np.random.default_rng((self.seed, *rows[:8].tolist()))
        others = random.integers(1, self.count, (len(rows), self.negatives), np.int32)
        collisions = self._is_chosen(users[:, None], others)
        others[collisions] = random.integers(1, self.count, np.count_nonzero(collisions), np.int32)
        candidates = np.concatenate([items[:, None], others], 1)
        if self.sampled_softmax:
            return (users, candidates), Targets(Candidates(candidates, np.zeros(candidates.shape, np.float32)))
        return (users, candidates), Targets(candidates)

    def _is_chosen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        pairs, choices = users.astype(np.int64) * self.count + items, self._choices
        places = np.minimum(np.searchsorted(choices, pairs), len(choices) - 1)
        return choices[places] == pairs


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Users, each with all the items that the user chose in training but one, which is the label.

    history: bool, (users, items): whether the user chose the item in training.
    """

    ratings: Ratings
    history: np.ndarray

    def __len__(self) -> int:
        return len(self.ratings)

    def take(self, rows: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Users (rows,) and their other choices, bool (rows, items); labels: the items left out, (rows,)."""
        users, items = self.ratings.users[rows], self.ratings.items[rows]
        others = self.history[users]
        others[np.arange(len(rows)), items] = False
        return (users, others), items


def example_batch(sees: Sees, shape: tuple[int, int], ranking: bool, candidates: int, softmax: bool) -> Batch:
    """The shapes of a batch of one (ShapeDtypeStructs), for the initialisation of a recommender's parameters.

    shape: users and items. candidates: items of each user. softmax: a ranking's loss.
    """
    of = jax.ShapeDtypeStruct
    ids, row = of((1,), np.int32), (1, shape[1])
    if sees == "table":
        return of(shape, np.float32), Targets(of(shape, np.float32), of(shape, np.float32))
    if sees == "users":
        return (ids, of(row, bool)), Targets(ids if ranking else of(row, np.float32))
    items = of((1, candidates), np.int32)
    if not ranking:
        return (ids, items), Targets(of(items.shape, np.float32))
    return (ids, items), Targets(Candidates(items, of(items.shape, np.float32)) if softmax else items)
