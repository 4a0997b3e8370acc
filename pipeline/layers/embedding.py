"""Embeddings: a learned vector for every item of a vocabulary, and sums of such vectors for bags of items."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .base import Context, Layer, reduction_dtype, vary_like
from .initializers import normal
from .lookup import require_ids, rows, scatter_sum


@dataclass(frozen=True)
class Embedding(Layer):
    """y = E[x]: row x of a table E, for every id x in [0, vocabulary). Of others, y is NaN: see ``lookup``.

    Parameters: embedding E (vocabulary, features). y has the dtype of E; a ``Cast`` after this layer changes it.

    >>> layer, ids = Embedding(vocabulary=10, features=4), jnp.array([[3, 1, 3]])
    >>> y = layer.apply(layer.init(jax.random.key(0), ids), ids, Context())
    >>> y.shape, bool((y[0, 0] == y[0, 2]).all())
    ((1, 3, 4), True)
    """

    examplewise: ClassVar[bool] = True

    vocabulary: int
    features: int

    def init(self, key: Any, x: Int[Array | jax.ShapeDtypeStruct, "*shape"]) -> dict[str, Array]:
        del x
        return {"embedding": normal(key, (self.vocabulary, self.features), jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Int[Array, "*shape"], context: Context
    ) -> Float[Array, "*shape features"]:
        del context
        require_ids(self, "id", x, self.vocabulary)
        return rows(params["embedding"], x)

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
        return {"embedding": scatter_sum(params["embedding"], residuals, d_y)}, None  # (1)


@dataclass(frozen=True)
class EmbeddingBag(Layer):
    """y = the sum of the rows E[x_k] of a table E, over the ids x_k in [0, vocabulary) of a bag; id 0 is padding.

    Of a bag with another id, y is NaN: see ``lookup``.

    A bag may be a word and its character n-grams, which share the table (Bojanowski et al. 2017). An id that occurs
    twice counts twice; a bag of padding alone has the sum 0. Row 0 is not read, and its gradient is 0.

    Parameters: embedding E (vocabulary, features). y has the dtype of E; a ``Cast`` after this layer changes it.

    >>> layer, bags = EmbeddingBag(vocabulary=10, features=4), jnp.array([[3, 1], [3, 0], [1, 0]])
    >>> y = layer.apply(layer.init(jax.random.key(0), bags), bags, Context())
    >>> y.shape, bool(jnp.allclose(y[0], y[1] + y[2]))
    ((3, 4), True)
    """

    examplewise: ClassVar[bool] = True

    vocabulary: int
    features: int

    def init(self, key: Any, x: Int[Array | jax.ShapeDtypeStruct, "*shape bag"]) -> dict[str, Array]:
        del x
        return {"embedding": normal(key, (self.vocabulary, self.features), jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Int[Array, "*shape bag"], context: Context
    ) -> Float[Array, "*shape features"]:
        del context
        require_ids(self, "id", x, self.vocabulary)
        read = rows(params["embedding"], x)
        return jnp.where((x != 0)[..., None], read, jnp.zeros((), read.dtype)).sum(-2)

    def forward(
        self, params: dict[str, Array], x: Int[Array, "*shape bag"], context: Context
    ) -> tuple[Float[Array, "*shape features"], Int[Array, "*shape bag"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, Array], residuals: Int[Array, "*shape bag"], d_y: Float[Array, "*shape features"]
    ) -> tuple[dict[str, Array], None]:
        """From y_p = sum over k with x_pk != 0 of E_{x_pk}, for every position p and every place k in its bag:

        (1) d_E_v = sum over the (p, k) with x_pk = v != 0 of d_y_p

        The sum runs over one place k after the other: all places at once would need d_y once for each of them in
        memory. Sums are accumulated in float32 (float64) and returned in the dtype of E. Ids have no cotangent. The
        residual is x, one row of integers per row of d_y.
        """
        x, embedding = residuals, params["embedding"]
        sums = reduction_dtype(embedding.dtype)
        d_rows = d_y.astype(sums)

        def add(d_embedding: Array, ids: Int[Array, "*shape"]) -> tuple[Array, None]:
            present = jnp.where(ids > 0, ids, self.vocabulary)
            return d_embedding.at[present].add(d_rows, mode="drop"), None  # (1)

        d_embedding, _ = lax.scan(add, vary_like(jnp.zeros(embedding.shape, sums), x, d_y), jnp.moveaxis(x, -1, 0))
        return {"embedding": d_embedding.astype(embedding.dtype)}, None
