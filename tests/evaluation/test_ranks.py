import numpy as np
import pytest

from pipeline.evaluation.ranking import ranking_metrics, ranks


def test_ranks_are_among_items_that_the_user_has_not_seen():
    scores = np.array([[9.0, 5.0, 4.0, 3.0, 2.0]] * 3)
    seen = np.zeros((3, 5), bool)
    seen[1, [1, 2]] = True
    assert ranks(scores, seen, np.array([3, 3, 1])).tolist() == [3, 1, 1]


def test_a_target_comes_after_items_of_the_same_score_and_an_unseen_one_last():
    assert ranks(np.zeros((2, 5)), np.zeros((2, 5), bool), np.array([2, 0])).tolist() == [4, 5]


def test_ranking_metrics():
    metrics = ranking_metrics(np.array([1, 2, 7, 100]), cutoffs=(1, 5))
    assert metrics["hr@1"] == metrics["recall@1"] == metrics["ndcg@1"] == 0.25
    assert metrics["hr@5"] == 0.5
    assert metrics["ndcg@5"] == pytest.approx((1 + 1 / np.log2(3)) / 4)
