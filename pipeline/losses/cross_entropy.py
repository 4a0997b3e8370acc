"""Cross entropy: minus the log-probability that the model gives to the true label."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..layers.activations import softplus
from ..layers.base import Context, reduction_dtype
from .base import ElementwiseLoss, Loss, Targets


class LabelLoss(Loss):
    """The base of losses over rows of logits (..., classes), each with an integer label in [0, classes).

    A row with another label, also a negative one, has loss and gradient NaN; see ``losses.base``. What must not count
    has weight 0.
    """

    def rows(self, x: tuple[Array, Targets]) -> tuple[Array, Array, Array]:
        """Logits in the dtype of sums, labels, and normalised weights, with 0 in place of padding."""
        logits, targets = x
        if logits.shape[:-1] != targets.values.shape:
            raise ValueError(
                f"{type(self).__name__}: logits of shape {logits.shape} for labels of shape {targets.values.shape}; "
                "they must be (..., classes) and (...)"
            )
        dtype = reduction_dtype(logits.dtype)
        weights = self.normalized_weights(targets, dtype)
        padding = weights == 0
        labels, weights = self.labels(targets.values, weights, logits.shape[-1])
        return jnp.where(padding[..., None], 0.0, logits.astype(dtype)), labels, weights


@dataclass(frozen=True)
class SoftmaxCrossEntropy(LabelLoss):
    """The mean of -sum_k q_k log softmax(z)_k over rows of logits z, each with an integer label in [0, classes).

    q is 1 at the label and 0 elsewhere. With label smoothing (Szegedy et al. 2016), it is 1 - label_smoothing at the
    label, plus label_smoothing / classes everywhere. Without it, logits of other classes may be minus infinity.

    Class weights are weights of the targets: ``Targets(labels, class_weights[labels])``. The mean then divides by the
    sum of the weights, as PyTorch's does.

    reduction: "mean", or "none": the weighted loss of every row.

    >>> logits, labels = jnp.array([[0.0, 0.0], [5.0, 0.0]]), jnp.array([0, 1])
    >>> y = SoftmaxCrossEntropy().apply({}, (logits, Targets(labels, jnp.array([1.0, 0.0]))), Context())
    >>> round(float(y), 4)  # log 2: the second row has weight 0
    0.6931
    """

    label_smoothing: float = 0.0
    reduction: str = "mean"

    def __post_init__(self) -> None:
        self.check_reduction()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"SoftmaxCrossEntropy.label_smoothing is {self.label_smoothing}; it must be at least 0 and less than 1"
            )

    def apply(self, params: dict, x: tuple[Float[Array, "*rows classes"], Targets], context: Context) -> Array:
        del params, context
        logits, targets = x
        z, labels, weights = self.rows((logits, lax.stop_gradient(targets)))
        z = z - lax.stop_gradient(z.max(-1, keepdims=True))
        log_p = z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))
        losses = -jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]
        if self.label_smoothing:
            losses = (1 - self.label_smoothing) * losses - self.label_smoothing * log_p.mean(-1)
        return self.reduce(weights * losses)

    def forward(
        self, params: dict, x: tuple[Float[Array, "*rows classes"], Targets], context: Context
    ) -> tuple[Array, Any]:
        del params, context
        z, labels, weights = self.rows(x)
        largest = z.max(-1)
        log_sum = jnp.log(jnp.exp(z - largest[..., None]).sum(-1))
        at_label = jnp.take_along_axis(z, labels[..., None], -1)[..., 0]
        losses = log_sum - (1 - self.label_smoothing) * (at_label - largest)
        if self.label_smoothing:
            losses = losses - self.label_smoothing * (z - largest[..., None]).mean(-1)
        return self.reduce(weights * losses), (x, largest, log_sum)

    def backward(
        self, params: dict, residuals: Any, d_y: Array
    ) -> tuple[dict, tuple[Float[Array, "*rows classes"], None]]:
        """Since the q of a row add up to 1, y = sum_b w_b (m_b + log_sum_b - sum_k q_bk z_bk), with normalised weights
        w_b, the row's largest logit m_b, and log_sum_b = log sum_k exp(z_bk - m_b):

        (1) p_bk   = exp(z_bk - m_b - log_sum_b)
        (2) d_z_bk = w_b (p_bk - q_bk) d_y, which is 0 at padding

        (Bridle 1990.) Without a reduction, y and d_y have an element for every row, and w_b is the row's weight. The
        residuals are the logits, which are the model's output, and m and log_sum, two numbers per row from which p is
        computed without a maximum or a sum. Their sum alone would lose digits of log_sum where m is large. Labels and
        weights have no cotangent.
        """
        del params
        x, largest, log_sum = residuals
        z, labels, weights = self.rows(x)
        p = jnp.exp(z - largest[..., None] - log_sum[..., None])  # (1)
        classes = jnp.arange(z.shape[-1], dtype=labels.dtype).reshape((1,) * labels.ndim + (-1,))
        q = jnp.where(labels[..., None] == classes, 1 - self.label_smoothing, 0.0) + self.label_smoothing / z.shape[-1]
        d_z = (weights * d_y)[..., None] * (p - q)  # (2)
        return {}, (d_z.astype(x[0].dtype), None)


@dataclass(frozen=True)
class BinaryCrossEntropy(ElementwiseLoss):
    """The mean of -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)) over logits z and targets t in [0, 1].

    >>> y = BinaryCrossEntropy().apply({}, (jnp.array([0.0, 0.0]), Targets(jnp.array([0.0, 1.0]))), Context())
    >>> round(float(y), 4)
    0.6931
    """

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Both logarithms are softplus, since -log sigmoid(z) = softplus(-z) = softplus(z) - z.
        return softplus(z) - t * z

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Without the selections in softplus, which only autodiff at 0 needs, XLA fuses this with the sum.
        return jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z))) - t * z

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/dz (softplus(z) - t z) = sigmoid(z) - t."""
        return lax.logistic(z) - t
