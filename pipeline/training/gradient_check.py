"""Compares the manual gradient of a whole objective with autodiff's, during training and at its end."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import compiler
from ..backprop import value_and_grad
from ..data.batches import Batch
from ..layers.base import PyTree, map_children
from ..layers.combinators import Cast
from ..layers.objective import Objective
from ..verify.measure import relative_errors
from .step import Augment, prepare_batch


def make_comparison(
    objective: Objective, seed: int, augment: Augment | None = None
) -> Callable[[PyTree, Batch, Any], dict[str, float]]:
    """A function ``(params, batch, step) -> {leaf: relative error}`` of the manual gradient, compared with autodiff's.

    seed, augment: those of the train step, so that augmentation and dropout are the step's own.
    The relative error of a leaf is max|manual - autodiff| / max|autodiff|.
    """

    @compiler.jit
    def gradients(params: PyTree, batch: Batch, step: Any) -> tuple[PyTree, PyTree]:
        batch, context = prepare_batch(batch, seed, step, augment)
        manual, autodiff = (value_and_grad(objective, which) for which in ("manual", "autodiff"))
        return manual(params, batch, context)[1], autodiff(params, batch, context)[1]

    return lambda params, batch, step: relative_errors(*jax.device_get(gradients(params, batch, jnp.int32(step))))


def gradient_check(objective: Objective, params: PyTree, batch: Batch, seed: int = 0) -> dict[str, Any]:
    """The relative errors of the manual gradient in float64, as they stand in a run's summary.

    Returns max_relative_error, worst_leaf (its path), leaves (their number) and relative_error (of every leaf). A few
    examples suffice as the batch.
    """
    with jax.enable_x64(True):
        params, batch = _in_float64_arrays((params, batch))
        errors = make_comparison(_in_float64(objective), seed)(params, batch, 0)
    worst = max(errors, key=lambda leaf: errors[leaf])
    return {
        "max_relative_error": errors[worst],
        "leaves": len(errors),
        "worst_leaf": worst,
        "relative_error": errors,
    }


def _in_float64(layer: Any) -> Any:
    if isinstance(layer, Cast):
        return Cast("float64")
    return map_children(lambda _, child: _in_float64(child), layer)


def _in_float64_arrays(tree: PyTree) -> PyTree:
    def convert(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, tree)
