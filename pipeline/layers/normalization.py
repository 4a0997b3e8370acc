"""Normalisation: zero mean and unit variance over a batch, over the features of a position, or over channel groups.

Every ``forward`` passes its statistics through an ``optimization_barrier``. Without it, XLA fuses a sum with what reads
it and, on a CPU, materialises the broadcast result, which is five times slower for rows of 512 elements.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .base import Context, Layer, PyTree, Static, reduction_dtype


def _as_rows(x: Array, dtype: Any) -> Float[Array, "rows features"]:
    """``x`` with all axes but the last merged into one, in ``dtype``."""
    return x.reshape(-1, x.shape[-1]).astype(dtype)


def _sums(a: Array, b: Array) -> Array:
    """Weighted sums as a matrix-vector product, in full precision on every device."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation: y = scale (x - mean) / sqrt(variance + epsilon) + bias per channel (Ioffe & Szegedy 2015).

    In training, mean and variance are those of the batch, over all axes but the last. In evaluation they come from the
    parameters ``mean`` and ``mean_square`` (variance = mean_square - mean^2). No gradient sets these: after training,
    ``evaluation.batch_statistics`` writes the population's into them (Wu & Johnson 2021).

    Parameters: scale, bias, mean, mean_square, each (channels,).

    axis_name: the name of a mapped axis (of ``jax.vmap`` or ``jax.shard_map``) over which the batch is spread: the
        statistics are those of the whole batch. Each part must have as many rows as every other one.

    >>> layer, x = BatchNorm(), jnp.array([[1.0, 10.0], [3.0, 30.0]])
    >>> params = layer.init(jax.random.key(0), x)
    >>> layer.apply(params, x, Context(train=True)).round(3).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    batch_statistics: ClassVar[tuple[str, ...]] = ("mean", "mean_square")

    epsilon: float = 1e-5
    axis_name: str | None = None

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch channels"]) -> dict[str, Array]:
        del key
        zeros, ones = jnp.zeros(x.shape[-1], jnp.float32), jnp.ones(x.shape[-1], jnp.float32)
        return {"scale": ones, "bias": zeros, "mean": zeros, "mean_square": ones}

    def moments(
        self, params: dict[str, Array], rows: Float[Array, "rows channels"], context: Context
    ) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """The mean and variance of every channel: of the batch in training, else of the population."""
        if context.train:
            mean = self._over_parts(rows.mean(0))
            return mean, self._over_parts(jnp.square(rows - mean[None]).mean(0))
        mean, mean_square = (lax.stop_gradient(params[name]).astype(rows.dtype) for name in ("mean", "mean_square"))
        return mean, jnp.maximum(mean_square - jnp.square(mean), 0.0)

    def _over_parts(self, mean: Array) -> Array:
        """The mean over all parts of the batch, from that of this part."""
        return mean if self.axis_name is None else lax.pmean(mean, self.axis_name)

    def normalise(self, params: dict[str, Array], rows: Array, mean: Array, variance: Array) -> Array:
        scale, bias = params["scale"].astype(rows.dtype), params["bias"].astype(rows.dtype)
        return (rows - mean[None]) * (scale * lax.rsqrt(variance + self.epsilon))[None] + bias[None]

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch channels"], context: Context
    ) -> Float[Array, "*batch channels"]:
        rows = _as_rows(x, reduction_dtype(x.dtype))
        y = self.normalise(params, rows, *self.moments(params, rows, context))
        return y.astype(x.dtype).reshape(x.shape)

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch channels"], context: Context
    ) -> tuple[Float[Array, "*batch channels"], tuple[Array, Array, Array, Static]]:
        rows = _as_rows(x, reduction_dtype(x.dtype))
        mean, variance = lax.optimization_barrier(self.moments(params, rows, context))
        y = self.normalise(params, rows, mean, variance)
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
        (3) in evaluation, mean and r are constants:     d_x = scale r d_y
        (4) in training, they depend on every x of the channel. With d_n = scale d_y,
            d_x = r (d_n - sum(d_n)/N - n sum(d_n n)/N) = scale r (d_y - d_bias/N - n d_scale/N)

        The second term of (4) comes through the mean, the third through the variance (the same paper, section 3). Both
        sums are those of (1) and (2). Where the batch is spread over a mapped axis, those in (4) run over all of its
        parts, and N with them; (1) and (2) remain the part's own, as the parameters are.

        The residuals are x and two numbers per channel. Saving n would cost as much memory as x, and so would y, from
        which n cannot be computed where scale is 0.
        """
        x, mean, variance, train = residuals
        mean, variance = lax.optimization_barrier((mean, variance))  # else XLA may save x - mean in the forward pass
        rows, d_rows = _as_rows(x, mean.dtype), _as_rows(d_y, mean.dtype)
        r = lax.rsqrt(variance + self.epsilon)
        d_bias = d_rows.sum(0)  # (1)
        d_scale = (d_rows * (rows - mean[None])).sum(0) * r  # (2)
        slope = params["scale"].astype(mean.dtype) * r
        if train.value:
            d_bias, d_scale = lax.optimization_barrier((d_bias, d_scale))
            mean_d, mean_d_n = (self._over_parts(total / rows.shape[0]) for total in (d_bias, d_scale))
            d_x = slope[None] * (d_rows - mean_d[None] - (rows - mean[None]) * (r * mean_d_n)[None])  # (4)
        else:
            d_x = slope[None] * d_rows  # (3)
        d_params = {"scale": d_scale, "bias": d_bias, "mean": jnp.zeros_like(mean), "mean_square": jnp.zeros_like(mean)}
        d_params = {name: d.astype(params[name].dtype) for name, d in d_params.items()}
        return d_params, d_x.astype(x.dtype).reshape(x.shape)

    def statistics(self, params: dict[str, Array], residuals: tuple[Array, Array, Array, Static]) -> PyTree:
        """The batch's mean and mean square, whose averages over batches of equal size are the population's."""
        _, mean, variance, _ = residuals
        moments = {"mean": mean, "mean_square": variance + jnp.square(mean)}
        moments = {name: value.astype(params[name].dtype) for name, value in moments.items()}
        return {"scale": None, "bias": None, **moments}


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Layer normalisation: y = scale (x - mean) / sqrt(variance + epsilon) + bias over the last axis (Ba et al. 2016).

    Parameters: scale, bias, each (features,).

    >>> layer, x = LayerNorm(), jnp.array([[1.0, 3.0], [10.0, 30.0]])
    >>> layer.apply(layer.init(jax.random.key(0), x), x, Context()).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    examplewise: ClassVar[bool] = True

    epsilon: float = 1e-6

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch features"]) -> dict[str, Array]:
        del key
        return {"scale": jnp.ones(x.shape[-1], jnp.float32), "bias": jnp.zeros(x.shape[-1], jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> Float[Array, "*batch features"]:
        del context
        rows = _as_rows(x, reduction_dtype(x.dtype))
        scale, bias = params["scale"].astype(rows.dtype), params["bias"].astype(rows.dtype)
        centred = rows - rows.mean(1, keepdims=True)
        y = centred * lax.rsqrt(jnp.square(centred).mean(1, keepdims=True) + self.epsilon) * scale[None] + bias[None]
        return y.astype(x.dtype).reshape(x.shape)

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> tuple[Float[Array, "*batch features"], tuple[Array, Array, Array]]:
        del context
        rows = _as_rows(x, reduction_dtype(x.dtype))
        scale, bias = params["scale"].astype(rows.dtype), params["bias"].astype(rows.dtype)
        mean = lax.optimization_barrier(rows.mean(1))[:, None]
        variance = lax.optimization_barrier(jnp.square(rows - mean).mean(1))[:, None]
        r = lax.rsqrt(variance + self.epsilon)
        y = (rows - mean) * r * scale[None] + bias[None]
        return y.astype(x.dtype).reshape(x.shape), (x, mean, r)

    def backward(
        self, params: dict[str, Array], residuals: tuple[Array, Array, Array], d_y: Float[Array, "*batch features"]
    ) -> tuple[dict[str, Array], Float[Array, "*batch features"]]:
        """For each row of D features, with r = 1/sqrt(variance + epsilon), n = (x - mean) r and d_n = scale d_y:

        (1) d_bias   = sum over rows of d_y
        (2) d_scale  = sum over rows of d_y n             = r^T P           with P = d_y (x - mean)
        (3) mean_d   = sum over features of d_n / D       = d_y scale / D
        (4) mean_d_n = sum over features of d_n n / D     = r P scale / D
        (5) d_x      = r (d_n - mean_d - n mean_d_n)

        The second term of (5) comes through the mean, the third through the variance. All sums over P are products of P
        with a vector, so that x and d_y are read once to compute P, and a second time for (5). P is centred, so that no
        digits cancel where the mean of a row is large. The residuals are x and two numbers per row.
        """
        x, mean, r = residuals
        rows, d_rows = _as_rows(x, mean.dtype), _as_rows(d_y, mean.dtype)
        scale, features = params["scale"].astype(mean.dtype), x.shape[-1]
        products = d_rows * (rows - mean)
        d_bias = d_rows.sum(0)  # (1)
        d_scale = _sums(r[:, 0], products)  # (2)
        mean_d = _sums(d_rows, scale)[:, None] / features  # (3)
        mean_d_n = r * _sums(products, scale)[:, None] / features  # (4)
        d_x = r * (d_rows * scale[None] - mean_d - (rows - mean) * (r * mean_d_n))  # (5)
        d_params = {"scale": d_scale.astype(params["scale"].dtype), "bias": d_bias.astype(params["bias"].dtype)}
        return d_params, d_x.astype(x.dtype).reshape(x.shape)


@dataclass(frozen=True)
class RMSNorm(Layer):
    """RMS normalisation: y = scale x / sqrt(mean(x^2) + epsilon) over the last axis (Zhang & Sennrich 2019).

    Parameters: scale (features,).
    """

    examplewise: ClassVar[bool] = True

    epsilon: float = 1e-6

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch features"]) -> dict[str, Array]:
        del key
        return {"scale": jnp.ones(x.shape[-1], jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> Float[Array, "*batch features"]:
        del context
        rows = _as_rows(x, reduction_dtype(x.dtype))
        r = lax.rsqrt(jnp.square(rows).mean(1, keepdims=True) + self.epsilon)
        y = rows * r * params["scale"].astype(rows.dtype)[None]
        return y.astype(x.dtype).reshape(x.shape)

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch features"], context: Context
    ) -> tuple[Float[Array, "*batch features"], tuple[Array, Array]]:
        del context
        rows = _as_rows(x, reduction_dtype(x.dtype))
        r = lax.rsqrt(lax.optimization_barrier(jnp.square(rows).mean(1)) + self.epsilon)[:, None]
        y = rows * r * params["scale"].astype(rows.dtype)[None]
        return y.astype(x.dtype).reshape(x.shape), (x, r)

    def backward(
        self, params: dict[str, Array], residuals: tuple[Array, Array], d_y: Float[Array, "*batch features"]
    ) -> tuple[dict[str, Array], Float[Array, "*batch features"]]:
        """For each row of D features, with r = 1/sqrt(mean(x^2) + epsilon), n = x r and d_n = scale d_y:

        (1) d_scale  = sum over rows of d_y n             = r^T P           with P = d_y x
        (2) mean_d_n = sum over features of d_n n / D     = r P scale / D
        (3) d_x      = r (d_n - n mean_d_n)

        This is LayerNorm's rule without a mean. The residuals are x and one number per row.
        """
        x, r = residuals
        rows, d_rows = _as_rows(x, r.dtype), _as_rows(d_y, r.dtype)
        scale = params["scale"].astype(r.dtype)
        products = d_rows * rows
        d_scale = _sums(r[:, 0], products)  # (1)
        mean_d_n = r * _sums(products, scale)[:, None] / x.shape[-1]  # (2)
        d_x = r * (d_rows * scale[None] - rows * (r * mean_d_n))  # (3)
        return {"scale": d_scale.astype(params["scale"].dtype)}, d_x.astype(x.dtype).reshape(x.shape)


@dataclass(frozen=True)
class GroupNorm(Layer):
    """Group normalisation: ``groups`` equal groups of channels, each normalised over all positions (Wu & He 2018).

    Parameters: scale, bias, each (channels,).
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    groups: int
    epsilon: float = 1e-6

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key
        if x.shape[-1] % self.groups:
            raise ValueError(f"GroupNorm: {x.shape[-1]} channels are not divisible by {self.groups} groups")
        return {"scale": jnp.ones(x.shape[-1], jnp.float32), "bias": jnp.zeros(x.shape[-1], jnp.float32)}

    def apply(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *space channels"]:
        del context
        values = x.astype(reduction_dtype(x.dtype)).reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
        scale, bias = (params[name].astype(values.dtype).reshape(1, 1, self.groups, -1) for name in ("scale", "bias"))
        centred = values - values.mean((1, 3), keepdims=True)
        y = centred * lax.rsqrt(jnp.square(centred).mean((1, 3), keepdims=True) + self.epsilon) * scale + bias
        return y.astype(x.dtype).reshape(x.shape)

    def positions(self, x: Array, dtype: Any) -> Float[Array, "batch positions channels"]:
        return x.astype(dtype).reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])

    def over_group(self, sums: Float[Array, "batch channels"], positions: int) -> Float[Array, "batch 1 channels"]:
        """The mean over each group, from the channels' sums over positions, repeated for the channels of the group."""
        by_group = sums.reshape(sums.shape[0], self.groups, -1)
        means = by_group.sum(2, keepdims=True) / (positions * by_group.shape[2])
        return jnp.broadcast_to(means, by_group.shape).reshape(sums.shape)[:, None]

    def forward(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *space channels"], tuple[Array, Array, Array]]:
        del context
        values = self.positions(x, reduction_dtype(x.dtype))
        count = values.shape[1]
        scale, bias = params["scale"].astype(values.dtype), params["bias"].astype(values.dtype)
        mean = self.over_group(lax.optimization_barrier(values.sum(1)), count)
        variance = self.over_group(lax.optimization_barrier(jnp.square(values - mean).sum(1)), count)
        r = lax.rsqrt(variance + self.epsilon)
        y = (values - mean) * (r * scale[None, None]) + bias[None, None]
        return y.astype(x.dtype).reshape(x.shape), (x, mean, r)

    def backward(
        self,
        params: dict[str, Array],
        residuals: tuple[Array, Array, Array],
        d_y: Float[Array, "batch *space channels"],
    ) -> tuple[dict[str, Array], Float[Array, "batch *space channels"]]:
        """For each group, with r = 1/sqrt(variance + epsilon), n = (x - mean) r and d_n = scale d_y:

        (1) S = sum over positions of d_y,  T = sum over positions of d_y n,  for each example and channel
        (2) d_bias  = sum over examples of S
        (3) d_scale = sum over examples of T
        (4) d_x = r (d_n - mean over the group of d_n - n (mean over the group of d_n n))

        The second term of (4) comes through the mean, the third through the variance. Both means are sums of scale S
        and scale T over the channels of a group, so that x and d_y are read once for all sums. The residuals are x, and
        two numbers per channel and example.
        """
        x, mean, r = residuals
        values, d_values = self.positions(x, mean.dtype), self.positions(d_y, mean.dtype)
        scale, count = params["scale"].astype(mean.dtype)[None], values.shape[1]
        sums = d_values.sum(1)  # (1)
        sums_n = r[:, 0] * (d_values * (values - mean)).sum(1)  # (1)
        sums, sums_n = lax.optimization_barrier((sums, sums_n))
        d_bias, d_scale = sums.sum(0), sums_n.sum(0)  # (2), (3)
        mean_d, mean_d_n = self.over_group(scale * sums, count), self.over_group(scale * sums_n, count)
        d_x = r * (d_values * scale[None] - mean_d - (values - mean) * (r * mean_d_n))  # (4)
        d_params = {"scale": d_scale.astype(params["scale"].dtype), "bias": d_bias.astype(params["bias"].dtype)}
        return d_params, d_x.astype(x.dtype).reshape(x.shape)
