"""Drop-in functions with manual gradients, under the names, signatures and results of ``jax.nn``, Flax and optax.

To adopt one is a change of an import. Each works under the transformations that ``attach`` lists.

>>> from backhand import fused
>>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
>>> y = fused.max_pool(x, (2, 2), strides=(2, 2))  # was flax.linen.max_pool
>>> y.ravel().tolist()
[5.0, 7.0, 13.0, 15.0]
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from .attachment import attach
from .layers.activations import GELU
from .layers.base import Context, reduction_dtype
from .layers.blockwise_attention import DotProductAttention
from .layers.lookup import is_known
from .layers.normalization import LayerNorm, RMSNorm
from .layers.pooling import MaxPool
from .losses.base import Targets
from .losses.cross_entropy import SoftmaxCrossEntropy
from .losses.ctc import CTC, Transcripts
from .losses.vocabulary import VocabularyCrossEntropy

__all__ = [
    "ctc_loss",
    "dot_product_attention",
    "fused_linear_cross_entropy",
    "gelu",
    "layer_norm",
    "max_pool",
    "rms_norm",
    "softmax_cross_entropy_with_integer_labels",
]


def max_pool(
    inputs: ArrayLike,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
) -> Array:
    """``flax.linen.max_pool``: the maximum of every window, (*batch, *space, features) to (*batch, *windows, features).

    window_shape: the window's size along each spatial axis. Any number of batch axes may be before these, also none.
    strides: the steps between windows; None: 1, as in Flax.
    padding: "VALID", "SAME", or (low, high) for each spatial axis.
    """
    x, window = _float(inputs), tuple(window_shape)
    steps = tuple(strides) if strides is not None else (1,) * len(window)
    pads = padding if isinstance(padding, str) else tuple((low, high) for low, high in padding)
    if x.ndim <= len(window) or len(steps) != len(window) or (pads is not padding and len(pads) != len(window)):
        raise ValueError(
            f"max_pool: window_shape {window}, strides {steps} and padding {padding} for inputs of shape {x.shape}; "
            "they must have an element for each spatial axis of (*batch, *space, features)"
        )
    batch = x.shape[: x.ndim - len(window) - 1]
    y = attach(MaxPool(window, steps, pads))({}, x.reshape(math.prod(batch), *x.shape[len(batch) :]))
    return y.reshape(*batch, *y.shape[1:])


def layer_norm(
    x: ArrayLike, scale: ArrayLike | None = None, bias: ArrayLike | None = None, epsilon: float = 1e-6
) -> Array:
    """``flax.linen.LayerNorm`` as a function: scale (x - mean) / sqrt(variance + epsilon) + bias over the last axis.

    scale, bias: (features,); None: 1 and 0. Statistics are computed in float32 (float64); the result has x's dtype.
    """
    x = _float(x)
    params = {
        "scale": _per_feature("layer_norm", "scale", scale, x),
        "bias": _per_feature("layer_norm", "bias", bias, x),
    }
    return attach(LayerNorm(epsilon))(params, x)


def rms_norm(x: ArrayLike, scale: ArrayLike | None = None, epsilon: float = 1e-6) -> Array:
    """``flax.linen.RMSNorm`` as a function: scale x / sqrt(mean(x^2) + epsilon) over the last axis.

    scale: (features,); None: 1. The mean is computed in float32 (float64); the result has x's dtype.
    """
    x = _float(x)
    return attach(RMSNorm(epsilon))({"scale": _per_feature("rms_norm", "scale", scale, x)}, x)


def gelu(x: ArrayLike, approximate: bool = True) -> Array:
    """``jax.nn.gelu``: x P(x), with P the normal distribution function, or its approximation by tanh."""
    return attach(GELU(approximate))({}, _float(x))


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
) -> Array:
    """``jax.nn.dot_product_attention``, in blocks: memory grows with the length, not with its square.

    query (batch, queries, heads, features), key and value (batch, keys, key heads, features), all three also without
    the batch. The number of key heads divides that of query heads.

    bias: added to the scores; mask: True where a query attends to a key, or numbers 1 and 0, as Flax makes them. Both
        (batch, heads, queries, keys), or 1 in place of any of these, or without leading axes.
    scale: the factor of the scores; None: 1 / sqrt(features).
    is_causal: whether a query attends only to keys at its own position and earlier ones.
    query_seq_lengths, key_value_seq_lengths: int (batch,): positions from the length on are padding.

    Softmax is computed in float64 for float64, where ``jax.nn`` uses float32. Where all of a query's keys are masked
    the result is 0, where ``jax.nn`` gives the mean of all values.
    """
    query, key, value = (_float(array) for array in (query, key, value))
    batched = query.ndim == 4
    if not batched:
        query, key, value = query[None], key[None], value[None]
    queries, keys = query.shape[1], key.shape[1]
    bias, mask = None if bias is None else jnp.asarray(bias), None if mask is None else _bool(mask)
    bias, mask = (None if part is None else part.reshape((1,) * (4 - part.ndim) + part.shape) for part in (bias, mask))
    if is_causal and queries != keys:
        causal = jnp.tril(jnp.ones((1, 1, queries, keys), bool))
        mask = causal if mask is None else mask & causal
    of_keys = None if key_value_seq_lengths is None else _before(key_value_seq_lengths, keys)
    if scale is not None:
        query = query * jnp.asarray(scale * math.sqrt(query.shape[-1]), query.dtype)
    layer = DotProductAttention(is_causal and queries == keys)
    y = attach(layer)({}, (query, key, value, bias, mask), Context(mask=of_keys))
    if query_seq_lengths is not None:
        y = jnp.where(_before(query_seq_lengths, queries)[..., None, None], y, jnp.zeros((), y.dtype))
    return y if batched else y[0]


def _bool(mask: ArrayLike) -> Array:
    """A mask of bools, or of numbers 1 and 0, as bools. Raises ValueError for other numbers, where they are known."""
    mask = jnp.asarray(mask)
    if mask.dtype == bool:
        return mask
    if is_known(mask) and not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("dot_product_attention: a mask of numbers must be of 0 and 1; bias adds to the scores")
    return mask != 0


def _before(lengths: ArrayLike, size: int) -> Array:
    """bool (batch, size): True at the first ``length`` positions of each row."""
    return jnp.arange(size)[None] < jnp.asarray(lengths)[:, None]


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, axis: int | tuple[int, ...] = -1, where: ArrayLike | None = None
) -> Array:
    """``optax.softmax_cross_entropy_with_integer_labels``: the loss of every row, -log softmax(logits)[label].

    labels: integers, in the shape of the logits without the axis of the classes. The loss of one outside [0, classes)
        is NaN; of a negative one, too, which optax counts from the last class.
    axis: that of the classes; several axes: labels are flat indices into them.
    where: bool, in the shape of the labels: rows that count, the loss of the others is 0; or in that of the logits:
        classes that count. (If a label's own class does not, the loss is infinite.)
    """
    logits, labels = _float(logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"softmax_cross_entropy_with_integer_labels: labels must be integers, not {labels.dtype}")
    axes = tuple(a % logits.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    rows = tuple(a for a in range(logits.ndim) if a not in axes)

    def classes_last(array: Array) -> Array:
        array = array.transpose(*rows, *axes)
        return array.reshape(*array.shape[: len(rows)], -1)

    z, weights = classes_last(logits), None
    if where is not None:
        where = jnp.asarray(where)
        if where.ndim == logits.ndim:
            included = classes_last(jnp.broadcast_to(where, logits.shape))
            z, weights = jnp.where(included, z, -jnp.inf), included.any(-1)
        else:
            weights = jnp.broadcast_to(where, labels.shape)
        weights = weights.astype(z.dtype)
    if rows:
        return attach(SoftmaxCrossEntropy(reduction="none"))({}, (z, Targets(labels, weights))).astype(logits.dtype)
    # One row alone is a batch of one, so that vmap joins rows to a batch.
    targets = Targets(labels[None], None if weights is None else weights[None])
    return attach(SoftmaxCrossEntropy(reduction="none"))({}, (z[None], targets))[0].astype(logits.dtype)


def fused_linear_cross_entropy(
    hidden: ArrayLike,
    embedding: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None = None,
    *,
    label_smoothing: float = 0.0,
    rows: int = 256,
) -> Array:
    """The mean softmax cross entropy of the logits ``hidden @ embedding.T``, which are never stored.

    The same as ``optax.softmax_cross_entropy_with_integer_labels(hidden @ embedding.T, labels).mean()``.

    hidden: (*batch, features). embedding: (vocabulary, features), as of ``flax.linen.Embed``; ``kernel.T`` of a Dense
    layer without bias. labels: integers (*batch). where: the weights of the labels, bool or numbers, which the mean
    divides by the sum of; None: all 1. label_smoothing, rows: see ``losses.VocabularyCrossEntropy``.
    """
    hidden, embedding, labels = _float(hidden), _float(embedding), jnp.asarray(labels)
    weights = None if where is None else jnp.broadcast_to(jnp.asarray(where), labels.shape)
    if embedding.ndim != 2 or hidden.shape[-1:] != embedding.shape[1:] or hidden.shape[:-1] != labels.shape:
        raise ValueError(
            f"fused_linear_cross_entropy: hidden {hidden.shape}, embedding {embedding.shape} and labels {labels.shape} "
            "must be (*batch, features), (vocabulary, features) and (*batch)"
        )
    if labels.ndim == 0:
        hidden, labels, weights = hidden[None], labels[None], None if weights is None else weights[None]
    loss = attach(VocabularyCrossEntropy(embedding.shape[0], label_smoothing, rows))
    return loss({"embedding": embedding}, (hidden, Targets(labels, weights)))


def ctc_loss(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: float = -1e5,
) -> Array:
    """``optax.ctc_loss``: minus the log-probability of every row's labels, (batch,), in float32 (float64).

    logits: (batch, frames, symbols). labels: integers (batch, labels). logit_paddings (batch, frames), label_paddings
    (batch, labels): 1 at padding, else 0; labels are padded at the end.
    log_epsilon: the logarithm of probability 0: rows that have no alignment, which have more labels than frames, have
    the loss -log_epsilon and no gradient. (In optax, nearly so.)
    """
    logits, labels = _float(logits), jnp.asarray(labels)
    logit_paddings, label_paddings = jnp.asarray(logit_paddings), jnp.asarray(label_paddings)
    if logits.ndim != 3 or logit_paddings.shape != logits.shape[:2] or label_paddings.shape != labels.shape:
        raise ValueError(
            f"ctc_loss: logits {logits.shape}, logit_paddings {logit_paddings.shape}, labels {labels.shape} and "
            f"label_paddings {label_paddings.shape} must be (batch, frames, symbols), (batch, frames), (batch, labels) "
            "and (batch, labels)"
        )
    lengths = (label_paddings == 0).sum(1).astype(jnp.int32)
    transcripts = Transcripts(labels, lengths, logit_paddings == 0)
    losses = attach(CTC(blank_id, reduction="none"))({}, (logits, Targets(transcripts)))
    return jnp.where(jnp.isposinf(losses), jnp.asarray(-log_epsilon, losses.dtype), losses)


def _float(x: ArrayLike) -> Array:
    """``x`` as an array of floats."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def _per_feature(function: str, name: str, value: ArrayLike | None, x: Array) -> Array:
    """``value`` as an array (features,); for None 1 in place of a scale and 0 in place of a bias."""
    if value is None:
        return jnp.full(x.shape[-1], 1.0 if name == "scale" else 0.0, reduction_dtype(x.dtype))
    value = _float(value)
    if value.shape != x.shape[-1:]:
        raise ValueError(f"{function}: {name} of shape {value.shape} for x of shape {x.shape}; it must be (features,)")
    return value
