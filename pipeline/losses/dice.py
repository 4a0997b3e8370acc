"""The Dice loss: 1 minus the overlap of a predicted mask with the true one."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..layers.base import Context, reduction_dtype
from .base import Loss, Targets


@dataclass(frozen=True)
class Dice(Loss):
    """The mean of 1 - D over masks, D the soft Dice coefficient of p = sigmoid(z) and t (Milletari et al. 2016):

        D = (2 sum_i p_i t_i + smoothing) / (sum_i p_i^2 + sum_i t_i^2 + smoothing)

    x is (z, targets): logits z (batch, *space, masks) and values t in [0, 1] of the same shape. Small masks have as
    much influence as large ones, unlike in a mean over positions.

    over: "example": i runs over the positions of one example, so that there is one D for each example and mask.
        "batch": i runs over the positions of all examples, which suits few or small masks; it is not a mean over
        examples, so accumulating a batch in parts changes it.
    smoothing: added to numerator and denominator; positive. D of an empty mask that is predicted empty is then near 1.

    Weights of positions within a D are divided by the largest of them, so that weights of 0 and 1 select positions. The
    weight of a D in the mean is the sum over its positions.

    >>> t = jnp.array([[[1.0], [0.0]]])
    >>> round(float(Dice().apply({}, (20 * (2 * t - 1), Targets(t)), Context())), 4)  # a perfect prediction
    0.0
    """

    over: str = "example"
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        if self.over not in ("example", "batch"):
            raise ValueError(f"Dice.over is {self.over!r}; it must be 'example' or 'batch'")
        if not 0 < self.smoothing < math.inf:
            raise ValueError(f"Dice.smoothing is {self.smoothing}; it must be finite and positive")

    def masks(self, x: tuple[Array, Targets]) -> tuple[Array, Array, Array, Array]:
        """Logits and values in the dtype of sums, with 0 in place of padding; weights of positions and of masks."""
        logits, targets = x
        if logits.shape != targets.values.shape or logits.ndim < 2:
            raise ValueError(
                f"Dice: logits of shape {logits.shape} for masks of shape {targets.values.shape}; "
                "both must be (batch, ..., masks)"
            )
        dtype = reduction_dtype(logits.dtype)
        normalized = self.normalized_weights(targets, dtype)
        z, t = (jnp.where(normalized == 0, 0.0, values.astype(dtype)) for values in (logits, targets.values))
        if targets.weights is None:  # sums over constants of this size would take the compiler seconds
            each = [1 if axis in self.axes(z) else size for axis, size in enumerate(z.shape)]
            return z, t, jnp.ones_like(z), jnp.full(each, 1 / max(math.prod(each), 1), dtype)
        largest = normalized.max(self.axes(z), keepdims=True)
        return z, t, normalized / jnp.where(largest == 0, 1.0, largest), self.sums(normalized)

    def axes(self, z: Array) -> tuple[int, ...]:
        """The axes that the sums of a D run over."""
        return tuple(range(self.over == "example", z.ndim - 1))

    def sums(self, values: Array) -> Array:
        return values.sum(self.axes(values), keepdims=True)

    def apply(
        self, params: dict, x: tuple[Float[Array, "batch *space masks"], Targets], context: Context
    ) -> Float[Array, ""]:
        del params, context
        logits, targets = x
        z, t, weights, mask_weights = self.masks((logits, lax.stop_gradient(targets)))
        p = lax.logistic(z)
        overlap = 2 * self.sums(weights * p * t) + self.smoothing
        size = self.sums(weights * (p * p + t * t)) + self.smoothing
        return (mask_weights * (1 - overlap / size)).sum()

    def forward(
        self, params: dict, x: tuple[Float[Array, "batch *space masks"], Targets], context: Context
    ) -> tuple[Float[Array, ""], Any]:
        del params, context
        z, t, weights, mask_weights = self.masks(x)
        p = lax.logistic(z)
        overlap = 2 * self.sums(weights * p * t) + self.smoothing
        size = self.sums(weights * (p * p + t * t)) + self.smoothing
        dice = overlap / size
        return (mask_weights * (1 - dice)).sum(), (x, dice, size)

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Float[Array, "batch *space masks"], None]]:
        """From y = sum_g S_g (1 - D_g) and D_g = O_g / A_g, over masks g of weight S_g and positions i of weight w_i,
        with O = 2 sum_i w_i p_i t_i + smoothing and A = sum_i w_i (p_i^2 + t_i^2) + smoothing:

        (1) dD/dp_i = (2 w_i t_i A - O 2 w_i p_i) / A^2 = 2 w_i (t_i - D p_i) / A
        (2) dp_i/dz_i = p_i (1 - p_i)
        (3) d_z_i = 2 S w_i (D p_i - t_i) / A  p_i (1 - p_i) d_y, which is 0 at padding

        The residuals are the inputs, and D and A, two numbers per mask. p is recomputed from z.
        """
        del params
        x, dice, size = residuals
        z, t, weights, mask_weights = self.masks(x)
        p = lax.logistic(z)
        d_z = (2 * d_y * mask_weights / size) * weights * (dice * p - t) * p * (1 - p)  # (1) to (3)
        return {}, (d_z.astype(x[0].dtype), None)
