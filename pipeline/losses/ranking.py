"""Ranking losses for recommenders, over scores of a few candidate items per row, the first of which is the true one.

The model scores only the candidates, and the losses have no parameters. With a table of a million items as a parameter,
a gradient of the size of the table would cost more than the rest of a training step.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..layers.activations import softplus
from ..layers.base import Context, reduction_dtype
from .base import Loss, Targets

Scores = Float[Array, "*rows candidates"]


@dataclass(frozen=True)
class PairwiseRanking(Loss):
    """Bayesian personalised ranking (Rendle et al. 2009): the mean of -log sigmoid(s_0 - s_k) over pairs of items.

    x is (scores, targets): scores s (*rows, 1 + negatives) of the candidates of each row, the true item first. The
    targets' values are the candidates' ids, of the same shape, and their weights are those of the rows. A negative that
    is the true item makes no pair; the mean is over the other pairs.

    >>> scores, ids = jnp.array([[0.0, 0.0, 9.0]]), jnp.array([[4, 7, 4]])
    >>> round(float(PairwiseRanking().apply({}, (scores, Targets(ids)), Context())), 4)  # log 2, of the pair (4, 7)
    0.6931
    """

    def count(self, targets: Targets) -> Any:
        """The sum of the weights of all pairs."""
        return super().count(self.pairs(targets))

    def pairs(self, targets: Targets) -> Targets:
        """The weight of every candidate's pair: that of its row, or 0 if the candidate is the true item."""
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
        """s_k - s_0 in the dtype of sums, and normalised weights; both are 0 where there is no pair."""
        scores, targets = x
        _check_candidates(self, scores, targets.values)
        s = scores.astype(reduction_dtype(scores.dtype))
        normalized = self.normalized_weights(self.pairs(targets), s.dtype)
        return jnp.where(normalized == 0, 0.0, s - s[..., :1]), normalized

    def apply(self, params: dict, x: tuple[Scores, Targets], context: Context) -> Float[Array, ""]:
        del params, context
        scores, targets = x
        z, normalized = self.differences((scores, lax.stop_gradient(targets)))
        return (normalized * softplus(z)).sum()  # -log sigmoid(-z) = softplus(z)

    def forward(
        self, params: dict, x: tuple[Scores, Targets], context: Context
    ) -> tuple[Float[Array, ""], tuple[Array, Targets]]:
        del params, context
        z, weights, scale = self._weighted(x)
        # Without the selections in softplus, which only autodiff at 0 needs, XLA fuses this with the sum.
        return scale * (weights * (jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z))))).sum(), x

    def _weighted(self, x: tuple[Scores, Targets]) -> tuple[Array, Array, Array]:
        """``differences`` with the weights of pairs before normalisation, and the scalar 1 / count.

        Normalised weights would be a second array, which is written to memory and read again.
        """
        scores, targets = x
        _check_candidates(self, scores, targets.values)
        s, pairs = scores.astype(reduction_dtype(scores.dtype)), self.pairs(targets)
        assert pairs.weights is not None
        weights, count = pairs.weights.astype(s.dtype), self.count(targets).astype(s.dtype)
        scale = jnp.where(count == 0, 0.0, 1 / jnp.where(count == 0, 1.0, count))
        return jnp.where(weights == 0, 0.0, s - s[..., :1]), weights, scale

    def backward(
        self, params: dict, residuals: tuple[Array, Targets], d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Scores, None]]:
        """From y = sum_bk w_bk softplus(z_bk) with z_bk = s_bk - s_b0 and normalised weights w, which are 0 at k = 0:

        (1) d_z_bk = w_bk sigmoid(z_bk) d_y, where sigmoid(z) = (e if z < 0 else 1) / (1 + e) with e = exp(-|z|)
        (2) d_s_bk = d_z_bk for k > 0
        (3) d_s_b0 = -sum_k d_z_bk

        The gradient is large where a negative is scored above the true item, and vanishes where it is far below. The
        residuals are the inputs, of which the scores are the model's output; z and its sigmoid are cheap to recompute.
        e is the exponential of ``forward``, so that the compiler computes it once.
        """
        del params
        scores, _ = residuals
        z, weights, scale = self._weighted(residuals)
        e = jnp.exp(-jnp.abs(z))
        d_z = weights * (jnp.where(z < 0, e, 1.0) / (1 + e)) * (scale * d_y)  # (1)
        # at[].set and not a selection by k = 0, which XLA would fuse with (1) and so compute (1) twice.
        d_scores = d_z.at[..., 0].set(-d_z.sum(-1))  # (2), (3)
        return {}, (d_scores.astype(scores.dtype), None)


