"""Backpropagation: the value and gradient of an objective, by the hand-written rules, by autodiff, or by both."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from .attachment import attach_leaves
from .layers.base import Context, PyTree, already_checked
from .layers.checking import check
from .layers.objective import Objective

Gradient = Literal["manual", "autodiff", "attached"]


def value_and_grad(
    objective: Objective, gradient: Gradient = "manual"
) -> Callable[..., tuple[tuple[Any, PyTree], PyTree]]:
    """Returns a function ``(params, (inputs, targets), context, weight=1.0) -> ((value, outputs), d_params)``.

    ``value`` is the loss times ``weight``, and ``outputs`` are the model's, for metrics. When gradients of batches of
    different sizes are accumulated, ``weight`` is the batch's count over the total.

    gradient: "manual": the hand-written chain rule, end to end. "autodiff": ``jax.value_and_grad`` of ``apply``.
        "attached": ``jax.value_and_grad`` with the hand-written rule of every layer. Raises ValueError for others.

    The function raises LayerError, which names the layer, for parameters, a batch or a context that it can't take.

    >>> from backhand.layers import Dense, ReLU, Serial
    >>> from backhand.losses import SoftmaxCrossEntropy, Targets
    >>> objective = Objective(Serial((Dense(8), ReLU(), Dense(3))), SoftmaxCrossEntropy())
    >>> batch = jnp.ones((4, 5)), Targets(jnp.array([0, 2, 1, 1]))
    >>> params = objective.init(jax.random.key(0), batch)
    >>> (value, outputs), d_params = value_and_grad(objective)(params, batch, Context(train=True))
    >>> outputs.shape, d_params["model"]["layers"][0]["kernel"].shape
    ((4, 3), (5, 8))
    """
    if gradient == "manual":
        return _checked(objective, _manual(objective))
    if gradient == "autodiff":
        return _checked(objective, _by_autodiff(objective))
    if gradient == "attached":
        attached = attach_leaves(objective)
        return _checked(objective, _by_autodiff(attached))  # pyright: ignore[reportArgumentType]  (the same kind)
    raise ValueError(f"gradient is {gradient!r}; it must be one of {', '.join(get_args(Gradient))}")


def _checked(objective: Objective, function: Callable) -> Callable:
    """``function``, which raises LayerError for what a layer of the objective can't take; see ``layers.checking``."""

    def checked(params: PyTree, batch: PyTree, context: Any, weight: Any = 1.0) -> Any:
        check(objective, params, batch, context)
        with already_checked():
            return function(params, batch, context, weight)

    return checked


def _manual(objective: Objective) -> Callable:
    def value_and_gradient(params: PyTree, batch: PyTree, context: Context, weight: Any = 1.0) -> Any:
        # Steps 1 and 2, forward pass and loss: every layer returns the residuals that its backward needs.
        value, residuals = objective.forward(params, batch, context)
        # Steps 3 and 4, backward pass and propagation: the loss turns d_value into the gradient of its input, and each
        # layer turns the gradient of its output into those of its parameters and its input, last layer first.
        d_value = jnp.asarray(weight, value.dtype)
        d_params, _ = objective.backward(params, residuals, d_value)
        # Step 5, the update, is the optimiser's.
        return (value * d_value, residuals["outputs"]), d_params

    return value_and_gradient


def _by_autodiff(objective: Objective) -> Callable:
    def value_and_gradient(params: PyTree, batch: PyTree, context: Context, weight: Any = 1.0) -> Any:
        def value(params: PyTree) -> tuple[Any, PyTree]:
            value, outputs = objective.evaluate(params, batch, context)
            return value * jnp.asarray(weight, value.dtype), outputs

        return jax.value_and_grad(value, has_aux=True)(params)

    return value_and_gradient
