"""What a recommender predicts of users and items, and how good that is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.data.baseline import Baseline, session_effects
from pipeline.data.implicit_feedback import table
from pipeline.data.ratings import UNSEEN, RatingData, Ratings
from pipeline.evaluation.ranking import ranking_metrics, ranks
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.models.recommenders import item_vectors

USERS, PAIRS = 64, 4096  # at once
SIMILAR = 3  # items that explain a recommendation


Scores = Callable[[PyTree, np.ndarray], np.ndarray]
"""(params, users (rows,)) to the scores of all items, (rows, items)."""


PairScores = Callable[[PyTree, np.ndarray, np.ndarray], np.ndarray]
"""(params, users (pairs,), items (pairs,)) to scores (pairs,)."""


def make_pair_scores(model: Layer) -> PairScores:
    """Of a model that takes ids (users (batch,), items (batch, candidates))."""
    apply = compiler.jit(lambda params, users, items: model.apply(params, (users, items[:, None]), Context())[:, 0])

    def scores(params: PyTree, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        found = [
            np.asarray(apply(params, _filled(users[i : i + PAIRS], PAIRS), _filled(items[i : i + PAIRS], PAIRS)))
            for i in range(0, len(users), PAIRS)
        ]
        return np.concatenate(found)[: len(users)]

    return scores


def make_scores(model: Layer, items: int, known: np.ndarray | None = None) -> Scores:
    """Of a model that takes ids of pairs; or, where there is ``known``, of one that takes users and their rows of it.

    items: how many there are; known: bool, (users, items).
    """
    every = np.arange(items, dtype=np.int32)

    @compiler.jit
    def apply(params: PyTree, users: Any, its: Any) -> Any:
        return model.apply(params, (users, its), Context())

    def scores(params: PyTree, users: np.ndarray) -> np.ndarray:
        found = []
        for i in range(0, len(users), USERS):
            block = _filled(users[i : i + USERS], USERS)
            its = np.broadcast_to(every, (USERS, items)) if known is None else known[block]
            found.append(np.asarray(apply(params, block, its)))
        return np.concatenate(found)[: len(users)]

    return scores


def make_table_scores(model: Layer, known: np.ndarray) -> Scores:
    """Of a model that takes the whole table of ratings, float32 (users, items)."""
    apply = compiler.jit(lambda params, known: model.apply(params, known, Context()))
    return lambda params, users: np.asarray(apply(params, jnp.asarray(known)))[users]


def _filled(ids: np.ndarray, size: int) -> np.ndarray:
    """``ids`` with the last of them again, up to one size, for which one program is compiled."""
    return np.concatenate([ids, np.repeat(ids[-1:], size - len(ids))]).astype(np.int32)


class Scorer(NamedTuple):
    """What a model adds to what is expected: nothing, of a user or an item that no training rating is of.

    pairs: (params, users, items) to one number a pair; all: (params, users) to one for each of all items.
    """

    pairs: PairScores
    all: Scores


def make_scorer(every: Scores, one: PairScores | None = None, *, are_ratings: bool) -> Scorer:
    """From what a model says of all items and, where it can say less, of pairs."""

    def pairs(params: PyTree, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        if one is not None:
            added = one(params, users, items)
        else:
            different, places = np.unique(users, return_inverse=True)
            added = every(params, different)[places, items]
        return np.where((users == UNSEEN) | (items == UNSEEN), 0.0, added).astype(np.float32)

    def of_all(params: PyTree, users: np.ndarray) -> np.ndarray:
        added = np.array(every(params, users))
        if are_ratings:
            added[users == UNSEEN] = 0.0
            added[:, UNSEEN] = 0.0
        return added

    return Scorer(pairs, of_all)


class Recommendation(NamedTuple):
    """An item's name, its predicted rating or its score, and the most similar items that the user has rated."""

    item: str
    score: float
    similar: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Recommender:
    """A model with the ratings it has learnt from: what it predicts, or how it ranks, and how good that is.

    baseline: what is expected of ratings without a model; None where items are ranked.
    left: what the training ratings have beside the baseline: float32, (ratings,).
    session_window: seconds over which a user's ratings share a mood; 0: times do not count.
    params: the model's. known: what a model of the whole table, or of its rows, sees of each user: (users, items).
    """

    model: Layer
    data: RatingData
    answers: Scorer
    baseline: Baseline | None
    left: np.ndarray
    known: np.ndarray | None = None
    session_window: float = 0.0
    params: PyTree = None

    @property
    def shape(self) -> tuple[int, int]:
        """Users and items, with place 0 of each."""
        return len(self.data.users), len(self.data.items)

    def session_effects(self, ratings: Ratings) -> np.ndarray:
        """Of each rating, its user's mood at the time; 0 where times do not count."""
        if self.baseline is None or not self.session_window:
            return np.zeros(len(ratings), np.float32)
        return session_effects(self.data.train, self.left, ratings, self.session_window)

    def expected(self, ratings: Ratings) -> np.ndarray:
        """What is expected of ratings without a model: float32, (ratings,)."""
        assert self.baseline is not None
        return self.baseline(ratings.users, ratings.items) + self.session_effects(ratings)

    def predicted(self, ratings: Ratings) -> np.ndarray:
        """Ratings as the model expects them, which may lie beyond the scale: float32, (ratings,)."""
        return self.expected(ratings) + self.answers.pairs(self.params, ratings.users, ratings.items)

    def of_all_items(self, user: int) -> np.ndarray:
        """A user's ratings, on the scale, or scores: (items,). Of one that is not known: what all users say."""
        if self.baseline is None and user == UNSEEN:
            return self.popularity
        added = self.answers.all(self.params, np.array([user], np.int32))[0]
        if self.baseline is None:
            return added
        return np.clip(self.baseline(np.array([user]), np.arange(self.shape[1])) + added, *self.data.scale)

    def recommend(self, user: str, count: int) -> list[Recommendation]:
        """The best items for a user, without those that the user knows; for an unknown user, for anybody."""
        data = self.data
        place = data.users.index(user) if user in data.users else UNSEEN
        scores = np.array(self.of_all_items(place))
        if place != UNSEEN:
            for part in (data.train, data.validation):
                scores[part.items[part.users == place]] = -np.inf
        scores[UNSEEN] = -np.inf
        vectors, rated = self.item_vectors(), data.train.items[data.train.users == place]
        recommendations = []
        for item in np.argsort(-scores, kind="stable")[:count]:
            if np.isfinite(scores[item]):
                nearest = np.argsort(-(vectors[rated] @ vectors[item]), kind="stable")[:SIMILAR]
                similar = tuple(data.title(int(rated[i])) for i in nearest)
                recommendations.append(Recommendation(data.items[item], float(scores[item]), similar))
        return recommendations

    def answer(self, users: Any, items: Any) -> Any:
        """Ratings of users for items, or scores that order items: float32 (batch,), in operations that JAX traces.

        users, items: places, int32 (batch,). Times of ratings do not count.
        """
        if self.known is None:
            scores = self.model.apply(self.params, (users, items[:, None]), Context())[:, 0]
        elif self.known.dtype != bool:
            scores = self.model.apply(self.params, jnp.asarray(self.known), Context())[users, items]
        else:
            all_scores = self.model.apply(self.params, (users, jnp.asarray(self.known)[users]), Context())
            scores = jnp.take_along_axis(all_scores, items[:, None], 1)[:, 0]
        if self.baseline is None:
            return scores
        levels = jnp.asarray(self.baseline.users)[users] + jnp.asarray(self.baseline.items)[items]
        scores = jnp.where((users == UNSEEN) | (items == UNSEEN), 0.0, scores)
        return jnp.clip(self.baseline.mean + levels + scores, *self.data.scale)

    def item_vectors(self) -> np.ndarray:
        """What the model has learnt of each item, (items, features), of length 1: their products are cosines."""
        vectors = np.asarray(item_vectors(self.model, self.params, self.shape[1]), np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    @property
    def popularity(self) -> np.ndarray:
        """How often each item was chosen in training: float32, (items,)."""
        return np.bincount(self.data.train.items, minlength=self.shape[1]).astype(np.float32)

    @cached_property
    def _chosen_in_training(self) -> np.ndarray:
        return _chosen(self.data.train, self.shape)

    def ranks(self, scores: np.ndarray, ratings: Ratings) -> np.ndarray:
        """See ``ranks``: of the chosen items among all that their users had not chosen before.

        scores: (ratings, items), or (items,) where all users have the same; ratings: the validation or the test split.
        """
        seen = self._chosen_in_training
        if ratings is self.data.test:
            seen = seen | _chosen(self.data.validation, self.shape)
        return ranks(np.broadcast_to(scores, (len(ratings), self.shape[1])), seen[ratings.users], ratings.items)

    def scored(self, ratings: Ratings) -> dict[str, float]:
        """The metrics of the test split."""
        if self.baseline is not None:
            return self.errors(ratings, self.predicted(ratings))
        return ranking_metrics(self.ranks(self.answers.all(self.params, ratings.users), ratings))

    def errors(self, ratings: Ratings, predicted: np.ndarray) -> dict[str, float]:
        """rmse and mae of predictions (ratings,), which are moved onto the scale."""
        error = np.clip(predicted, *self.data.scale).astype(np.float64) - ratings.values
        return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}

    def without_training(self) -> Mapping[str, Mapping[str, float]]:
        """The test split's metrics of what needs no training, by name, the best last."""
        test = self.data.test
        if self.baseline is None:
            return {"popularity": ranking_metrics(self.ranks(self.popularity, test))}
        found = {
            "mean": self.errors(test, np.full(len(test), self.baseline.mean, np.float32)),
            "biases": self.errors(test, self.baseline(test.users, test.items)),
        }
        if self.session_window:
            found["biases and session_effects"] = self.errors(test, self.expected(test))
        return found


