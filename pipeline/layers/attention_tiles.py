"""How blockwise attention cuts its work: into tiles that fit a CPU's cache, and one tile of everything elsewhere."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .base import reduction_dtype
from .cpu_cache import CACHE_BYTES

Heads = Float[Array, "batch time heads head_features"]
Rows = Float[Array, "batch key_heads rows"]
Tile = Float[Array, "examples tile_heads rows head_features"]
TileOfRows = Float[Array, "examples tile_heads rows"]

_BLOCK_BYTES = CACHE_BYTES // 8
"""The size of the scores that are computed together: heads of short sequences share the overhead of a matmul."""
_SHORT_BYTES = 4 * CACHE_BYTES
"""Up to this size, the scores of all heads are computed together even on a CPU, where a loop would cost more."""


def _divisor(count: int, most: int) -> int:
    """The largest divisor of ``count`` that is at most ``most``, and at least 1."""
    return next((size for size in range(min(most, count), 1, -1) if count % size == 0), 1)


def _wide_bytes(dtype: Any) -> int:
    return jnp.dtype(reduction_dtype(dtype)).itemsize


@dataclass(frozen=True)
class Tiling:
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
    def of(query: Any, key: Any, rows: int, in_cache: bool) -> "Tiling":
        """Tiles whose blocks of ``rows`` query positions fit the cache, or one tile of everything."""
        batch, key_heads = key.shape[0], key.shape[2]
        group = query.shape[2] // key_heads
        row_bytes = _wide_bytes(query.dtype) * group * key.shape[1]
        if not in_cache or batch * key_heads * query.shape[1] * row_bytes <= _SHORT_BYTES:
            return Tiling(batch, key_heads, group, batch, key_heads)
        blocks = _BLOCK_BYTES // (rows * row_bytes)
        heads = _divisor(key_heads, blocks)
        return Tiling(_divisor(batch, blocks // key_heads), heads, group, batch, key_heads)

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

    def _block_of_pairs(self, x: Array, i: Any, start: Any, count: int, visible: int) -> tuple[tuple, tuple[int, ...]]:
        """Where tile i's block lies in x, (batch, heads, queries, keys) or 1 in their place, and its size there."""
        example, head = self._start(i)
        heads = head * self.group, self.heads * self.group
        block = (example, self.examples), heads, (start, count), (0, visible)
        place, sizes = zip(*((0, 1) if size == 1 else part for size, part in zip(x.shape, block)))
        return place, sizes

    def read_pairs(self, x: Any, i: Any, start: Any, count: int, visible: int) -> Any:
        """A block of a bias or mask, (examples, heads, keys, rows) or 1 in place of the first three; None of None."""
        if x is None:
            return None
        x = lax.dynamic_slice(x, *self._block_of_pairs(x, i, start, count, visible))
        examples, heads, queries, keys = x.shape
        x = x.reshape(examples, *((1, 1) if heads == 1 else (self.heads, self.group)), queries, keys)
        x = x.transpose(0, 1, 4, 3, 2)
        return jnp.broadcast_to(x, (*x.shape[:3], count, self.group)).reshape(*x.shape[:3], count * self.group)

    def add_pairs(self, x: Array, i: Any, start: Any, scores: Float[Array, "examples heads keys rows"]) -> Array:
        """x, (batch, heads, queries, keys) or 1 in their place, plus a block's scores, summed where x has 1."""
        examples, heads, keys, _ = scores.shape
        scores = scores.reshape(examples, heads, keys, -1, self.group).transpose(0, 1, 4, 3, 2)
        scores = scores.reshape(examples, heads * self.group, -1, keys)
        scores = scores.sum(tuple(axis for axis, size in enumerate(x.shape) if size == 1), keepdims=True)
        place, sizes = self._block_of_pairs(x, i, start, scores.shape[2], keys)
        return lax.dynamic_update_slice(x, lax.dynamic_slice(x, place, sizes) + scores, place)

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
