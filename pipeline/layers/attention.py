"""Multi-head attention layers: projections around ``DotProductAttention``, with key-value caches for decoding."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .attention_tiles import Heads
from .base import Context, Layer, PyTree
from .blockwise_attention import DotProductAttention, attend, weights
from .initializers import Initializer, lecun_normal
from .linear import Dense
from .positions import Rotary


class _Cache(NamedTuple):
    """The keys and values of the positions so far, which of them are not masked, and how many there are."""

    key: Heads
    value: Heads
    mask: Bool[Array, "batch length"]
    time: Int[Array, ""]


@dataclass(frozen=True)
class _MultiHead(Layer):
    """Four Dense layers around DotProductAttention: query, key, value and out."""

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    heads: int
    key_value_heads: int | None = None
    _: KW_ONLY
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal

    def __post_init__(self) -> None:
        if self.heads % self.groups:
            raise ValueError(
                f"{type(self).__name__}: {self.groups} heads of keys and values do not divide {self.heads} query heads"
            )

    @property
    def groups(self) -> int:
        """The number of heads of keys and values."""
        return self.key_value_heads or self.heads

    def dense(self, features: int) -> Dense:
        return Dense(features, self.use_bias, self.kernel_init)

    def init_projections(self, key: Any, features: int, x: Any, memory: Any) -> dict[str, dict[str, Array]]:
        if features % self.heads:
            raise ValueError(f"{type(self).__name__}: {features} features are not divisible by {self.heads} heads")
        shared = self.groups * (features // self.heads)
        sizes = {"query": (x, features), "key": (memory, shared), "value": (memory, shared), "out": (x, features)}
        return {
            name: self.dense(size).init(jax.random.fold_in(key, i), like)
            for i, (name, (like, size)) in enumerate(sizes.items())
        }

    def project(self, params: PyTree, name: str, x: Float[Array, "batch time features"], heads: int) -> Heads:
        y = self.dense(params[name]["kernel"].shape[1]).apply(params[name], x, Context())
        return y.reshape(*y.shape[:2], heads, -1)

    def join(self, params: PyTree, y: Heads) -> Float[Array, "batch time features"]:
        return self.dense(params["out"]["kernel"].shape[1]).apply(params["out"], _joined(y), Context())

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

    heads: the number of query heads, which must divide the features of x. key_value_heads: the number of heads of keys
    and values, if it is smaller. causal: whether a position attends only to itself and earlier ones. rotary: whether
    queries and keys are rotated by their positions (see ``Rotary``).

    >>> layer, x = SelfAttention(heads=2, causal=True), jnp.ones((3, 5, 8))
    >>> params = layer.init(jax.random.key(0), x)
    >>> layer.apply(params, x, Context()).shape
    (3, 5, 8)
    """

    causal: bool = False
    rotary: bool = False

    @property
    def core(self) -> DotProductAttention:
        return DotProductAttention(self.causal)

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> PyTree:
        return self.init_projections(key, x.shape[-1], x, x)

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
        y, core_residuals = self.core.forward({}, (query, key, value), context)
        return self.join(params, y), (x, y, core_residuals)

    def backward(
        self, params: PyTree, residuals: tuple[Array, Heads, PyTree], d_y: Float[Array, "batch time features"]
    ) -> tuple[PyTree, Float[Array, "batch time features"]]:
        """The chain rule, from the last step to the first:

        (1) d_W_o, d_b_o and d_heads, the cotangent of the heads' outputs, by the rule of Dense
        (2) d_q, d_k, d_v by the rule of DotProductAttention, then rotated back
        (3) d_W, d_b and d_x of each of the three projections, by the rule of Dense
        (4) d_x is the sum of these three, since x is the input of each

        The residuals are x, the heads' outputs, which (1) needs, and those of DotProductAttention: q and k after their
        rotation, v, and two numbers per query and head.
        """
        x, heads, core_residuals = residuals
        d_out, d_heads = self.d_join(params, heads, d_y)  # (1)
        _, (d_query, d_key, d_value) = self.core.backward({}, core_residuals, d_heads)  # (2)
        if self.rotary:
            d_query, d_key = (Rotary().backward({}, (), d)[1] for d in (d_query, d_key))
        parts = {"query": d_query, "key": d_key, "value": d_value}
        d_parts = {name: self.d_project(params, name, x, d) for name, d in parts.items()}  # (3)
        d_params = {name: d_projection for name, (d_projection, _) in d_parts.items()}
        d_x = sum((d for _, d in list(d_parts.values())[1:]), start=d_parts["query"][1])  # (4)
        return {**d_params, "out": d_out}, d_x

    def init_cache(self, params: PyTree, x: Any, length: int, context: Context) -> _Cache:
        """An empty cache with room for the keys and values of ``length`` positions."""
        del context
        if not self.causal:
            raise ValueError("SelfAttention(causal=False) attends to later positions: it cannot decode one by one")
        batch, features = x.shape[0], params["query"]["kernel"].shape[1] // self.heads
        empty = jnp.zeros((batch, length, self.groups, features), x.dtype)
        return _Cache(empty, empty, jnp.zeros((batch, length), bool), jnp.zeros((), jnp.int32))

    def decode_step(
        self, params: PyTree, cache: _Cache, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], _Cache]:
        """The output at the next position, or at several if x holds them; their keys and values join the cache."""
        query, key, value = self._heads(params, x)
        places = cache.time + jnp.arange(x.shape[1], dtype=jnp.int32)
        if self.rotary:
            query, key = (Rotary().rotate(part, places) for part in (query, key))
        new = jnp.ones(x.shape[:2], bool) if context.mask is None else context.mask
        key, value, mask = (
            lax.dynamic_update_slice_in_dim(old, part, cache.time, axis=1)
            for old, part in zip(cache[:3], (key, value, new))
        )
        cache = _Cache(key, value, mask, cache.time + x.shape[1])
        causal = jnp.arange(cache.key.shape[1], dtype=jnp.int32)[None] <= places[:, None]
        mask = cache.mask[:, None, None] & causal[None, None]
        return self.join(params, attend(query, cache.key, cache.value, mask)), cache


