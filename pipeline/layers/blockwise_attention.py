"""Dot-product attention in blocks of queries: memory grows with the length of a sequence, not with its square."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .attention_tiles import Rows, Tiling
from .base import Context, Layer, PyTree, reduction_dtype, vary_like

Queries = Float[Array, "batch queries heads features"]
Keys = Float[Array, "batch keys key_heads features"]
Values = Float[Array, "batch keys key_heads value_features"]
Outputs = Float[Array, "batch queries heads value_features"]


class _Inputs(NamedTuple):
    """The parts of DotProductAttention's input, those that it may lack as None."""

    query: Queries
    key: Keys
    value: Values
    bias: Float[Array, "#batch #heads #queries #keys"] | None = None
    mask: Bool[Array, "#batch #heads #queries #keys"] | None = None

    @staticmethod
    def of(x: PyTree) -> "_Inputs":
        """Raises ValueError for shapes and dtypes that do not fit each other."""
        if not 3 <= len(x) <= 5:
            raise ValueError(
                "DotProductAttention: x must be (query, key, value), (query, key, value, bias) or "
                f"(query, key, value, bias, mask); it has {len(x)} parts"
            )
        query, key, value, bias, mask = inputs = _Inputs(*x)
        if not all(jnp.issubdtype(part.dtype, jnp.floating) for part in (query, key, value)):
            raise ValueError(
                f"DotProductAttention: queries, keys and values are {query.dtype}, {key.dtype} and {value.dtype}; they "
                "must be floating-point"
            )
        if (
            {query.ndim, key.ndim, value.ndim} != {4}
            or query.shape[0] != key.shape[0]
            or query.shape[2] % key.shape[2]
            or query.shape[3] != key.shape[3]
            or key.shape[:3] != value.shape[:3]
        ):
            raise ValueError(
                f"DotProductAttention: queries of shape {query.shape} with keys of {key.shape} and values of "
                f"{value.shape}; they must be (batch, time, heads, features), with equal features of queries "
                "and keys, and equal batch, time and heads of keys and values, whose heads divide those of the queries"
            )
        scores = query.shape[0], query.shape[2], query.shape[1], key.shape[1]
        for name, part, kind in (("bias", bias, jnp.floating), ("mask", mask, jnp.bool)):
            if part is None:
                continue
            if not jnp.issubdtype(part.dtype, kind):
                raise ValueError(
                    f"DotProductAttention: the {name} is {part.dtype}; it must be "
                    f"{'bool' if name == 'mask' else 'floating-point'}"
                )
            if part.ndim != 4 or any(size not in (1, whole) for size, whole in zip(part.shape, scores)):
                raise ValueError(
                    f"DotProductAttention: the {name} has the shape {part.shape}; it must be (batch, heads, queries, "
                    f"keys), here {scores}, or 1 in place of any of them"
                )
        return inputs


class _Residuals(NamedTuple):
    """The residuals of DotProductAttention; see its ``backward``."""

    x: PyTree
    largest: Rows
    inverse_total: Rows
    mask: Any


