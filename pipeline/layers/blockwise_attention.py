"""Dot-product attention in blocks of queries: memory grows with the length of a sequence, not with its square."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .base import Context, Layer, PyTree, reduction_dtype, vary_like
from .cpu_cache import CACHE_BYTES

Heads = Float[Array, "batch time heads head_features"]
Queries = Float[Array, "batch queries heads features"]
Keys = Float[Array, "batch keys key_heads features"]
Values = Float[Array, "batch keys key_heads value_features"]
Outputs = Float[Array, "batch queries heads value_features"]
Rows = Float[Array, "batch key_heads rows"]
Tile = Float[Array, "examples tile_heads rows head_features"]
TileOfRows = Float[Array, "examples tile_heads rows"]


class _Residuals(NamedTuple):
    """The residuals of DotProductAttention; see its ``backward``."""

    query: Queries
    key: Keys
    value: Values
    largest: Rows
    inverse_total: Rows
    mask: Any


@dataclass(frozen=True)
class DotProductAttention(Layer):
    """y_i = sum_j p_ij v_j with p_i = softmax over j of (q_i k_j / sqrt(features)) (Vaswani et al. 2017).

    x is (query, key, value), each (batch, time, heads, features). Keys and values may have another length than the
    queries, and fewer heads: each of their heads then serves a group of neighbouring query heads (Ainslie et al. 2023,
    grouped-query attention). The context's mask is that of the keys. Where all of a query's keys are masked, y is 0 and
    so is the gradient.

    causal: whether a position attends only to itself and earlier ones; queries and keys then have the same length.
    rows: how many queries' scores are in memory at a time; None: as many as fit a processor's cache.

    >>> import jax
    >>> query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 5, 4, 8))  # batch, time, heads, features
    >>> y = DotProductAttention(causal=True).apply({}, (query, key, value), Context())
    >>> y.shape, bool(jnp.allclose(y[:, 0], value[:, 0]))  # the first position attends to itself alone
    ((2, 5, 4, 8), True)
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    causal: bool = False
    rows: int | None = None

    def init(self, key: Any, x: PyTree) -> dict:
        del key
        query, keys, value = x
        if query.shape[2] % keys.shape[2] or keys.shape[:3] != value.shape[:3]:
            raise ValueError(
                f"DotProductAttention: queries of shape {tuple(query.shape)} need keys and values of equal shape whose "
                f"number of heads divides theirs, not {tuple(keys.shape)} and {tuple(value.shape)}"
            )
        return {}

    def apply(self, params: dict, x: tuple[Queries, Keys, Values], context: Context) -> Outputs:
        del params
        query, key, value = x
        return attend(query, key, value, self._mask(context.mask, query.shape[1], key.shape[1]))

    def _mask(
        self, mask: Bool[Array, "batch keys"] | None, queries: int, keys: int
    ) -> Bool[Array, "batch_or_1 1 queries_or_1 keys"] | None:
        if self.causal and queries != keys:
            raise ValueError(
                f"DotProductAttention: causal attention needs as many keys as queries, not {keys} for {queries}"
            )
        causal = jnp.tril(jnp.ones((1, 1, queries, keys), bool)) if self.causal else None
        if mask is None:
            return causal
        return mask[:, None, None] if causal is None else mask[:, None, None] & causal

    def forward(self, params: dict, x: tuple[Queries, Keys, Values], context: Context) -> tuple[Outputs, _Residuals]:
        """Computes y one block of queries at a time, in the order in which ``backward`` visits them."""
        del params
        query, key, value = x
        y, largest, inverse_total = lax.platform_dependent(
            query, key, value, context.mask, cpu=partial(self._attend, in_cache=True), default=self._attend
        )
        return y, _Residuals(query, key, value, largest, inverse_total, context.mask)

    def backward(self, params: dict, residuals: _Residuals, d_y: Outputs) -> tuple[dict, tuple[Queries, Keys, Values]]:
        """With s_ij = q_i k_j / sqrt(features), m_i = max_j s_ij, r_i = 1 / sum_j exp(s_ij - m_i), and so
        p_ij = exp(s_ij - m_i) r_i:

        (1) d_v_j  = sum_i p_ij d_y_i
        (2) d_p_ij = d_y_i v_j
        (3) c_i    = sum_j p_ij d_p_ij
        (4) d_s_ij = p_ij (d_p_ij - c_i)                             softmax
        (5) d_q_i  = sum_j d_s_ij k_j / sqrt(features)
        (6) d_k_j  = sum_i d_s_ij q_i / sqrt(features)

        The sums over i in (1) and (6) run over the queries of all heads that a key's head serves. A masked key has
        s_ij = minus infinity; where all of a query's keys are masked, r_i is 0, and so is p_ij.

        The residuals are q, k and v, which are other layers' outputs, and m and r, two numbers per query. p, whose size
        is the square of the length, is recomputed from them, one block of queries at a time (Dao et al. 2022,
        FlashAttention). FlashAttention saves m - log r instead of the two, and computes (3) as d_y_i y_i. Both lose
        digits where scores are large: if a single key has all of the weight, its d_p_ij - c_i is 0, but only if c_i is
        rounded in the same way as d_p_ij.

        On a CPU, as many heads are processed together as keep their scores in the cache; on other devices, all of them.
        A causal block of queries skips the keys after the end of its band.
        """
        del params
        d_x = lax.platform_dependent(
            *residuals, d_y, cpu=partial(self._d_attend, in_cache=True), default=self._d_attend
        )
        return {}, d_x

    def _attend(
        self, query: Queries, key: Keys, value: Values, mask: Any, in_cache: bool = False
    ) -> tuple[Outputs, Rows, Rows]:
        rows = self._rows(query, key)
        tiling = _Tiling.of(query, key, rows, in_cache)
        wide, scale = reduction_dtype(query.dtype), 1 / math.sqrt(query.shape[-1])

        def tile(i: Any, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
            queries, keys, values = (tiling.read(array, i) for array in (query, key, value))
            tile_mask, values_by_feature = tiling.read_mask(mask, i), _features_first(values)

            def block(start: Any, count: int, visible: int, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
                block_queries = tiling.rows(queries, start, count)
                scores = self._scores(block_queries, keys[:, :, :visible], tile_mask, start, tiling.group)
                largest = scores.max(2)
                largest = jnp.where(largest == -jnp.inf, 0.0, largest)
                # Without the barrier XLA computes every exponential twice, the second time for the sum.
                exponentials = lax.optimization_barrier(jnp.exp(scale * (scores - largest[:, :, None])))
                total = exponentials.sum(2)
                y = _weighted_sums(values_by_feature[..., :visible], exponentials.astype(values_by_feature.dtype))
                inverse_total = jnp.where(total == 0, 0.0, 1 / jnp.where(total == 0, 1.0, total))
                y = tiling.write(outputs[0], i, start, y * inverse_total[..., None])
                statistics = zip(outputs[1:], (largest, inverse_total))
                return y, *(tiling.write_rows(output, i, start, rows) for output, rows in statistics)

            return self._over_blocks(query.shape[1], key.shape[1], block, outputs, rows)

        shape = (*query.shape[:3], value.shape[-1])
        statistics = jnp.zeros((key.shape[0], key.shape[2], query.shape[1] * tiling.group), wide)
        start = jnp.zeros(shape, query.dtype), statistics, statistics
        return tiling.over_tiles(tile, vary_like(start, query, key, value, mask))

    def _d_attend(
        self,
        query: Queries,
        key: Keys,
        value: Values,
        largest: Rows,
        inverse_total: Rows,
        mask: Any,
        d_y: Outputs,
        in_cache: bool = False,
    ) -> tuple[Queries, Keys, Values]:
        rows = self._rows(query, key)
        tiling = _Tiling.of(query, key, rows, in_cache)
        wide, narrow, scale = reduction_dtype(query.dtype), query.dtype, 1 / math.sqrt(query.shape[-1])
        product = partial(jnp.einsum, preferred_element_type=wide)

        def tile(i: Any, d_inputs: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            queries, keys, values, d_rows = (tiling.read(array, i) for array in (query, key, value, d_y))
            m, r = (tiling.read_rows(rows, i) for rows in (largest, inverse_total))
            tile_mask, keys_by_feature = tiling.read_mask(mask, i), _features_first(keys)

            def block(start: Any, count: int, visible: int, d_inputs: tuple[Array, ...]) -> tuple[Array, ...]:
                d_query, d_keys, d_values = d_inputs
                in_block = partial(tiling.rows, start=start, count=count)
                block_queries, d_block = in_block(queries), in_block(d_rows)
                scores = self._scores(block_queries, keys[:, :, :visible], tile_mask, start, tiling.group)
                p = jnp.exp(scale * (scores - in_block(m)[:, :, None])) * in_block(r)[:, :, None]
                p = lax.optimization_barrier(p)
                d_p = product("nhkd,nhrd->nhkr", values[:, :, :visible], d_block)  # (2)
                weighted = lax.optimization_barrier(p * d_p)
                c = weighted.sum(2, keepdims=True)  # (3)
                d_scores = (weighted - p * c).astype(narrow)  # (4)
                d_scores = lax.optimization_barrier(d_scores)
                d_values = d_values.at[:, :, :visible].add(product("nhkr,nhrd->nhkd", p.astype(narrow), d_block))  # (1)
                d_keys = d_keys.at[:, :, :visible].add(product("nhkr,nhrd->nhkd", d_scores, block_queries))  # (6)
                d_q = _weighted_sums(keys_by_feature[..., :visible], d_scores)  # (5)
                return tiling.write(d_query, i, start, d_q * scale), d_keys, d_values

            zeros = vary_like(tuple(jnp.zeros(array.shape, wide) for array in (keys, values)), d_inputs)
            d_query, d_keys, d_values = self._over_blocks(
                query.shape[1], key.shape[1], block, (d_inputs[0], *zeros), rows
            )
            d_key, d_value = tiling.write(d_inputs[1], i, 0, d_keys * scale), tiling.write(d_inputs[2], i, 0, d_values)
            return d_query, d_key, d_value

        start = tuple(jnp.zeros(array.shape, array.dtype) for array in (query, key, value))
        return tiling.over_tiles(tile, vary_like(start, query, key, value, largest, inverse_total, mask, d_y))

    def _scores(self, queries: Array, keys: Array, mask: Any, start: Any, group: int) -> Array:
        """q k of a block, (examples, key heads, keys, rows), and minus infinity where a key is masked.

        Rows are the last axis, so that maxima and sums over keys are vector operations.
        """
        wide = reduction_dtype(queries.dtype)
        scores = jnp.einsum("nhkd,nhrd->nhkr", keys, queries, preferred_element_type=wide)
        if mask is not None:
            mask = jnp.broadcast_to(mask[:, None, : keys.shape[2], None], scores.shape)
            scores = jnp.where(mask, scores, -jnp.inf)
        if self.causal:
            places, rows = (lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (2, 3))
            scores = jnp.where(places <= jnp.int32(start) + rows // group, scores, -jnp.inf)
        return scores

    def _rows(self, query: Any, key: Any) -> int:
        """How many query positions a block has."""
        if self.rows is not None:
            return min(self.rows, query.shape[1])
        fewest, most = (-(-rows // (query.shape[2] // key.shape[2])) for rows in _ROWS)
        if self.causal:
            most = min(most, max(fewest, -(-query.shape[1] // _BANDS)))
        return min(most, query.shape[1])

    def _over_blocks(self, queries: int, keys: int, block: Any, carry: Any, rows: int) -> Any:
        """Folds ``carry = block(first query, number of queries, number of visible keys, carry)`` over all queries."""
        for start, stop in self._bands(queries, rows):
            visible = stop if self.causal else keys
            whole, rest = divmod(stop - start, rows)
            if whole == 1:
                carry = block(start, rows, visible, carry)
            elif whole:
                step = lambda j, carry, start=start, visible=visible: block(start + j * rows, rows, visible, carry)  # noqa: E731
                carry = lax.fori_loop(0, whole, step, carry)
            if rest:
                carry = block(stop - rest, rest, visible, carry)
        return carry

    def _bands(self, queries: int, rows: int) -> Iterator[tuple[int, int]]:
        """The bands of queries that have equally many visible keys in all of their blocks.

        Sizes are known while compiling, and there are few bands, so that the program stays short.
        """
        count = min(_BANDS, -(-queries // rows)) if self.causal else 1
        yield from ((queries * i // count, queries * (i + 1) // count) for i in range(count))


def attend(
    query: Queries, key: Keys, value: Values, mask: Bool[Array, "batch_or_1 1 queries_or_1 keys"] | None
) -> Outputs:
    """The definition of DotProductAttention. mask: which keys a query attends to; None: all."""
    wide, group = reduction_dtype(query.dtype), query.shape[2] // key.shape[2]
    value = jnp.repeat(value.astype(wide), group, axis=2)
    return jnp.einsum("bhqk,bkhd->bqhd", weights(query, key, mask), value).astype(query.dtype)


def weights(
    query: Queries, key: Keys, mask: Bool[Array, "batch_or_1 1 queries_or_1 keys"] | None
) -> Float[Array, "batch heads queries keys"]:
    """p in the definition of DotProductAttention, in the dtype of sums."""
    wide, group = reduction_dtype(query.dtype), query.shape[2] // key.shape[2]
    key = jnp.repeat(key.astype(wide), group, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query.astype(wide), key) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = jnp.where(jnp.broadcast_to(mask, scores.shape), scores, -jnp.inf)
    largest = lax.stop_gradient(scores.max(-1, keepdims=True))
    exponentials = jnp.exp(scores - jnp.where(largest == -jnp.inf, 0.0, largest))
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / jnp.where(total == 0, 1.0, total)


_BANDS = 8
"""The number of bands of causal attention: with 8, it computes 1/16 of the scores only to mask them."""
_ROWS = 64, 128
"""The fewest and the most rows of a block. Matmuls of fewer rows are slow; more rows leave out fewer masked keys."""
_BLOCK_BYTES = CACHE_BYTES // 8
"""The size of the scores that are computed together: heads of short sequences share the overhead of a matmul."""
_SHORT_BYTES = 4 * CACHE_BYTES
"""Up to this size, the scores of all heads are computed together even on a CPU, where a loop would cost more."""


def _divisor(count: int, most: int) -> int:
    """The largest divisor of ``count`` that is at most ``most``, and at least 1."""
    return next((size for size in range(min(most, count), 1, -1) if count % size == 0), 1)


def _wide_bytes(dtype: Any) -> int:
    return jnp.dtype(reduction_dtype(dtype)).itemsize


def _features_first(x: Float[Array, "examples heads time features"]) -> Float[Array, "examples heads features time"]:
    return lax.optimization_barrier(jnp.swapaxes(x, 2, 3))


def _weighted_sums(
    values: Float[Array, "examples heads features keys"], weights: Float[Array, "examples heads keys rows"]
) -> Float[Array, "examples heads rows features"]:
    """The sums over keys of value times weight, with the axes in the order in which a CPU's matmul is fastest."""
    wide = reduction_dtype(values.dtype)
    y = jnp.einsum("nhdk,nhkr->nhdr", values, weights, preferred_element_type=wide)
    return jnp.swapaxes(lax.optimization_barrier(y), 2, 3)


@dataclass(frozen=True)
class _Tiling:
    """Cuts (batch, key heads) into tiles of ``examples`` and ``heads``, each head with its ``group`` of query heads.

    The tile of an array (batch, time, heads, features) is (examples, heads, rows, features), with one row for every
    position and query head of a group.
    """

    examples: int
    heads: int
    group: int
    batch: int
    key_heads: int

    @staticmethod
    def of(query: Any, key: Any, rows: int, in_cache: bool) -> "_Tiling":
        """Tiles whose blocks of ``rows`` query positions fit the cache, or one tile of everything."""
        batch, key_heads = key.shape[0], key.shape[2]
        group = query.shape[2] // key_heads
        row_bytes = _wide_bytes(query.dtype) * group * key.shape[1]
        if not in_cache or batch * key_heads * query.shape[1] * row_bytes <= _SHORT_BYTES:
            return _Tiling(batch, key_heads, group, batch, key_heads)
        blocks = _BLOCK_BYTES // (rows * row_bytes)
        heads = _divisor(key_heads, blocks)
        return _Tiling(_divisor(batch, blocks // key_heads), heads, group, batch, key_heads)

    def over_tiles(self, tile: Any, carry: Any) -> Any:
        """Folds ``carry = tile(i, carry)`` over the numbers of all tiles."""
        count = (self.batch // self.examples) * (self.key_heads // self.heads)
        return tile(0, carry) if count == 1 else lax.fori_loop(0, count, tile, carry)

    def _start(self, i: Any) -> tuple[Any, Any]:
        """The first example and the first key head of tile i."""
        tiles = self.key_heads // self.heads
        return (i // tiles) * self.examples, (i % tiles) * self.heads

    def read(self, x: Heads, i: Any) -> Tile:
        example, head = self._start(i)
        _, time, heads, features = x.shape
        group = heads // self.key_heads
        sizes = (self.examples, time, self.heads * group, features)
        x = lax.dynamic_slice(x, (example, 0, head * group, 0), sizes)
        x = x.reshape(self.examples, time, self.heads, group, features)
        return jnp.moveaxis(x, 2, 1).reshape(self.examples, self.heads, time * group, features)

    def read_rows(self, x: Rows, i: Any) -> TileOfRows:
        return lax.dynamic_slice(x, (*self._start(i), 0), (self.examples, self.heads, x.shape[2]))

    def read_mask(self, mask: Any, i: Any) -> Any:
        if mask is None:
            return None
        return lax.dynamic_slice_in_dim(mask, self._start(i)[0], self.examples)

    def rows(self, x: Tile | TileOfRows, start: Any, count: int) -> Array:
        """The rows of ``count`` query positions."""
        return lax.dynamic_slice_in_dim(x, start * self.group, count * self.group, axis=2)

    def write(self, x: Heads, i: Any, start: Any, tile: Tile) -> Heads:
        example, head = self._start(i)
        group = x.shape[2] // self.key_heads
        tile = tile.astype(x.dtype).reshape(self.examples, self.heads, -1, group, x.shape[-1])
        tile = jnp.moveaxis(tile, 1, 2).reshape(self.examples, -1, self.heads * group, x.shape[-1])
        return lax.dynamic_update_slice(x, tile, (example, start, head * group, 0))

    def write_rows(self, x: Rows, i: Any, start: Any, tile: Array) -> Rows:
        return lax.dynamic_update_slice(x, tile, (*self._start(i), start * self.group))
