"""What every loss shares: targets that say what counts, and means over only that."""

from abc import abstractmethod
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pipeline.layers.base import Context, Layer, PyTree, reduction_dtype


class Targets(NamedTuple):
    """What the outputs are compared with.

    values: labels, or the numbers to predict.
    weights: one for each example or position (the values' shape, or its leading axes): 0 (or False) for padding, which
        may then hold anything; any other weight is that example's share in the mean. None: all count alike.
    """

    values: Any
    weights: Any = None


class Loss(Layer):
    """A layer over (outputs, targets) whose output is a scalar: a mean over what counts."""

    def init(self, key: Any, x: PyTree) -> PyTree:
        del key, x
        return {}

    def judged(self, targets: Targets) -> Array:
        """What there is a loss for: an array with an element for each that the mean is over."""
        return targets.values

    def count(self, targets: Targets) -> Any:
        """What the mean divides by: the sum of the weights, each as often as it has values (a scalar)."""
        size = self.judged(targets).size
        if targets.weights is None:
            return jnp.asarray(size, jnp.float32)
        dtype = reduction_dtype(targets.weights.dtype)
        repeats = size // max(targets.weights.size, 1)
        return targets.weights.sum(dtype=dtype) * repeats

    def shares(self, targets: Targets, dtype: Any) -> Float[Array, "*values"]:
        """The share of every value in the mean: weight / count, and 0 for all where nothing counts."""
        values, weights = self.judged(targets), targets.weights
        if weights is None:
            return jnp.full(values.shape, 1 / max(values.size, 1), dtype)
        if weights.shape != values.shape[: weights.ndim]:
            raise ValueError(
                f"{type(self).__name__}: weights of shape {weights.shape} for target values of shape {values.shape}; "
                "they must have the values' shape or its leading axes"
            )
        count = self.count(targets).astype(dtype)
        shares = weights.astype(dtype) / jnp.where(count == 0, 1.0, count)
        trailing = tuple(range(weights.ndim, values.ndim))
        return jnp.broadcast_to(jnp.expand_dims(shares, trailing), values.shape)


class ElementwiseLoss(Loss):
    """The mean of ``loss(z, t)`` over pairs of an output z and a target t of the same shape."""

    @abstractmethod
    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The loss of every element, as ``apply`` defines it; finite where both are 0."""

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The same, as ``forward`` computes it: nobody derives it, so it may be whatever is fastest."""
        return self.loss(z, t)

    @abstractmethod
    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Its derivative by z, written by hand."""

    def pairs(self, x: tuple[Array, Targets]) -> tuple[Array, Array, Array]:
        """Outputs, targets and shares in the dtype of sums, with zeros at padding: what it holds reaches nothing."""
        outputs, targets = x
        if outputs.shape != targets.values.shape:
            raise ValueError(
                f"{type(self).__name__}: outputs of shape {outputs.shape} for target values of shape "
                f"{targets.values.shape}; they must be equal"
            )
        dtype = reduction_dtype(outputs.dtype)
        shares = self.shares(targets, dtype)
        z, t = (jnp.where(shares == 0, 0.0, values.astype(dtype)) for values in (outputs, targets.values))
        return z, t, shares

    def apply(self, params: dict, x: tuple[Float[Array, "*shape"], Targets], context: Context) -> Float[Array, ""]:
        del params, context
        outputs, targets = x
        z, t, shares = self.pairs((outputs, lax.stop_gradient(targets)))
        return (shares * self.loss(z, t)).sum()

    def forward(
        self, params: dict, x: tuple[Float[Array, "*shape"], Targets], context: Context
    ) -> tuple[Float[Array, ""], tuple[Array, Targets]]:
        del params, context
        z, t, shares = self.pairs(x)
        return (shares * self.value(z, t)).sum(), x

    def backward(
        self, params: dict, residuals: tuple[Array, Targets], d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Float[Array, "*shape"], None]]:
        """From y = sum_i share_i loss(z_i, t_i), where the shares are constants:

        (1) d_z_i = share_i loss'(z_i, t_i) d_y, which is 0 at padding

        The residuals are the inputs themselves: the outputs are the model's, and nothing new is kept.
        """
        del params
        z, t, shares = self.pairs(residuals)
        return {}, ((shares * self.slope(z, t) * d_y).astype(residuals[0].dtype), None)  # (1)
