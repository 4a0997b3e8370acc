"""Backpropagation: the value and gradient of an objective, by the hand-written rules, by autodiff, or by both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from .layers.base import Context, Layer, PyTree, Static, Wrapper, children, map_children
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
        return _manual(objective)
    if gradient == "autodiff":
        return _by_autodiff(objective)
    if gradient == "attached":
        return _by_autodiff(attach_leaves(objective))  # pyright: ignore[reportArgumentType]  (the same kind of layer)
    raise ValueError(f"gradient is {gradient!r}; it must be one of {', '.join(get_args(Gradient))}")


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


@cache
def attach(layer: Layer) -> Callable[..., PyTree]:
    """``layer`` as a function ``(params, x, context=Context()) -> y`` with the hand-written rule as its derivative.

    The function works under ``jax.grad``, ``jax.vjp``, ``jit`` and ``vmap``, in Flax, Equinox or plain JAX code. Equal
    layers give the same function, so that attaching a layer again does not retrace. There is no forward-mode rule:
    ``jax.jvp`` raises TypeError.

    >>> from backhand.layers import MaxPool
    >>> max_pool = attach(MaxPool((2, 2)))
    >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> jax.grad(lambda x: max_pool({}, x).sum())(x).ravel().tolist()
    [0.0, 0.0, 0.0, 1.0]
    """

    @jax.custom_vjp
    def function(params: PyTree, x: PyTree, context: Context) -> PyTree:
        return layer.apply(params, x, context)

    def forward(params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        y, residuals = layer.forward(params, x, context)
        return y, (params, residuals, _dtypes(x))

    def backward(saved: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree, None]:
        params, residuals, dtypes = saved
        d_params, d_x = layer.backward(params, residuals, jax.tree.map(_none_for_float0, d_y))
        _check_dtypes(layer, "params", _dtypes(params), d_params)
        _check_dtypes(layer, "x", dtypes, d_x)
        return d_params, d_x, None

    function.defvjp(forward, backward)

    def attached(params: PyTree, x: PyTree, context: Context = Context()) -> PyTree:  # noqa: B008  (frozen)
        return function(params, x, context)

    return attached


def _none_for_float0(d: Any) -> Any:
    return None if d.dtype == jax.dtypes.float0 else d


def _dtypes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: Static(jnp.dtype(leaf.dtype)), tree)


def _check_dtypes(layer: Layer, name: str, dtypes: PyTree, cotangent: PyTree) -> None:
    # custom_vjp checks the structure and the shapes of cotangents, but accepts a float32 for a bfloat16.
    def check(path: Any, d: Any, dtype: Any) -> None:
        if d is not None and d.dtype != dtype.value:
            where = name + jax.tree_util.keystr(path)
            raise TypeError(f"{type(layer).__name__}.backward gives {d.dtype} for d_{where}, which is {dtype.value}")

    jax.tree_util.tree_map_with_path(check, cotangent, dtypes, is_leaf=lambda node: node is None)


@dataclass(frozen=True)
class Attached(Wrapper):
    """``layer`` with its hand-written rule attached to ``apply``, under the same parameters."""

    layer: Layer

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return attach(self.layer)(params, x, context)


def attach_leaves(layer: Layer) -> Layer:
    """The same model with the rule of every leaf layer attached, so that ``jax.grad`` only applies the chain rule."""
    if not any(children(layer)):
        return Attached(layer)
    return map_children(lambda _, child: attach_leaves(child), layer)