@dataclass(frozen=True)
class DotProductAttention(Layer):
    """y_i = sum_j p_ij v_j with p_i = softmax over j of (q_i k_j / sqrt(features) + bias_ij) (Vaswani et al. 2017).

    x is (query, key, value), each (batch, time, heads, features). Keys and values may have another length than the
    queries, and fewer heads: each of their heads then serves a group of neighbouring query heads (Ainslie et al. 2023,
    grouped-query attention).

    x may also be (query, key, value, bias) or (query, key, value, bias, mask), both (batch, heads, queries, keys), or
    1 for axes along which they do not change. The bias is added to the scores; minus infinity masks, and None adds
    nothing. The mask is bool, True where a query may attend to a key, and the context's mask (batch, keys) is that of
    the keys: a query attends to keys that all masks allow. Where there are none, y is 0 and so is the gradient.

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
        self._inputs(x)
        return {}

    def _inputs(self, x: PyTree) -> _Inputs:
        inputs = _Inputs.of(x)
        queries, keys = inputs.query.shape[1], inputs.key.shape[1]
        if self.causal and queries != keys:
            raise ValueError(
                f"DotProductAttention: causal attention needs as many keys as queries, not {keys} for {queries}"
            )
        return inputs

    def apply(self, params: dict, x: PyTree, context: Context) -> Outputs:
        del params
        query, key, value, bias, mask = self._inputs(x)
        causal = jnp.tril(jnp.ones((1, 1, query.shape[1], key.shape[1]), bool)) if self.causal else None
        of_keys = None if context.mask is None else context.mask[:, None, None]
        masks = [part for part in (of_keys, causal, mask) if part is not None]
        return attend(query, key, value, reduce(jnp.logical_and, masks) if masks else None, bias)

    def forward(self, params: dict, x: PyTree, context: Context) -> tuple[Outputs, _Residuals]:
        """Computes y one block of queries at a time, in the order in which ``backward`` visits them."""
        del params
        y, largest, inverse_total = lax.platform_dependent(
            self._inputs(x), context.mask, cpu=partial(self._attend, in_cache=True), default=self._attend
        )
        return y, _Residuals(x, largest, inverse_total, context.mask)

    def backward(self, params: dict, residuals: _Residuals, d_y: Outputs) -> tuple[dict, PyTree]:
        """With s_ij = q_i k_j / sqrt(features) + bias_ij, m_i = max_j s_ij, r_i = 1 / sum_j exp(s_ij - m_i), and so
        p_ij = exp(s_ij - m_i) r_i:

        (1) d_v_j  = sum_i p_ij d_y_i
        (2) d_p_ij = d_y_i v_j
        (3) c_i    = sum_j p_ij d_p_ij
        (4) d_s_ij = p_ij (d_p_ij - c_i)                             softmax
        (5) d_q_i  = sum_j d_s_ij k_j / sqrt(features)
        (6) d_k_j  = sum_i d_s_ij q_i / sqrt(features)
        (7) d_bias = d_s, summed over the axes along which the bias is the same

        The sums over i in (1) and (6) run over the queries of all heads that a key's head serves. A masked key has
        s_ij = minus infinity; where all of a query's keys are masked, r_i and p_ij are 0. Masks have no cotangent.

        The residuals are x, which is other layers' outputs, the mask of the keys, and m and r, two numbers per query.
        p, whose size is the square of the length, is recomputed from them, one block of queries at a time (Dao et al.
        2022, FlashAttention). FlashAttention saves m - log r instead of the two, and computes (3) as d_y_i y_i. Both
        lose digits where scores are large: if a single key has all of the weight, its d_p_ij - c_i is 0, but only if
        c_i is rounded in the same way as d_p_ij.

        On a CPU, as many heads are processed together as keep their scores in the cache; on other devices, all of them.
        A causal block of queries skips the keys after the end of its band.
        """
        del params
        x, *rest = residuals
        d_x = lax.platform_dependent(
            self._inputs(x), *rest, d_y, cpu=partial(self._d_attend, in_cache=True), default=self._d_attend
        )
        return {}, (*d_x, None)[: len(x)]

    def _attend(self, inputs: _Inputs, mask: Any, in_cache: bool = False) -> tuple[Outputs, Rows, Rows]:
        query, key, value, bias, pair_mask = inputs
        rows = self._rows(query, key)
        tiling = Tiling.of(query, key, rows, in_cache)
        wide, scale = reduction_dtype(query.dtype), self._scale_of_scores(inputs)

        def tile(i: Any, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
            queries, keys, values = (tiling.read(array, i) for array in (query, key, value))
            tile_mask, values_by_feature = tiling.read_mask(mask, i), _features_first(values)

            def block(start: Any, count: int, visible: int, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
                block_queries = tiling.rows(queries, start, count)
                pairs = [tiling.read_pairs(array, i, start, count, visible) for array in (bias, pair_mask)]
                scores = self._scores(block_queries, keys[:, :, :visible], tile_mask, pairs, start, tiling.group)
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
        return tiling.over_tiles(tile, vary_like(start, inputs, mask))

    def _d_attend(
        self,
        inputs: _Inputs,
        largest: Rows,
        inverse_total: Rows,
        mask: Any,
        d_y: Outputs,
        in_cache: bool = False,
    ) -> tuple[Queries, Keys, Values, Array | None]:
        query, key, value, bias, pair_mask = inputs
        rows = self._rows(query, key)
        tiling = Tiling.of(query, key, rows, in_cache)
        wide, narrow, scale = reduction_dtype(query.dtype), query.dtype, 1 / math.sqrt(query.shape[-1])
        product, scale_of_scores = partial(jnp.einsum, preferred_element_type=wide), self._scale_of_scores(inputs)

        def tile(i: Any, d_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            queries, keys, values, d_rows = (tiling.read(array, i) for array in (query, key, value, d_y))
            m, r = (tiling.read_rows(rows, i) for rows in (largest, inverse_total))
            tile_mask, keys_by_feature = tiling.read_mask(mask, i), _features_first(keys)

            def block(start: Any, count: int, visible: int, d_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                d_query, d_keys, d_values, d_bias = d_inputs
                in_block = partial(tiling.rows, start=start, count=count)
                block_queries, d_block = in_block(queries), in_block(d_rows)
                pairs = [tiling.read_pairs(array, i, start, count, visible) for array in (bias, pair_mask)]
                scores = self._scores(block_queries, keys[:, :, :visible], tile_mask, pairs, start, tiling.group)
                p = jnp.exp(scale_of_scores * (scores - in_block(m)[:, :, None])) * in_block(r)[:, :, None]
                p = lax.optimization_barrier(p)
                d_p = product("nhkd,nhrd->nhkr", values[:, :, :visible], d_block)  # (2)
                weighted = lax.optimization_barrier(p * d_p)
                c = weighted.sum(2, keepdims=True)  # (3)
                d_scores = weighted - p * c  # (4)
                if d_bias is not None:
                    d_bias = tiling.add_pairs(d_bias, i, start, d_scores)  # (7)
                d_scores = lax.optimization_barrier(d_scores.astype(narrow))
                d_values = d_values.at[:, :, :visible].add(product("nhkr,nhrd->nhkd", p.astype(narrow), d_block))  # (1)
                d_keys = d_keys.at[:, :, :visible].add(product("nhkr,nhrd->nhkd", d_scores, block_queries))  # (6)
                d_q = _weighted_sums(keys_by_feature[..., :visible], d_scores)  # (5)
                return tiling.write(d_query, i, start, d_q * scale), d_keys, d_values, d_bias

            zeros = vary_like(tuple(jnp.zeros(array.shape, wide) for array in (keys, values)), d_inputs)
            d_query, d_keys, d_values, d_bias = self._over_blocks(
                query.shape[1], key.shape[1], block, (d_inputs[0], *zeros, d_inputs[3]), rows
            )
            d_key, d_value = tiling.write(d_inputs[1], i, 0, d_keys * scale), tiling.write(d_inputs[2], i, 0, d_values)
            return d_query, d_key, d_value, d_bias

        start = *(jnp.zeros(array.shape, array.dtype) for array in (query, key, value)), None
        if bias is not None:  # summed over blocks, and so in the dtype of sums
            start = *start[:3], jnp.zeros(bias.shape, wide)
        start = vary_like(start, inputs, largest, inverse_total, mask, d_y)
        *d_inputs, d_bias = tiling.over_tiles(tile, start)
        return *d_inputs, None if bias is None else d_bias.astype(bias.dtype)

    def _scale_of_scores(self, inputs: _Inputs) -> float:
        """The factor of ``_scores`` before the softmax. It is applied with the exponential where there is no bias."""
        return 1.0 if inputs.bias is not None else 1 / math.sqrt(inputs.query.shape[-1])

    def _scores(self, queries: Array, keys: Array, mask: Any, pairs: list[Any], start: Any, group: int) -> Array:
        """q k of a block, (examples, key heads, keys, rows), and minus infinity where a key is masked.

        Rows are the last axis, so that maxima and sums over keys are vector operations. pairs: the block's bias, which
        is added to q k / sqrt(features), and its mask, or None.
        """
        wide = reduction_dtype(queries.dtype)
        scores = jnp.einsum("nhkd,nhrd->nhkr", keys, queries, preferred_element_type=wide)
        bias, pair_mask = pairs
        if bias is not None:
            # A compiler fuses a product and a sum into one operation, which rounds once instead of twice, in one pass
            # but not in the other: where scores are large, their maximum would then not be one of them. With this
            # maximum in between, which changes no finite number, there is nothing to fuse.
            scores = jnp.maximum(scores / math.sqrt(queries.shape[-1]), jnp.finfo(wide).min)
            scores = scores + jnp.broadcast_to(bias.astype(wide), scores.shape)
        if pair_mask is not None:
            scores = jnp.where(jnp.broadcast_to(pair_mask, scores.shape), scores, -jnp.inf)
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
    query: Queries,
    key: Keys,
    value: Values,
    mask: Bool[Array, "#batch #heads #queries #keys"] | None,
    bias: Float[Array, "#batch #heads #queries #keys"] | None = None,
) -> Outputs:
    """The definition of DotProductAttention. mask: which keys a query attends to; None: all."""
    wide, group = reduction_dtype(query.dtype), query.shape[2] // key.shape[2]
    value = jnp.repeat(value.astype(wide), group, axis=2)
    return jnp.einsum("bhqk,bkhd->bqhd", weights(query, key, mask, bias), value).astype(query.dtype)


def weights(
    query: Queries,
    key: Keys,
    mask: Bool[Array, "#batch #heads #queries #keys"] | None,
    bias: Float[Array, "#batch #heads #queries #keys"] | None = None,
) -> Float[Array, "batch heads queries keys"]:
    """p in the definition of DotProductAttention, in the dtype of sums."""
    wide, group = reduction_dtype(query.dtype), query.shape[2] // key.shape[2]
    key = jnp.repeat(key.astype(wide), group, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query.astype(wide), key) / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + jnp.broadcast_to(bias.astype(wide), scores.shape)
    if mask is not None:
        scores = jnp.where(jnp.broadcast_to(mask, scores.shape), scores, -jnp.inf)
    largest = lax.stop_gradient(scores.max(-1, keepdims=True))
    exponentials = jnp.exp(scores - jnp.where(largest == -jnp.inf, 0.0, largest))
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / jnp.where(total == 0, 1.0, total)


_BANDS = 4
"""The number of bands of causal attention: with 4, it computes 1/8 of the scores only to mask them.

Each is a program of its own: 8 take twice as long to compile, and no less time to run up to 1,024 positions.
"""
_ROWS = 64, 128
"""The fewest and the most rows of a block. Matmuls of fewer rows are slow; more rows leave out fewer masked keys."""


def _features_first(x: Float[Array, "examples heads time features"]) -> Float[Array, "examples heads features time"]:
    return lax.optimization_barrier(jnp.swapaxes(x, 2, 3))


def _weighted_sums(
    values: Float[Array, "examples heads features keys"], weights: Float[Array, "examples heads keys rows"]
) -> Float[Array, "examples heads rows features"]:
    """The sums over keys of value times weight, with the axes in the order in which a CPU's matmul is fastest."""
    wide = reduction_dtype(values.dtype)
    y = jnp.einsum("nhdk,nhkr->nhdr", values, weights, preferred_element_type=wide)
    return jnp.swapaxes(lax.optimization_barrier(y), 2, 3)
