"""Ranking losses for recommenders: a true item before others, by the scores of a few candidates a row.

Scores are given, and no table of items is a parameter here: at a million items a gradient of the table's size would
cost more than all else of a step. The model looks up the candidates' rows alone, so that nothing of a step need be as
large as the table.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pipeline.layers.activations import softplus
from pipeline.layers.base import Context, reduction_dtype
from pipeline.losses.base import Loss, Targets

Scores = Float[Array, "*rows candidates"]


@dataclass(frozen=True)
class PairwiseRanking(Loss):
    """Bayesian personalised ranking (Rendle et al. 2009): the mean of -log sigmoid(s_0 - s_k) over pairs of items.

    x is (scores, targets): the scores s (*rows, 1 + negatives) of a row's candidates, the true item first, and as the
    targets' values the candidates' ids, of the same shape; weights are one for each row. A negative that is the true
    item again makes no pair: the mean is over the others.
    """

    def count(self, targets: Targets) -> Any:
        """The sum of the weights over all pairs."""
        return super().count(self.pairs(targets))

    def pairs(self, targets: Targets) -> Targets:
        """A weight for every candidate: its row's, and 0 where it is the true item, as the first one always is."""
        items, weights = targets
        negative = items != items[..., :1]
        if weights is None:
            return Targets(items, negative)
        if weights.shape != items.shape[: weights.ndim]:
            raise ValueError(
                f"PairwiseRanking: weights of shape {weights.shape} for candidates of shape {items.shape}; "
                "there must be one for each row of candidates"
            )
        weights = jnp.expand_dims(weights, tuple(range(weights.ndim, items.ndim)))
        return Targets(items, jnp.where(negative, weights, jnp.zeros((), weights.dtype)))

    def differences(self, x: tuple[Scores, Targets]) -> tuple[Array, Array]:
        """s_k - s_0 in the dtype of sums, and shares; 0 where there is no pair: what is there reaches nothing."""
        scores, targets = x
        _check_scores(self, scores, targets.values)
        s = scores.astype(reduction_dtype(scores.dtype))
        shares = self.shares(self.pairs(targets), s.dtype)
        return jnp.where(shares == 0, 0.0, s - s[..., :1]), shares

    def apply(self, params: dict, x: tuple[Scores, Targets], context: Context) -> Float[Array, ""]:
        del params, context
        scores, targets = x
        z, shares = self.differences((scores, lax.stop_gradient(targets)))
        return (shares * softplus(z)).sum()  # -log sigmoid(-z) = softplus(z)

    def forward(
        self, params: dict, x: tuple[Scores, Targets], context: Context
    ) -> tuple[Float[Array, ""], tuple[Array, Targets]]:
        del params, context
        z, weights, share = self._weighted(x)
        # softplus without its choices, which nothing but its derivative at 0 needs: one fusion with the sum.
        return share * (weights * (jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z))))).sum(), x

    def _weighted(self, x: tuple[Scores, Targets]) -> tuple[Array, Array, Array]:
        """``differences`` with the pairs' weights, not their shares; and the share of a weight of 1, a number for all:
        every pair's own would be an array that is written and read again."""
        scores, targets = x
        _check_scores(self, scores, targets.values)
        s, pairs = scores.astype(reduction_dtype(scores.dtype)), self.pairs(targets)
        assert pairs.weights is not None
        weights, count = pairs.weights.astype(s.dtype), self.count(targets).astype(s.dtype)
        share = jnp.where(count == 0, 0.0, 1 / jnp.where(count == 0, 1.0, count))
        return jnp.where(weights == 0, 0.0, s - s[..., :1]), weights, share

    def backward(
        self, params: dict, residuals: tuple[Array, Targets], d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Scores, None]]:
        """From y = sum_bk share_bk softplus(z_bk) with z_bk = s_bk - s_b0, where the shares are constants, 0 at k = 0:

        (1) d_z_bk = share_bk sigmoid(z_bk) d_y, of which sigmoid(z) = (e if z < 0 else 1) / (1 + e), e = exp(-|z|)
        (2) d_s_bk = d_z_bk for k > 0
        (3) d_s_b0 = -sum_k d_z_bk

        The gradient is large where a negative is in front of the true item, and vanishes where it is far behind. The
        residuals are the inputs: the scores are the model's output, and z and its sigmoid cost less than their memory.
        The exponential is the loss's own, so that in one program it is taken once.
        """
        del params
        scores, _ = residuals
        z, weights, share = self._weighted(residuals)
        e = jnp.exp(-jnp.abs(z))
        d_z = weights * (jnp.where(z < 0, e, 1.0) / (1 + e)) * (share * d_y)  # (1)
        # Set, not chosen where k = 0: a choice would be one with (1), which would be computed for the sum and again.
        d_scores = d_z.at[..., 0].set(-d_z.sum(-1))  # (2), (3)
        return {}, (d_scores.astype(scores.dtype), None)


