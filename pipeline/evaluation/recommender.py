"""A trained recommender: its predictions, rankings and recommendations, and their metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..data.baseline import Baseline, session_effects
from ..data.batches import Examples
from ..data.implicit_feedback import (
    LeaveOneOut,
    NegativeSampling,
    Pairs,
    Sees,
    UserRows,
    WholeTable,
    ratings_matrix,
)
from ..data.ratings import UNSEEN, RatingData, Ratings
from ..layers.base import Context, Layer, PyTree
from ..models.recommenders import item_vectors
from .ranking import ranking_metrics, ranks

USERS, PAIRS = 64, 4096  # in one call of a compiled function
SIMILAR = 3  # items that explain a recommendation


Scores = Callable[[PyTree, np.ndarray], np.ndarray]
"""(params, users (rows,)) to the scores of all items, (rows, items)."""


PairScores = Callable[[PyTree, np.ndarray, np.ndarray], np.ndarray]
"""(params, users (pairs,), items (pairs,)) to scores (pairs,)."""


def make_pair_scores(model: Layer) -> PairScores:
    """The scores of pairs by a model that takes users (batch,) and items (batch, candidates)."""
    apply = compiler.jit(lambda params, users, items: model.apply(params, (users, items[:, None]), Context())[:, 0])

    def scores(params: PyTree, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        blocks = [
            np.asarray(apply(params, _filled(users[i : i + PAIRS], PAIRS), _filled(items[i : i + PAIRS], PAIRS)))
            for i in range(0, len(users), PAIRS)
        ]
        return np.concatenate(blocks)[: len(users)]

    return scores


def make_scores(model: Layer, items: int, history: np.ndarray | None = None) -> Scores:
    """The scores of all items by a model that takes users and items, or with ``history`` users and their rows of it.

    items: number of items; history: bool, (users, items).
    """
    all_items = np.arange(items, dtype=np.int32)

    @compiler.jit
    def apply(params: PyTree, users: Any, second: Any) -> Any:
        return model.apply(params, (users, second), Context())

    def scores(params: PyTree, users: np.ndarray) -> np.ndarray:
        blocks = []
        for i in range(0, len(users), USERS):
            block = _filled(users[i : i + USERS], USERS)
            second = np.broadcast_to(all_items, (USERS, items)) if history is None else history[block]
            blocks.append(np.asarray(apply(params, block, second)))
        return np.concatenate(blocks)[: len(users)]

    return scores


def make_table_scores(model: Layer, history: np.ndarray) -> Scores:
    """The scores of all items by a model that takes the whole table of ratings, float32 (users, items)."""
    apply = compiler.jit(lambda params, table: model.apply(params, table, Context()))
    return lambda params, users: np.asarray(apply(params, jnp.asarray(history)))[users]


def _filled(ids: np.ndarray, size: int) -> np.ndarray:
    """``ids`` extended to ``size`` by copies of the last one, so that a single program is compiled."""
    return np.concatenate([ids, np.repeat(ids[-1:], size - len(ids))]).astype(np.int32)


class Scorer(NamedTuple):
    """A model's scores, which are 0 for unseen users and items. Where there is a baseline, they are added to it.

    pairs: scores of pairs of a user and an item; all: scores of all items.
    """

    pairs: PairScores
    all: Scores


def make_scorer(of_all: Scores, of_pairs: PairScores | None = None, *, are_ratings: bool) -> Scorer:
    """A scorer from a model's scores of all items and, if the model can compute these alone, of pairs.

    are_ratings: whether the scores are ratings, or order items only.
    """

    def pairs(params: PyTree, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        if of_pairs is not None:
            scores = of_pairs(params, users, items)
        else:
            different, places = np.unique(users, return_inverse=True)
            scores = of_all(params, different)[places, items]
        return np.where((users == UNSEEN) | (items == UNSEEN), 0.0, scores).astype(np.float32)

    def all_items(params: PyTree, users: np.ndarray) -> np.ndarray:
        scores = np.array(of_all(params, users))
        if are_ratings:
            scores[users == UNSEEN] = 0.0
            scores[:, UNSEEN] = 0.0
        return scores

    return Scorer(pairs, all_items)


class Recommendation(NamedTuple):
    """An item's name, its predicted rating or its score, and the most similar items that the user has rated."""

    item: str
    score: float
    similar: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Recommender:
    """A model and the ratings it is trained on. It predicts ratings if it has a baseline, and else ranks items.

    sees: what the model takes. baseline: see ``data.baseline``.
    residuals: training ratings minus baseline, float32, (ratings,).
    history: training ratings as the model's input, (users, items): those minus the baseline for the whole table, bool
        for rows of users; None for pairs.
    session_window: time scale of the session effect in seconds; 0: no session effect.
    params: the model's parameters.
    """

    model: Layer
    data: RatingData
    scorer: Scorer
    sees: Sees
    baseline: Baseline | None
    residuals: np.ndarray
    history: np.ndarray | None = None
    session_window: float = 0.0
    params: PyTree = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items, with place 0 of each."""
        return len(self.data.users), len(self.data.items)

    def session_effects(self, ratings: Ratings) -> np.ndarray:
        """The session effect of each rating, 0 without a session window: float32, (ratings,)."""
        if self.baseline is None or not self.session_window:
            return np.zeros(len(ratings), np.float32)
        return session_effects(self.data.train, self.residuals, ratings, self.session_window)

    def expected(self, ratings: Ratings) -> np.ndarray:
        """Baseline and session effect: the prediction without the model, float32, (ratings,)."""
        assert self.baseline is not None
        return self.baseline(ratings.users, ratings.items) + self.session_effects(ratings)

    def predict(self, ratings: Ratings) -> np.ndarray:
        """Predicted ratings, which may lie outside the scale: float32, (ratings,)."""
        return self.expected(ratings) + self.scorer.pairs(self.params, ratings.users, ratings.items)

    def scores(self, user: int) -> np.ndarray:
        """A user's predicted ratings, clipped to the scale, or scores of all items: (items,).

        For an unseen user these are the baseline's ratings, or the items' popularity.
        """
        if self.baseline is None and user == UNSEEN:
            return self.popularity
        scores = self.scorer.all(self.params, np.array([user], np.int32))[0]
        if self.baseline is None:
            return scores
        return np.clip(self.baseline(np.array([user]), np.arange(self.shape[1])) + scores, *self.data.scale)

    def examples(
        self, ratings: Ratings, *, negatives: int = 100, seed: int = 0, sampled_softmax: bool = True
    ) -> Examples:
        """Examples to train the model on or to compute its loss: residuals of ratings, or chosen items to rank.

        negatives, seed, sampled_softmax: see ``NegativeSampling``; only for ranking by a model of pairs.
        """
        if self.baseline is None and self.history is not None:
            return LeaveOneOut(ratings, self.history)
        if self.baseline is None:
            items = self.shape[1]
            return NegativeSampling(ratings, self.data.train, items, negatives, seed, sampled_softmax)
        targets = np.ones(len(ratings), np.float32)
        if ratings is self.data.train:
            targets = self.residuals - self.session_effects(ratings)
        if self.history is None:
            return Pairs(ratings.users, ratings.items, targets)
        weights = ratings_matrix(ratings, np.ones(len(ratings), np.float32), self.shape)
        kind = UserRows if self.sees == "users" else WholeTable
        return kind(self.history, ratings_matrix(ratings, targets, self.shape), weights)

    def validation_metrics(self, params: PyTree) -> dict[str, float]:
        """The validation split's metrics with these parameters of the model; for ratings the loss, too."""
        validation = self.data.validation
        if self.baseline is None:
            return ranking_metrics(self.ranks(self.scorer.all(params, validation.users), validation))
        predictions = self.expected(validation) + self.scorer.pairs(params, validation.users, validation.items)
        loss = float(np.mean(np.square(validation.values - predictions)))
        return {"loss": loss, **self.errors(validation, predictions)}

    def recommend(self, user: str, count: int) -> list[Recommendation]:
        """The best ``count`` items that the user has not rated yet; for an unseen user, the best overall."""
        data = self.data
        place = data.users.index(user) if user in data.users else UNSEEN
        scores = np.array(self.scores(place))
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
        """Predicted ratings, or scores that order a user's items: float32 (batch,), in operations that JAX can trace.

        users, items: places, int32 (batch,). There is no session effect.
        """
        if self.history is None:
            scores = self.model.apply(self.params, (users, items[:, None]), Context())[:, 0]
        elif self.sees == "table":
            scores = self.model.apply(self.params, jnp.asarray(self.history), Context())[users, items]
        else:
            all_scores = self.model.apply(self.params, (users, jnp.asarray(self.history)[users]), Context())
            scores = jnp.take_along_axis(all_scores, items[:, None], 1)[:, 0]
        if self.baseline is None:
            return scores
        biases = jnp.asarray(self.baseline.users)[users] + jnp.asarray(self.baseline.items)[items]
        scores = jnp.where((users == UNSEEN) | (items == UNSEEN), 0.0, scores)
        return jnp.clip(self.baseline.mean + biases + scores, *self.data.scale)

    def item_vectors(self) -> np.ndarray:
        """The items' learned vectors, scaled to length 1 so that dot products are cosines: (items, features)."""
        vectors = np.asarray(item_vectors(self.model, self.params, self.shape[1]), np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    @property
    def popularity(self) -> np.ndarray:
        """How often each item was chosen in training: float32, (items,)."""
        return np.bincount(self.data.train.items, minlength=self.shape[1]).astype(np.float32)

    @cached_property
    def _chosen_in_training(self) -> np.ndarray:
        return _is_chosen(self.data.train, self.shape)

    def ranks(self, scores: np.ndarray, ratings: Ratings) -> np.ndarray:
        """The ranks of the chosen items among all items that their users had not chosen before: int, (ratings,).

        scores: (ratings, items), or (items,) where all users share them; ratings: the validation or the test split.
        """
        seen = self._chosen_in_training
        if ratings is self.data.test:
            seen = seen | _is_chosen(self.data.validation, self.shape)
        return ranks(np.broadcast_to(scores, (len(ratings), self.shape[1])), seen[ratings.users], ratings.items)

    def metrics(self, ratings: Ratings) -> dict[str, float]:
        """The metrics of the validation or the test split: rmse and mae, or ranking metrics."""
        if self.baseline is not None:
            return self.errors(ratings, self.predict(ratings))
        return ranking_metrics(self.ranks(self.scorer.all(self.params, ratings.users), ratings))

    def errors(self, ratings: Ratings, predictions: np.ndarray) -> dict[str, float]:
        """rmse and mae of predictions (ratings,), which are clipped to the scale."""
        error = np.clip(predictions, *self.data.scale).astype(np.float64) - ratings.values
        return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}

    def baseline_metrics(self) -> Mapping[str, Mapping[str, float]]:
        """The test split's metrics of predictions that need no training, by name, the best last."""
        test = self.data.test
        if self.baseline is None:
            return {"popularity": ranking_metrics(self.ranks(self.popularity, test))}
        metrics = {
            "mean": self.errors(test, np.full(len(test), self.baseline.mean, np.float32)),
            "biases": self.errors(test, self.baseline(test.users, test.items)),
        }
        if self.session_window:
            metrics["biases and session effects"] = self.errors(test, self.expected(test))
        return metrics


