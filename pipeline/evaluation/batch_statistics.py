"""Batch statistics: the population's mean and mean square for BatchNorm, computed before a model is evaluated."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from .. import compiler
from ..data.batches import Batch
from ..layers.base import Context, PyTree, map_children, parameter_roles
from ..layers.dropout import Dropout
from ..layers.objective import Objective


def make_batch_statistics(objective: Objective) -> Callable[[PyTree, Iterable[Batch]], PyTree]:
    """Returns a function ``(params, batches) -> params`` that writes the population's statistics for BatchNorm.

    These are the averages of the statistics of ``batches``, which must be training batches of equal size, under the
    parameters as they are (Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm"). Dropout is off, as in evaluation.
    Parameters of a model without batch statistics are returned unchanged, and need no batches; any other model raises
    ValueError if there are none.

    >>> from backhand.layers.linear import Dense
    >>> from backhand.layers.combinators import Serial
    >>> from backhand.layers.normalization import BatchNorm
    >>> from backhand.losses.base import Targets
    >>> from backhand.losses.regression import MeanSquaredError
    >>> objective = Objective(Serial((BatchNorm(), Dense(1))), MeanSquaredError())
    >>> batch = jnp.array([[1.0], [3.0]]), Targets(jnp.zeros((2, 1)))
    >>> params = objective.init(jax.random.key(0), batch)
    >>> params = make_batch_statistics(objective)(params, [batch])
    >>> params["model"]["layers"][0]["mean"].tolist(), params["model"]["layers"][0]["mean_square"].tolist()
    ([2.0], [5.0])
    """
    without_dropout = _without_dropout(objective)

    @compiler.jit
    def statistics(params: PyTree, batch: Batch) -> PyTree:
        _, residuals = without_dropout.forward(params, batch, Context(train=True))
        return without_dropout.statistics(params, residuals)

    def batch_statistics(params: PyTree, batches: Iterable[Batch]) -> PyTree:
        if "statistic" not in jax.tree.leaves(parameter_roles(objective, params)):
            return params
        sums, count = None, 0
        for batch in batches:
            current = statistics(params, batch)
            sums, count = (current if sums is None else jax.tree.map(jnp.add, sums, current)), count + 1
        if not count:
            raise ValueError("a model with BatchNorm needs batches to compute its statistics on; there were none")
        return jax.tree.map(
            lambda total, now: now if total is None else total / count, sums, params, is_leaf=lambda node: node is None
        )

    return batch_statistics


def _without_dropout(layer: Any) -> Any:
    if isinstance(layer, Dropout):
        return replace(layer, rate=0.0)
    return map_children(lambda _, child: _without_dropout(child), layer)
