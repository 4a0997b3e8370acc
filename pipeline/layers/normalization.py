"""Normalisation: zero mean and unit variance over a batch, a position's features, or a group of channels."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pipeline.layers.base import Context, Layer, PyTree, Static, reduction_dtype


@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = scale (x - mean) / sqrt(variance + epsilon) + bias, by channel (Ioffe & Szegedy 2015).

    While training, mean and variance are the batch's own, over all axes but the last. In evaluation they come from the
    parameters ``mean`` and ``mean_square`` (variance = mean_square - mean^2), which no gradient sets: a calibration
    pass over ``statistics`` writes the population's (Wu & Johnson 2021).

    Parameters: scale, bias, mean, mean_square, each (channels,).
    """

    epsilon: float = 1e-5

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch channels"]) -> dict[str, Array]:
        del key
        zeros, ones = jnp.zeros(x.shape[-1], jnp.float32), jnp.ones(x.shape[-1], jnp.float32)
        return {"scale": ones, "bias": zeros, "mean": zeros, "mean_square": ones}

    def moments(
        self, params: dict[str, Array], rows: Float[Array, "rows channels"], context: Context
    ) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Mean and variance of every channel: the batch's in training, the population's otherwise."""
        if context.train:
            mean = rows.mean(0)
            return mean, jnp.square(rows - mean[None]).mean(0)
        mean, mean_square = (lax.stop_gradient(params[name]).astype(rows.dtype) for name in ("mean", "mean_square"))
        return mean, jnp.maximum(mean_square - jnp.square(mean), 0.0)

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch channels"], context: Context
    ) -> Float[Array, "*batch channels"]:
        return self.forward(params, x, context)[0]

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch channels"], context: Context
    ) -> tuple[Float[Array, "*batch channels"], tuple[Array, Array, Array, Static]]:
        wide = reduction_dtype(x.dtype)
        rows = x.reshape(-1, x.shape[-1]).astype(wide)
        mean, variance = self.moments(params, rows, context)
        scale, bias = params["scale"].astype(wide), params["bias"].astype(wide)
        y = (rows - mean[None]) * (scale * lax.rsqrt(variance + self.epsilon))[None] + bias[None]
        return y.astype(x.dtype).reshape(x.shape), (x, mean, variance, Static(context.train))

    def backward(
        self,
        params: dict[str, Array],
        residuals: tuple[Array, Array, Array, Static],
        d_y: Float[Array, "*batch channels"],
    ) -> tuple[dict[str, Array], Float[Array, "*batch channels"]]:
        """With r = 1/sqrt(variance + epsilon), n = (x - mean) r, and sums over the N rows of a batch:

        (1) d_bias  = sum d_y
        (2) d_scale = sum d_y n
        (3) in evaluation mean and r are constants:                        d_x = scale r d_y
        (4) in training they depend on every x of the channel, through     d_n = scale d_y
            d_x = r (d_n - sum(d_n)/N - n sum(d_n n)/N) = scale r (d_y - d_bias/N - n d_scale/N)

        The second term of (4) is the mean's share, the third the variance's (the same paper, section 3); both sums are
        (1) and (2) already. Residuals: x, and two numbers a channel. n would cost as much as x and could not stand
        for it; y could, but not where scale is 0.
        """
        x, mean, variance, train = residuals
        wide = mean.dtype
        rows, d_rows = (array.reshape(-1, x.shape[-1]).astype(wide) for array in (x, d_y))
        r = lax.rsqrt(variance + self.epsilon)
        centred = rows - mean[None]
        d_bias = d_rows.sum(0)  # (1)
        d_scale = (d_rows * centred).sum(0) * r  # (2)
        slope = params["scale"].astype(wide) * r
        if train.value:
            count = rows.shape[0]
            d_x = slope[None] * (d_rows - (d_bias / count)[None] - centred * (r * d_scale / count)[None])  # (4)
        else:
            d_x = slope[None] * d_rows  # (3)
        d_params = {"scale": d_scale, "bias": d_bias, "mean": jnp.zeros_like(mean), "mean_square": jnp.zeros_like(mean)}
        d_params = {name: d.astype(params[name].dtype) for name, d in d_params.items()}
        return d_params, d_x.astype(x.dtype).reshape(x.shape)

    def statistics(self, params: dict[str, Array], residuals: tuple[Array, Array, Array, Static]) -> PyTree:
        """The batch's mean and mean square; their averages over equal batches are the population's."""
        _, mean, variance, _ = residuals
        written = {"mean": mean, "mean_square": variance + jnp.square(mean)}
        written = {name: value.astype(params[name].dtype) for name, value in written.items()}
        return {"scale": None, "bias": None, **written}


@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = scale (x - mean) / sqrt(variance + epsilon) + bias, over the last axis (Ba, Kiros & Hinton 2016).

    Parameters: scale, bias, each (features,).
    """

    epsilon: float = 1e-6

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch features"]) -> dict[str, Array]:
        del key
        return {"scale": jnp.ones(x.shape[-1], jnp.float32), "bias": jnp.zeros(x.shape[-1], jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> Float[Array, "*batch features"]:
        return self.forward(params, x, context)[0]

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> tuple[Float[Array, "*batch features"], tuple[Array, Array, Array]]:
        del context
        wide = reduction_dtype(x.dtype)
        rows = x.reshape(-1, x.shape[-1]).astype(wide)
        mean = rows.mean(1, keepdims=True)
        r = lax.rsqrt(jnp.square(rows - mean).mean(1, keepdims=True) + self.epsilon)
        y = (rows - mean) * r * params["scale"].astype(wide)[None] + params["bias"].astype(wide)[None]
        return y.astype(x.dtype).reshape(x.shape), (x, mean, r)

    def backward(
        self, params: dict[str, Array], residuals: tuple[Array, Array, Array], d_y: Float[Array, "*batch features"]
    ) -> tuple[dict[str, Array], Float[Array, "*batch features"]]:
        """With r = 1/sqrt(variance + epsilon) and n = (x - mean) r, by row, D features, and d_n = scale d_y:

        (1) d_bias  = sum over rows of d_y
        (2) d_scale = sum over rows of d_y n
        (3) d_x = r (d_n - sum(d_n)/D - n sum(d_n n)/D)

        The second term of (3) is the mean's share, the third the variance's. Residuals: x, and two numbers a row.
        """
        x, mean, r = residuals
        wide = mean.dtype
        rows, d_rows = (array.reshape(-1, x.shape[-1]).astype(wide) for array in (x, d_y))
        features = rows.shape[1]
        n = (rows - mean) * r
        d_bias = d_rows.sum(0)  # (1)
        d_scale = (d_rows * n).sum(0)  # (2)
        d_n = d_rows * params["scale"].astype(wide)[None]
        along_mean = d_n.sum(1, keepdims=True) / features
        along_n = (d_n * n).sum(1, keepdims=True) / features
        d_x = r * (d_n - along_mean - n * along_n)  # (3)
        d_params = {"scale": d_scale.astype(params["scale"].dtype), "bias": d_bias.astype(params["bias"].dtype)}
        return d_params, d_x.astype(x.dtype).reshape(x.shape)


@dataclass(frozen=True)
class RMSNorm(Layer):
    """y = scale x / sqrt(mean(x^2) + epsilon), over the last axis (Zhang & Sennrich 2019).

    Parameters: scale (features,).
    """

    epsilon: float = 1e-6

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch features"]) -> dict[str, Array]:
        del key
        return {"scale": jnp.ones(x.shape[-1], jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> Float[Array, "*batch features"]:
        return self.forward(params, x, context)[0]

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> tuple[Float[Array, "*batch features"], tuple[Array, Array]]:
        del context
        wide = reduction_dtype(x.dtype)
        rows = x.reshape(-1, x.shape[-1]).astype(wide)
        r = lax.rsqrt(jnp.square(rows).mean(1, keepdims=True) + self.epsilon)
        y = rows * r * params["scale"].astype(wide)[None]
        return y.astype(x.dtype).reshape(x.shape), (x, r)

    def backward(
        self, params: dict[str, Array], residuals: tuple[Array, Array], d_y: Float[Array, "*batch features"]
    ) -> tuple[dict[str, Array], Float[Array, "*batch features"]]:
        """With r = 1/sqrt(mean(x^2) + epsilon) and n = x r, by row, D features, and d_n = scale d_y:

        (1) d_scale = sum over rows of d_y n
        (2) d_x = r (d_n - n sum(d_n n)/D)

        Residuals: x, and one number a row.
        """
        x, r = residuals
        wide = r.dtype
        rows, d_rows = (array.reshape(-1, x.shape[-1]).astype(wide) for array in (x, d_y))
        n = rows * r
        d_scale = (d_rows * n).sum(0)  # (1)
        d_n = d_rows * params["scale"].astype(wide)[None]
        d_x = r * (d_n - n * (d_n * n).sum(1, keepdims=True) / rows.shape[1])  # (2)
        return {"scale": d_scale.astype(params["scale"].dtype)}, d_x.astype(x.dtype).reshape(x.shape)


@dataclass(frozen=True)
class GroupNorm(Layer):
    """LayerNorm over all positions of an example and one of ``groups`` equal groups of its channels (Wu & He 2018).

    Parameters: scale, bias, each (channels,).
    """

    groups: int
    epsilon: float = 1e-6

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key
        if x.shape[-1] % self.groups:
            raise ValueError(f"GroupNorm: {x.shape[-1]} channels do not fall into {self.groups} equal groups")
        return {"scale": jnp.ones(x.shape[-1], jnp.float32), "bias": jnp.zeros(x.shape[-1], jnp.float32)}

    def grouped(self, x: Array, dtype: Any) -> Float[Array, "batch positions groups members"]:
        return x.astype(dtype).reshape(x.shape[0], math.prod(x.shape[1:-1]), self.groups, -1)

    def apply(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *space channels"]:
        return self.forward(params, x, context)[0]

    def forward(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *space channels"], tuple[Array, Array, Array]]:
        del context
        wide = reduction_dtype(x.dtype)
        values = self.grouped(x, wide)
        scale, bias = (params[name].astype(wide).reshape(1, 1, self.groups, -1) for name in ("scale", "bias"))
        mean = values.mean((1, 3), keepdims=True)
        r = lax.rsqrt(jnp.square(values - mean).mean((1, 3), keepdims=True) + self.epsilon)
        y = (values - mean) * r * scale + bias
        return y.astype(x.dtype).reshape(x.shape), (x, mean, r)

    def backward(
        self,
        params: dict[str, Array],
        residuals: tuple[Array, Array, Array],
        d_y: Float[Array, "batch *space channels"],
    ) -> tuple[dict[str, Array], Float[Array, "batch *space channels"]]:
        """With r = 1/sqrt(variance + epsilon) and n = (x - mean) r, by group, M elements in it, and d_n = scale d_y:

        (1) d_bias  = sum of d_y   over examples and positions
        (2) d_scale = sum of d_y n over examples and positions
        (3) d_x = r (d_n - sum(d_n)/M - n sum(d_n n)/M)

        The second term of (3) is the mean's share, the third the variance's. Residuals: x, and two numbers a group.
        """
        x, mean, r = residuals
        wide = mean.dtype
        values, d_values = self.grouped(x, wide), self.grouped(d_y, wide)
        scale = params["scale"].astype(wide).reshape(1, 1, self.groups, -1)
        n = (values - mean) * r
        d_bias = d_values.sum((0, 1)).reshape(-1)  # (1)
        d_scale = (d_values * n).sum((0, 1)).reshape(-1)  # (2)
        d_n = d_values * scale
        members = values.shape[1] * values.shape[3]
        along_mean = d_n.sum((1, 3), keepdims=True) / members
        along_n = (d_n * n).sum((1, 3), keepdims=True) / members
        d_x = r * (d_n - along_mean - n * along_n)  # (3)
        d_params = {"scale": d_scale.astype(params["scale"].dtype), "bias": d_bias.astype(params["bias"].dtype)}
        return d_params, d_x.astype(x.dtype).reshape(x.shape)
