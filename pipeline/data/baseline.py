"""What ratings come to without a model: means, levels of users and items, and a user's mood at the time.

These are closed forms of the training ratings. A model learns what they leave, and where it knows nothing of a user or
an item they are the answer.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.data.ratings import UNSEEN, Ratings

DAMPING = {"users": 4.0, "items": 3.0}
"""How many ratings of the mean are added to those there are."""
ROUNDS = 15  # levels of users and items follow from each other
SESSION_DAMPING = 2.0


@dataclass(frozen=True, eq=False)
class Baseline:
    """mean + users[u] + items[i]: the mean rating, and how far a user's or an item's lie from it; 0 at ``UNSEEN``."""

    mean: float
    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, ratings: Ratings, users: int, items: int) -> "Baseline":
        """Damped means (Bell & Koren 2007), each following from the others. users, items: how many there are."""
        mean = float(ratings.values.mean())
        left = ratings.values.astype(np.float64) - mean
        levels = {"users": np.zeros(users), "items": np.zeros(items)}
        for _ in range(ROUNDS):
            for of, other in (("items", "users"), ("users", "items")):
                its, others = getattr(ratings, of), getattr(ratings, other)
                beside = left - levels[other][others]
                counts = np.bincount(its, minlength=len(levels[of]))
                levels[of] = np.bincount(its, beside, len(levels[of])) / (counts + DAMPING[of])
        levels["users"][UNSEEN] = levels["items"][UNSEEN] = 0.0
        return cls(mean, levels["users"].astype(np.float32), levels["items"].astype(np.float32))

    def __call__(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Of pairs: float32, of the ids' shape as they broadcast."""
        return np.float32(self.mean) + self.users[users] + self.items[items]


def session_effects(known: Ratings, left: np.ndarray, asked: Ratings, window: float) -> np.ndarray:
    """How a user's other ratings at about the time lie above what was expected of them: float32, (asked,).

    One who rates several items in a row is in one mood, or reads a page of what is alike (the day's level of timeSVD++,
    Koren 2009, without its days): the damped mean of what the user's training ratings have left, each weighted by
    exp(-|seconds between| / window). A rating that is itself among those known does not count for itself.

    known: training ratings; left: what each of them has beside the baseline; asked: ``known`` itself, or others of the
    same users; window: seconds. Both need times.
    """
    assert known.times is not None and asked.times is not None
    own = asked is known
    users = known.users if own else np.concatenate([known.users, asked.users])
    times = known.times if own else np.concatenate([known.times, asked.times])
    counts = np.zeros(len(users))
    counts[: len(known)] = 1.0
    values = np.zeros(len(users))
    values[: len(known)] = left
    order = np.lexsort((times, users))
    sums, weights = (_beside(users[order], times[order], its[order], window) for its in (values, counts))
    found = np.empty(len(users))
    found[order] = sums / (weights + SESSION_DAMPING)
    return (found if own else found[len(known) :]).astype(np.float32)


def _beside(users: np.ndarray, times: np.ndarray, values: np.ndarray, window: float) -> np.ndarray:
    """For each of the ratings, in order of users and times, sum of exp(-|t - t'| / window) values' over the others.

    What has come before decays from one to the next, and so does what comes after: one pass in each direction.
    """
    decays = np.where(users[1:] == users[:-1], np.exp(-np.abs(np.diff(times)) / window), 0.0)
    result = np.zeros(len(values))
    for step in (1, -1):
        its, total = values[::step].tolist(), 0.0
        passed = [0.0]
        for value, decay in zip(its, decays[::step].tolist()):
            total = (total + value) * decay
            passed.append(total)
        result += np.array(passed[: len(values)])[::step]
    return result
