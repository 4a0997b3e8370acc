"""Factorisation layers, the first layers of recommenders: embeddings of users and items, looked up in pairs.

The input is a pair (users, items) of ids, with one item or several candidates for each user. Where an id is out of
range, see ``lookup``. Weight decay applies to
the embeddings; with ``training.sparse_updates`` a step decays only the rows of its batch.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .base import Context, Layer, reduction_dtype
from .initializers import normal
from .lookup import require_ids, rows, scatter_sum

Ids = tuple[Int[Array, "*batch"], Int[Array, "*pairs"]]


@dataclass(frozen=True)
class _Pairs(Layer):
    """Embeddings of users and items. users, items: how many there are; features: the size of their vectors."""

    examplewise: ClassVar[bool] = True

    decayed: ClassVar[tuple[str, ...]] = ("embedding",)

    users: int
    items: int
    features: int

    def _tables(self, key: Any) -> dict[str, dict[str, Array]]:
        counts = {"user": self.users, "item": self.items}
        keys = jax.random.split(key, 2)
        return {
            name: {"embedding": normal(table_key, (count, self.features), jnp.float32)}
            for table_key, (name, count) in zip(keys, counts.items())
        }

    @abstractmethod
    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]: ...

    def _vectors(
        self, params: dict[str, dict[str, Array]], x: Ids
    ) -> tuple[Float[Array, "*pairs features"], Float[Array, "*pairs features"]]:
        """The users' vectors p and the items' q, with the vector of a user repeated for each of its candidates."""
        users, items = x
        require_ids(self, "user id", users, self.users)
        require_ids(self, "item id", items, self.items)
        p, q = (rows(params[name]["embedding"], ids) for name, ids in (("user", users), ("item", items)))
        return jnp.broadcast_to(_expand_users(p, users, items), q.shape), q


@dataclass(frozen=True)
class BiasedFactorization(_Pairs):
    """Matrix factorisation with biases: y = p_u . q_i + b_u + b_i for a user u and an item i (Koren et al. 2009).

    Parameters: user and item, each with embedding (count, features) and bias (count,).

    >>> layer, x = BiasedFactorization(users=5, items=7, features=3), (jnp.array([0, 4]), jnp.array([[6, 1], [2, 3]]))
    >>> layer.apply(layer.init(jax.random.key(0), x), x, Context()).shape  # a score for each candidate
    (2, 2)
    """

    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]:
        del x
        tables = self._tables(key)
        return {
            name: table | {"bias": jnp.zeros(len(table["embedding"]), jnp.float32)} for name, table in tables.items()
        }

    def apply(self, params: dict[str, dict[str, Array]], x: Ids, context: Context) -> Float[Array, "*pairs"]:
        del context
        users, items = x
        p, q = self._vectors(params, x)
        b_user, b_item = rows(params["user"]["bias"], users), rows(params["item"]["bias"], items)
        return (p * q).sum(-1) + jnp.broadcast_to(_expand_users(b_user, users, items), items.shape) + b_item

    def forward(
        self, params: dict[str, dict[str, Array]], x: Ids, context: Context
    ) -> tuple[Float[Array, "*pairs"], Ids]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, dict[str, Array]], residuals: Ids, d_y: Float[Array, "*pairs"]
    ) -> tuple[dict[str, dict[str, Array]], tuple[None, None]]:
        """From y_n = sum_f p_nf q_nf + b_u(n) + b_i(n), for every pair n of a user u(n) and an item i(n):

        (1) d_p_n = d_y_n q_n, d_q_n = d_y_n p_n
        (2) d_P_u = sum over the n with u(n) = u of d_p_n, and d_Q_i likewise
        (3) d_b_u = sum over the n with u(n) = u of d_y_n, and d_b_i likewise

        The cotangents of a user's candidates are summed before they are added to its row. The residuals are the ids:
        looking the vectors up again costs less than the memory of both.
        """
        users, items = residuals
        p, q = self._vectors(params, residuals)
        d_p, d_q = d_y[..., None] * q, d_y[..., None] * p  # (1)
        d_user = {
            "embedding": scatter_sum(params["user"]["embedding"], users, _sum_candidates(d_p, users, items)),  # (2)
            "bias": scatter_sum(params["user"]["bias"], users, _sum_candidates(d_y, users, items)),  # (3)
        }
        d_item = {
            "embedding": scatter_sum(params["item"]["embedding"], items, d_q),  # (2)
            "bias": scatter_sum(params["item"]["bias"], items, d_y),  # (3)
        }
        return {"user": d_user, "item": d_item}, (None, None)


@dataclass(frozen=True)
class Interaction(_Pairs):
    """y = [p_u q_i, p_u, q_i]: the elementwise product of two vectors, concatenated with both.

    It is the input of the network of neural collaborative filtering (He et al. 2017), which so generalises matrix
    factorisation.

    Parameters: user and item, each with embedding (count, features).
    """

    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]:
        del x
        return self._tables(key)

    def apply(self, params: dict[str, dict[str, Array]], x: Ids, context: Context) -> Float[Array, "*pairs width"]:
        del context
        p, q = self._vectors(params, x)
        return jnp.concatenate([p * q, p, q], -1)

    def forward(
        self, params: dict[str, dict[str, Array]], x: Ids, context: Context
    ) -> tuple[Float[Array, "*pairs width"], Ids]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, dict[str, Array]], residuals: Ids, d_y: Float[Array, "*pairs width"]
    ) -> tuple[dict[str, dict[str, Array]], tuple[None, None]]:
        """For every pair n, with d_y in three parts, d_m for the product, d_a for p and d_c for q:

        (1) d_p_n = d_m_n q_n + d_a_n
        (2) d_q_n = d_m_n p_n + d_c_n
        (3) d_P_u = sum over the n of user u of d_p_n, and d_Q_i likewise

        The residuals are the ids, as in ``BiasedFactorization``.
        """
        users, items = residuals
        p, q = self._vectors(params, residuals)
        d_m, d_a, d_c = jnp.split(d_y, 3, -1)
        d_p, d_q = d_m * q + d_a, d_m * p + d_c  # (1), (2)
        d_user = {
            "embedding": scatter_sum(params["user"]["embedding"], users, _sum_candidates(d_p, users, items))
        }  # (3)
        d_item = {"embedding": scatter_sum(params["item"]["embedding"], items, d_q)}  # (3)
        return {"user": d_user, "item": d_item}, (None, None)


@dataclass(frozen=True)
class SVDPlusPlus(Layer):
    """SVD++: y = p_u + |N(u)|^(-1/2) sum of z_i over N(u), the items that user u has rated (Koren 2008).

    x is (users, rated): ids (batch,), and bool (batch, items), True at the items that each user has rated, whatever the
    rating.

    Parameters: user with embedding (users, features), implicit with embedding (items, features).
    """

    examplewise: ClassVar[bool] = True

    decayed: ClassVar[tuple[str, ...]] = ("embedding",)

    users: int
    features: int

    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]:
        counts = {"user": self.users, "implicit": x[1].shape[-1]}
        keys = jax.random.split(key, 2)
        return {
            name: {"embedding": normal(table_key, (count, self.features), jnp.float32)}
            for table_key, (name, count) in zip(keys, counts.items())
        }

    def _indicators(self, rated: Bool[Array, "batch items"], dtype: Any) -> Float[Array, "batch items"]:
        """|N(u)|^(-1/2) at the items of N(u), else 0; all 0 for a user who has rated nothing."""
        n = rated.astype(dtype)
        return n / jnp.sqrt(jnp.maximum(n.sum(-1, keepdims=True), 1.0))

    def apply(
        self,
        params: dict[str, dict[str, Array]],
        x: tuple[Int[Array, " batch"], Bool[Array, "batch items"]],
        context: Context,
    ) -> Float[Array, "batch features"]:
        del context
        users, rated = x
        require_ids(self, "user id", users, self.users)
        z = params["implicit"]["embedding"]
        return rows(params["user"]["embedding"], users) + self._indicators(rated, z.dtype) @ z

    def forward(
        self,
        params: dict[str, dict[str, Array]],
        x: tuple[Int[Array, " batch"], Bool[Array, "batch items"]],
        context: Context,
    ) -> tuple[Float[Array, "batch features"], tuple[Array, Array]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, dict[str, Array]], residuals: tuple[Array, Array], d_y: Float[Array, "batch features"]
    ) -> tuple[dict[str, dict[str, Array]], tuple[None, None]]:
        """From y_n = P_u(n) + sum_i A_ni z_i, with A the indicators, which are constants:

        (1) d_P_u = sum over the n with u(n) = u of d_y_n
        (2) d_z = A^T d_y

        The residuals are the inputs, a byte per user and item, from which A is recomputed.
        """
        users, rated = residuals
        z = params["implicit"]["embedding"]
        d_user = scatter_sum(params["user"]["embedding"], users, d_y)  # (1)
        d_z = self._indicators(rated, d_y.dtype).T @ d_y  # (2)
        return {"user": {"embedding": d_user}, "implicit": {"embedding": d_z.astype(z.dtype)}}, (None, None)


def _expand_users(values: Array, users: Array, items: Array) -> Array:
    """``values`` of users, with an axis of size 1 for each axis of candidates."""
    return jnp.expand_dims(values, tuple(range(users.ndim, items.ndim)))


def _sum_candidates(values: Array, users: Array, items: Array) -> Array:
    """The sum of ``values`` over each user's candidates."""
    axes = tuple(range(users.ndim, items.ndim))
    return values.sum(axes, dtype=reduction_dtype(values.dtype)) if axes else values
