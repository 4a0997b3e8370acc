"""The derivative of another function, or of a layer with other options."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.verify.diagnose.suspect import Hypothesis, Suspect
from pipeline.verify.rule import of_layer
from pipeline.verify.trial import Seen

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
    """Of a function of every element alone: is it the derivative of another one that is well known?"""
    arrays = suspect.arrays()
    outputs = list(suspect.seen.y.values())
    alone = suspect.rule.floats == [suspect.leaf]
    if (
        alone
        and len(outputs) == 1
        and outputs[0].shape == suspect.reference.shape
        and not np.iscomplexobj(arrays[suspect.leaf])
    ):
        for name, function in _DERIVATIVES.items():
            slope = compiler.jit(jax.vmap(jax.grad(function)))

            def predict(seen: Seen, slope: Callable = slope) -> np.ndarray:
                numbers = jnp.asarray(suspect.arrays(seen)[suspect.leaf])
                return np.asarray(slope(numbers.reshape(-1))).reshape(numbers.shape) * seen.probe.d_y[0]

            yield Hypothesis("other function", f"it is the derivative of {name}", predict)


def options(suspect: Suspect) -> Iterator[Hypothesis]:
    """Of a layer: is it right for the same layer with another option, or in training for evaluation?"""
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

        def predict(seen: Seen, function: Callable = function) -> np.ndarray | None:
            try:
                return np.asarray(function(list(seen.probe.arrays), list(seen.probe.d_y)))
            except Exception:
                return None

        if suspect.same(predict(suspect.seen)):
            yield Hypothesis("other function", f"as if {words}", predict)
