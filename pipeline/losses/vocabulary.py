"""Cross entropy over a vocabulary, fused with the output projection, so that the logits are never stored."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..layers.base import Context, reduction_dtype, vary_like
from ..layers.initializers import normal
from .base import Loss, Targets
from .cross_entropy import SoftmaxCrossEntropy

Inputs = tuple[Float[Array, "*batch time features"], Targets]


@dataclass(frozen=True)
class VocabularyCrossEntropy(Loss):
    """``SoftmaxCrossEntropy`` of the logits z = h E^T, in chunks of rows of h (Wijmans et al. 2024, "Cut Your Losses").

    x is (h, targets): h (*batch, time, features), and targets with an integer label in [0, vocabulary) for each row.

    Parameters: embedding E (vocabulary, features), with the name and shape of an ``Embedding``'s, to which it can be
    tied.

    rows: about how many rows of logits exist at a time. Chunks are cut along the time axis alone, so that a batch that
    is sharded over devices stays where it is; the gradient of E is then summed over the devices once a chunk.

    >>> loss, h, targets = VocabularyCrossEntropy(vocabulary=50), jnp.zeros((2, 6, 8)), Targets(jnp.ones((2, 6), int))
    >>> params = loss.init(jax.random.key(0), (h, targets))
    >>> round(float(loss.apply(params, (h, targets), Context())), 3)  # log 50
    3.912
    """

    vocabulary: int
    label_smoothing: float = 0.0
    rows: int = 256

    def __post_init__(self) -> None:
        SoftmaxCrossEntropy(self.label_smoothing)
        if self.rows < 1:
            raise ValueError(f"VocabularyCrossEntropy.rows is {self.rows}; it must be at least 1")

    def init(
        self, key: Any, x: tuple[Float[Array | jax.ShapeDtypeStruct, "*batch time features"], Targets]
    ) -> dict[str, Array]:
        return {"embedding": normal(key, (self.vocabulary, x[0].shape[-1]), jnp.float32)}

    def logits(self, params: dict[str, Array], h: Float[Array, "*rows features"]) -> Float[Array, "*rows vocabulary"]:
        """The logits of the rows of h, for prediction, in the dtype of sums."""
        embedding = params["embedding"].astype(h.dtype)
        return jnp.matmul(h, embedding.T, preferred_element_type=reduction_dtype(h.dtype))

    def apply(self, params: dict[str, Array], x: Inputs, context: Context) -> Float[Array, ""]:
        h, targets = x
        loss = SoftmaxCrossEntropy(self.label_smoothing)
        h, _, _ = self._without_padding(h, lax.stop_gradient(targets))
        return loss.apply({}, (self.logits(params, h), targets), context)

    def _without_padding(self, h: Array, targets: Targets) -> tuple[Array, Array, Array]:
        """h, labels and normalised weights, with 0 in place of padding; see ``Loss.labels``."""
        if h.shape[:-1] != targets.values.shape:
            raise ValueError(
                f"VocabularyCrossEntropy: h of shape {h.shape} for labels of shape {targets.values.shape}; "
                "they must be (..., time, features) and (..., time)"
            )
        weights = self.normalized_weights(targets, reduction_dtype(h.dtype))
        padding = weights == 0
        return jnp.where(padding[..., None], 0.0, h), *self.labels(targets.values, weights, self.vocabulary)

    def forward(
        self, params: dict[str, Array], x: Inputs, context: Context
    ) -> tuple[Float[Array, ""], tuple[Float[Array, "*batch time features"], Float[Array, "vocabulary features"]]]:
        """The loss and its gradient, since both products with a chunk's probabilities are computed while they exist.

        For row b, let w_b be its normalised weight, p_b the softmax of its logits z_b, and q_b the one-hot vector of
        its label l_b with label smoothing s:

        (1) y   = sum_b w_b (log sum_k exp(z_bk) - q_b z_b)
        (2) d_z = w (p - q)
        (3) d_h = d_z E       = (w p) E     - w q E
        (4) d_E = d_z^T h     = (w p)^T h   - (w q)^T h

        q_b is s / vocabulary everywhere, plus 1 - s at l_b, so that its products need no matmul: with e the mean of the
        rows of E, q_b E = (1 - s) E_{l_b} + s e. That is also all that (1) needs of z, as q_b z_b = (q_b E) h_b. Only
        the terms of p go through chunks: three matmuls over the vocabulary, as many as with stored logits.
        """
        del context
        h, labels, weights = self._without_padding(*x)
        compute, sums, smoothing = h.dtype, weights.dtype, self.label_smoothing
        embedding = params["embedding"].astype(compute)

        log_sums, d_h, d_embedding = self._chunks(embedding, h, weights)  # the terms of p in (1), (3), (4)

        mean = embedding.mean(0, dtype=sums)
        q_e = (1 - smoothing) * jnp.take(embedding, labels, axis=0, mode="clip").astype(sums)
        q_e = q_e + smoothing * jnp.broadcast_to(mean, q_e.shape)
        wide = h.astype(sums)
        y = (weights * (log_sums - (q_e * wide).sum(-1))).sum()  # (1)
        d_h = d_h - weights[..., None] * q_e  # (3)
        weighted = weights[..., None] * wide
        d_embedding = d_embedding.at[labels].add((smoothing - 1) * weighted, mode="clip")  # (4)
        if smoothing:
            total = weighted.reshape(-1, h.shape[-1]).sum(0)
            d_embedding = d_embedding - (smoothing / self.vocabulary) * total[None]
        return y, (d_h.astype(compute), d_embedding.astype(params["embedding"].dtype))

    def _chunks(
        self, embedding: Array, h: Array, weights: Array
    ) -> tuple[Float[Array, "*batch time"], Float[Array, "*batch time features"], Float[Array, "vocabulary features"]]:
        """log sum_k exp(z_bk) of every row, (w p) E and (w p)^T h."""
        time, sums = h.shape[-2], weights.dtype
        steps = max(1, min(time, self.rows // max(1, weights.size // max(time, 1))))
        count = -(-time // steps)

        def in_chunks(array: Array, axis: int) -> Array:
            """``array`` as (count, steps, ...): chunk c has the positions c, c + count, c + 2 count, ...

            Where there is no batch before the time axis, devices that hold neighbouring rows so have a part of every
            chunk.
            """
            array = jnp.moveaxis(array, axis, 0)
            array = jnp.pad(array, [(0, count * steps - time)] + [(0, 0)] * (array.ndim - 1))
            return jnp.swapaxes(array.reshape(steps, count, *array.shape[1:]), 0, 1)

        def whole(array: Array, axis: int) -> Array:
            array = jnp.swapaxes(array, 0, 1)
            return jnp.moveaxis(array.reshape(count * steps, *array.shape[2:])[:time], 0, axis)

        def chunk(d_embedding: Array, xs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            rows, w = xs
            z = jnp.tensordot(rows, embedding.T, 1, preferred_element_type=sums)
            largest = z.max(-1)
            exps = jnp.exp(z - largest[..., None])
            total = exps.sum(-1)
            w_p = (exps * (w / total)[..., None]).astype(h.dtype)
            d_rows = jnp.tensordot(w_p, embedding, 1, preferred_element_type=sums)
            # All axes of the rows are contracted as they are: merged into one, a sharded batch would be gathered.
            axes = tuple(range(w.ndim))
            d_embedding = d_embedding + jnp.tensordot(w_p, rows, (axes, axes), preferred_element_type=sums)
            return d_embedding, (largest + jnp.log(total), d_rows)

        start = vary_like(jnp.zeros(embedding.shape, sums), embedding, h, weights)
        d_embedding, (log_sums, d_h) = lax.scan(chunk, start, (in_chunks(h, -2), in_chunks(weights, -1)))
        return whole(log_sums, -1), whole(d_h, -2), d_embedding

    def backward(
        self, params: dict[str, Array], residuals: tuple[Array, Array], d_y: Float[Array, ""]
    ) -> tuple[dict[str, Array], tuple[Float[Array, "*batch time features"], None]]:
        """The loss is one number, so its gradient is d_y times (3) and (4) of ``forward``:

        (5) d_h = d_y (d_z E),  d_embedding = d_y (d_z^T h)

        The residuals are these two products. They take as much memory as h and E, far less than the logits (batch x
        vocabulary); computing them here would take a fourth matmul. If only the value is used, ``jit`` removes them.
        """
        del params
        d_h, d_embedding = (d * d_y.astype(d.dtype) for d in residuals)  # (5)
        return {"embedding": d_embedding}, (d_h, None)
