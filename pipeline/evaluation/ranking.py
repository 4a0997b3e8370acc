"""Metrics of ranked items: always ranked among all items, never among a sample of them.

Metrics over sampled negatives order models differently (Krichene & Rendle 2020).
"""

from collections.abc import Sequence

import numpy as np


def ranks(scores: np.ndarray, seen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rank, from 1, of each row's target item among all items that the row's user has not seen: int, (rows,).

    scores: (rows, items); seen: bool, (rows, items): items that are not candidates; targets: (rows,).
    Item 0 stands for unseen items: it is no candidate, and as a target it comes last. Among items with equal scores the
    target comes last, so that a model with the same score for all items does not score well.

    >>> ranks(np.array([[0.0, 0.9, 0.5, 0.7]]), np.array([[False, True, False, False]]), np.array([2]))
    array([2])
    """
    rows = np.arange(len(targets))
    candidates = ~seen
    candidates[:, 0] = False
    candidates[rows, targets] = False
    ranked = 1 + (candidates & (scores >= scores[rows, targets][:, None])).sum(1)
    return np.where(targets == 0, scores.shape[1], ranked)


def ranking_metrics(places: np.ndarray, cutoffs: Sequence[int] = (10,)) -> dict[str, float]:
    """hr@k, ndcg@k and recall@k for each cutoff k, where each user has a single target item.

    places: the targets' ``ranks``, (users,). The hit rate, here equal to recall, is the share of targets among the
    first k; NDCG is 1 / log2(1 + rank) for a target among the first k, else 0.

    >>> ranking_metrics(np.array([1, 3, 50]), cutoffs=[10])
    {'hr@10': 0.6666666666666666, 'ndcg@10': 0.5, 'recall@10': 0.6666666666666666}
    """
    metrics: dict[str, float] = {}
    for k in cutoffs:
        hit = places <= k
        metrics |= {
            f"hr@{k}": float(hit.mean()),
            f"ndcg@{k}": float(np.where(hit, 1 / np.log2(1 + places), 0.0).mean()),
            f"recall@{k}": float(hit.mean()),
        }
    return metrics
