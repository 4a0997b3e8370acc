"""Random convolutions: features of signals from kernels that are drawn once and never trained (ROCKET)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .base import Context, Layer, reduction_dtype


@dataclass(frozen=True)
class RandomConvolutions(Layer):
    """Features of signals by random dilated kernels (Dempster, Petitjean & Webb 2020, "ROCKET").

    With kernels W and biases b that depend on ``seed`` alone, kernel k gives two features of a signal x:

        z_t      = sum_j x_(t + (j - window // 2) dilation) W_jk + b_k        (0 beyond the ends of x)
        share_k  = share of the positions t with z_t > 0
        mean_k   = mean over t of max(z_t, 0)

    The weights of a kernel are normal with mean 0 over its window and variance 1 / channels, and b_k is uniform from -1
    to 1: the layer expects standardised signals. Dilations are the powers of 2 with which a kernel is shorter than the
    signal, each for as many kernels. The paper has the maximum in place of the mean, which says less of short signals.

    There are no parameters. The share is a step function of x, with derivative 0: gradients flow through the mean.

    kernels: how many; rounded up to a multiple of the number of dilations. window: weights of a kernel, an odd number.

    >>> layer, x = RandomConvolutions(10), jnp.ones((4, 50, 3))
    >>> layer.apply(layer.init(jax.random.key(0), x), x, Context()).shape
    (4, 24)
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    kernels: int = 1000
    window: int = 9
    seed: int = 0

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch time channels"]) -> dict:
        del key
        if len(x.shape) != 3 or self.window % 2 == 0:
            raise ValueError(
                f"RandomConvolutions: the input has shape {x.shape}, which must be (batch, time, channels), and window "
                f"is {self.window}, which must be odd"
            )
        return {}

    def dilations(self, time: int) -> list[int]:
        """The powers of 2 with which a kernel is shorter than ``time``; at least 1."""
        return [2**i for i in range(max(1, ((time - 1) // (self.window - 1)).bit_length()))] if self.window > 1 else [1]

    def groups(self, shape: tuple[int, ...], dtype: Any) -> Iterator[tuple[int, Array, Array]]:
        """Each dilation with its kernels (window, channels, features) and biases (features,)."""
        dilations, channels = self.dilations(shape[1]), shape[2]
        random = np.random.RandomState(self.seed)  # whose numbers are the same in all versions of NumPy
        features = -(-self.kernels // len(dilations))
        for dilation in dilations:
            kernel = random.normal(size=(self.window, channels, features)) / np.sqrt(channels)
            bias = random.uniform(-1, 1, features)
            yield dilation, jnp.asarray(kernel - kernel.mean(0), dtype), jnp.asarray(bias, dtype)

    def apply(
        self, params: dict, x: Float[Array, "batch time channels"], context: Context
    ) -> Float[Array, "batch features"]:
        del params, context
        shares, means = [], []
        for dilation, kernel, bias in self.groups(x.shape, x.dtype):
            z = (_convolve(x, kernel, dilation) + bias[None, None]).astype(reduction_dtype(x.dtype))
            shares.append((z > 0).astype(z.dtype).mean(1))
            means.append(jnp.where(z > 0, z, jnp.zeros((), z.dtype)).mean(1))
        return jnp.concatenate([*shares, *means], 1).astype(x.dtype)

    def forward(
        self, params: dict, x: Float[Array, "batch time channels"], context: Context
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time channels"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict, residuals: Float[Array, "batch time channels"], d_y: Float[Array, "batch features"]
    ) -> tuple[dict, Float[Array, "batch time channels"]]:
        """For each dilation d, with T positions and window // 2 = h:

        (1) d_z_t = [z_t > 0] d_mean / T
        (2) d_x_p = sum_j d_z_(p - (j - h) d) W_j^T

        (2) is a convolution of d_z by the kernel flipped in time, with its channels and features swapped. The residual
        is x: z, which is many times as large, is computed again. Training needs no d_x: nothing to train comes before.
        """
        del params
        x, dtype = residuals, reduction_dtype(residuals.dtype)
        d_means = d_y[:, d_y.shape[1] // 2 :].astype(dtype) / x.shape[1]
        d_x, start = jnp.zeros(x.shape, dtype), 0
        for dilation, kernel, bias in self.groups(x.shape, x.dtype):
            z = _convolve(x, kernel, dilation) + bias[None, None]
            d_mean = lax.slice_in_dim(d_means, start, start + bias.shape[0], axis=1)[:, None]
            d_z = jnp.where(z > 0, d_mean, jnp.zeros((), dtype)).astype(x.dtype)  # (1)
            d_x += _convolve(d_z, kernel[::-1].swapaxes(1, 2), dilation).astype(dtype)  # (2)
            start += bias.shape[0]
        return {}, d_x.astype(x.dtype)

    def after(self, context: Context) -> Context:
        return replace(context, mask=None)


def _convolve(x: Array, kernel: Array, dilation: int) -> Array:
    """``x`` (batch, time, in) cross-correlated with a kernel (window, in, out); the ends are padded with zeros."""
    dimensions = lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHC", "HIO", "NHC"))
    return lax.conv_general_dilated(x, kernel, (1,), "SAME", rhs_dilation=(dilation,), dimension_numbers=dimensions)
