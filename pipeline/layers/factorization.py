"""Vectors of users and items, looked up in pairs: what recommenders begin with.

Ids are a pair (users, items): a user's id and, for each, one item or several candidates. Both tables are kernels, so
that they are decayed; of a step on rows alone (``pipeline.training.rows``) that are the rows of the batch.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pipeline.layers.base import Context, Layer, reduction_dtype
from pipeline.layers.initializers import normal

Ids = tuple[Int[Array, "*batch"], Int[Array, "*pairs"]]


@dataclass(frozen=True)
class _Pairs(Layer):
    """users, items: how many there are of each; features: of each one's vector."""

    users: int
    items: int
    features: int

    def _tables(self, key: Any) -> dict[str, dict[str, Array]]:
        counts = {"user": self.users, "item": self.items}
        keys = jax.random.split(key, 2)
        return {
            name: {"kernel": normal(its_key, (count, self.features), jnp.float32)}
            for its_key, (name, count) in zip(keys, counts.items())
        }

    @abstractmethod
    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]: ...

    def _vectors(
        self, params: dict[str, dict[str, Array]], x: Ids
    ) -> tuple[Float[Array, "*pairs features"], Float[Array, "*pairs features"]]:
        """p (the users') and q (the items'), with a user's vector once for each of its candidates."""
        users, items = x
        p, q = (_rows(params[name]["kernel"], ids) for name, ids in (("user", users), ("item", items)))
        return jnp.broadcast_to(_beside(p, users, items), q.shape), q


@dataclass(frozen=True)
class BiasedFactorization(_Pairs):
    """y = p_u . q_i + b_u + b_i, of every pair of a user u and an item i (Koren, Bell & Volinsky 2009).

    Parameters: user and item, each with kernel (count, features) and bias (count,).
    """

    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]:
        del x
        tables = self._tables(key)
        return {name: its | {"bias": jnp.zeros(len(its["kernel"]), jnp.float32)} for name, its in tables.items()}

    def apply(self, params: dict[str, dict[str, Array]], x: Ids, context: Context) -> Float[Array, "*pairs"]:
        del context
        users, items = x
        p, q = self._vectors(params, x)
        b_user, b_item = _rows(params["user"]["bias"], users), _rows(params["item"]["bias"], items)
        return (p * q).sum(-1) + jnp.broadcast_to(_beside(b_user, users, items), items.shape) + b_item

    def forward(
        self, params: dict[str, dict[str, Array]], x: Ids, context: Context
    ) -> tuple[Float[Array, "*pairs"], Ids]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, dict[str, Array]], residuals: Ids, d_y: Float[Array, "*pairs"]
    ) -> tuple[dict[str, dict[str, Array]], tuple[None, None]]:
        """From y_n = sum_f p_nf q_nf + b_u(n) + b_i(n), for every pair n of a user u(n) and an item i(n):

        (1) d_p_n = d_y_n q_n, d_q_n = d_y_n p_n: a pair pulls its two vectors together, or apart
        (2) d_P_u = sum over the n with u(n) = u of d_p_n, and d_Q_i likewise
        (3) d_b_u = sum over the n with u(n) = u of d_y_n, and d_b_i likewise

        A user's candidates are summed before they reach its table: they are rows of the same user. The residuals are
        the ids: looking vectors up again costs less than the memory of both.
        """
        users, items = residuals
        p, q = self._vectors(params, residuals)
        d_p, d_q = d_y[..., None] * q, d_y[..., None] * p  # (1)
        d_user = {
            "kernel": _summed(params["user"]["kernel"], users, _by_user(d_p, users, items)),  # (2)
            "bias": _summed(params["user"]["bias"], users, _by_user(d_y, users, items)),  # (3)
        }
        d_item = {
            "kernel": _summed(params["item"]["kernel"], items, d_q),  # (2)
            "bias": _summed(params["item"]["bias"], items, d_y),  # (3)
        }
        return {"user": d_user, "item": d_item}, (None, None)


