"""The derivative of another function, or of a layer with other options."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import compiler
from ..faults import raise_if_own, run
from ..make_rule import of_layer
from ..trial import Observation
from .suspect import Hypothesis, Suspect

_DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    "the tanh approximation of GELU": lambda x: jax.nn.gelu(x, approximate=True),
    "the exact GELU": lambda x: jax.nn.gelu(x, approximate=False),
    "x sigmoid(1.702 x), another approximation of GELU": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "ReLU": jax.nn.relu,
    "LeakyReLU": jax.nn.leaky_relu,
    "ELU": jax.nn.elu,
    "SELU": jax.nn.selu,
    "SiLU": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "exp": jnp.exp,
    "the identity": lambda x: x,
    "the square": jnp.square,
    "the absolute value": jnp.abs,
}


def functions(suspect: Suspect) -> Iterator[Hypothesis]:
    """The derivative of another well-known function, where the function is one of each element."""
    arrays = suspect.arrays()
    outputs = list(suspect.observation.y.values())
    alone = suspect.rule.floats == [suspect.leaf]
    if (
        alone
        and len(outputs) == 1
        and outputs[0].shape == suspect.reference.shape
        and not np.iscomplexobj(arrays[suspect.leaf])
    ):
        for name, function in _DERIVATIVES.items():
            slope = compiler.jit(jax.vmap(jax.grad(function)))

            def predict(observation: Observation, slope: Callable = slope) -> np.ndarray:
                numbers = jnp.asarray(suspect.arrays(observation)[suspect.leaf])
                return np.asarray(slope(numbers.reshape(-1))).reshape(numbers.shape) * observation.probe.d_y[0]

            yield Hypothesis("other function", f"it is the derivative of {name}", predict)


def options(suspect: Suspect) -> Iterator[Hypothesis]:
    """The derivative of the same layer with another option, or in evaluation instead of training."""
    layer, context = suspect.rule.layer, suspect.rule.context
    if layer is None:
        return
    variants = [(f"`train` were {not context.train}", layer, dataclasses.replace(context, train=not context.train))]
    for field in dataclasses.fields(layer):  # pyright: ignore[reportArgumentType]
        value = getattr(layer, field.name)
        others = [not value] if isinstance(value, bool) else [0.0, 1.0] if isinstance(value, float) else []
        for other in others:
            try:
                changed = dataclasses.replace(layer, **{field.name: other})  # pyright: ignore[reportArgumentType]
            except (ValueError, TypeError):
                continue
            variants.append((f"`{field.name}` were {other}", changed, context))
    for words, other_layer, other_context in variants:
        params, x = suspect.rule.arguments
        rule = of_layer(other_layer, params, x, other_context)
        function = compiler.jit(lambda arrays, d_y, rule=rule: rule.autodiff(arrays, d_y)["d"][suspect.leaf])

        def predict(observation: Observation, function: Callable = function) -> np.ndarray | None:
            try:
                return np.asarray(run(function, list(observation.probe.arrays), list(observation.probe.d_y)))
            except Exception as error:  # the other layer may not accept these arguments
                raise_if_own(error)
                return None

        if suspect.same(predict(suspect.observation)):
            yield Hypothesis("other function", f"as if {words}", predict)
