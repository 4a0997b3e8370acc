"""Attribution: which parts of an input drove a model's output, from gradients with respect to the input.

The gradients are the ``d_x`` of the model's hand-written backward pass, which training does not use. They say how the
output would change with every pixel, measurement or word vector. Integrated along a path from a baseline, they say how
much each of these adds to the output.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from . import compiler
from .layers.attention import CrossAttention
from .layers.base import Context, Layer, PyTree
from .layers.combinators import EncoderDecoder, Residual, Serial
from .layers.masking import Masked
from .layers.objective import Objective
from .layers.repeat import Repeat

Score = Callable[[Float[Array, "batch classes"], Int[Array, "batch"]], tuple[Float[Array, "batch"], Array]]
"""``(logits, classes) -> (score of each example's class, gradient of the score with respect to the logits)``."""


class Attribution(NamedTuple):
    """An attribution of a model's outputs to its inputs.

    outputs: the model's, (batch, classes). score: of each example's class, (batch,). d_x: an attribution for each
    element of the input, in its shape.
    """

    outputs: Array
    score: Array
    d_x: Array


def log_probability(
    z: Float[Array, "batch classes"], classes: Int[Array, "batch"]
) -> tuple[Float[Array, "batch"], Float[Array, "batch classes"]]:
    """log softmax(z)_c, whose derivative with respect to z_k is [k = c] - softmax(z)_k."""
    hot = _one_hot(z, classes)
    largest = z.max(-1, keepdims=True)
    exps = jnp.exp(z - largest)
    total = exps.sum(-1, keepdims=True)
    score = jnp.where(hot, z - largest - jnp.log(total), 0.0).sum(-1)
    return score, hot.astype(z.dtype) - exps / total


def log_odds(
    z: Float[Array, "batch classes"], classes: Int[Array, "batch"]
) -> tuple[Float[Array, "batch"], Float[Array, "batch classes"]]:
    """log p_c / (1 - p_c) with p = softmax(z), which does not saturate where the model is certain.

    It is z_c - log sum_{k != c} exp(z_k), so its derivative is 1 at c, and minus the softmax over the other classes
    elsewhere.
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

    model: returns logits (batch, classes), in this context without mixing examples.
    classes: the class of each example that is scored; None: the likeliest.
    score: ``log_odds`` or ``log_probability``.

    >>> from backhand.layers import Dense
    >>> model, x = Dense(2), jnp.ones((1, 3))
    >>> params = {"kernel": jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 5.0]]), "bias": jnp.zeros(2)}
    >>> input_gradients(model, params, x, classes=jnp.array([0])).d_x.tolist()
    [[1.0, 2.0, -5.0]]
    """
    outputs, residuals = model.forward(params, x, context)
    chosen: Array = outputs.argmax(-1) if classes is None else classes
    value, d_outputs = score(outputs, chosen)
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
    """Integrated gradients: how much every element of x adds to the score (Sundararajan, Taly & Yan 2017).

    With the score S, the baseline b and the straight path from b to x,

        a_i = (x_i - b_i) integral over t in [0, 1] of dS/dx_i (b + t (x - b)) dt

    so that the a_i of an example add up to S(x) - S(b) (completeness). The integral is computed by Gauss-Legendre
    quadrature, which is exact for polynomials of degree 2 steps - 1; with kinks, such as those of ReLU, its error falls
    with ``steps``.

    baseline: an input that stands for the absence of evidence; for standardised inputs, 0 is the training mean.
    steps: the number of quadrature points; each takes a forward and a backward pass of the batch. At least 1, else
        ValueError.

    Returns the outputs and scores at x, with a as ``d_x``.

    >>> from backhand.layers import Dense
    >>> model, x = Dense(2), jnp.array([[1.0, 2.0]])
    >>> params = {"kernel": jnp.array([[1.0, 0.0], [3.0, 0.0]]), "bias": jnp.zeros(2)}
    >>> integrated_gradients(model, params, x, classes=jnp.array([0]), steps=4).d_x.round(4).tolist()
    [[1.0, 6.0]]
    """
    if steps < 1:
        raise ValueError(f"integrated_gradients: steps is {steps}; it must be at least 1")
    outputs = model.apply(params, x, context)
    chosen: Array = outputs.argmax(-1) if classes is None else classes
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    path = x - baseline

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
        t, weight = point
        at = input_gradients(model, params, baseline + t * path, chosen, score=score, context=context)
        return total + weight * at.d_x, None

    points = (jnp.asarray((nodes + 1) / 2, x.dtype), jnp.asarray(weights / 2, x.dtype))
    total, _ = lax.scan(add, jnp.zeros_like(x), points)
    value, _ = score(outputs, chosen)
    return Attribution(outputs, value, path * total)


def cross_attention_weights(objective: Objective, params: PyTree, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The attention weights of target positions to source positions, (target time, source time); rows add up to 1.

    They are averaged over all layers and heads that attend to the source.

    objective: of an ``EncoderDecoder``. source, target: ids (1, time), without padding.
    """
    model, model_params = objective.model, objective.expand(params)["model"]
    assert isinstance(model, EncoderDecoder)
    encoding, decoding = model.contexts(jnp.asarray(source), jnp.asarray(target), Context())
    memory = model.encoder.apply(model_params["encoder"], jnp.asarray(source), encoding)
    weights: list[Array] = []
    _apply_and_collect(model.decoder, model_params["decoder"], (jnp.asarray(target), memory), decoding, weights)
    return np.asarray(jnp.concatenate(weights, 1)[0].mean(0))


def _apply_and_collect(layer: Layer, params: PyTree, x: PyTree, context: Context, weights: list[Array]) -> PyTree:
    """``layer.apply``, which also appends the weights of every CrossAttention in the layer to ``weights``."""
    if not layer.reads_memory:
        return layer.apply(params, x, context)
    y, memory = x
    if isinstance(layer, CrossAttention):
        weights.append(layer.weights(params, x, context))
        return layer.apply(params, x, context)
    if isinstance(layer, Residual):
        return y + _apply_and_collect(layer.layer, params["layer"], x, context, weights)
    if isinstance(layer, Repeat):
        for i in range(layer.times):
            layer_params = jax.tree.map(lambda leaf, i=i: leaf[i], params["layer"])
            y = _apply_and_collect(layer.layer, layer_params, (y, memory), context, weights)
        return y
    assert isinstance(layer, Serial)
    for part, part_params in zip(layer.layers, params["layers"]):
        part_input = (y, memory) if part.reads_memory else y
        y = _apply_and_collect(part, part_params, part_input, context, weights)
    return y


def word_contributions(
    model: Layer, params: PyTree, ids: Int[np.ndarray, "batch time *bag"]
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch time"]]:
    """Logits, and how much every word's vector adds to the log-probability of the likeliest class, to first order.

    That is the gradient with respect to the embedding's output, times that output (Simonyan et al. 2014; Denil et al.
    2014).

    model: one of ``models.text``, in any precision: a ``Masked`` ``Serial`` that begins with an ``EmbeddingBag``.
    """
    assert isinstance(model, Masked) and isinstance(model.layer, Serial)
    first, *others = model.layer.layers
    embedding, *rest_params = params["layer"]["layers"]
    context = replace(Context(), mask=model.mask(jnp.asarray(ids)))

    def contributions(embedding: PyTree, rest_params: PyTree, ids: Any) -> tuple[Array, Array]:
        vectors = first.apply(embedding, ids, context)
        rest = Serial(tuple(others))
        attribution = input_gradients(rest, {"layers": rest_params}, vectors, score=log_probability, context=context)
        return attribution.outputs, (attribution.d_x * vectors).sum(-1)

    return compiler.jit(contributions)(embedding, rest_params, jnp.asarray(ids))
