"""Which parts of an input drove a model's answer: gradients with respect to it, by the model's hand-written backward.

The first layer's ``d_x`` is what training throws away. It says how the answer would change with every pixel, finding or
word vector; summed along a path from a baseline it says how much each of them adds to the answer.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from pipeline import compiler
from pipeline.layers.attention import CrossAttention
from pipeline.layers.base import Context, Layer, PyTree
from pipeline.layers.combinators import EncoderDecoder, Repeat, Residual, Serial
from pipeline.layers.masking import Masked
from pipeline.layers.objective import Objective

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


def cross_attention_weights(objective: Objective, params: PyTree, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How much every position of a target attends to each of the source: (target time, source time); rows add up to 1.

    The mean over all layers and heads that attend to the source. source, target: ids (1, time), without padding.
    """
    model, its = objective.model, objective.expand(params)["model"]
    assert isinstance(model, EncoderDecoder)
    encoding, decoding = model.contexts(jnp.asarray(source), jnp.asarray(target), Context())
    memory = model.encoder.apply(its["encoder"], jnp.asarray(source), encoding)
    found: list[Array] = []
    _attended(model.decoder, its["decoder"], (jnp.asarray(target), memory), decoding, found)
    return np.asarray(jnp.concatenate(found, 1)[0].mean(0))


def _attended(layer: Layer, params: PyTree, x: PyTree, context: Context, found: list[Array]) -> PyTree:
    """What ``apply`` gives; the weights of every CrossAttention on the way are added to ``found``."""
    if not layer.reads_memory:
        return layer.apply(params, x, context)
    y, memory = x
    if isinstance(layer, CrossAttention):
        found.append(layer.weights(params, x, context))
        return layer.apply(params, x, context)
    if isinstance(layer, Residual):
        return y + _attended(layer.layer, params["layer"], x, context, found)
    if isinstance(layer, Repeat):
        for i in range(layer.times):
            its = jax.tree.map(lambda leaf, i=i: leaf[i], params["layer"])
            y = _attended(layer.layer, its, (y, memory), context, found)
        return y
    assert isinstance(layer, Serial)
    for part, its in zip(layer.layers, params["layers"]):
        y = _attended(part, its, (y, memory) if part.reads_memory else y, context, found)
    return y


def word_contributions(
    model: Layer, params: PyTree, ids: Int[np.ndarray, "batch time"]
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch time"]]:
    """Logits, and how much every word's vector adds to the log-probability of the likeliest class, to first order.

    The gradient by the hand-written rules at the embedding's output, times that output (Simonyan et al. 2014; Denil et
    al. 2014). model: one of this module, in any precision: a Masked Serial that begins with an Embedding.
    """
    assert isinstance(model, Masked) and isinstance(model.layer, Serial)
    first, *others = model.layer.layers
    its_first, *its_others = params["layer"]["layers"]
    context = replace(Context(), mask=jnp.asarray(ids != model.padding))

    def one(its_first: PyTree, its_others: PyTree, ids: Any) -> tuple[Array, Array]:
        vectors = first.apply(its_first, ids, context)
        rest, its = Serial(tuple(others)), {"layers": its_others}
        found = input_gradients(rest, its, vectors, score=log_probability, context=context)
        return found.outputs, (found.d_x * vectors).sum(-1)

    return compiler.jit(one)(its_first, its_others, jnp.asarray(ids))
