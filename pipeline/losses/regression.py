"""Losses between numbers."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.losses.base import ElementwiseLoss


@dataclass(frozen=True)
class MeanSquaredError(ElementwiseLoss):
    """The mean of (z - t)^2 over every element that counts."""

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.square(z - t)

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/dz (z - t)^2 = 2 (z - t)."""
        return 2 * (z - t)


@dataclass(frozen=True)
class MeanAbsoluteError(ElementwiseLoss):
    """The mean of |z - t| over every element that counts, with derivative 0 where they are equal."""

    def loss(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # |e| as e sign(e): the derivative of sign is 0 everywhere, so that this one's at 0 is sign(0) = 0.
        return (z - t) * jnp.sign(z - t)

    def value(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.abs(t - z)  # not z - t, which the compiler would then keep for the slope

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/dz |z - t| = sign(z - t), with sign(0) = 0: of all subgradients in [-1, 1] the symmetric one."""
        return jnp.sign(z - t)


@dataclass(frozen=True)
class Huber(ElementwiseLoss):
    """The mean of e^2/2 where |e| <= delta, else delta (|e| - delta/2), with e = z - t (Huber 1964).

    delta: where the parabola becomes a line, in the targets' units; positive.
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
        distance = jnp.abs(t - z)  # not z - t, which the compiler would then keep for the slope
        clipped = jnp.minimum(distance, self.delta)
        return clipped * (distance - clipped / 2)

    def slope(self, z: Float[Array, "*shape"], t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d/de c (e - c/2) = c' (e - c) + c = c: outside c' is 0, inside and at the edge e - c is."""
        return jnp.clip(z - t, -self.delta, self.delta)
