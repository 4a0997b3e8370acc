"""Attention: every position asks all others, and answers are averaged by how well they fit."""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from pipeline.layers.base import Context, Layer, PyTree, reduction_dtype
from pipeline.layers.cpu_cache import CACHE_BYTES
from pipeline.layers.initializers import Initializer, lecun_normal
from pipeline.layers.linear import Dense
from pipeline.layers.positions import Rotary

Heads = Float[Array, "batch time heads head_features"]
Queries = Float[Array, "batch queries heads features"]
Keys = Float[Array, "batch keys key_heads features"]
Values = Float[Array, "batch keys key_heads value_features"]
Scorer = Float[Array, "batch queries heads value_features"]
Rows = Float[Array, "batch key_heads rows"]
Part = Float[Array, "examples part_heads rows head_features"]
PartOfRows = Float[Array, "examples part_heads rows"]


class _Kept(NamedTuple):
    """DotProductAttention's residuals; see its ``backward``."""

    query: Queries
    key: Keys
    value: Values
    largest: Rows
    share: Rows
    mask: Any


@dataclass(frozen=True)
class DotProductAttention(Layer):
    """y_i = sum_j p_ij v_j with p_i = softmax over j of (q_i k_j / sqrt(features)) (Vaswani et al. 2017).

    x is (query, key, value), each (batch, time, heads, features). Keys and values may be of another length, and may
    have fewer heads: each then serves as many neighbouring heads of the queries (Ainslie et al. 2023, grouped queries).
    The context's mask says which keys count; a query none of whose keys do has y = 0, and no gradient.

    causal: whether a position sees none behind it; queries and keys are then equally many.
    rows: how many queries' scores stand in memory at a time; None: as many as a processor's cache holds.
    """

    positionwise: ClassVar[bool] = False

    causal: bool = False
    rows: int | None = None

    def init(self, key: Any, x: PyTree) -> dict:
        del key
        query, keys, value = x
        if query.shape[2] % keys.shape[2] or keys.shape[:3] != value.shape[:3]:
            raise ValueError(
                f"DotProductAttention: queries {tuple(query.shape)} need keys and values of equal shape whose heads "
                f"divide theirs, not {tuple(keys.shape)} and {tuple(value.shape)}"
            )
        return {}

    def apply(self, params: dict, x: tuple[Queries, Keys, Values], context: Context) -> Scorer:
        del params
        query, key, value = x
        return attend(query, key, value, self._counted(context.mask, query.shape[1], key.shape[1]))

    def _counted(
        self, mask: Bool[Array, "batch keys"] | None, queries: int, keys: int
    ) -> Bool[Array, "batch_or_1 1 queries_or_1 keys"] | None:
        if self.causal and queries != keys:
            raise ValueError(f"DotProductAttention: {queries} queries cannot see {keys} keys causally")
        before = jnp.tril(jnp.ones((1, 1, queries, keys), bool)) if self.causal else None
        if mask is None:
            return before
        return mask[:, None, None] if before is None else mask[:, None, None] & before

    def forward(self, params: dict, x: tuple[Queries, Keys, Values], context: Context) -> tuple[Scorer, _Kept]:
        """Block by block of queries, in the order of ``backward``."""
        del params
        query, key, value = x
        y, largest, share = lax.platform_dependent(
            query, key, value, context.mask, cpu=partial(self._attend, in_cache=True), default=self._attend
        )
        return y, _Kept(query, key, value, largest, share, context.mask)

    def backward(self, params: dict, residuals: _Kept, d_y: Scorer) -> tuple[dict, tuple[Queries, Keys, Values]]:
        """With s_ij = q_i k_j / sqrt(features), m_i = max_j s_ij, r_i = 1 / sum_j exp(s_ij - m_i), and so
        p_ij = exp(s_ij - m_i) r_i:

        (1) d_v_j  = sum_i p_ij d_y_i
        (2) d_p_ij = d_y_i v_j
        (3) c_i    = sum_j p_ij d_p_ij
        (4) d_s_ij = p_ij (d_p_ij - c_i)                             softmax
        (5) d_q_i  = sum_j d_s_ij k_j / sqrt(features)
        (6) d_k_j  = sum_i d_s_ij q_i / sqrt(features)

        A key's and value's sums over i run over all queries of the heads it serves. The residuals are q, k, v, which
        the layer before keeps anyway, and m and r, two numbers a query. p, the square of the length, is made again from
        them, a block of queries at a time (Dao et al. 2022, FlashAttention). They keep m - log r in place of the two,
        and take d_y_i y_i for (3). Both cost digits where scores are large: one key counts alone, d_p_ij - c_i is 0 for
        it, and stays 0 only if c_i is rounded as d_p_ij is. What is no key of a query has s = minus infinity; where a
        query has none, r is 0, and with it p.

        On a CPU so many heads are worked on at a time that their scores stay in the cache; on other devices all. A
        causal block of queries meets only the keys up to the end of its band.
        """
        del params
        d_x = lax.platform_dependent(
            *residuals, d_y, cpu=partial(self._d_attend, in_cache=True), default=self._d_attend
        )
        return {}, d_x

    def _attend(
        self, query: Queries, key: Keys, value: Values, mask: Any, in_cache: bool = False
    ) -> tuple[Scorer, Rows, Rows]:
        rows = self._rows(query, key)
        walk = _Walk.over(query, key, rows, in_cache)
        wide, scale = reduction_dtype(query.dtype), 1 / math.sqrt(query.shape[-1])

        def part(i: Any, written: tuple[Array, ...]) -> tuple[Array, ...]:
            queries, keys, values = (walk.take(array, i) for array in (query, key, value))
            counted, values_first = walk.take_mask(mask, i), _features_first(values)

            def block(start: Any, count: int, seen: int, written: tuple[Array, ...]) -> tuple[Array, ...]:
                scores = self._scores(walk.rows(queries, start, count), keys[:, :, :seen], counted, start, walk.group)
                largest = scores.max(2)
                largest = jnp.where(largest == -jnp.inf, 0.0, largest)
                # The barrier keeps XLA from taking every exponential twice, once for the sum.
                exponentials = lax.optimization_barrier(jnp.exp(scale * (scores - largest[:, :, None])))
                total = exponentials.sum(2)
                y = _answers(values_first[..., :seen], exponentials.astype(values_first.dtype))
                share = jnp.where(total == 0, 0.0, 1 / jnp.where(total == 0, 1.0, total))
                y = walk.put(written[0], i, start, y * share[..., None])
                return y, *(walk.put_rows(w, i, start, rows) for w, rows in zip(written[1:], (largest, share)))

            return self._over_blocks(query.shape[1], key.shape[1], block, written, rows)

        shape = (*query.shape[:3], value.shape[-1])
        of_rows = jnp.zeros((key.shape[0], key.shape[2], query.shape[1] * walk.group), wide)
        return walk.each(part, (jnp.zeros(shape, query.dtype), of_rows, of_rows))

    def _d_attend(
        self,
        query: Queries,
        key: Keys,
        value: Values,
        largest: Rows,
        share: Rows,
        mask: Any,
        d_y: Scorer,
        in_cache: bool = False,
    ) -> tuple[Queries, Keys, Values]:
        rows = self._rows(query, key)
        walk = _Walk.over(query, key, rows, in_cache)
        wide, narrow, scale = reduction_dtype(query.dtype), query.dtype, 1 / math.sqrt(query.shape[-1])
        product = partial(jnp.einsum, preferred_element_type=wide)

        def part(i: Any, written: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            queries, keys, values, d_rows = (walk.take(array, i) for array in (query, key, value, d_y))
            counted, tops, shares = walk.take_mask(mask, i), *(walk.take_rows(rows, i) for rows in (largest, share))
            keys_first = _features_first(keys)

            def block(start: Any, count: int, seen: int, written: tuple[Array, ...]) -> tuple[Array, ...]:
                d_query, d_keys, d_values = written
                its = partial(walk.rows, start=start, count=count)
                queries_here, d_here = its(queries), its(d_rows)
                scores = self._scores(queries_here, keys[:, :, :seen], counted, start, walk.group)
                p = jnp.exp(scale * (scores - its(tops)[:, :, None])) * its(shares)[:, :, None]
                p = lax.optimization_barrier(p)
                d_p = product("nhkd,nhrd->nhkr", values[:, :, :seen], d_here)  # (2)
                weighted = lax.optimization_barrier(p * d_p)
                along = weighted.sum(2, keepdims=True)  # (3)
                d_scores = (weighted - p * along).astype(narrow)  # (4)
                d_scores = lax.optimization_barrier(d_scores)
                d_values = d_values.at[:, :, :seen].add(product("nhkr,nhrd->nhkd", p.astype(narrow), d_here))  # (1)
                d_keys = d_keys.at[:, :, :seen].add(product("nhkr,nhrd->nhkd", d_scores, queries_here))  # (6)
                d_q = _answers(keys_first[..., :seen], d_scores)  # (5)
                return walk.put(d_query, i, start, d_q * scale), d_keys, d_values

            zeros = tuple(jnp.zeros(array.shape, wide) for array in (keys, values))
            d_query, d_keys, d_values = self._over_blocks(
                query.shape[1], key.shape[1], block, (written[0], *zeros), rows
            )
            return d_query, walk.put(written[1], i, 0, d_keys * scale), walk.put(written[2], i, 0, d_values)

        return walk.each(part, tuple(jnp.zeros_like(array) for array in (query, key, value)))

    def _scores(self, queries: Array, keys: Array, counted: Any, start: Any, group: int) -> Array:
        """(examples, key heads, keys, rows): with rows last, maxima and sums over keys are those of whole vectors."""
        wide = reduction_dtype(queries.dtype)
        scores = jnp.einsum("nhkd,nhrd->nhkr", keys, queries, preferred_element_type=wide)
        if counted is not None:
            counted = jnp.broadcast_to(counted[:, None, : keys.shape[2], None], scores.shape)
            scores = jnp.where(counted, scores, -jnp.inf)
        if self.causal:
            places, rows = (lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (2, 3))
            scores = jnp.where(places <= jnp.int32(start) + rows // group, scores, -jnp.inf)
        return scores

    def _rows(self, query: Any, key: Any) -> int:
        """How many positions of the queries are worked on at a time."""
        if self.rows is not None:
            return min(self.rows, query.shape[1])
        fewest, most = (-(-rows // (query.shape[2] // key.shape[2])) for rows in _ROWS)
        if self.causal:
            most = min(most, max(fewest, -(-query.shape[1] // _BANDS)))
        return min(most, query.shape[1])

    def _over_blocks(self, queries: int, keys: int, block: Any, written: Any, rows: int) -> Any:
        """``block(first query, how many, how many keys they see, written)`` for all queries."""
        for start, stop in self._bands(queries, rows):
            seen = stop if self.causal else keys
            whole, rest = divmod(stop - start, rows)
            if whole == 1:
                written = block(start, rows, seen, written)
            elif whole:
                step = lambda j, written, start=start, seen=seen: block(start + j * rows, rows, seen, written)  # noqa: E731
                written = lax.fori_loop(0, whole, step, written)
            if rest:
                written = block(stop - rest, rest, seen, written)
        return written

    def _bands(self, queries: int, rows: int) -> Iterator[tuple[int, int]]:
        """Where what is below the diagonal is cut: sizes known while compiling, in a program of bounded length."""
        count = min(_BANDS, -(-queries // rows)) if self.causal else 1
        yield from ((queries * i // count, queries * (i + 1) // count) for i in range(count))


def attend(
    query: Queries, key: Keys, value: Values, counted: Bool[Array, "batch_or_1 1 queries_or_1 keys"] | None
) -> Scorer:
    """DotProductAttention's definition. counted: which keys a query sees; None: all."""
    wide, group = reduction_dtype(query.dtype), query.shape[2] // key.shape[2]
    value = jnp.repeat(value.astype(wide), group, axis=2)
    return jnp.einsum("bhqk,bkhd->bqhd", weights(query, key, counted), value).astype(query.dtype)


def weights(
    query: Queries, key: Keys, counted: Bool[Array, "batch_or_1 1 queries_or_1 keys"] | None
) -> Float[Array, "batch heads queries keys"]:
    """p of DotProductAttention's definition, in the dtype of sums."""
    wide, group = reduction_dtype(query.dtype), query.shape[2] // key.shape[2]
    key = jnp.repeat(key.astype(wide), group, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query.astype(wide), key) / math.sqrt(query.shape[-1])
    if counted is not None:
        scores = jnp.where(jnp.broadcast_to(counted, scores.shape), scores, -jnp.inf)
    largest = lax.stop_gradient(scores.max(-1, keepdims=True))
    exponentials = jnp.exp(scores - jnp.where(largest == -jnp.inf, 0.0, largest))
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / jnp.where(total == 0, 1.0, total)


_BANDS = 8
"""Of 8, all but 1/16 of what causal attention masks is never computed."""
_ROWS = 64, 128
"""Of a block. Matmuls with fewer are slow; with more, less of what a causal block masks is left out."""
_BLOCK_BYTES = CACHE_BYTES // 8
"""Of the scores that are worked on together: short blocks of several heads share what each matmul costs by itself."""
_SHORT_BYTES = 4 * CACHE_BYTES
"""Scores of so few are worked on for all heads together on a CPU, too: loops would take longer than the cache wins."""


def _divisor(count: int, most: int) -> int:
    """The largest of ``count``'s up to ``most``; 1 at least."""
    return next((size for size in range(min(most, count), 1, -1) if count % size == 0), 1)


def _wide_bytes(dtype: Any) -> int:
    return jnp.dtype(reduction_dtype(dtype)).itemsize


def _features_first(x: Float[Array, "examples heads time features"]) -> Float[Array, "examples heads features time"]:
    return lax.optimization_barrier(jnp.swapaxes(x, 2, 3))


def _answers(
    values: Float[Array, "examples heads features keys"], weights: Float[Array, "examples heads keys rows"]
) -> Float[Array, "examples heads rows features"]:
    """sum over keys of value times weight, in the order of axes in which a CPU's matmul is fastest."""
    wide = reduction_dtype(values.dtype)
    y = jnp.einsum("nhdk,nhkr->nhdr", values, weights, preferred_element_type=wide)
    return jnp.swapaxes(lax.optimization_barrier(y), 2, 3)


@dataclass(frozen=True)
class _Walk:
    """Over (batch, key heads), ``examples`` and ``heads`` of them at a time, each head with a ``group`` of query heads.

    A part of an array (batch, time, heads, features) is (examples, heads, rows, features), with a row for every
    position and query head of a group.
    """

    examples: int
    heads: int
    group: int
    batch: int
    key_heads: int

    @staticmethod
    def over(query: Any, key: Any, rows: int, in_cache: bool) -> "_Walk":
        """rows: positions of the queries in a block."""
        batch, key_heads = key.shape[0], key.shape[2]
        group = query.shape[2] // key_heads
        of_a_row = _wide_bytes(query.dtype) * group * key.shape[1]
        if not in_cache or batch * key_heads * query.shape[1] * of_a_row <= _SHORT_BYTES:
            return _Walk(batch, key_heads, group, batch, key_heads)
        blocks = _BLOCK_BYTES // (rows * of_a_row)
        heads = _divisor(key_heads, blocks)
        return _Walk(_divisor(batch, blocks // key_heads), heads, group, batch, key_heads)

    def each(self, part: Any, written: Any) -> Any:
        count = (self.batch // self.examples) * (self.key_heads // self.heads)
        return part(0, written) if count == 1 else lax.fori_loop(0, count, part, written)

    def _at(self, i: Any) -> tuple[Any, Any]:
        parts = self.key_heads // self.heads
        return (i // parts) * self.examples, (i % parts) * self.heads

    def take(self, x: Heads, i: Any) -> Part:
        example, head = self._at(i)
        _, time, heads, features = x.shape
        group = heads // self.key_heads
        sizes = (self.examples, time, self.heads * group, features)
        x = lax.dynamic_slice(x, (example, 0, head * group, 0), sizes)
        x = x.reshape(self.examples, time, self.heads, group, features)
        return jnp.moveaxis(x, 2, 1).reshape(self.examples, self.heads, time * group, features)

    def take_rows(self, x: Rows, i: Any) -> PartOfRows:
        return lax.dynamic_slice(x, (*self._at(i), 0), (self.examples, self.heads, x.shape[2]))

    def take_mask(self, mask: Any, i: Any) -> Any:
        if mask is None:
            return None
        return lax.dynamic_slice_in_dim(mask, self._at(i)[0], self.examples)

    def rows(self, x: Part | PartOfRows, start: Any, count: int) -> Array:
        """Those of ``count`` positions."""
        return lax.dynamic_slice_in_dim(x, start * self.group, count * self.group, axis=2)

    def put(self, x: Heads, i: Any, start: Any, part: Part) -> Heads:
        example, head = self._at(i)
        group = x.shape[2] // self.key_heads
        part = part.astype(x.dtype).reshape(self.examples, self.heads, -1, group, x.shape[-1])
        part = jnp.moveaxis(part, 1, 2).reshape(self.examples, -1, self.heads * group, x.shape[-1])
        return lax.dynamic_update_slice(x, part, (example, start, head * group, 0))

    def put_rows(self, x: Rows, i: Any, start: Any, part: Array) -> Rows:
        return lax.dynamic_update_slice(x, part, (*self._at(i), start * self.group))


class _Cache(NamedTuple):
    """Keys and values of positions seen so far, which of them count, and how many there are."""

    key: Heads
    value: Heads
    counted: Bool[Array, "batch length"]
    time: Int[Array, ""]


@dataclass(frozen=True)
class _MultiHead(Layer):
    """Projections around DotProductAttention, as four Dense layers: query, key, value, out."""

    heads: int
    key_value_heads: int | None = None
    _: KW_ONLY
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal

    def __post_init__(self) -> None:
        if self.heads % self.groups:
            raise ValueError(
                f"{type(self).__name__}: {self.heads} heads cannot share {self.groups} heads of keys and values evenly"
            )

    @property
    def groups(self) -> int:
        """How many heads keys and values have."""
        return self.key_value_heads or self.heads

    def dense(self, features: int) -> Dense:
        return Dense(features, self.use_bias, self.kernel_init)

    def start_projections(self, key: Any, features: int, x: Any, memory: Any) -> dict[str, dict[str, Array]]:
        if features % self.heads:
            raise ValueError(f"{type(self).__name__}: {features} features do not fall into {self.heads} heads")
        shared = self.groups * (features // self.heads)
        sizes = {"query": (x, features), "key": (memory, shared), "value": (memory, shared), "out": (x, features)}
        return {
            name: self.dense(size).init(jax.random.fold_in(key, i), like)
            for i, (name, (like, size)) in enumerate(sizes.items())
        }

    def project(self, params: PyTree, name: str, x: Float[Array, "batch time features"], heads: int) -> Heads:
        y = self.dense(0).apply(params[name], x, Context())
        return y.reshape(*y.shape[:2], heads, -1)

    def join(self, params: PyTree, y: Heads) -> Float[Array, "batch time features"]:
        return self.dense(0).apply(params["out"], _joined(y), Context())

    def d_project(
        self, params: PyTree, name: str, x: Float[Array, "batch time inputs"], d_y: Heads
    ) -> tuple[dict[str, Array], Float[Array, "batch time inputs"]]:
        return self.dense(d_y.shape[2] * d_y.shape[3]).backward(params[name], x, _joined(d_y))

    def d_join(
        self, params: PyTree, y: Heads, d_y: Float[Array, "batch time features"]
    ) -> tuple[dict[str, Array], Heads]:
        d_out, d_joined = self.dense(d_y.shape[-1]).backward(params["out"], _joined(y), d_y)
        return d_out, d_joined.reshape(y.shape)


def _joined(y: Heads) -> Float[Array, "batch time features"]:
    return y.reshape(*y.shape[:2], -1)


@dataclass(frozen=True)
class SelfAttention(_MultiHead):
    """y = [heads of DotProductAttention(x W_q + b_q, x W_k + b_k, x W_v + b_v)] W_o + b_o (Vaswani et al. 2017).

    Parameters: query, key, value, out: each a dict of kernel (in, out) and bias (out,), unless ``use_bias`` is False.

    heads: their sizes add up to x's features. key_value_heads: of keys and values, if fewer. causal: whether a position
    sees none behind it. rotary: whether queries and keys are rotated by their positions.
    """

    causal: bool = False
    rotary: bool = False

    @property
    def core(self) -> DotProductAttention:
        return DotProductAttention(self.causal)

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> PyTree:
        return self.start_projections(key, x.shape[-1], x, x)

    def _heads(self, params: PyTree, x: Float[Array, "batch time features"]) -> tuple[Array, Array, Array]:
        counts = {"query": self.heads, "key": self.groups, "value": self.groups}
        query, key, value = (self.project(params, name, x, heads) for name, heads in counts.items())
        return query, key, value

    def apply(
        self, params: PyTree, x: Float[Array, "batch time features"], context: Context
    ) -> Float[Array, "batch time features"]:
        query, key, value = self._heads(params, x)
        if self.rotary:
            query, key = (Rotary().apply({}, part, context) for part in (query, key))
        return self.join(params, self.core.apply({}, (query, key, value), context))

    def forward(
        self, params: PyTree, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], tuple[Array, Heads, PyTree]]:
        query, key, value = self._heads(params, x)
        if self.rotary:
            query, key = (Rotary().forward({}, part, context)[0] for part in (query, key))
        y, kept = self.core.forward({}, (query, key, value), context)
        return self.join(params, y), (x, y, kept)

    def backward(
        self, params: PyTree, residuals: tuple[Array, Heads, PyTree], d_y: Float[Array, "batch time features"]
    ) -> tuple[PyTree, Float[Array, "batch time features"]]:
        """The chain rule, from the last step to the first:

        (1) d_W_o, d_b_o and the cotangent of the heads' answers: Dense's
        (2) d_q, d_k, d_v: DotProductAttention's; then rotated back
        (3) d_W and d_b of each projection: Dense's
        (4) d_x: what the three hand back, summed, since each was given x

        The residuals are x, the answers, which (1) needs, and the core's: q and k as rotated, v, and two numbers a
        query and head.
        """
        x, answers, kept = residuals
        d_out, d_answers = self.d_join(params, answers, d_y)  # (1)
        _, (d_query, d_key, d_value) = self.core.backward({}, kept, d_answers)  # (2)
        if self.rotary:
            d_query, d_key = (Rotary().backward({}, (), d)[1] for d in (d_query, d_key))
        parts = {"query": d_query, "key": d_key, "value": d_value}
        d_parts = {name: self.d_project(params, name, x, d) for name, d in parts.items()}  # (3)
        d_params = {name: d_its_params for name, (d_its_params, _) in d_parts.items()}
        d_x = sum((d for _, d in list(d_parts.values())[1:]), start=d_parts["query"][1])  # (4)
        return {**d_params, "out": d_out}, d_x

    def init_cache(self, params: PyTree, x: Any, length: int, context: Context) -> _Cache:
        """No keys and values yet, in arrays with places for ``length`` of them."""
        del context
        if not self.causal:
            raise ValueError("SelfAttention(causal=False) sees several positions at once: it cannot go one by one")
        batch, features = x.shape[0], params["query"]["kernel"].shape[1] // self.heads
        empty = jnp.zeros((batch, length, self.groups, features), x.dtype)
        return _Cache(empty, empty, jnp.zeros((batch, length), bool), jnp.zeros((), jnp.int32))

    def decode_step(
        self, params: PyTree, cache: _Cache, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], _Cache]:
        """The output at the next position (or positions: x may hold several), whose keys and values join the cache."""
        query, key, value = self._heads(params, x)
        places = cache.time + jnp.arange(x.shape[1], dtype=jnp.int32)
        if self.rotary:
            query, key = (Rotary().rotate(part, places) for part in (query, key))
        new = jnp.ones(x.shape[:2], bool) if context.mask is None else context.mask
        key, value, counted = (
            lax.dynamic_update_slice_in_dim(old, part, cache.time, axis=1)
            for old, part in zip(cache[:3], (key, value, new))
        )
        cache = _Cache(key, value, counted, cache.time + x.shape[1])
        before = jnp.arange(cache.key.shape[1], dtype=jnp.int32)[None] <= places[:, None]
        counted = cache.counted[:, None, None] & before[None, None]
        return self.join(params, attend(query, cache.key, cache.value, counted)), cache


@dataclass(frozen=True)
class CrossAttention(_MultiHead):
    """(x, memory) to y: SelfAttention whose keys and values come from another sequence, the memory.

    y = [heads of DotProductAttention(x W_q + b_q, m W_k + b_k, m W_v + b_v)] W_o + b_o (Vaswani et al. 2017). Which
    positions of the memory count the context's ``memory_mask`` says.

    Parameters: query, key, value, out: each a dict of kernel (in, out) and bias (out,), unless ``use_bias`` is False.

    heads: their sizes add up to x's features. key_value_heads: of keys and values, if fewer.
    """

    @property
    def reads_memory(self) -> bool:
        return True

    def init(self, key: Any, x: PyTree) -> PyTree:
        x, memory = x
        return self.start_projections(key, x.shape[-1], x, memory)

    def _heads(self, params: PyTree, x: Array, memory: Array) -> tuple[Array, Array, Array]:
        query = self.project(params, "query", x, self.heads)
        key, value = (self.project(params, name, memory, self.groups) for name in ("key", "value"))
        return query, key, value

    def apply(self, params: PyTree, x: PyTree, context: Context) -> Float[Array, "batch time features"]:
        its_context = replace(context, mask=context.memory_mask)
        return self.join(params, DotProductAttention().apply({}, self._heads(params, *x), its_context))

    def weights(self, params: PyTree, x: PyTree, context: Context) -> Float[Array, "batch heads time memory_time"]:
        """How much each position attends to each of the memory, by head; a position's add up to 1."""
        query, key, _ = self._heads(params, *x)
        return weights(query, key, None if context.memory_mask is None else context.memory_mask[:, None, None])

    def forward(
        self, params: PyTree, x: PyTree, context: Context
    ) -> tuple[Float[Array, "batch time features"], tuple[Array, Array, Heads, PyTree]]:
        its_context = replace(context, mask=context.memory_mask)
        y, kept = DotProductAttention().forward({}, self._heads(params, *x), its_context)
        return self.join(params, y), (*x, y, kept)

    def backward(
        self, params: PyTree, residuals: tuple[Array, Array, Heads, PyTree], d_y: Float[Array, "batch time features"]
    ) -> tuple[PyTree, tuple[Array, Array]]:
        """SelfAttention's chain rule, but for its last step:

        (1) d_W_o, d_b_o and the cotangent of the heads' answers: Dense's
        (2) d_q, d_k, d_v: DotProductAttention's
        (3) d_W and d_b of each projection: Dense's
        (4) d_x is what the query's hands back; d_memory what the key's and value's do, summed

        The residuals are x, the memory, the answers and the core's.
        """
        x, memory, answers, kept = residuals
        d_out, d_answers = self.d_join(params, answers, d_y)  # (1)
        _, (d_query, d_key, d_value) = DotProductAttention().backward({}, kept, d_answers)  # (2)
        d_query, d_x = self.d_project(params, "query", x, d_query)  # (3)
        d_key, d_memory = self.d_project(params, "key", memory, d_key)
        d_value, d_memory_of_value = self.d_project(params, "value", memory, d_value)
        d_params = {"query": d_query, "key": d_key, "value": d_value, "out": d_out}
        return d_params, (d_x, d_memory + d_memory_of_value)  # (4)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> _Cache:
        """The memory's keys and values, which are the same for all positions."""
        del length
        memory = x[1]
        key, value = (self.project(params, name, memory, self.groups) for name in ("key", "value"))
        counted = jnp.ones(memory.shape[:2], bool) if context.memory_mask is None else context.memory_mask
        return _Cache(key, value, counted, jnp.zeros((), jnp.int32))

    def decode_step(
        self, params: PyTree, cache: _Cache, x: PyTree, context: Context
    ) -> tuple[Float[Array, "batch time features"], _Cache]:
        """The output at the next position of x; the memory beside it is not looked at again."""
        del context
        query = self.project(params, "query", x[0], self.heads)
        y = attend(query, cache.key, cache.value, cache.counted[:, None, None])
        return self.join(params, y), cache
