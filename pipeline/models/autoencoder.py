"""Autoencoders: an example through a bottleneck and back. What was learnt from is rebuilt well, what is new is not."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.layers.activations import ReLU, Tanh
from pipeline.layers.base import Context, Layer, PyTree, Wrapper
from pipeline.layers.combinators import Serial
from pipeline.layers.convolution import Conv, ConvTranspose
from pipeline.layers.initializers import he_normal
from pipeline.layers.linear import Dense
from pipeline.layers.shape import Flatten, Reshape


def dense(shape: tuple[int, ...], widths: tuple[int, ...] = (32, 16), code: int = 4) -> Serial:
    """Examples of any ``shape``, as one vector: dense layers down to ``code`` numbers, and the same way back."""
    there = [part for width in widths for part in (Dense(width), Tanh())]
    back = [part for width in reversed(widths) for part in (Dense(width), Tanh())]
    return Serial((Flatten(), *there, Dense(code), *back, Dense(math.prod(shape)), Reshape(shape)))


def convolutional(shape: tuple[int, ...], channels: tuple[int, ...] = (16, 32), code: int = 16) -> Serial:
    """Images (height, width, channels) or signals (time, channels), whose sides 2 divides as often as ``channels`` has
    entries: strided convolutions down to ``code`` numbers, and transposed ones back."""
    *sides, depth = shape
    stride = (2,) * len(sides)
    small = [side // 2 ** len(channels) for side in sides]
    if any(side * 2 ** len(channels) != whole for side, whole in zip(small, sides)):
        raise ValueError(
            f"convolutional: the sides {tuple(sides)} are not multiples of {2 ** len(channels)}, which "
            f"{len(channels)} strided convolutions need"
        )
    window = (3,) * len(sides)
    there: list[Layer] = []
    for width in channels:
        there += [Conv(width, window, strides=stride, kernel_init=he_normal), ReLU()]
    back: list[Layer] = []
    for width in reversed((depth, *channels[:-1])):
        back += [ReLU(), ConvTranspose(width, (4,) * len(sides), strides=stride)]
    bottleneck = (Flatten(), Dense(code), Dense(math.prod(small) * channels[-1]), Reshape((*small, channels[-1])))
    return Serial((*there, *bottleneck, *back))


@dataclass(frozen=True)
class AnomalyScore(Wrapper):
    """Two logits (batch, 2) of a trained autoencoder f: 0, and log s, with s the mean of (f(x) - x)^2 over an example.

    So the second class, "unlike what was learnt from", is the likelier the worse an example is rebuilt; a calibration
    says how likely. Added to s is the smallest normal number, so that the logarithm of a perfect answer is finite.
    """

    layer: Layer

    def _scored(self, y: Array, x: Array) -> tuple[Array, Array, Array]:
        """y - x, s, and the logits."""
        error = y - x
        s = jnp.square(error).mean(tuple(range(1, error.ndim))) + jnp.finfo(error.dtype).tiny
        return error, s, jnp.stack([jnp.zeros_like(s), jnp.log(s)], -1)

    def apply(self, params: PyTree, x: Float[Array, "batch ..."], context: Context) -> Float[Array, "batch 2"]:
        return self._scored(self.layer.apply(params, x, context), x)[2]

    def forward(
        self, params: PyTree, x: Float[Array, "batch ..."], context: Context
    ) -> tuple[Float[Array, "batch 2"], PyTree]:
        y, kept = self.layer.forward(params, x, context)
        error, s, logits = self._scored(y, x)
        return logits, (error, s, kept)

    def backward(
        self, params: PyTree, residuals: PyTree, d_y: Float[Array, "batch 2"]
    ) -> tuple[PyTree, Float[Array, "batch ..."]]:
        """From z_1 = log s and s = 1/n sum_i e_i^2, e = f(x) - x:

        (1) d_e_i = 2 e_i / (n s) d_z_1
        (2) d_x   = J_f^T d_e - d_e, as x is both what f is given and what it is held against

        Residuals: e, of x's size, s, one number an example, and the autoencoder's own.
        """
        error, s, kept = residuals
        scale = (2 * d_y[:, 1] / (s * (error.size // error.shape[0]))).reshape(-1, *[1] * (error.ndim - 1))
        d_error = scale * error  # (1)
        d_params, d_x = self.layer.backward(params, kept, d_error)
        return d_params, d_x - d_error  # (2)
