"""Sparse updates: a training step that reads and writes only the rows of large tables that are in its batch.

A table is an array of parameters with a row for every id: an embedding of users, items or words, or their biases. Of a
million rows a batch needs a few thousand. The gradient is 0 in all others, but the gradient, the optimiser's moments
and the update would still be arrays of the whole table's size. ``with_sparse_updates`` gives a train step a smaller
state instead:

1. The batch's rows are gathered from the parameters, and from everything in the state that mirrors them.
2. The ids in the batch are replaced by their places among these rows.
3. The step runs unchanged.
4. The rows are scattered back into the tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..data.batches import Batch
from ..layers.base import PyTree
from ..layers.checking import only_rows
from .state import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]


@dataclass(frozen=True)
class SparseTable:
    """Parameters with a row for each id, and the places of these ids in a batch.

    parameters: paths of arrays (count, ...) among the parameters ("model/layers/0/embedding"), all for the same ids.
    ids: paths of integers in [0, count) within the batch (inputs, targets): "0" if the inputs are a single array of
        ids, "0/1" for the second of several arrays.
    """

    parameters: tuple[str, ...]
    ids: tuple[str, ...]


def with_sparse_updates(step: Step, tables: tuple[SparseTable, ...]) -> Step:
    """``step``, restricted to the rows of ``tables`` that are in the batch.

    It must be jitted with the state donated: without donation every table would be copied.

    With plain SGD, which does not change a row without a gradient, the result equals that of ``step``. An optimiser
    with moments would go on changing rows of earlier batches; here these rows, their moments and their moving averages
    stay as they are until a batch contains them again ("lazy" Adam; momentum likewise). Step counters count every step.
    Weight decay reaches the rows of the batch only.

    Row 0 is always among the rows, so that id 0, and no other id, has place 0: padding stays padding.

    Raises ValueError (the returned function does, where it depends on the batch) for paths that do not exist or that
    belong to several tables.
    """
    for paths in ([path for table in tables for path in table.parameters], [path for t in tables for path in t.ids]):
        if repeated := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(
                f"with_sparse_updates: {', '.join(repeated)} belongs to several tables; each path belongs to one"
            )

    def step_on_rows(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        rows: dict[str, Array] = {}
        for table in tables:
            count = _count(state.params, table.parameters)
            table_rows = _rows_in_batch(batch, table.ids, count)
            rows |= dict.fromkeys(table.parameters, table_rows)
            batch = _renumbered(batch, table.ids, table_rows, count)  # (2)
        partial_state = _map_tables(_gather, rows, state)  # (1)
        with only_rows(_shapes(partial_state.params, state.params, rows)):
            updated, metrics = step(partial_state, batch)  # (3)
        return _map_tables(_scatter, rows, updated, state), metrics  # (4)

    return step_on_rows


def _shapes(parts: PyTree, params: PyTree, rows: dict[str, Array]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of shapes, one for each table: that of its rows in the batch, and that of the whole table."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(parts), jax.tree.leaves(params))
    return [(part.shape, whole.shape) for (path, part), whole in pairs if _name(path) in rows]


def _count(params: PyTree, paths: tuple[str, ...]) -> int:
    """The number of rows of the table at ``paths``."""
    leaves = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    _check("parameters", paths, leaves)
    counts = {leaves[path].shape[0] for path in paths}
    if len(counts) > 1:
        raise ValueError(
            f"with_sparse_updates: {', '.join(paths)} have {sorted(counts)} rows; a table has one number of rows"
        )
    return counts.pop()


def _rows_in_batch(batch: Batch, paths: tuple[str, ...], count: int) -> Int[Array, " rows"]:
    """0 and the ids at ``paths``, sorted and unique. The rest of the array is ``count``, which is the id of no row."""
    leaves = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(batch)}
    _check("ids", paths, leaves)
    ids = jnp.concatenate([jnp.zeros(1, jnp.int32), *(leaves[path].reshape(-1).astype(jnp.int32) for path in paths)])
    return jnp.unique(ids, size=min(ids.size, count), fill_value=count)


def _renumbered(batch: Batch, paths: tuple[str, ...], rows: Int[Array, " rows"], count: int) -> Batch:
    """The batch in which every id at ``paths`` is replaced by its place among ``rows``.

    An id that no row has, outside [0, count), gets the place after the last one, where lookups give NaN.
    """

    def place(path: Any, leaf: Array) -> Array:
        if _name(path) not in paths:
            return leaf
        fits = (leaf >= 0) & (leaf < count)
        return jnp.where(fits, jnp.searchsorted(rows, leaf), len(rows)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(place, batch)


def _map_tables(function: Callable[..., Array], rows: dict[str, Array], tree: PyTree, *rest: PyTree) -> PyTree:
    """``tree`` with ``function(rows, leaf, *leaves of the rest)`` applied to tables and the arrays that mirror them.

    The optimiser's moments and the moving average are trees like the parameters, so that their paths end with the
    parameter's path. rows: by a parameter's path.
    """

    def at(path: Any, leaf: Array, *others: Array) -> Array:
        name = f"/{_name(path)}"
        table_rows = next((array for parameter, array in rows.items() if name.endswith(f"/{parameter}")), None)
        return leaf if table_rows is None else function(table_rows, leaf, *others)

    return jax.tree_util.tree_map_with_path(at, tree, *rest)


def _gather(rows: Int[Array, " rows"], table: Array) -> Array:
    return jnp.take(table, rows, axis=0, mode="clip")


def _scatter(rows: Int[Array, " rows"], updated: Array, table: Array) -> Array:
    return table.at[rows].set(updated, mode="drop", indices_are_sorted=True)


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check(what: str, paths: tuple[str, ...], leaves: dict[str, Any]) -> None:
    unknown = [path for path in paths if path not in leaves]
    if unknown:
        raise ValueError(
            f"with_sparse_updates: there are no {what} at {', '.join(unknown)}; there are: {', '.join(leaves)}"
        )
