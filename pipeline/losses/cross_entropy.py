"""Cross entropy: minus the logarithm of the probability that the model gives to what is true."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pipeline.layers.activations import softplus
from pipeline.layers.base import Context, reduction_dtype
from pipeline.losses.base import ElementwiseLoss, Loss, Targets


class LabelLoss(Loss):
    """What is common to losses over rows of logits (..., classes), each with an integer label in [0, classes)."""

    def rows(self, x: tuple[Array, Targets]) -> tuple[Array, Array, Array]:
        """Logits in the dtype of sums, labels and shares, with zeros at padding: what it holds reaches nothing."""
        logits, targets = x
        if logits.shape[:-1] != targets.values.shape:
            raise ValueError(
                f"{type(self).__name__}: logits of shape {logits.shape} for labels of shape {targets.values.shape}; "
                "they must be (..., classes) and (...)"
            )
        dtype = reduction_dtype(logits.dtype)
        shares = self.shares(targets, dtype)
        padding = shares == 0
        return jnp.where(padding[..., None], 0.0, logits.astype(dtype)), jnp.where(padding, 0, targets.values), shares


@dataclass(frozen=True)
class SoftmaxCrossEntropy(LabelLoss):
    """The mean of -sum_k q_k log softmax(z)_k over rows of logits z, each with an integer label in [0, classes).

    q is 1 at the label; smoothed (Szegedy et al. 2016) it is 1 - label_smoothing there, plus label_smoothing / classes
    everywhere. Without smoothing, logits other than the label's may be minus infinity.

    Classes that count more than others are targets' weights: with one weight for each class,
    ``Targets(labels, class_weights[labels])``. The mean then divides by the weights' sum, as PyTorch's does.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"SoftmaxCrossEntropy.label_smoothing is {self.label_smoothing}; it must be at least 0 and less than 1"
            )

    def apply(
        self, params: dict, x: tuple[Float[Array, "*rows classes"], Targets], context: Context
    ) -> Float[Array, ""]:
        del params, context
        logits, targets = x
        z, labels, shares = self.rows((logits, lax.stop_gradient(targets)))
        z = z - lax.stop_gradient(z.max(-1, keepdims=True))
        log_p = z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))
        losses = -jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]
        if self.label_smoothing:
            losses = (1 - self.label_smoothing) * losses - self.label_smoothing * log_p.mean(-1)
        return (shares * losses).sum()

    def forward(
        self, params: dict, x: tuple[Float[Array, "*rows classes"], Targets], context: Context
    ) -> tuple[Float[Array, ""], Any]:
        del params, context
        z, labels, shares = self.rows(x)
        largest = z.max(-1)
        log_sum = jnp.log(jnp.exp(z - largest[..., None]).sum(-1))
        at_label = jnp.take_along_axis(z, labels[..., None], -1)[..., 0]
        losses = log_sum - (1 - self.label_smoothing) * (at_label - largest)
        if self.label_smoothing:
            losses = losses - self.label_smoothing * (z - largest[..., None]).mean(-1)
        return (shares * losses).sum(), (x, largest, log_sum)

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Float[Array, "*rows classes"], None]]:
        """From y = sum_b share_b (m_b + log_sum_b - sum_k q_bk z_bk), as the q of a row add up to 1, where m_b is the
        row's largest logit and log_sum_b = log sum_k exp(z_bk - m_b):

        (1) p_bk   = exp(z_bk - m_b - log_sum_b)
        (2) d_z_bk = share_b (p_bk - q_bk) d_y, which is 0 at padding

        (Bridle 1990.) Residuals: the logits, which the model's output is anyway, and two numbers a row, from which p
        comes without a maximum or a sum; added up to one number they would lose the digits of log_sum where m is
        large. Labels and weights have no cotangent.
        """
        del params
        x, largest, log_sum = residuals
        z, labels, shares = self.rows(x)
        p = jnp.exp(z - largest[..., None] - log_sum[..., None])  # (1)
        classes = jnp.arange(z.shape[-1], dtype=labels.dtype).reshape((1,) * labels.ndim + (-1,))
        q = jnp.where(labels[..., None] == classes, 1 - self.label_smoothing, 0.0) + self.label_smoothing / z.shape[-1]
        d_z = (shares * d_y)[..., None] * (p - q)  # (2)
        return {}, (d_z.astype(x[0].dtype), None)


@dataclass(frozen=True)
class BinaryCrossEntropy(ElementwiseLoss):
    """The mean of -t log sigmoid(z) - (1 - t) log(1 - sigmoid(z)) over logits z and targets t in [0, 1]."""

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Both logarithms are softplus: -log sigmoid(z) = softplus(-z) = softplus(z) - z.
        return softplus(z) - t * z

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Without softplus's choices, which nothing but its derivative at 0 needs, this is one fusion with the sum.
        return jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z))) - t * z

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/dz (softplus(z) - t z) = sigmoid(z) - t."""
        return lax.logistic(z) - t