class Candidates(NamedTuple):
    """What scores are of: the true item of every row first, then the sampled ones.

    items: their ids, int, (*rows, 1 + sampled).
    log_probabilities: float, of the same shape: the logarithm of how likely each item is to be in a row's sample, the
        true one too. What is added to all of a row changes nothing: for a uniform sampler all may be 0.
    """

    items: Any
    log_probabilities: Any


@dataclass(frozen=True)
class SampledSoftmax(Loss):
    """Softmax cross entropy with a sample in place of all items (Bengio & Senecal 2008; Jean et al. 2015).

    x is (scores, targets): the scores s (*rows, 1 + sampled) of a row's candidates, and as the targets' values these
    ``Candidates``; weights are one for each row. The loss is the mean over rows of -log softmax(c)_0 with

        c_k = s_k - log Q_k,    Q_k the probability that item k is in the sample,

    without sampled items that are the true one (accidental hits), which would push it down. The correction keeps
    popular items, which are drawn often, from being pushed down for that alone: where items are drawn independently,
    each once at most, Bayes' rule makes softmax(c) the probability of each candidate under the softmax over all items,
    given that the true one is among them. So the scores that are learned are those of the whole softmax.
    """

    def judged(self, targets: Targets) -> Array:
        """The true item of every row."""
        return targets.values.items[..., 0]

    def corrected(self, x: tuple[Scores, Targets]) -> tuple[Array, Array]:
        """c in the dtype of sums, minus infinity at accidental hits and 0 at padding, and the rows' shares."""
        scores, targets = x
        items, log_probabilities = targets.values
        _check_scores(self, scores, items)
        _check_scores(self, scores, log_probabilities)
        dtype = reduction_dtype(scores.dtype)
        shares = self.shares(targets, dtype)
        c = scores.astype(dtype) - log_probabilities.astype(dtype)
        c = jnp.where((items == items[..., :1]) & ~_first(c), -jnp.inf, c)
        return jnp.where((shares == 0)[..., None], 0.0, c), shares

    def apply(self, params: dict, x: tuple[Scores, Targets], context: Context) -> Float[Array, ""]:
        del params, context
        scores, targets = x
        c, shares = self.corrected((scores, lax.stop_gradient(targets)))
        c = c - lax.stop_gradient(c.max(-1, keepdims=True))
        return (shares * (jnp.log(jnp.exp(c).sum(-1)) - c[..., 0])).sum()

    def forward(
        self, params: dict, x: tuple[Scores, Targets], context: Context
    ) -> tuple[Float[Array, ""], tuple[tuple[Scores, Targets], Array, Array]]:
        del params, context
        c, shares = self.corrected(x)
        largest = c.max(-1)
        log_sum = jnp.log(jnp.exp(c - largest[..., None]).sum(-1))
        return (shares * (log_sum - (c[..., 0] - largest))).sum(), (x, largest, log_sum)

    def backward(
        self, params: dict, residuals: tuple[tuple[Scores, Targets], Array, Array], d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Scores, None]]:
        """From y = sum_b share_b (m_b + log_sum_b - c_b0), where m_b is the row's largest c and log_sum_b =
        log sum_k exp(c_bk - m_b); c is s but for constants:

        (1) p_bk   = exp(c_bk - m_b - log_sum_b), which is 0 at accidental hits
        (2) d_s_bk = share_b (p_bk - [k = 0]) d_y

        Residuals: the inputs, of which the scores are the model's output, and two numbers a row, from which p comes
        without a maximum or a sum, as in ``SoftmaxCrossEntropy``. Ids and probabilities have no cotangent.
        """
        del params
        x, largest, log_sum = residuals
        c, shares = self.corrected(x)
        p = jnp.exp(c - largest[..., None] - log_sum[..., None])  # (1)
        d_scores = (shares * d_y)[..., None] * jnp.where(_first(p), p - 1, p)  # (2)
        return {}, (d_scores.astype(x[0].dtype), None)


def _first(array: Array) -> Array:
    """True at the first of the last axis."""
    return jnp.arange(array.shape[-1]).reshape((1,) * (array.ndim - 1) + (-1,)) == 0


def _check_scores(loss: Loss, scores: Array, given: Array) -> None:
    if scores.shape != given.shape:
        raise ValueError(
            f"{type(loss).__name__}: scores of shape {scores.shape} for candidates of shape {given.shape}; "
            "both must be (..., candidates), the true item first"
        )