@lru_cache(maxsize=1)  # baseline, tables and compiled scores are the same for all parameters
def make_recommender(
    model: Layer, data: RatingData, sees: Sees, predicts_ratings: bool, session_window: float = 0.0
) -> Recommender:
    """The recommender that consists of ``model``, still without parameters, and these data.

    predicts_ratings: whether it predicts ratings, as corrections of a baseline, or ranks items.
    """
    shape = (len(data.users), len(data.items))
    baseline, residuals = None, np.ones(len(data.train), np.float32)
    if predicts_ratings:
        baseline = Baseline.of(data.train, *shape)
        residuals = data.train.values - baseline(data.train.users, data.train.items)
    history, pair_scores = None, None
    if sees == "table":
        history = ratings_matrix(data.train, residuals, shape)
        scores = make_table_scores(model, history)
    elif sees == "users":
        history = _is_chosen(data.train, shape)
        scores = make_scores(model, shape[1], history)
    else:
        scores, pair_scores = make_scores(model, shape[1]), make_pair_scores(model)
    scorer = make_scorer(scores, pair_scores, are_ratings=predicts_ratings)
    return Recommender(model, data, scorer, sees, baseline, residuals, history, session_window)


def _is_chosen(ratings: Ratings, shape: tuple[int, int]) -> np.ndarray:
    """Whether each user has chosen each item: bool, (users, items)."""
    return ratings_matrix(ratings, np.ones(len(ratings), bool), shape)
