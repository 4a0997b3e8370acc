"""What the ranking losses promise besides their gradients, which the property table proves."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.layers.base import Context
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.ranking import Candidates, PairwiseRanking, SampledSoftmax

RANDOM = np.random.default_rng(0)
SCORES = jnp.asarray(RANDOM.normal(size=(3, 4)))
ITEMS = np.array([[5, 1, 5, 2], [0, 3, 4, 1], [2, 2, 2, 2]], np.int32)  # the first has one hit, the last nothing else


def value(loss, scores, targets):
    return loss.apply({}, (scores, jax.tree.map(jnp.asarray, targets)), Context())


def test_pairwise_ranking_is_the_mean_over_pairs():
    expected, weights = [], np.array([2.0, 0.5, 3.0])
    for scores, items, weight in zip(np.asarray(SCORES), ITEMS, weights):
        for score, item in zip(scores[1:], items[1:]):
            if item != items[0]:
                expected.append((weight, np.log1p(np.exp(score - scores[0]))))
    shares, losses = np.transpose(expected)
    found = value(PairwiseRanking(), SCORES, Targets(ITEMS))
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-14)
    found = value(PairwiseRanking(), SCORES, Targets(ITEMS, weights))
    np.testing.assert_allclose(found, (shares * losses).sum() / shares.sum(), rtol=1e-14)
    assert PairwiseRanking().count(Targets(jnp.asarray(ITEMS))) == 5
    assert PairwiseRanking().count(Targets(jnp.asarray(ITEMS), jnp.asarray(weights))) == shares.sum()


def test_sampled_softmax_of_all_items_is_softmax():
    items = np.array([[1, 0, 2, 3], [0, 1, 2, 3], [3, 0, 1, 2]], np.int32)
    candidates = Candidates(jnp.asarray(items), jnp.full((3, 4), -7.0))
    expected = SoftmaxCrossEntropy().apply({}, (SCORES, Targets(jnp.zeros(3, jnp.int32))), Context())
    np.testing.assert_allclose(value(SampledSoftmax(), SCORES, Targets(candidates)), expected, rtol=1e-14)
    assert SampledSoftmax().count(Targets(candidates)) == 3


def test_sampled_softmax_is_least_at_the_scores_of_the_whole_softmax():
    """Over every sample that a sampler can draw and every true item, both as often as they come, its gradient is 0."""
    scores, inclusion = jnp.asarray(RANDOM.normal(size=4)), np.array([0.9, 0.1, 0.4, 0.6])
    true = np.exp(scores) / np.exp(scores).sum()
    # What is not in the sample stands as the true item again: such a hit does not count.
    draws = [(t, drawn) for t in range(4) for drawn in product((True, False), repeat=4)]
    items = np.array([[t, *np.where(drawn, range(4), t)] for t, drawn in draws], np.int32)
    weights = np.array([true[t] * np.where(drawn, inclusion, 1 - inclusion).prod() for t, drawn in draws])

    def gradient(log_probabilities):
        targets = Targets(Candidates(items, log_probabilities[items]), weights)
        return jax.grad(lambda scores: value(SampledSoftmax(), scores[items], targets))(scores)

    np.testing.assert_allclose(gradient(np.log(inclusion)), 0.0, atol=1e-15)
    assert abs(gradient(np.zeros(4))).max() > 0.05


@pytest.mark.parametrize("loss", [PairwiseRanking(), SampledSoftmax()])
def test_shapes_that_do_not_fit(loss):
    def values(items):
        return items if isinstance(loss, PairwiseRanking) else Candidates(items, np.zeros(items.shape))

    with pytest.raises(ValueError, match=r"scores of shape \(3, 4\) for candidates of shape \(3, 3\)"):
        value(loss, SCORES, Targets(values(ITEMS[:, :3])))
    with pytest.raises(ValueError, match=r"weights of shape \(2,\) for"):
        value(loss, SCORES, Targets(values(ITEMS), np.ones(2)))
