"""Cross entropy over a vocabulary, fused with the projection onto it: the logits of a batch are never stored."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pipeline.layers.base import Context, reduction_dtype
from pipeline.layers.initializers import normal
from pipeline.losses.base import Loss, Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy

Inputs = tuple[Float[Array, "*batch time features"], Targets]


@dataclass(frozen=True)
class VocabularyCrossEntropy(Loss):
    """``SoftmaxCrossEntropy`` of the logits z = h E^T, in chunks of rows of h (Wijmans et al. 2024, "Cut Your Losses").

    x is (h, targets): h (*batch, time, features), targets with an integer label in [0, vocabulary) for each row.

    Parameters: embedding (vocabulary, features), of an ``Embedding``'s name and shape, so that ``Tied`` can make the
    two one.

    rows: about how many rows' logits there are at a time. Chunks are cut along the time axis alone, so that a batch
    that is spread over devices stays where it is.
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
        """Of the rows given, for prediction, in the dtype of sums."""
        embedding = params["embedding"].astype(h.dtype)
        return jnp.matmul(h, embedding.T, preferred_element_type=reduction_dtype(h.dtype))

    def apply(self, params: dict[str, Array], x: Inputs, context: Context) -> Float[Array, ""]:
        h, targets = x
        loss = SoftmaxCrossEntropy(self.label_smoothing)
        h, _, _ = self._counted(h, lax.stop_gradient(targets))
        return loss.apply({}, (self.logits(params, h), targets), context)

    def _counted(self, h: Array, targets: Targets) -> tuple[Array, Array, Array]:
        """h, labels and shares, with zeros at padding: what it holds reaches nothing."""
        if h.shape[:-1] != targets.values.shape:
            raise ValueError(
                f"VocabularyCrossEntropy: h of shape {h.shape} for labels of shape {targets.values.shape}; "
                "they must be (..., time, features) and (..., time)"
            )
        shares = self.shares(targets, reduction_dtype(h.dtype))
        padding = shares == 0
        return jnp.where(padding[..., None], 0.0, h), jnp.where(padding, 0, targets.values), shares

    def forward(
        self, params: dict[str, Array], x: Inputs, context: Context
    ) -> tuple[Float[Array, ""], tuple[Float[Array, "*batch time features"], Float[Array, "vocabulary features"]]]:
        """The loss and its gradient: while a chunk's probabilities are there, both products with them are taken.

        With u_b = share_b, p_b the softmax of row b's logits z_b, and q_b the smoothed one-hot of its label l_b,

        (1) y   = sum_b u_b (log sum_k exp(z_bk) - q_b z_b)
        (2) d_z = u (p - q)
        (3) d_h = d_z E       = (u p) E     - u q E
        (4) d_E = d_z^T h     = (u p)^T h   - (u q)^T h

        q has one entry of 1 - s and s / vocabulary everywhere, so its products need no matrix: with e the mean of E's
        rows, q_b E = (1 - s) E_{l_b} + s e, which is also what (1) needs of z, for q_b z_b = (q_b E) h_b. Only p's go
        through chunks: three matmuls over the vocabulary, as many as with stored logits.
        """
        del context
        h, labels, shares = self._counted(*x)
        compute, sums, smoothing = h.dtype, shares.dtype, self.label_smoothing
        embedding = params["embedding"].astype(compute)

        log_sums, d_h, d_embedding = self._chunks(embedding, h, shares)  # p's parts of (1), (3), (4)

        mean = embedding.mean(0, dtype=sums)
        q_e = (1 - smoothing) * jnp.take(embedding, labels, axis=0, mode="clip").astype(sums)
        q_e = q_e + smoothing * jnp.broadcast_to(mean, q_e.shape)
        wide = h.astype(sums)
        y = (shares * (log_sums - (q_e * wide).sum(-1))).sum()  # (1)
        d_h = d_h - shares[..., None] * q_e  # (3)
        weighted = shares[..., None] * wide
        d_embedding = d_embedding.at[labels].add((smoothing - 1) * weighted, mode="clip")  # (4)
        if smoothing:
            total = weighted.reshape(-1, h.shape[-1]).sum(0)
            d_embedding = d_embedding - (smoothing / self.vocabulary) * total[None]
        return y, (d_h.astype(compute), d_embedding.astype(params["embedding"].dtype))

    def _chunks(
        self, embedding: Array, h: Array, shares: Array
    ) -> tuple[Float[Array, "*batch time"], Float[Array, "*batch time features"], Float[Array, "vocabulary features"]]:
        """log sum_k exp(z_bk) of every row, (u p) E and (u p)^T h."""
        time, sums = h.shape[-2], shares.dtype
        steps = max(1, min(time, self.rows // max(1, shares.size // max(time, 1))))
        count = -(-time // steps)

        def in_chunks(array: Array, axis: int) -> Array:
            """(count, steps, ...): time in front, cut, zeros behind its end."""
            array = jnp.moveaxis(array, axis, 0)
            array = jnp.pad(array, [(0, count * steps - time)] + [(0, 0)] * (array.ndim - 1))
            return array.reshape(count, steps, *array.shape[1:])

        def whole(array: Array, axis: int) -> Array:
            return jnp.moveaxis(array.reshape(count * steps, *array.shape[2:])[:time], 0, axis)

        def chunk(d_embedding: Array, given: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            rows, u = given[0].reshape(-1, h.shape[-1]), given[1].reshape(-1)
            z = jnp.matmul(rows, embedding.T, preferred_element_type=sums)
            largest = z.max(-1)
            exps = jnp.exp(z - largest[:, None])
            total = exps.sum(-1)
            u_p = (exps * (u / total)[:, None]).astype(h.dtype)
            d_rows = jnp.matmul(u_p, embedding, preferred_element_type=sums)
            d_embedding = d_embedding + jnp.matmul(u_p.T, rows, preferred_element_type=sums)
            return d_embedding, ((largest + jnp.log(total)).reshape(given[1].shape), d_rows.reshape(given[0].shape))

        start = jnp.zeros(embedding.shape, sums)
        d_embedding, (log_sums, d_h) = lax.scan(chunk, start, (in_chunks(h, -2), in_chunks(shares, -1)))
        return whole(log_sums, -1), whole(d_h, -2), d_embedding

    def backward(
        self, params: dict[str, Array], residuals: tuple[Array, Array], d_y: Float[Array, ""]
    ) -> tuple[dict[str, Array], tuple[Float[Array, "*batch time features"], None]]:
        """The loss is one number, so its gradient is d_y times (3) and (4) of ``forward``:

        (5) d_h = d_y (d_z E),  d_embedding = d_y (d_z^T h)

        Residuals: the two gradients themselves. They cost no more than h and E, the logits (batch x vocabulary) would;
        to make them again here would take a fourth matmul. Where only the value is asked for, ``jit`` drops them.
        """
        del params
        d_h, d_embedding = (d * d_y.astype(d.dtype) for d in residuals)  # (5)
        return {"embedding": d_embedding}, (d_h, None)
