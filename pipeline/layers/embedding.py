"""Vectors for the items of a vocabulary."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pipeline.layers.base import Context, Layer, reduction_dtype
from pipeline.layers.initializers import normal


@dataclass(frozen=True)
class Embedding(Layer):
    """y = E[x]: row x of a table, for every id x in [0, vocabulary).

    Parameters: embedding (vocabulary, features). y has its dtype; a ``Cast`` behind it chooses another for computing.
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

        An id that occurs twice gathers both. The sums are taken in float32 (float64) and come out in E's dtype; ids
        have no cotangent. The residual is x, an integer for a row of d_y.
        """
        x, embedding = residuals, params["embedding"]
        sums = reduction_dtype(embedding.dtype)
        d_embedding = jnp.zeros(embedding.shape, sums).at[x].add(d_y.astype(sums), mode="clip")  # (1)
        return {"embedding": d_embedding.astype(embedding.dtype)}, None
