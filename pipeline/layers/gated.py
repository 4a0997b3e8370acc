"""Gated linear units: feed-forward layers whose hidden units are multiplied by gates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .activations import GELU, Sigmoid, SiLU
from .base import Context, Layer, PyTree
from .initializers import Initializer, lecun_normal
from .linear import Dense


@dataclass(frozen=True)
class GLU(Layer):
    """y = a sigmoid(b), where a and b are the first and the second half of the features of x (Dauphin et al. 2017)."""

    examplewise: ClassVar[bool] = True

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch features"]) -> dict:
        del key
        if x.shape[-1] % 2:
            raise ValueError(f"GLU: x of shape {tuple(x.shape)} cannot be halved; its last axis must be even")
        return {}

    def apply(self, params: dict, x: Float[Array, "*batch features"], context: Context) -> Float[Array, "*batch half"]:
        del params
        a, b = jnp.split(x, 2, axis=-1)
        return a * Sigmoid().apply({}, b, context)

    def forward(
        self, params: dict, x: Float[Array, "*batch features"], context: Context
    ) -> tuple[Float[Array, "*batch half"], tuple[Array, Array]]:
        del params
        a, b = jnp.split(x, 2, axis=-1)
        s = Sigmoid().apply({}, b, context)
        y = a * s
        return y, (y, s)

    def backward(
        self, params: dict, residuals: tuple[Array, Array], d_y: Float[Array, "*batch half"]
    ) -> tuple[dict, Float[Array, "*batch features"]]:
        """With s = sigmoid(b), whose derivative is s (1 - s):

        (1) d_a = d_y s
        (2) d_b = d_y a s (1 - s) = d_y y (1 - s)

        The residuals are s and y: s spares a second exponential, and y is the next layer's input, which it often saves
        anyway.
        """
        del params
        y, s = residuals
        return {}, jnp.concatenate([d_y * s, d_y * (y * (1 - s))], axis=-1)  # (1), (2)


@dataclass(frozen=True)
class _Gated(Layer):
    """A feed-forward layer of ``hidden`` units, gated by ``activation``."""

    examplewise: ClassVar[bool] = True

    activation: ClassVar[Layer]

    hidden: int
    kernel_init: Initializer = lecun_normal

    def _dense(self, features: int) -> Dense:
        return Dense(features, use_bias=False, kernel_init=self.kernel_init)

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch features"]) -> PyTree:
        hidden = jax.ShapeDtypeStruct((*x.shape[:-1], self.hidden), x.dtype)
        sizes = {"gate": (x, self.hidden), "up": (x, self.hidden), "down": (hidden, x.shape[-1])}
        return {
            name: self._dense(size).init(jax.random.fold_in(key, i), like)
            for i, (name, (like, size)) in enumerate(sizes.items())
        }

    def apply(
        self, params: PyTree, x: Float[Array, "*batch features"], context: Context
    ) -> Float[Array, "*batch features"]:
        gate, up = (self._dense(self.hidden).apply(params[name], x, context) for name in ("gate", "up"))
        return self._dense(x.shape[-1]).apply(params["down"], self.activation.apply({}, gate, context) * up, context)

    def forward(
        self, params: PyTree, x: Float[Array, "*batch features"], context: Context
    ) -> tuple[Float[Array, "*batch features"], tuple[Array, Array, Array]]:
        gate, up = (self._dense(self.hidden).apply(params[name], x, context) for name in ("gate", "up"))
        hidden = self.activation.apply({}, gate, context) * up
        return self._dense(x.shape[-1]).apply(params["down"], hidden, context), (x, gate, up)

    def backward(
        self, params: PyTree, residuals: tuple[Array, Array, Array], d_y: Float[Array, "*batch features"]
    ) -> tuple[PyTree, Float[Array, "*batch features"]]:
        """With a = x W_gate, u = x W_up, g = f(a), h = g u and y = h W_down:

        (1) d_W_down = h^T d_y,  d_h = d_y W_down^T
        (2) d_u = d_h g
        (3) d_a = d_h u f'(a)
        (4) d_W_up = x^T d_u,  d_W_gate = x^T d_a
        (5) d_x = d_u W_up^T + d_a W_gate^T

        The residuals are x, a and u. g and h, of the same size, are recomputed from them at the cost of one activation,
        where autodiff also saves g, h and the sigmoid or error function inside f.
        """
        x, gate, up = residuals
        activated, activation_residuals = self.activation.forward({}, gate, Context())
        d_down, d_hidden = self._dense(x.shape[-1]).backward(params["down"], activated * up, d_y)  # (1)
        d_up = d_hidden * activated  # (2)
        _, d_gate = self.activation.backward({}, activation_residuals, d_hidden * up)  # (3)
        dense = self._dense(self.hidden)
        d_up, d_x_up = dense.backward(params["up"], x, d_up)  # (4)
        d_gate, d_x_gate = dense.backward(params["gate"], x, d_gate)
        return {"gate": d_gate, "up": d_up, "down": d_down}, d_x_up + d_x_gate  # (5)


@dataclass(frozen=True)
class SwiGLU(_Gated):
    """y = (silu(x W_gate) * x W_up) W_down (Shazeer 2020), with ``hidden`` units and as many outputs as inputs.

    Parameters: gate and up, each a dict of kernel (features, hidden); down, a dict of kernel (hidden, features).

    >>> layer, x = SwiGLU(hidden=16), jnp.ones((2, 6))
    >>> layer.apply(layer.init(jax.random.key(0), x), x, Context()).shape
    (2, 6)
    """

    activation = SiLU()


@dataclass(frozen=True)
class GEGLU(_Gated):
    """y = (gelu(x W_gate) * x W_up) W_down (Shazeer 2020), with ``hidden`` units and as many outputs as inputs.

    Parameters: gate and up, each a dict of kernel (features, hidden); down, a dict of kernel (hidden, features).
    """

    activation = GELU()