def make_recommender(
    model: Layer,
    params: PyTree,
    data: RatingData,
    *,
    sees: Literal["pairs", "users", "table"],
    predicts_ratings: bool,
    session_window: float = 0.0,
) -> Recommender:
    """The recommender that ``model`` with ``params`` is, on these data.

    sees: what the model takes: ids of users and items; ids of users and what each has rated; or the whole table.
    predicts_ratings: whether it predicts ratings, beside a baseline; else it ranks items.
    """
    shape = (len(data.users), len(data.items))
    baseline, left = None, np.ones(len(data.train), np.float32)
    if predicts_ratings:
        baseline = Baseline.of(data.train, *shape)
        left = data.train.values - baseline(data.train.users, data.train.items)
    known, pair_scores = None, None
    if sees == "table":
        known = table(data.train, left, shape)
        scores = make_table_scores(model, known)
    elif sees == "users":
        known = table(data.train, np.ones(len(left), bool), shape)
        scores = make_scores(model, shape[1], known)
    else:
        scores, pair_scores = make_scores(model, shape[1]), make_pair_scores(model)
    scorer = make_scorer(scores, pair_scores, are_ratings=predicts_ratings)
    return Recommender(model, data, scorer, baseline, left, known, session_window, params)


def _chosen(ratings: Ratings, shape: tuple[int, int]) -> np.ndarray:
    """Which items each user has chosen: bool, (users, items)."""
    return table(ratings, np.ones(len(ratings), bool), shape)
