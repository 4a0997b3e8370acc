"""Rows of large tables: a training step that sees those of its batch alone, and takes no longer for all the others.

A table has a row for every id: an embedding of users, items or words, a bias of each. Of a million rows a batch needs a
few thousand. Its gradient is 0 in all others, but the gradient, the optimiser's means and the update would be arrays of
the table's size all the same. ``with_sparse_updates`` takes a step as it is, and gives it a smaller state: (1) the batch's rows are
gathered, of the parameters and of all that the state holds beside them; (2) the ids in the batch become places among
these rows; (3) the step does what it does; (4) the rows go back to where they were.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from pipeline.data.batches import Batch
from pipeline.layers.base import PyTree
from pipeline.training.state import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]


@dataclass(frozen=True)
class SparseTable:
    """Parameters with a row for each id, and where a batch has these ids.

    parameters: paths of arrays (count, ...) among the parameters ("model/layers/0/embedding"), all for the same ids.
    ids: paths of integers in [0, count) within the batch, a pair (inputs, targets): "0" for inputs that are ids and
        nothing else, "0/1" for the second of several.
    """

    parameters: tuple[str, ...]
    ids: tuple[str, ...]


def with_sparse_updates(step: Step, tables: tuple[SparseTable, ...]) -> Step:
    """``step`` on the rows of ``tables`` that are in the batch; to be jitted with the state donated, as ``step`` is.

    Without donation every table would be copied. The result is ``step``'s own where a row without a gradient does not
    move: with plain SGD. An optimiser with a memory goes on moving rows that it has seen before; here they wait, with
    their moments and moving averages as they are, until they are in a batch again ("lazy" Adam; momentum likewise).
    What counts steps counts all of them. Decay would reach the rows of the batch alone.

    Row 0 is always there, so that id 0, and no other, has place 0: what counts as padding still does.
    """
    for paths in ([path for table in tables for path in table.parameters], [path for t in tables for path in t.ids]):
        if repeated := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(
                f"with_sparse_updates: {', '.join(repeated)} belongs to several tables; each path belongs to one"
            )

    def step_on_rows(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        rows: dict[str, Array] = {}
        for table in tables:
            chosen = _chosen(batch, table.ids, _count(state.params, table.parameters))
            rows |= dict.fromkeys(table.parameters, chosen)
            batch = _renumbered(batch, table.ids, chosen)  # (2)
        moved, measured = step(_map_tables(_gathered, rows, state), batch)  # (1), (3)
        return _map_tables(_scattered, rows, moved, state), measured  # (4)

    return step_on_rows


def _count(params: PyTree, paths: tuple[str, ...]) -> int:
    """How many rows the table at ``paths`` has."""
    leaves = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    _check("parameters", paths, leaves)
    counts = {leaves[path].shape[0] for path in paths}
    if len(counts) > 1:
        raise ValueError(
            f"with_sparse_updates: {', '.join(paths)} have {sorted(counts)} rows; a table's all have the same ids"
        )
    return counts.pop()


def _chosen(batch: Batch, paths: tuple[str, ...], count: int) -> Int[Array, " rows"]:
    """0 and the ids at ``paths``, sorted and each once; ``count``, which is no row, fills the array up."""
    leaves = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(batch)}
    _check("ids", paths, leaves)
    ids = jnp.concatenate([jnp.zeros(1, jnp.int32), *(leaves[path].reshape(-1).astype(jnp.int32) for path in paths)])
    return jnp.unique(ids, size=min(ids.size, count), fill_value=count)


def _renumbered(batch: Batch, paths: tuple[str, ...], rows: Int[Array, " rows"]) -> Batch:
    """The batch with the places among ``rows`` of the ids at ``paths`` instead of them."""

    def place(path: Any, leaf: Array) -> Array:
        return jnp.searchsorted(rows, leaf).astype(leaf.dtype) if _name(path) in paths else leaf

    return jax.tree_util.tree_map_with_path(place, batch)


def _map_tables(function: Callable[..., Array], rows: dict[str, Array], tree: PyTree, *rest: PyTree) -> PyTree:
    """``function(rows, leaf, *leaves of the rest)`` at all that belongs to a table: a parameter and what mirrors it.

    The optimiser's moments and the moving average are trees like the parameters, so that their paths end as the
    parameter's does.
    """

    def at(path: Any, leaf: Array, *others: Array) -> Array:
        name = f"/{_name(path)}"
        chosen = next((chosen for its, chosen in rows.items() if name.endswith(f"/{its}")), None)
        return leaf if chosen is None else function(chosen, leaf, *others)

    return jax.tree_util.tree_map_with_path(at, tree, *rest)


def _gathered(rows: Int[Array, " rows"], table: Array) -> Array:
    return jnp.take(table, rows, axis=0, mode="clip")


def _scattered(rows: Int[Array, " rows"], moved: Array, table: Array) -> Array:
    return table.at[rows].set(moved, mode="drop", indices_are_sorted=True)


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check(what: str, paths: tuple[str, ...], leaves: dict[str, Any]) -> None:
    unknown = [path for path in paths if path not in leaves]
    if unknown:
        raise ValueError(
            f"with_sparse_updates: there are no {what} at {', '.join(unknown)}; there are: {', '.join(leaves)}"
        )
