"""Regression losses: squared error, absolute error and Huber loss."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import ElementwiseLoss


@dataclass(frozen=True)
class MeanSquaredError(ElementwiseLoss):
    """The weighted mean of (z - t)^2.

    >>> from backhand.layers.base import Context
    >>> from backhand.losses.base import Targets
    >>> z, t = jnp.array([1.0, 5.0]), jnp.array([3.0, 5.0])
    >>> float(MeanSquaredError().apply({}, (z, Targets(t)), Context()))
    2.0
    """

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.square(z - t)

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/dz (z - t)^2 = 2 (z - t)."""
        return 2 * (z - t)


@dataclass(frozen=True)
class MeanAbsoluteError(ElementwiseLoss):
    """The weighted mean of |z - t|, with derivative 0 where they are equal."""

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # |e| written as e sign(e), whose derivative by autodiff is sign(e), and so 0 at 0.
        return (z - t) * jnp.sign(z - t)

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.abs(t - z)  # not z - t, which the compiler would then save for the slope

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/dz |z - t| = sign(z - t), with sign(0) = 0, the middle of the subgradients [-1, 1]."""
        return jnp.sign(z - t)


@dataclass(frozen=True)
class Huber(ElementwiseLoss):
    """The weighted mean of e^2/2 where |e| <= delta, else delta (|e| - delta/2), with e = z - t (Huber 1964).

    delta: the |e| at which the parabola becomes a line, in the units of the targets; positive.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"Huber.delta is {self.delta}; it must be positive")

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Both pieces in one: with c = clip(e), c (e - c/2) is e^2/2 inside and delta (|e| - delta/2) outside.
        clipped = jnp.clip(z - t, -self.delta, self.delta)
        return clipped * (z - t - clipped / 2)

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        distance = jnp.abs(t - z)  # not z - t, which the compiler would then save for the slope
        clipped = jnp.minimum(distance, self.delta)
        return clipped * (distance - clipped / 2)

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/de c (e - c/2) = c' (e - c) + c = c, since c' is 0 for |e| > delta, and e - c is 0 otherwise."""
        return jnp.clip(z - t, -self.delta, self.delta)