class Candidates(NamedTuple):
    """The candidates of every row: the true item first, then the sampled ones.

    items: ids, int (*rows, 1 + sampled).
    log_probabilities: float, of the same shape, the log-probability that the sampler draws each item, also the true
        one. Adding a number to all of a row changes nothing, so for a uniform sampler they may all be 0.
    """

    items: Any
    log_probabilities: Any


@dataclass(frozen=True)
class SampledSoftmax(Loss):
    """Softmax cross entropy with a sample in place of all items (Bengio & Senecal 2008; Jean et al. 2015).

    x is (scores, targets): scores s (*rows, 1 + sampled) of the candidates of each row. The targets' values are these
    ``Candidates``, and their weights are those of the rows. The loss is the mean over rows of -log softmax(c)_0 with

        c_k = s_k - log Q_k,    Q_k the probability that item k is in the sample,

    where sampled items that are the true one (accidental hits) are left out. Without the correction by Q, popular items
    would be pushed down because they are drawn often. If items are drawn independently and each at most once, then by
    Bayes' rule softmax(c) is the probability of each candidate under the softmax over all items, given that the true
    one is among the candidates. So the model learns the scores of the softmax over all items.
    """

    def elements(self, targets: Targets) -> Array:
        """The true item of every row."""
        return targets.values.items[..., 0]

    def corrected(self, x: tuple[Scores, Targets]) -> tuple[Array, Array]:
        """c in the dtype of sums, minus infinity at accidental hits and 0 at padding; normalised weights of rows."""
        scores, targets = x
        items, log_probabilities = targets.values
        _check_candidates(self, scores, items)
        _check_scores(self, scores, log_probabilities)
        dtype = reduction_dtype(scores.dtype)
        normalized = self.normalized_weights(targets, dtype)
        c = scores.astype(dtype) - log_probabilities.astype(dtype)
        c = jnp.where((items == items[..., :1]) & ~_first(c), -jnp.inf, c)
        return jnp.where((normalized == 0)[..., None], 0.0, c), normalized

    def apply(self, params: dict, x: tuple[Scores, Targets], context: Context) -> Float[Array, ""]:
        del params, context
        scores, targets = x
        c, normalized = self.corrected((scores, lax.stop_gradient(targets)))
        c = c - lax.stop_gradient(c.max(-1, keepdims=True))
        return (normalized * (jnp.log(jnp.exp(c).sum(-1)) - c[..., 0])).sum()

    def forward(
        self, params: dict, x: tuple[Scores, Targets], context: Context
    ) -> tuple[Float[Array, ""], tuple[tuple[Scores, Targets], Array, Array]]:
        del params, context
        c, normalized = self.corrected(x)
        largest = c.max(-1)
        log_sum = jnp.log(jnp.exp(c - largest[..., None]).sum(-1))
        return (normalized * (log_sum - (c[..., 0] - largest))).sum(), (x, largest, log_sum)

    def backward(
        self, params: dict, residuals: tuple[tuple[Scores, Targets], Array, Array], d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Scores, None]]:
        """From y = sum_b w_b (m_b + log_sum_b - c_b0), with normalised weights w_b, the row's largest c as m_b, and
        log_sum_b = log sum_k exp(c_bk - m_b); c differs from s by constants:

        (1) p_bk   = exp(c_bk - m_b - log_sum_b), which is 0 at accidental hits
        (2) d_s_bk = w_b (p_bk - [k = 0]) d_y

        The residuals are the inputs, of which the scores are the model's output, and two numbers per row, from which p
        is computed without a maximum or a sum, as in ``SoftmaxCrossEntropy``. Ids and probabilities have no cotangent.
        """
        del params
        x, largest, log_sum = residuals
        c, normalized = self.corrected(x)
        p = jnp.exp(c - largest[..., None] - log_sum[..., None])  # (1)
        d_scores = (normalized * d_y)[..., None] * jnp.where(_first(p), p - 1, p)  # (2)
        return {}, (d_scores.astype(x[0].dtype), None)


def _first(array: Array) -> Array:
    """True at the first element of the last axis."""
    return jnp.arange(array.shape[-1]).reshape((1,) * (array.ndim - 1) + (-1,)) == 0


def _check_candidates(loss: Loss, scores: Array, items: Array) -> None:
    """Raises ValueError unless there is an id for every score. Ids are only compared: any integer is one."""
    _check_scores(loss, scores, items)
    if not jnp.issubdtype(items.dtype, jnp.integer):
        raise ValueError(f"{type(loss).__name__}: the ids of candidates are {items.dtype}; they must be integers")


def _check_scores(loss: Loss, scores: Array, candidates: Array) -> None:
    if scores.shape != candidates.shape:
        raise ValueError(
            f"{type(loss).__name__}: scores of shape {scores.shape} for candidates of shape {candidates.shape}; "
            "both must be (..., candidates), the true item first"
        )
