"""Dropout: sets single units, or the whole branch of an example, to zero while training."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .base import Context, Layer

_LEVELS = 2**16


@dataclass(frozen=True)
class Dropout(Layer):
    """While training, sets each unit to 0 with probability ``rate`` and divides the others by 1 - ``rate``.

    In evaluation it is the identity (Srivastava et al. 2014, with inverted scaling).

    rate: in [0, 1), rounded to a multiple of 2^-16.

    >>> x, context = jnp.ones((1, 1000)), Context(train=True, key=jax.random.key(0))
    >>> y = Dropout(0.5).apply({}, x, context)
    >>> sorted(set(y[0].tolist())), bool((Dropout(0.5).apply({}, x, Context()) == x).all())
    ([0.0, 2.0], True)
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
        """How many of the 2^16 values of a random number drop a unit."""
        return min(round(self.rate * _LEVELS), _LEVELS - 1)

    @property
    def scale(self) -> float:
        """1 / P(a unit is kept), so that the expectation of y is x."""
        return _LEVELS / (_LEVELS - self.dropped_levels)

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the random mask for an input of ``shape``: each element is dropped by itself."""
        return shape

    def keep_mask(self, x: Float[Array, "*shape"], context: Context) -> Bool[Array, "*mask"] | None:
        """True for the units that are kept; None if all are."""
        if not context.train or self.dropped_levels == 0:
            return None
        if context.key is None:
            raise ValueError(f"{self} needs Context(key=jax.random.key(...)) while training")
        return random_levels(context.key, self.mask_shape(x.shape)) >= self.dropped_levels

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params
        mask = self.keep_mask(x, context)
        return x if mask is None else jnp.where(mask, self.scale * x, 0.0)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Bool[Array, "*mask"] | None]:
        del params
        mask = self.keep_mask(x, context)
        return (x if mask is None else jnp.where(mask, self.scale * x, 0.0)), mask

    def backward(
        self, params: dict, residuals: Bool[Array, "*mask"] | None, d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """y is linear in x:

        (1) d_x = d_y / P(kept) where the unit is kept, else 0

        The residual is the mask, a byte per element. Drawing it again from the key would save that byte, but random
        numbers cost more time than everything else here. In evaluation d_x is d_y, and there is no residual.
        """
        del params
        mask = residuals
        return {}, d_y if mask is None else jnp.where(mask, self.scale * d_y, 0.0)  # (1)


@dataclass(frozen=True)
class DropPath(Dropout):
    """Stochastic depth: drops whole examples, so that the residual branch that it ends is skipped for them.

    It is the last layer of the branch inside a ``Residual`` (Huang et al. 2016; per example: Larsson et al. 2017).

    rate: the probability that an example is dropped.
    """

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the random mask for an input of ``shape``: all elements of an example are dropped together."""
        return (shape[0],) + (1,) * (len(shape) - 1)


def random_levels(key: Any, shape: tuple[int, ...]) -> Array:
    """Uniform uint16 numbers, which do not depend on the dtype that a model computes in.

    Each 32-bit word gives two of them; ``jax.random.bits`` would draw a word for each.
    """
    words = jax.random.bits(key, (*shape[:-1], math.ceil(shape[-1] / 2)), jnp.uint32)
    pairs = lax.bitcast_convert_type(words, jnp.uint16)
    return pairs.reshape(*shape[:-1], -1)[..., : shape[-1]]
