"""Which parts of an input drove a model's answer: gradients with respect to it, by the model's hand-written backward.

The first layer's ``d_x`` is what training throws away. It says how the answer would change with every pixel, finding or
word vector; summed along a path from a baseline it says how much each of them adds to the answer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from pipeline.layers.base import Context, Layer, PyTree

Score = Callable[[Float[Array, "batch classes"], Int[Array, "batch"]], tuple[Float[Array, "batch"], Array]]
"""``(logits, classes) -> (score of each example's class, its gradient by the logits)``."""


class Attribution(NamedTuple):
    """outputs: the model's, (batch, classes); score: of each example's class, (batch,); d_x: like the input."""

    outputs: Array
    score: Array
    d_x: Array


def log_probability(
    z: Float[Array, "batch classes"], classes: Int[Array, "batch"]
) -> tuple[Float[Array, "batch"], Float[Array, "batch classes"]]:
    """log softmax(z)_c, whose derivative by z_k is [k = c] - softmax(z)_k."""
    hot = _one_hot(z, classes)
    largest = z.max(-1, keepdims=True)
    exps = jnp.exp(z - largest)
    total = exps.sum(-1, keepdims=True)
    score = jnp.where(hot, z - largest - jnp.log(total), 0.0).sum(-1)
    return score, hot.astype(z.dtype) - exps / total


def log_odds(
    z: Float[Array, "batch classes"], classes: Int[Array, "batch"]
) -> tuple[Float[Array, "batch"], Float[Array, "batch classes"]]:
    """log p_c / (1 - p_c) with p = softmax(z), which does not level off where the model is sure.

    It is z_c - log sum_{k != c} exp(z_k), so its derivative is 1 at c and minus the softmax of the others elsewhere.
    """
    hot = _one_hot(z, classes)
    others = jnp.where(hot, -jnp.inf, z)
    largest = others.max(-1, keepdims=True)
    exps = jnp.exp(others - largest)  # 0 at c
    total = exps.sum(-1, keepdims=True)
    score = jnp.where(hot, z, 0.0).sum(-1) - (largest + jnp.log(total))[..., 0]
    return score, jnp.where(hot, 1.0, -exps / total)


def _one_hot(z: Array, classes: Array) -> Array:
    return jnp.arange(z.shape[-1], dtype=classes.dtype)[None] == classes[:, None]


def input_gradients(
    model: Layer,
    params: PyTree,
    x: Float[Array, "batch ..."],
    classes: Int[Array, "batch"] | None = None,
    *,
    score: Score = log_odds,
    context: Context = Context(),  # noqa: B008  (frozen)
) -> Attribution:
    """The gradient of each example's score with respect to that example (saliency: Simonyan et al. 2014).

    model: gives logits (batch, classes), and looks across no examples in this context.
    classes: whose score; none: the likeliest.
    """
    outputs, residuals = model.forward(params, x, context)
    its = outputs.argmax(-1) if classes is None else classes
    value, d_outputs = score(outputs, its)
    _, d_x = model.backward(params, residuals, d_outputs.astype(outputs.dtype))
    return Attribution(outputs, value, d_x)


def integrated_gradients(
    model: Layer,
    params: PyTree,
    x: Float[Array, "batch *shape"],
    baseline: Float[Array, "*shape"] | float = 0.0,
    classes: Int[Array, "batch"] | None = None,
    *,
    steps: int = 32,
    score: Score = log_odds,
    context: Context = Context(),  # noqa: B008  (frozen)
) -> Attribution:
    """What every element of x adds to the score, compared with a baseline (Sundararajan, Taly & Yan 2017).

    With S the score, b the baseline and the straight path from b to x,

        a_i = (x_i - b_i) integral over t in [0, 1] of dS/dx_i (b + t (x - b)) dt

    so that the a_i of an example add up to S(x) - S(b) (completeness). The integral is taken by Gauss and Legendre's
    rule, exact for polynomials of degree 2 steps - 1; at kinks, such as ReLU's, its error falls with ``steps``.

    baseline: what stands for "nothing there"; for standardised inputs 0 is the training mean.
    steps: points of the integral, each a forward and a backward pass of the batch, one after the other.
    Returned are the outputs and scores at x, and a in place of d_x.
    """
    if steps < 1:
        raise ValueError(f"integrated_gradients: steps is {steps}; it must be at least 1")
    outputs = model.apply(params, x, context)
    its = outputs.argmax(-1) if classes is None else classes
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    way = x - baseline

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
        t, weight = point
        at = input_gradients(model, params, baseline + t * way, its, score=score, context=context)
        return total + weight * at.d_x, None

    points = (jnp.asarray((nodes + 1) / 2, x.dtype), jnp.asarray(weights / 2, x.dtype))
    total, _ = lax.scan(add, jnp.zeros_like(x), points)
    value, _ = score(outputs, its)
    return Attribution(outputs, value, way * total)
