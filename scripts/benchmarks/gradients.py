"""What a column computes: of a layer or loss the output and its derivatives, of a model the loss and its gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.cases import Case
from pipeline.attachment import attach
from pipeline.backprop import Gradient, value_and_grad
from pipeline.layers.base import Layer, PyTree


def gradient_of(case: Case, gradient: Gradient) -> Callable[..., PyTree]:
    """Ours, as a function of (params, x, context), and of the output's cotangent d_y for layers and losses."""
    definition = case.definition or case.layer
    if case.kind == "step":
        return value_and_grad(definition if gradient == "autodiff" else case.layer, gradient)  # pyright: ignore
    if gradient == "manual":
        return by_hand(case.layer)
    return by_vjp(attach(case.layer) if gradient == "attached" else definition.apply)


def by_hand(layer: Layer) -> Callable[..., PyTree]:
    """The hand-written rule: (params, x, context, d_y) to (y, (d_params, d_x))."""

    def value_and_cotangents(params: PyTree, x: PyTree, context: Any, d_y: PyTree) -> PyTree:
        y, residuals = layer.forward(params, x, context)
        return y, layer.backward(params, residuals, d_y)

    return value_and_cotangents


def by_vjp(apply: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The same through ``jax.vjp``: cotangents of the parameters, and of the inputs that are floats.

    Of a loss's input, which is a pair, of the outputs only: nothing differentiates targets.
    """

    def value_and_cotangents(params: PyTree, x: PyTree, context: Any, d_y: PyTree) -> PyTree:
        parts = list(x) if isinstance(x, tuple) else [x]
        places = [i for i, part in enumerate(parts) if isinstance(part, jax.Array) and _is_float(part)]

        def value(params: PyTree, *floats: jax.Array) -> PyTree:
            for place, part in zip(places, floats):
                parts[place] = part
            return apply(params, tuple(parts) if isinstance(x, tuple) else parts[0], context)

        y, pull_back = jax.vjp(value, params, *(parts[place] for place in places))
        return y, pull_back(d_y)

    return value_and_cotangents


def _is_float(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)
