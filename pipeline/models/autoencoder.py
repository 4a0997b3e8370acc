"""Autoencoders, which reconstruct examples from a few numbers, and the anomaly score of a reconstruction."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..layers.activations import ReLU, Tanh
from ..layers.base import Context, Layer, PyTree, Wrapper
from ..layers.combinators import Serial
from ..layers.convolution import Conv, ConvTranspose
from ..layers.initializers import he_normal
from ..layers.linear import Dense
from ..layers.shape import Flatten, Reshape


def dense(shape: tuple[int, ...], widths: tuple[int, ...] = (32, 16), code: int = 4) -> Serial:
    """Dense layers from an example of any ``shape`` down to ``code`` numbers, and the mirror image back.

    widths: of the hidden layers of the encoder; the decoder has them in reverse.
    """
    encoder = [part for width in widths for part in (Dense(width), Tanh())]
    decoder = [part for width in reversed(widths) for part in (Dense(width), Tanh())]
    return Serial((Flatten(), *encoder, Dense(code), *decoder, Dense(math.prod(shape)), Reshape(shape)))


def convolutional(shape: tuple[int, ...], channels: tuple[int, ...] = (16, 32), code: int = 16) -> Serial:
    """Strided convolutions down to ``code`` numbers, and transposed convolutions back.

    shape: of an example, an image (height, width, channels) or a signal (time, channels).
    channels: of each convolution. Each halves the sides, so they must be multiples of 2 ** len(channels); ValueError
        otherwise.
    """
    *sides, depth = shape
    stride = (2,) * len(sides)
    small = [side // 2 ** len(channels) for side in sides]
    if any(side * 2 ** len(channels) != whole for side, whole in zip(small, sides)):
        raise ValueError(
            f"convolutional: the sides {tuple(sides)} are not multiples of {2 ** len(channels)}, as "
            f"{len(channels)} convolutions of stride 2 require"
        )
    window = (3,) * len(sides)
    encoder: list[Layer] = []
    for width in channels:
        encoder += [Conv(width, window, strides=stride, kernel_init=he_normal), ReLU()]
    decoder: list[Layer] = []
    for width in reversed((depth, *channels[:-1])):
        decoder += [ReLU(), ConvTranspose(width, (4,) * len(sides), strides=stride)]
    bottleneck = (Flatten(), Dense(code), Dense(math.prod(small) * channels[-1]), Reshape((*small, channels[-1])))
    return Serial((*encoder, *bottleneck, *decoder))


@dataclass(frozen=True)
class AnomalyScore(Wrapper):
    """A trained autoencoder f as a classifier of two classes, "like the training data" and "anomalous".

    The logits (batch, 2) are 0 and log s, where s is the mean of (f(x) - x)^2 over an example: the worse the
    reconstruction, the likelier the second class. They are scores, which a calibration turns into probabilities. The
    smallest normal number is added to s, so that the logarithm of a perfect reconstruction is finite.
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
        y, layer_residuals = self.layer.forward(params, x, context)
        error, s, logits = self._scored(y, x)
        return logits, (error, s, layer_residuals)

    def backward(
        self, params: PyTree, residuals: PyTree, d_y: Float[Array, "batch 2"]
    ) -> tuple[PyTree, Float[Array, "batch ..."]]:
        """From z_1 = log s and s = 1/n sum_i e_i^2, e = f(x) - x:

        (1) d_e_i = 2 e_i / (n s) d_z_1
        (2) d_x   = J_f^T d_e - d_e, as x is both the input of f and its target

        The residuals are e, of x's size, s, one number per example, and the autoencoder's own.
        """
        error, s, layer_residuals = residuals
        scale = (2 * d_y[:, 1] / (s * (error.size // error.shape[0]))).reshape(-1, *[1] * (error.ndim - 1))
        d_error = scale * error  # (1)
        d_params, d_x = self.layer.backward(params, layer_residuals, d_error)
        return d_params, d_x - d_error  # (2)
