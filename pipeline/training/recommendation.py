"""What a recommender says of users and items, and how well it ranks: always among all items, never a sample of them.

Metrics over sampled negatives order models otherwise than the true ones do (Krichene & Rendle 2020).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.layers.base import Context, Layer, PyTree

USERS, PAIRS = 64, 4096  # at once

Scores = Callable[[PyTree, np.ndarray], np.ndarray]
"""(params, users (rows,)) to the scores of all items, (rows, items)."""
PairScores = Callable[[PyTree, np.ndarray, np.ndarray], np.ndarray]
"""(params, users (pairs,), items (pairs,)) to scores (pairs,)."""


def make_pair_scores(model: Layer) -> PairScores:
    """Of a model that takes ids (users (batch,), items (batch, candidates))."""
    apply = jax.jit(lambda params, users, items: model.apply(params, (users, items[:, None]), Context())[:, 0])

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

    @jax.jit
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


def make_table_scores(model: Layer, table: np.ndarray) -> Scores:
    """Of a model that takes the whole table of ratings, float32 (users, items)."""
    apply = jax.jit(lambda params, known: model.apply(params, known, Context()))
    return lambda params, users: np.asarray(apply(params, jnp.asarray(table)))[users]


def _filled(ids: np.ndarray, size: int) -> np.ndarray:
    """``ids`` with the last of them again, up to one size, for which one program is compiled."""
    return np.concatenate([ids, np.repeat(ids[-1:], size - len(ids))]).astype(np.int32)


def ranks(scores: np.ndarray, seen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The place, from 1, of each row's target among all items but those that are seen: int, (rows,).

    scores: (rows, items); seen: bool, (rows, items), where the row's items are no candidates; targets: (rows,). Item 0
    is none's, and as a target comes last. Of items with one score the target is taken for the last: a model that says
    the same of all finds nothing.
    """
    rows = np.arange(len(targets))
    candidates = ~seen
    candidates[:, 0] = False
    candidates[rows, targets] = False
    found = 1 + (candidates & (scores >= scores[rows, targets][:, None])).sum(1)
    return np.where(targets == 0, scores.shape[1], found)


def ranking_metrics(places: np.ndarray, cutoffs: Sequence[int] = (10,)) -> dict[str, float]:
    """Where each user has one target: the share that is among the first k (hr, and so recall), and ndcg.

    NDCG is 1 / log2(1 + place) of a target among the first k, else 0. places: ``ranks``.
    """
    found: dict[str, float] = {}
    for k in cutoffs:
        hit = places <= k
        found |= {
            f"hr@{k}": float(hit.mean()),
            f"ndcg@{k}": float(np.where(hit, 1 / np.log2(1 + places), 0.0).mean()),
            f"recall@{k}": float(hit.mean()),
        }
    return found
