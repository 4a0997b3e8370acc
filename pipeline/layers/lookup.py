"""Rows of a table that ids pick: the ids' range, the rows, and the sum of their cotangents.

An id outside [0, count), where it is known before the program runs, is an error. In a compiled program it can't be one:
there its row is NaN, as in ``jnp.take`` and ``flax.linen.Embed``, and a training step that meets it stops. Negative ids
are outside, too: they don't count from the end.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int

from .base import Layer, reduction_dtype
from .checking import LayerError, layer_name


def in_range(ids: Int[Array, "*shape"], count: int) -> Bool[Array, "*shape"]:
    """True at ids in [0, count)."""
    return (ids >= 0) & (ids < min(count, 1 + jnp.iinfo(ids.dtype).max))


def require_ids(
    layer: Layer, what: str, ids: Any, count: int, *, where: Any = None, excluded: int | None = None
) -> None:
    """Raises LayerError for ids that are not integers, and for the first outside [0, count) where they are known.

    what: what an id is called. where: bool, True at the ids that count. excluded: an id that is not allowed either.
    """
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise LayerError(f"{layer_name(layer)}: the {what} is {ids.dtype}; it must be an integer")
    if not (is_known(ids) and is_known(where)):
        return
    known = np.asarray(jax.device_get(ids))
    outside = (known < 0) | (known >= count)
    if excluded is not None:
        outside |= known == excluded
    if where is not None:
        outside &= np.asarray(jax.device_get(where))
    if outside.any():
        place = tuple(np.argwhere(outside)[0].tolist())
        but = "" if excluded is None else f", and not {excluded}"
        at = f" at {list(place)}" if place else ""
        raise LayerError(f"{layer_name(layer)}: the {what}{at} is {known[place]}; it must be in [0, {count}){but}")


def is_known(array: Any) -> bool:
    """Whether its numbers can be read: not while a program is traced, nor where other processes hold some of them."""
    return not isinstance(array, Tracer) and (not isinstance(array, jax.Array) or array.is_fully_addressable)


def rows(table: Array, ids: Int[Array, "*shape"]) -> Array:
    """The rows ``ids`` of ``table``; NaN for ids outside of it."""
    return jnp.asarray(table).at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def scatter_sum(table: Array, ids: Int[Array, "*shape"], d_rows: Array) -> Array:
    """The cotangent of ``table`` from those of the rows ``ids``: for each row the sum over its occurrences.

    Sums are accumulated in float32 (float64) and returned in the dtype of the table. Ids outside of it have none.
    """
    sums = reduction_dtype(table.dtype)
    d_table = jnp.zeros(table.shape, sums)
    d_table = d_table.at[ids].add(d_rows.astype(sums), mode="drop", wrap_negative_indices=False)
    return d_table.astype(table.dtype)