@dataclass(frozen=True)
class Interaction(_Pairs):
    """y = (p_u q_i, p_u, q_i), the elementwise product beside both vectors: what a network learns a score from.

    So neural collaborative filtering (He et al. 2017) has both its parts, the generalised factorisation and what sees
    the vectors themselves. Parameters: user and item, each with a kernel (count, features).
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
        """With d_y in three parts, d_m (of the product), d_a and d_c (of the copies of p and q), for every pair n:

        (1) d_p_n = d_m_n q_n + d_a_n
        (2) d_q_n = d_m_n p_n + d_c_n
        (3) d_P_u = sum over the n of user u of d_p_n, and d_Q_i likewise

        The residuals are the ids, as in ``BiasedFactorization``.
        """
        users, items = residuals
        p, q = self._vectors(params, residuals)
        d_m, d_a, d_c = jnp.split(d_y, 3, -1)
        d_p, d_q = d_m * q + d_a, d_m * p + d_c  # (1), (2)
        d_user = {"kernel": _summed(params["user"]["kernel"], users, _by_user(d_p, users, items))}  # (3)
        d_item = {"kernel": _summed(params["item"]["kernel"], items, d_q)}  # (3)
        return {"user": d_user, "item": d_item}, (None, None)


@dataclass(frozen=True)
class SVDPlusPlus(Layer):
    """y = p_u + |N(u)|^(-1/2) sum of z_i over N(u), the items that a user u has rated, however (Koren 2008, SVD++).

    x is (users, known): ids (batch,) and which items each of them has rated, bool, (batch, items). Parameters: user
    with kernel (users, features), implicit with kernel (items, features).
    """

    users: int
    features: int

    def init(self, key: Any, x: tuple[Any, Any]) -> dict[str, dict[str, Array]]:
        counts = {"user": self.users, "implicit": x[1].shape[-1]}
        keys = jax.random.split(key, 2)
        return {
            name: {"kernel": normal(its_key, (count, self.features), jnp.float32)}
            for its_key, (name, count) in zip(keys, counts.items())
        }

    def _indicators(self, known: Bool[Array, "batch items"], dtype: Any) -> Float[Array, "batch items"]:
        """|N(u)|^(-1/2) at the items of N(u), else 0; all 0 where nothing is known of a user."""
        n = known.astype(dtype)
        return n / jnp.sqrt(jnp.maximum(n.sum(-1, keepdims=True), 1.0))

    def apply(
        self,
        params: dict[str, dict[str, Array]],
        x: tuple[Int[Array, " batch"], Bool[Array, "batch items"]],
        context: Context,
    ) -> Float[Array, "batch features"]:
        del context
        users, known = x
        z = params["implicit"]["kernel"]
        return _rows(params["user"]["kernel"], users) + self._indicators(known, z.dtype) @ z

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
        (2) d_z = A^T d_y: what all who know an item would have liked of it

        The residuals are the inputs: A is made again from a byte an item.
        """
        users, known = residuals
        z = params["implicit"]["kernel"]
        d_user = _summed(params["user"]["kernel"], users, d_y)  # (1)
        d_z = self._indicators(known, d_y.dtype).T @ d_y  # (2)
        return {"user": {"kernel": d_user}, "implicit": {"kernel": d_z.astype(z.dtype)}}, (None, None)


def _rows(table: Array, ids: Int[Array, "*shape"]) -> Array:
    return jnp.take(table, ids, axis=0, mode="clip")


def _beside(values: Array, users: Array, items: Array) -> Array:
    """What there is for each user, with an axis of size 1 for the candidates where there are some."""
    return jnp.expand_dims(values, tuple(range(users.ndim, items.ndim)))


def _by_user(values: Array, users: Array, items: Array) -> Array:
    """The sums over each user's candidates."""
    axes = tuple(range(users.ndim, items.ndim))
    return values.sum(axes, dtype=reduction_dtype(values.dtype)) if axes else values


def _summed(table: Array, ids: Array, d_rows: Array) -> Array:
    """For each row of a table the sum of what arrives at its id, taken in float32 (float64), in the table's dtype."""
    sums = reduction_dtype(table.dtype)
    return jnp.zeros(table.shape, sums).at[ids].add(d_rows.astype(sums), mode="clip").astype(table.dtype)
