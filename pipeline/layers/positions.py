"""Positions: learned or sinusoidal vectors that are added to a sequence, and rotations of queries and keys."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .base import Context, Layer, reduction_dtype
from .initializers import normal


@dataclass(frozen=True)
class LearnedPositions(Layer):
    """y_t = x_t + E_t (Gehring et al. 2017), for sequences of at most ``length`` positions.

    Parameters: embedding (length, features).
    """

    examplewise: ClassVar[bool] = True

    length: int

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> dict[str, Array]:
        self._check(x.shape[1])
        return {"embedding": normal(key, (self.length, x.shape[-1]), jnp.float32)}

    def _check(self, time: int) -> None:
        if time > self.length:
            raise ValueError(f"LearnedPositions: a sequence of {time} positions is longer than {self.length}")

    def apply(
        self, params: dict[str, Array], x: Float[Array, "batch time features"], context: Context
    ) -> Float[Array, "batch time features"]:
        del context
        self._check(x.shape[1])
        return x + jnp.broadcast_to(params["embedding"][None, : x.shape[1]].astype(x.dtype), x.shape)

    def forward(
        self, params: dict[str, Array], x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], tuple[()]]:
        return self.apply(params, x, context), ()

    def backward(
        self, params: dict[str, Array], residuals: tuple[()], d_y: Float[Array, "batch time features"]
    ) -> tuple[dict[str, Array], Float[Array, "batch time features"]]:
        """From y_bt = x_bt + E_t:

        (1) d_E_t = sum_b d_y_bt, and 0 for positions after the end of the sequence
        (2) d_x   = d_y

        There is no residual.
        """
        del residuals
        embedding = params["embedding"]
        d_used = d_y.sum(0, dtype=reduction_dtype(d_y.dtype)).astype(embedding.dtype)
        d_embedding = jnp.pad(d_used, ((0, self.length - d_y.shape[1]), (0, 0)))  # (1)
        return {"embedding": d_embedding}, d_y  # (2)

    def init_cache(self, params: Any, x: Any, length: int, context: Context) -> Int[Array, ""]:
        """The cache is the next position."""
        del params, x, context
        self._check(length)
        return jnp.zeros((), jnp.int32)

    def decode_step(
        self, params: dict[str, Array], cache: Int[Array, ""], x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], Int[Array, ""]]:
        del context
        here = lax.dynamic_slice_in_dim(params["embedding"], cache, x.shape[1])[None].astype(x.dtype)
        return x + jnp.broadcast_to(here, x.shape), cache + x.shape[1]


@dataclass(frozen=True)
class SinusoidalPositions(Layer):
    """y_t = x_t + [sin(t w), cos(t w)], with frequencies w_i = base^(-2i / features) (Vaswani et al. 2017).

    Sines are the first half of the features and cosines the second; the paper alternates them.
    """

    examplewise: ClassVar[bool] = True

    base: float = 10_000.0

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time features"]) -> dict:
        del key
        _check_even(self, x.shape[-1])
        return {}

    def apply(
        self, params: dict, x: Float[Array, "batch time features"], context: Context
    ) -> Float[Array, "batch time features"]:
        del params, context
        return x + jnp.broadcast_to(self._waves(x, jnp.arange(x.shape[1], dtype=jnp.int32))[None], x.shape)

    def _waves(self, x: Array, places: Int[Array, " time"]) -> Float[Array, "time features"]:
        return jnp.concatenate(waves_at(places, self.base, x), -1).astype(x.dtype)

    def forward(
        self, params: dict, x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], tuple[()]]:
        # Without the barrier XLA computes every sine and cosine again for each example.
        del params, context
        waves = lax.optimization_barrier(self._waves(x, jnp.arange(x.shape[1], dtype=jnp.int32)))
        return x + jnp.broadcast_to(waves[None], x.shape), ()

    def backward(
        self, params: dict, residuals: tuple[()], d_y: Float[Array, "batch time features"]
    ) -> tuple[dict, Float[Array, "batch time features"]]:
        """(1) d_x = d_y, since the summand does not depend on x. There is no residual."""
        del params, residuals
        return {}, d_y  # (1)

    def init_cache(self, params: Any, x: Any, length: int, context: Context) -> Int[Array, ""]:
        """The cache is the next position."""
        del params, x, length, context
        return jnp.zeros((), jnp.int32)

    def decode_step(
        self, params: dict, cache: Int[Array, ""], x: Float[Array, "batch time features"], context: Context
    ) -> tuple[Float[Array, "batch time features"], Int[Array, ""]]:
        del params, context
        waves = self._waves(x, cache + jnp.arange(x.shape[1], dtype=jnp.int32))
        return x + jnp.broadcast_to(waves[None], x.shape), cache + x.shape[1]


@dataclass(frozen=True)
class Rotary(Layer):
    """Rotary position embedding: rotates pairs (a, b) of features by the angle t w_i at position t (Su et al. 2021).

    y = (a cos - b sin, a sin + b cos), with frequencies w_i = base^(-2i / features). The dot product of a rotated query
    and a rotated key then depends on the difference of their positions only. A pair is feature i of the first half and
    feature i of the second half, as in GPT-NeoX and Llama.
    """

    examplewise: ClassVar[bool] = True

    base: float = 10_000.0

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time heads features"]) -> dict:
        del key
        _check_even(self, x.shape[-1])
        return {}

    def apply(
        self, params: dict, x: Float[Array, "batch time heads features"], context: Context
    ) -> Float[Array, "batch time heads features"]:
        del params, context
        return _rotated(x, *waves_at(jnp.arange(x.shape[1], dtype=jnp.int32), self.base, x))

    def rotate(
        self, x: Float[Array, "batch time heads features"], places: Int[Array, " time"], sign: float = 1.0
    ) -> Float[Array, "batch time heads features"]:
        """``x`` rotated by the angles of ``places``, or by minus these angles if ``sign`` is -1."""
        # Without the barrier XLA computes every sine and cosine again for each example and head.
        sines, cosines = lax.optimization_barrier(waves_at(places, self.base, x))
        return _rotated(x, sign * sines, cosines)

    def forward(
        self, params: dict, x: Float[Array, "batch time heads features"], context: Context
    ) -> tuple[Float[Array, "batch time heads features"], tuple[()]]:
        del params, context
        return self.rotate(x, jnp.arange(x.shape[1], dtype=jnp.int32)), ()

    def backward(
        self, params: dict, residuals: tuple[()], d_y: Float[Array, "batch time heads features"]
    ) -> tuple[dict, Float[Array, "batch time heads features"]]:
        """(1) d_x is d_y rotated by minus the angle: a rotation's transpose is its inverse. There is no residual."""
        del params, residuals
        return {}, self.rotate(d_y, jnp.arange(d_y.shape[1], dtype=jnp.int32), sign=-1.0)  # (1)

    def init_cache(self, params: Any, x: Any, length: int, context: Context) -> Int[Array, ""]:
        """The cache is the next position."""
        del params, x, length, context
        return jnp.zeros((), jnp.int32)

    def decode_step(
        self, params: dict, cache: Int[Array, ""], x: Float[Array, "batch time heads features"], context: Context
    ) -> tuple[Float[Array, "batch time heads features"], Int[Array, ""]]:
        del params, context
        return self.rotate(x, cache + jnp.arange(x.shape[1], dtype=jnp.int32)), cache + x.shape[1]


def waves_at(
    places: Int[Array, " time"], base: float, x: Float[Array, "..."]
) -> tuple[Float[Array, "time half"], Float[Array, "time half"]]:
    """Sines and cosines of every position times every frequency, the lowest last, for the features of ``x``."""
    dtype, features = reduction_dtype(x.dtype), x.shape[-1]
    exponents = jnp.arange(0, features, 2, dtype=dtype) / features
    angles = places.astype(dtype)[:, None] * (jnp.asarray(base, dtype) ** -exponents)[None]
    return jnp.sin(angles), jnp.cos(angles)


def _rotated(x: Array, sines: Float[Array, "time half"], cosines: Float[Array, "time half"]) -> Array:
    a, b = jnp.split(x.astype(sines.dtype), 2, axis=-1)
    sines, cosines = (jnp.broadcast_to(wave[None, :, None], a.shape) for wave in (sines, cosines))
    return jnp.concatenate([a * cosines - b * sines, a * sines + b * cosines], -1).astype(x.dtype)


def _check_even(layer: Layer, features: int) -> None:
    if features % 2:
        raise ValueError(f"{type(layer).__name__}: {features} features are not divisible into pairs")
