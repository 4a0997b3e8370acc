"""Compares the manual gradient of a whole objective with autodiff's, during training and at its end."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..backprop import value_and_grad
from ..data.batches import Batch
from ..errors import UserError
from ..layers.base import PyTree, map_children
from ..layers.combinators import Cast
from ..layers.objective import Objective
from ..verify.measure import by_path, relative_errors
from .step import Augment, prepare_batch


def make_comparison(
    objective: Objective, seed: int, augment: Augment | None = None
) -> Callable[[PyTree, Batch, Any], dict[str, float]]:
    """A function ``(params, batch, step) -> {leaf: relative error}`` of the manual gradient, compared with autodiff's.

    seed, augment: those of the train step, so that augmentation and dropout are the step's own.
    The relative error of a leaf is max|manual - autodiff| / max|autodiff|.
    """
    gradients = _make_gradients(objective, seed, augment)
    return lambda params, batch, step: relative_errors(*gradients(params, batch, step))


def _make_gradients(
    objective: Objective, seed: int, augment: Augment | None = None
) -> Callable[[PyTree, Batch, Any], tuple[PyTree, PyTree]]:
    """A function ``(params, batch, step) -> (manual, autodiff)``, which computes both gradients as numpy arrays."""

    @compiler.jit
    def gradients(params: PyTree, batch: Batch, step: Any) -> tuple[PyTree, PyTree]:
        batch, context = prepare_batch(batch, seed, step, augment)
        manual, autodiff = (value_and_grad(objective, which) for which in ("manual", "autodiff"))
        return manual(params, batch, context)[1], autodiff(params, batch, context)[1]

    return lambda params, batch, step: jax.device_get(gradients(params, batch, jnp.int32(step)))


def gradient_check(objective: Objective, params: PyTree, batch: Batch, seed: int = 0) -> dict[str, Any]:
    """The relative errors of the manual gradient in float64, as they stand in a run's summary.

    Returns max_relative_error, worst_leaf (its path), leaves (their number) and relative_error (of every leaf). A few
    examples suffice as the batch.

    Raises UserError where a gradient is not finite, or autodiff's is 0 and the manual one is not: no error is then
    finite.
    """
    with jax.enable_x64(True):
        params, batch = _in_float64_arrays((params, batch))
        manual, autodiff = _make_gradients(_in_float64(objective), seed)(params, batch, 0)
    for name, gradient in (("manual gradient", manual), ("gradient by autodiff", autodiff)):
        _require_finite(name, gradient)
    errors = relative_errors(manual, autodiff)
    worst = max(errors, key=lambda leaf: errors[leaf])
    if math.isinf(errors[worst]):
        raise UserError(
            f"the gradient by autodiff is 0 throughout the layer of {worst}, and the manual gradient is not: the "
            "backward pass of that layer is wrong"
        )
    return {
        "max_relative_error": errors[worst],
        "leaves": len(errors),
        "worst_leaf": worst,
        "relative_error": errors,
    }


def _require_finite(name: str, gradient: PyTree) -> None:
    for leaf, values in by_path(gradient).items():
        if not np.isfinite(values).all():
            raise UserError(
                f"the {name} of {leaf} in the trained model is not finite, also in float64, so that it cannot be "
                "checked: the parameters have grown too large; lower --optimizer.learning-rate or set --optimizer.clip"
            )


def _in_float64(layer: Any) -> Any:
    if isinstance(layer, Cast):
        return Cast("float64")
    return map_children(lambda _, child: _in_float64(child), layer)


def _in_float64_arrays(tree: PyTree) -> PyTree:
    def convert(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, tree)
