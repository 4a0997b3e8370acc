"""What a recommender says of users and items, and how well it ranks: always among all items, never a sample of them.

Metrics over sampled negatives order models otherwise than the true ones do (Krichene & Rendle 2020).
"""

from collections.abc import Sequence

import numpy as np


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