@dataclass(frozen=True)
class CrossAttention(_MultiHead):
    """Maps (x, memory) to y: attention whose keys and values come from another sequence, the memory m.

    y = [heads of DotProductAttention(x W_q + b_q, m W_k + b_k, m W_v + b_v)] W_o + b_o (Vaswani et al. 2017). The
    context's ``memory_mask`` masks positions of the memory.

    Parameters: query, key, value, out: each a dict of kernel (in, out) and bias (out,), unless ``use_bias`` is False.

    heads: the number of query heads, which must divide the features of x. key_value_heads: the number of heads of keys
    and values, if it is smaller.

    >>> layer, x, memory = CrossAttention(heads=2), jnp.ones((3, 5, 8)), jnp.ones((3, 7, 6))
    >>> params = layer.init(jax.random.key(0), (x, memory))
    >>> layer.apply(params, (x, memory), Context()).shape
    (3, 5, 8)
    """

    @property
    def reads_memory(self) -> bool:
        return True

    def init(self, key: Any, x: PyTree) -> PyTree:
        x, memory = x
        return self.init_projections(key, x.shape[-1], x, memory)

    def _heads(self, params: PyTree, x: Array, memory: Array) -> tuple[Array, Array, Array]:
        query = self.project(params, "query", x, self.heads)
        key, value = (self.project(params, name, memory, self.groups) for name in ("key", "value"))
        return query, key, value

    def apply(
        self,
        params: PyTree,
        x: tuple[Float[Array, "batch time features"], Float[Array, "batch memory_time memory_features"]],
        context: Context,
    ) -> Float[Array, "batch time features"]:
        core_context = replace(context, mask=context.memory_mask)
        return self.join(params, DotProductAttention().apply({}, self._heads(params, *x), core_context))

    def weights(self, params: PyTree, x: PyTree, context: Context) -> Float[Array, "batch heads time memory_time"]:
        """The weights with which each position attends to those of the memory, by head; they add up to 1."""
        query, key, _ = self._heads(params, *x)
        return weights(query, key, None if context.memory_mask is None else context.memory_mask[:, None, None])

    def forward(
        self, params: PyTree, x: PyTree, context: Context
    ) -> tuple[Float[Array, "batch time features"], tuple[Array, Array, Heads, PyTree]]:
        core_context = replace(context, mask=context.memory_mask)
        y, core_residuals = DotProductAttention().forward({}, self._heads(params, *x), core_context)
        return self.join(params, y), (*x, y, core_residuals)

    def backward(
        self, params: PyTree, residuals: tuple[Array, Array, Heads, PyTree], d_y: Float[Array, "batch time features"]
    ) -> tuple[PyTree, tuple[Array, Array]]:
        """The chain rule of SelfAttention, except for the last step:

        (1) d_W_o, d_b_o and d_heads, the cotangent of the heads' outputs, by the rule of Dense
        (2) d_q, d_k, d_v by the rule of DotProductAttention
        (3) d_W, d_b and the input's cotangent for each of the three projections, by the rule of Dense
        (4) d_x is that of the query's projection; d_memory is the sum of those of key and value

        The residuals are x, the memory, the heads' outputs and those of DotProductAttention.
        """
        x, memory, heads, core_residuals = residuals
        d_out, d_heads = self.d_join(params, heads, d_y)  # (1)
        _, (d_query, d_key, d_value) = DotProductAttention().backward({}, core_residuals, d_heads)  # (2)
        d_query, d_x = self.d_project(params, "query", x, d_query)  # (3)
        d_key, d_memory = self.d_project(params, "key", memory, d_key)
        d_value, d_memory_of_value = self.d_project(params, "value", memory, d_value)
        d_params = {"query": d_query, "key": d_key, "value": d_value, "out": d_out}
        return d_params, (d_x, d_memory + d_memory_of_value)  # (4)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> _Cache:
        """The keys and values of the memory, which are the same for all positions."""
        del length
        memory = x[1]
        key, value = (self.project(params, name, memory, self.groups) for name in ("key", "value"))
        mask = jnp.ones(memory.shape[:2], bool) if context.memory_mask is None else context.memory_mask
        return _Cache(key, value, mask, jnp.zeros((), jnp.int32))

    def decode_step(
        self, params: PyTree, cache: _Cache, x: PyTree, context: Context
    ) -> tuple[Float[Array, "batch time features"], _Cache]:
        """The output at the next position of x, from the cached keys and values of the memory."""
        del context
        query = self.project(params, "query", x[0], self.heads)
        y = attend(query, cache.key, cache.value, cache.mask[:, None, None])
        return self.join(params, y), cache
