"""Activations: functions of every element alone, and softmax along one axis."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pipeline.layers.base import Context, Layer, reduction_dtype


@dataclass(frozen=True)
class _Activation(Layer):
    """A function without parameters whose output has its input's shape and dtype."""

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*shape"]) -> dict:
        del key, x
        return {}


@dataclass(frozen=True)
class ReLU(_Activation):
    """y = max(x, 0) (Fukushima 1969; Nair & Hinton 2010), with derivative 0 at 0. NaN stays NaN."""

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return jnp.where(x <= 0, 0.0, x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Bool[Array, "*shape"]]:
        return self.apply(params, x, context), x > 0

    def backward(
        self, params: dict, residuals: Bool[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """(1) d_x = d_y where x > 0, else 0.

        The residual is the one bit that (1) asks of x, a byte an element where x or y would be four.
        """
        del params
        return {}, jnp.where(residuals, d_y, 0.0)  # (1)


@dataclass(frozen=True)
class LeakyReLU(_Activation):
    """y = x where x > 0, else slope x (Maas, Hannun & Ng 2013), with derivative ``slope`` at 0."""

    slope: float = 0.01

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return jnp.where(x > 0, x, self.slope * x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Bool[Array, "*shape"]]:
        return self.apply(params, x, context), x > 0

    def backward(
        self, params: dict, residuals: Bool[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """(1) d_x = d_y where x > 0, else slope d_y.

        The residual is the one bit that (1) asks of x, a byte an element where x or y would be four.
        """
        del params
        return {}, jnp.where(residuals, d_y, self.slope * d_y)  # (1)


@dataclass(frozen=True)
class ELU(_Activation):
    """y = x where x > 0, else alpha (exp(x) - 1) (Clevert, Unterthiner & Hochreiter 2016); derivative alpha at 0.

    alpha: minus the limit at minus infinity; not negative.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"ELU.alpha is {self.alpha}; it must not be negative")

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        # The inner where keeps exp from overflowing where it is not used: inf * 0 would be the derivative there.
        return jnp.where(x > 0, x, self.alpha * jnp.expm1(jnp.where(x > 0, 0.0, x)))

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        y = self.apply(params, x, context)
        return y, y

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """Where x <= 0 the derivative alpha exp(x) is y + alpha:

        (1) d_x = d_y where y > 0, else (y + alpha) d_y

        The residual is y, which the next layer keeps anyway if it is linear, and which spares a second exponential; as
        alpha >= 0, y is positive just where x is.
        """
        del params
        y = residuals
        return {}, jnp.where(y > 0, d_y, (y + self.alpha) * d_y)  # (1)


@dataclass(frozen=True)
class GELU(_Activation):
    """y = x P(x), with P the normal distribution function (Hendrycks & Gimpel 2016).

    approximate: with their tanh in place of the error function, P(x) = (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    """

    approximate: bool = False

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        if self.approximate:
            return 0.5 * x * (1 + jnp.tanh(_SLOPE * (x + _CUBIC * x**3)))
        return 0.5 * x * (1 + lax.erf(math.sqrt(0.5) * x))

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """d_x = (P(x) + x P'(x)) d_y, where

        (1) exactly,      P' = exp(-x^2/2) / sqrt(2 pi)
        (2) approximated, P' = (1 - t^2)/2 u',  t = tanh(u),  u = sqrt(2/pi) (x + 0.044715 x^3)

        The residual is x.
        """
        del params
        x = residuals
        if self.approximate:
            t = jnp.tanh(_SLOPE * (x + _CUBIC * x**3))
            p, d_p = 0.5 * (1 + t), 0.5 * (1 - t) * (1 + t) * _SLOPE * (1 + 3 * _CUBIC * x**2)  # (2)
        else:
            p, d_p = 0.5 * (1 + lax.erf(math.sqrt(0.5) * x)), jnp.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)  # (1)
        return {}, (p + x * d_p) * d_y


_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True)
class SiLU(_Activation):
    """y = x sigmoid(x) (Elfwing, Uchibe & Doya 2017), also called swish."""

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return x * lax.logistic(x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """With s = sigmoid(x) and s' = s (1 - s):

        (1) d_x = (s + x s') d_y = s (1 + x (1 - s)) d_y

        The residual is x; s comes from it again.
        """
        del params
        x = residuals
        s = lax.logistic(x)
        return {}, s * (1 + x * (1 - s)) * d_y  # (1)


@dataclass(frozen=True)
class Sigmoid(_Activation):
    """y = 1 / (1 + exp(-x))."""

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return lax.logistic(x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        y = self.apply(params, x, context)
        return y, y

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """(1) d_x = y (1 - y) d_y, whose residual is y: no second exponential, and the next layer keeps y anyway."""
        del params
        y = residuals
        return {}, y * (1 - y) * d_y  # (1)


@dataclass(frozen=True)
class Tanh(_Activation):
    """y = tanh(x)."""

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return jnp.tanh(x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        y = self.apply(params, x, context)
        return y, y

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """(1) d_x = (1 - y^2) d_y = (1 - y) (1 + y) d_y; the product loses no digits where |y| is nearly 1.

        The residual is y: no second tanh, and the next layer keeps y anyway.
        """
        del params
        y = residuals
        return {}, (1 - y) * (1 + y) * d_y  # (1)


@dataclass(frozen=True)
class Softplus(_Activation):
    """y = log(1 + exp(x)) (Dugas et al. 2001)."""

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return softplus(x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """(1) d_x = sigmoid(x) d_y.

        The residual is x. From y the same is 1 - exp(-y), but that needs ``expm1`` for the digits of a small y, which
        takes twice the time of a sigmoid.
        """
        del params
        return {}, lax.logistic(residuals) * d_y  # (1)


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow.

    Both kinks are written as choices at x > 0, so that the derivative at 0 is 0 + 1/2 and not a sum of conventions.
    """
    return jnp.where(x > 0, x, 0.0) + jnp.log1p(jnp.exp(jnp.where(x > 0, -x, x)))


@dataclass(frozen=True)
class Softmax(_Activation):
    """y_i = exp(x_i) / sum_j exp(x_j) along ``axis``; a logit may be minus infinity, if not all of a row are."""

    axis: int = -1

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        wide = x.astype(reduction_dtype(x.dtype))
        # Shifting a row changes nothing in y, so no gradient flows through the shift.
        exponentials = jnp.exp(wide - lax.stop_gradient(wide.max(self.axis, keepdims=True)))
        return (exponentials / exponentials.sum(self.axis, keepdims=True)).astype(x.dtype)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        y = self.apply(params, x, context)
        return y, y

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """From dy_j/dx_i = y_j (delta_ij - y_i):

        (1) c    = sum_j y_j d_y_j
        (2) d_x_i = y_i (d_y_i - c)

        The residual is y: neither the exponentials nor their sum are kept or taken again.
        """
        del params
        wide = reduction_dtype(d_y.dtype)
        y, d_wide = residuals.astype(wide), d_y.astype(wide)
        c = (y * d_wide).sum(self.axis, keepdims=True)  # (1)
        return {}, (y * (d_wide - c)).astype(d_y.dtype)  # (2)


@dataclass(frozen=True)
class LogSoftmax(_Activation):
    """y_i = x_i - log sum_j exp(x_j) along ``axis``; a logit may be minus infinity, if not all of a row are."""

    axis: int = -1

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        wide = x.astype(reduction_dtype(x.dtype))
        shifted = wide - lax.stop_gradient(wide.max(self.axis, keepdims=True))
        return (shifted - jnp.log(jnp.exp(shifted).sum(self.axis, keepdims=True))).astype(x.dtype)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        y = self.apply(params, x, context)
        return y, y

    def backward(
        self, params: dict, residuals: Float[Array, "*shape"], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """From dy_j/dx_i = delta_ij - p_i with p = softmax(x) = exp(y):

        (1) c    = sum_j d_y_j
        (2) d_x_i = d_y_i - exp(y_i) c

        The residual is y, from which p comes without a maximum or a sum.
        """
        del params
        wide = reduction_dtype(d_y.dtype)
        y, d_wide = residuals.astype(wide), d_y.astype(wide)
        c = d_wide.sum(self.axis, keepdims=True)  # (1)
        return {}, (d_wide - jnp.exp(y) * c).astype(d_y.dtype)  # (2)
