"""The base of all losses: targets with weights, and weighted means.

A label outside its range, where it is known before the program runs, is an error. In a compiled program it can't be
one: there the loss and the gradient of its row are NaN, as TensorFlow's are, and training stops at it.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..layers.base import Context, Layer, PyTree, reduction_dtype
from ..layers.lookup import in_range, require_ids


class Targets(NamedTuple):
    """What a loss compares the model's outputs with.

    values: labels, or the numbers to predict.
    weights: of examples or positions, in the shape of the values or of their leading axes. Weight 0 (or False) marks
        padding, whose values and outputs may be anything, even NaN. None: all weights are 1.

    >>> targets = Targets(jnp.array([[3, 1], [2, 0]]), weights=jnp.array([[1.0, 1.0], [1.0, 0.0]]))
    >>> targets.values.shape, float(targets.weights.sum())
    ((2, 2), 3.0)
    """

    values: Any
    weights: Any = None


class Loss(Layer):
    """A layer over (outputs, targets) whose output is a scalar: a weighted mean.

    reduction: "mean", or "none" in losses that offer it: the output is then the weighted loss of every element.
    """

    reduction: str = "mean"

    @property
    def independent_examples(self) -> bool:
        return self.reduction == "none"

    def check_reduction(self) -> None:
        """Raises ValueError for a reduction that there is not."""
        if self.reduction not in ("mean", "none"):
            raise ValueError(f"{type(self).__name__}.reduction is {self.reduction!r}; it must be 'mean' or 'none'")

    def reduce(self, losses: Float[Array, "*values"]) -> Array:
        """The output, from the weighted losses of all elements."""
        return losses.sum() if self.reduction == "mean" else losses

    def init(self, key: Any, x: PyTree) -> PyTree:
        del key, x
        return {}

    def elements(self, targets: Targets) -> Array:
        """The array that the mean runs over."""
        return targets.values

    def count(self, targets: Targets) -> Any:
        """The scalar that the mean divides by: the sum of the weights of all elements."""
        size = self.elements(targets).size
        if targets.weights is None:
            return jnp.asarray(size, jnp.float32)
        dtype = reduction_dtype(targets.weights.dtype)
        repeats = size // max(targets.weights.size, 1)
        return targets.weights.sum(dtype=dtype) * repeats

    def labels(
        self, values: Int[Array, "*rows"], weights: Float[Array, "*rows"], count: int
    ) -> tuple[Int[Array, "*rows"], Float[Array, "*rows"]]:
        """Labels in [0, count), with 0 in place of padding; and the weights, which are NaN where a label is not."""
        present = jnp.where(weights == 0, jnp.zeros((), values.dtype), values)
        require_ids(self, "label", present, count)
        fits = in_range(present, count)
        return jnp.where(fits, present, jnp.zeros((), values.dtype)), jnp.where(fits, weights, jnp.nan)

    def normalized_weights(self, targets: Targets, dtype: Any) -> Float[Array, "*values"]:
        """weight / count of every element, so that they add up to 1; all 0 if the weights add up to 0.

        Without a reduction, the weights as they are.
        """
        values, weights, mean = self.elements(targets), targets.weights, self.reduction == "mean"
        if weights is None:
            return jnp.full(values.shape, 1 / max(values.size, 1) if mean else 1.0, dtype)
        if weights.shape != values.shape[: weights.ndim]:
            raise ValueError(
                f"{type(self).__name__}: weights of shape {weights.shape} for target values of shape {values.shape}; "
                "they must have the values' shape or its leading axes"
            )
        count = self.count(targets).astype(dtype) if mean else jnp.ones((), dtype)
        normalized = weights.astype(dtype) / jnp.where(count == 0, 1.0, count)
        trailing = tuple(range(weights.ndim, values.ndim))
        return jnp.broadcast_to(jnp.expand_dims(normalized, trailing), values.shape)


class ElementwiseLoss(Loss):
    """The weighted mean of ``loss(z, t)`` over outputs z and targets t of the same shape."""

    @abstractmethod
    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The loss of every element, as ``apply`` defines it. It must be finite at z = t = 0, which replace padding."""

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The same as ``forward`` computes it: autodiff never sees it, so it may be whatever is fastest."""
        return self.loss(z, t)

    @abstractmethod
    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The derivative of ``loss`` with respect to z, written by hand."""

    def pairs(self, x: tuple[Array, Targets]) -> tuple[Array, Array, Array]:
        """Outputs, targets and normalised weights in the dtype of sums, with 0 in place of padding."""
        outputs, targets = x
        if outputs.shape != targets.values.shape:
            raise ValueError(
                f"{type(self).__name__}: outputs of shape {outputs.shape} for target values of shape "
                f"{targets.values.shape}; they must be equal"
            )
        dtype = reduction_dtype(outputs.dtype)
        weights = self.normalized_weights(targets, dtype)
        z, t = (jnp.where(weights == 0, 0.0, values.astype(dtype)) for values in (outputs, targets.values))
        return z, t, weights

    def apply(self, params: dict, x: tuple[Float[Array, "*shape"], Targets], context: Context) -> Float[Array, ""]:
        del params, context
        outputs, targets = x
        z, t, weights = self.pairs((outputs, lax.stop_gradient(targets)))
        return (weights * self.loss(z, t)).sum()

    def forward(
        self, params: dict, x: tuple[Float[Array, "*shape"], Targets], context: Context
    ) -> tuple[Float[Array, ""], tuple[Array, Targets]]:
        del params, context
        z, t, weights = self.pairs(x)
        return (weights * self.value(z, t)).sum(), x

    def backward(
        self, params: dict, residuals: tuple[Array, Targets], d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Float[Array, "*shape"], None]]:
        """From y = sum_i w_i loss(z_i, t_i), with the normalised weights w, which are constants:

        (1) d_z_i = w_i loss'(z_i, t_i) d_y, which is 0 at padding

        The residuals are the inputs, which exist anyway.
        """
        del params
        z, t, weights = self.pairs(residuals)
        return {}, ((weights * self.slope(z, t) * d_y).astype(residuals[0].dtype), None)  # (1)
