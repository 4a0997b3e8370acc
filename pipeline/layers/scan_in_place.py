"""A scan that overwrites the rows it has read with the rows that its steps return."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .base import PyTree, vary_like


def scan_in_place(
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree, PyTree]],
    carry: PyTree,
    rows: PyTree,
    xs: PyTree,
    reverse: bool,
) -> tuple[PyTree, PyTree, PyTree]:
    """A scan whose step (carry, block, xs[t]) -> (carry, new, y) replaces block t of ``rows`` by ``new``.

    rows: arrays (time, batch, ...); block t is row t.

    Returns the last carry, the rows and the stacked y.

    An ordinary scan would stack ``new`` in a second array of the same size, and fill it with zeros first. Each step
    writes the previous step's ``new``: if a step read and then wrote the same rows, XLA might copy all of them in every
    step.
    """
    length = len(jax.tree.leaves(rows)[0])
    first, last = (length - 1, 0) if reverse else (0, length - 1)

    def read(rows: PyTree, t: Any) -> PyTree:
        return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, t, 0, keepdims=False), rows)

    def write(rows: PyTree, new: PyTree, t: Any) -> PyTree:
        return jax.tree.map(lambda a, new: lax.dynamic_update_index_in_dim(a, new, t, 0), rows, new)

    def one(carried: PyTree, position: tuple[Any, PyTree]) -> tuple[PyTree, PyTree]:
        carry, rows, new, place = carried
        t, x = position
        rows = write(rows, new, place)
        carry, new, y = step(carry, read(rows, t), x)
        return (carry, rows, new, t), y

    start = *vary_like((carry, rows, read(rows, first)), carry, rows, xs), jnp.int32(first)
    (carry, rows, new, _), ys = lax.scan(one, start, (jnp.arange(length, dtype=jnp.int32), xs), reverse=reverse)
    return carry, write(rows, new, last), ys
