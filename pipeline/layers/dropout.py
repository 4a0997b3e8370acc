"""Noise that regularises: single units, or the whole branch of an example, set to zero while training."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pipeline.layers.base import Context, Layer

_LEVELS = 2**16


@dataclass(frozen=True)
class Dropout(Layer):
    """While training, each unit is 0 with probability ``rate``, the others are divided by the probability of being kept
    (Srivastava et al. 2014; the scaling is inverted so that evaluation is the identity).

    rate: in [0, 1), rounded to a multiple of 2^-16.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"{type(self).__name__}.rate is {self.rate}; it must be at least 0 and less than 1")

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*shape"]) -> dict:
        del key, x
        return {}

    @property
    def dropped_levels(self) -> int:
        """How many of the 2^16 values of a random number mean "dropped"."""
        return min(round(self.rate * _LEVELS), _LEVELS - 1)

    @property
    def scale(self) -> float:
        """One over the probability of being kept, so that y's expectation is x."""
        return _LEVELS / (_LEVELS - self.dropped_levels)

    def shape_of_choice(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What is kept or dropped together: every element for itself."""
        return shape

    def kept(self, x: Float[Array, "*shape"], context: Context) -> Bool[Array, "*choice"] | None:
        """Which units to keep; None: all."""
        if not context.train or self.dropped_levels == 0:
            return None
        if context.key is None:
            raise ValueError(f"{self} needs Context(key=jax.random.key(...)) while training")
        return random_levels(context.key, self.shape_of_choice(x.shape)) >= self.dropped_levels

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params
        kept = self.kept(x, context)
        return x if kept is None else jnp.where(kept, self.scale * x, 0.0)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Bool[Array, "*choice"] | None]:
        del params
        kept = self.kept(x, context)
        return (x if kept is None else jnp.where(kept, self.scale * x, 0.0)), kept

    def backward(
        self, params: dict, residuals: Bool[Array, "*choice"] | None, d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """y is linear in x, so that

        (1) d_x = d_y / P(kept) where kept, else 0

        The residual is the choice, a byte an element: drawing it again from the key would save that byte, but the
        random numbers cost more than all else here. Where nothing is dropped d_x is d_y, and nothing is kept.
        """
        del params
        kept = residuals
        return {}, d_y if kept is None else jnp.where(kept, self.scale * d_y, 0.0)  # (1)


@dataclass(frozen=True)
class DropPath(Dropout):
    """Dropout of a whole example: the branch it ends (inside ``Residual``) is skipped with probability ``rate``
    (stochastic depth: Huang et al. 2016; by example: Larsson, Maire & Shakhnarovich 2017).
    """

    def shape_of_choice(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What is kept or dropped together: all of an example, along the first axis."""
        return (shape[0],) + (1,) * (len(shape) - 1)


def random_levels(key: Any, shape: tuple[int, ...]) -> Array:
    """Uniform uint16, the same whatever dtype a model computes in.

    A 32-bit word is drawn for two of them: ``random.bits`` would draw one for each.
    """
    words = jax.random.bits(key, (*shape[:-1], math.ceil(shape[-1] / 2)), jnp.uint32)
    pairs = lax.bitcast_convert_type(words, jnp.uint16)
    return pairs.reshape(*shape[:-1], -1)[..., : shape[-1]]
