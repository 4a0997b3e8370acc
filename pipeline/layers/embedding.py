"""Embedding: a learned vector for every item of a vocabulary."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .base import Context, Layer, reduction_dtype
from .initializers import normal


@dataclass(frozen=True)
class Embedding(Layer):
    """y = E[x]: row x of a table E, for every id x in [0, vocabulary).

    Parameters: embedding E (vocabulary, features). y has the dtype of E; a ``Cast`` after this layer changes it.

    >>> layer, ids = Embedding(vocabulary=10, features=4), jnp.array([[3, 1, 3]])
    >>> y = layer.apply(layer.init(jax.random.key(0), ids), ids, Context())
    >>> y.shape, bool((y[0, 0] == y[0, 2]).all())
    ((1, 3, 4), True)
    """

    vocabulary: int
    features: int

    def init(self, key: Any, x: Int[Array | jax.ShapeDtypeStruct, "*shape"]) -> dict[str, Array]:
        del x
        return {"embedding": normal(key, (self.vocabulary, self.features), jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Int[Array, "*shape"], context: Context
    ) -> Float[Array, "*shape features"]:
        del context
        return jnp.take(params["embedding"], x, axis=0, mode="clip")

    def forward(
        self, params: dict[str, Array], x: Int[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape features"], Int[Array, "*shape"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, Array], residuals: Int[Array, "*shape"], d_y: Float[Array, "*shape features"]
    ) -> tuple[dict[str, Array], None]:
        """From y_p = E_{x_p}, for every position p:

        (1) d_E_v = sum over the p with x_p = v of d_y_p

        An id that occurs twice gets the sum of both cotangents. Sums are accumulated in float32 (float64) and returned
        in the dtype of E. Ids have no cotangent. The residual is x, one integer per row of d_y.
        """
        x, embedding = residuals, params["embedding"]
        sums = reduction_dtype(embedding.dtype)
        d_embedding = jnp.zeros(embedding.shape, sums).at[x].add(d_y.astype(sums), mode="clip")  # (1)
        return {"embedding": d_embedding.astype(embedding.dtype)}, None
