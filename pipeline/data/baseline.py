"""The baseline of a rating: the mean, the biases of user and item, and the session effect.

All are closed forms of the training ratings. A model learns the residuals, ratings minus baseline; for an unseen user
or item the baseline alone is the prediction.
"""

from dataclasses import dataclass

import numpy as np

from .ratings import UNSEEN, Ratings

DAMPING = {"users": 4.0, "items": 3.0}
"""Number of ratings equal to the mean that are added to those of each user or item."""
ROUNDS = 15  # the biases of users and of items depend on each other
SESSION_DAMPING = 2.0


@dataclass(frozen=True, eq=False)
class Baseline:
    """mean + users[u] + items[i]: the mean rating and the biases of users and items, which are 0 at ``UNSEEN``."""

    mean: float
    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, ratings: Ratings, users: int, items: int) -> "Baseline":
        """The baseline of training ratings: biases are damped means (Bell & Koren 2007), computed in turn.

        users, items: number of places, with ``UNSEEN``.
        """
        mean = float(ratings.values.mean())
        centred = ratings.values.astype(np.float64) - mean
        biases = {"users": np.zeros(users), "items": np.zeros(items)}
        for _ in range(ROUNDS):
            for side, other in (("items", "users"), ("users", "items")):
                places, others = getattr(ratings, side), getattr(ratings, other)
                residuals = centred - biases[other][others]
                counts = np.bincount(places, minlength=len(biases[side]))
                biases[side] = np.bincount(places, residuals, len(biases[side])) / (counts + DAMPING[side])
        biases["users"][UNSEEN] = biases["items"][UNSEEN] = 0.0
        return cls(mean, biases["users"].astype(np.float32), biases["items"].astype(np.float32))

    def __call__(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The baseline of pairs: float32, of the shape to which users and items broadcast."""
        return np.float32(self.mean) + self.users[users] + self.items[items]


def session_effects(train: Ratings, residuals: np.ndarray, ratings: Ratings, window: float) -> np.ndarray:
    """The session effect of each rating: how far the user's other ratings at about that time lie above the baseline.

    It is the damped mean of the residuals of the user's training ratings, each weighted by exp(-|time difference| /
    window): a continuous form of timeSVD++'s day-specific user bias (Koren 2009). A training rating does not count for
    itself.

    train: training ratings; residuals: each of them minus the baseline; ratings: ``train`` itself, or other ratings of
    the same users; window: seconds. Both need times. Returns float32, (ratings,).
    """
    assert train.times is not None and ratings.times is not None
    own = ratings is train
    users = train.users if own else np.concatenate([train.users, ratings.users])
    times = train.times if own else np.concatenate([train.times, ratings.times])
    counts = np.zeros(len(users))
    counts[: len(train)] = 1.0
    values = np.zeros(len(users))
    values[: len(train)] = residuals
    order = np.lexsort((times, users))
    sums, weights = (_weighted_sums(users[order], times[order], array[order], window) for array in (values, counts))
    effects = np.empty(len(users))
    effects[order] = sums / (weights + SESSION_DAMPING)
    return (effects if own else effects[len(train) :]).astype(np.float32)


def _weighted_sums(users: np.ndarray, times: np.ndarray, values: np.ndarray, window: float) -> np.ndarray:
    """For each rating i the sum over the same user's other ratings j of exp(-|time i - time j| / window) value j.

    The ratings are sorted by user and time. The sum over earlier ratings decays from one rating to the next, and so
    does
    the sum over later ones from back to front: one pass in each direction.
    """
    decays = np.where(users[1:] == users[:-1], np.exp(-np.abs(np.diff(times)) / window), 0.0)
    result = np.zeros(len(values))
    for direction in (1, -1):
        total, totals = 0.0, [0.0]
        for value, decay in zip(values[::direction].tolist(), decays[::direction].tolist()):
            total = (total + value) * decay
            totals.append(total)
        result += np.array(totals[: len(values)])[::direction]
    return result
