"""BatchNorm's statistics of the population, written when a model is judged."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from pipeline import compiler
from pipeline.data.batches import Batch
from pipeline.layers.base import Context, PyTree, map_children
from pipeline.layers.dropout import Dropout
from pipeline.layers.objective import Objective
from pipeline.training.optimizer import STATISTICS, name_of


def make_batch_statistics(objective: Objective) -> Callable[[PyTree, Iterable[Batch]], PyTree]:
    """A function ``(params, batches) -> params`` that writes the population's statistics for BatchNorm.

    The statistics of equal training batches are averaged, with the parameters as they are now (Wu & Johnson 2021,
    "Rethinking 'Batch' in BatchNorm"). Dropout is left out: the model is calibrated as it will be evaluated. Models
    without statistics come back as they are, and need no batches.
    """
    quiet = _without_dropout(objective)

    @compiler.jit
    def statistics(params: PyTree, batch: Batch) -> PyTree:
        _, residuals = quiet.forward(params, batch, Context(train=True))
        return quiet.statistics(params, residuals)

    def calibrate(params: PyTree, batches: Iterable[Batch]) -> PyTree:
        if not any(name_of(path) in STATISTICS for path, _ in jax.tree_util.tree_leaves_with_path(params)):
            return params
        sums, count = None, 0
        for batch in batches:
            its = statistics(params, batch)
            sums, count = (its if sums is None else jax.tree.map(jnp.add, sums, its)), count + 1
        if not count:
            raise ValueError("a model with BatchNorm needs batches to calibrate its statistics on; there were none")
        return jax.tree.map(
            lambda total, now: now if total is None else total / count, sums, params, is_leaf=lambda node: node is None
        )

    return calibrate


def _without_dropout(layer: Any) -> Any:
    if isinstance(layer, Dropout):
        return replace(layer, rate=0.0)
    return map_children(lambda _, child: _without_dropout(child), layer)
