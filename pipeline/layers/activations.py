"""Activations: elementwise functions, and softmax along an axis.

A new elementwise activation is a subclass of ``Elementwise`` with its definition (``value``), its derivative
(``pull_back``) and, if the derivative is not computed from x, its ``residual``.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .base import Context, Layer, reduction_dtype


@dataclass(frozen=True)
class Activation(Layer):
    """A function without parameters whose output has its input's shape and dtype."""

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*shape"]) -> dict:
        del key, x
        return {}


@dataclass(frozen=True)
class Elementwise(Activation):
    """y = f(x) for every element. A subclass defines ``value`` and ``pull_back``, and may override ``residual``.

    >>> class Square(Elementwise):
    ...     def value(self, x):
    ...         return x * x
    ...
    ...     def pull_back(self, residual, d_y):
    ...         return 2 * residual * d_y
    >>> y, residuals = Square().forward({}, jnp.array([1.0, 3.0]), Context())
    >>> Square().backward({}, residuals, jnp.ones_like(y))[1].tolist()
    [2.0, 6.0]
    """

    examplewise: ClassVar[bool] = True

    @abstractmethod
    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """f(x), the definition in plain ``jax.numpy``."""

    def residual(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Array:
        """The array of x's shape that ``pull_back`` computes the derivative from; x by default."""
        del y
        return x

    @abstractmethod
    def pull_back(self, residual: Array, d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d_x = f'(x) d_y."""

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return self.value(x)

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], Array]:
        del params, context
        y = self.value(x)
        return y, self.residual(x, y)

    def backward(
        self, params: dict, residuals: Array, d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """Each element of y depends on the same element of x alone: (1) d_x = f'(x) d_y, which is ``pull_back``."""
        del params
        return {}, self.pull_back(residuals, d_y)


@dataclass(frozen=True)
class ReLU(Elementwise):
    """y = max(x, 0) (Fukushima 1969; Nair & Hinton 2010), with derivative 0 at 0. NaN stays NaN.

    >>> ReLU().apply({}, jnp.array([-1.0, 0.0, 2.0]), Context()).tolist()
    [0.0, 0.0, 2.0]
    """

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x <= 0, 0.0, x)

    def residual(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
        del y
        return x > 0

    def pull_back(self, residual: Bool[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(1) d_x = d_y where x > 0, else 0.

        The residual is the one bit of x that (1) needs: a byte per element, where x or y would be four.
        """
        return jnp.where(residual, d_y, 0.0)  # (1)


@dataclass(frozen=True)
class LeakyReLU(Elementwise):
    """y = x where x > 0, else slope x (Maas, Hannun & Ng 2013), with derivative ``slope`` at 0."""

    slope: float = 0.01

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(x > 0, x, self.slope * x)

    def residual(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
        del y
        return x > 0

    def pull_back(self, residual: Bool[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(1) d_x = d_y where x > 0, else slope d_y.

        The residual is the one bit of x that (1) needs: a byte per element, where x or y would be four.
        """
        return jnp.where(residual, d_y, self.slope * d_y)  # (1)


@dataclass(frozen=True)
class ELU(Elementwise):
    """y = x where x > 0, else alpha (exp(x) - 1) (Clevert, Unterthiner & Hochreiter 2016), with derivative alpha at 0.

    alpha: the limit at minus infinity is -alpha; at least 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"ELU.alpha is {self.alpha}; it must not be negative")

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Without the inner where, exp overflows for large x, and the derivative there would be inf * 0.
        return jnp.where(x > 0, x, self.alpha * jnp.expm1(jnp.where(x > 0, 0.0, x)))

    def residual(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        del x
        return y

    def pull_back(self, residual: Float[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Where x <= 0 the derivative alpha exp(x) is y + alpha:

        (1) d_x = d_y where y > 0, else (y + alpha) d_y

        The residual is y, which a linear layer after this one saves anyway, and which spares a second exponential. As
        alpha >= 0, y is positive exactly where x is.
        """
        y = residual
        return jnp.where(y > 0, d_y, (y + self.alpha) * d_y)  # (1)


@dataclass(frozen=True)
class GELU(Elementwise):
    """y = x P(x), with P the standard normal distribution function (Hendrycks & Gimpel 2016).

    approximate: whether to use their P(x) = (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, without the error function.
    """

    approximate: bool = False

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        if self.approximate:
            return 0.5 * x * (1 + jnp.tanh(_SLOPE * (x + _CUBIC * x**3)))
        return 0.5 * x * (1 + lax.erf(math.sqrt(0.5) * x))

    def pull_back(self, residual: Float[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """d_x = (P(x) + x P'(x)) d_y, where

        (1) exactly,      P' = exp(-x^2/2) / sqrt(2 pi)
        (2) approximated, P' = (1 - t^2)/2 u',  t = tanh(u),  u = sqrt(2/pi) (x + 0.044715 x^3)

        The residual is x.
        """
        x = residual
        if self.approximate:
            t = jnp.tanh(_SLOPE * (x + _CUBIC * x**3))
            p, d_p = 0.5 * (1 + t), 0.5 * (1 - t) * (1 + t) * _SLOPE * (1 + 3 * _CUBIC * x**2)  # (2)
        else:
            p, d_p = 0.5 * (1 + lax.erf(math.sqrt(0.5) * x)), jnp.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)  # (1)
        return (p + x * d_p) * d_y


_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715


@dataclass(frozen=True)
class SiLU(Elementwise):
    """y = x sigmoid(x) (Elfwing, Uchibe & Doya 2017), also called swish."""

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x * lax.logistic(x)

    def pull_back(self, residual: Float[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """With s = sigmoid(x) and s' = s (1 - s):

        (1) d_x = (s + x s') d_y = s (1 + x (1 - s)) d_y

        The residual is x, from which s is computed again.
        """
        x = residual
        s = lax.logistic(x)
        return s * (1 + x * (1 - s)) * d_y  # (1)


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x))."""

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return lax.logistic(x)

    def residual(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        del x
        return y

    def pull_back(self, residual: Float[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(1) d_x = y (1 - y) d_y.

        The residual is y: it spares a second exponential, and the next layer saves it anyway.
        """
        y = residual
        return y * (1 - y) * d_y  # (1)


@dataclass(frozen=True)
class Tanh(Elementwise):
    """y = tanh(x)."""

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.tanh(x)

    def residual(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        del x
        return y

    def pull_back(self, residual: Float[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(1) d_x = (1 - y^2) d_y = (1 - y) (1 + y) d_y; the product loses no digits where |y| is nearly 1.

        The residual is y: it spares a second tanh, and the next layer saves it anyway.
        """
        y = residual
        return (1 - y) * (1 + y) * d_y  # (1)


@dataclass(frozen=True)
class Softplus(Elementwise):
    """y = log(1 + exp(x)) (Dugas et al. 2001)."""

    def value(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return softplus(x)

    def pull_back(self, residual: Float[Array, "*shape"], d_y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """(1) d_x = sigmoid(x) d_y.

        The residual is x. From y the same is 1 - exp(-y), but that needs ``expm1`` for the digits of a small y, which
        takes twice the time of a sigmoid.
        """
        return lax.logistic(residual) * d_y  # (1)


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow.

    Both kinks are written as selections by x > 0, so that autodiff gives 1/2 at 0, and not a sum of two conventions.
    """
    return jnp.where(x > 0, x, 0.0) + jnp.log1p(jnp.exp(jnp.where(x > 0, -x, x)))


@dataclass(frozen=True)
class Softmax(Activation):
    """y_i = exp(x_i) / sum_j exp(x_j) along ``axis``. Some, but not all, of the x_j may be minus infinity."""

    axis: int = -1

    @property
    def independent_examples(self) -> bool:
        return self.axis == -1

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        wide = x.astype(reduction_dtype(x.dtype))
        # y does not depend on the shift, so no gradient flows through it.
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
        """From the Jacobian, dy_j / dx_i = y_j (delta_ij - y_i):

        (1) c    = sum_j y_j d_y_j
        (2) d_x_i = y_i (d_y_i - c)

        The residual is y, so that neither the exponentials nor their sum are saved or recomputed.
        """
        del params
        wide = reduction_dtype(d_y.dtype)
        y, d_wide = residuals.astype(wide), d_y.astype(wide)
        c = (y * d_wide).sum(self.axis, keepdims=True)  # (1)
        return {}, (y * (d_wide - c)).astype(d_y.dtype)  # (2)


@dataclass(frozen=True)
class LogSoftmax(Activation):
    """y_i = x_i - log sum_j exp(x_j) along ``axis``. Some, but not all, of the x_j may be minus infinity."""

    axis: int = -1

    @property
    def independent_examples(self) -> bool:
        return self.axis == -1

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
        """From the Jacobian, dy_j / dx_i = delta_ij - p_i, with p = softmax(x) = exp(y):

        (1) c    = sum_j d_y_j
        (2) d_x_i = d_y_i - exp(y_i) c

        The residual is y, from which p is computed without a maximum or a sum.
        """
        del params
        wide = reduction_dtype(d_y.dtype)
        y, d_wide = residuals.astype(wide), d_y.astype(wide)
        c = d_wide.sum(self.axis, keepdims=True)  # (1)
        return {}, (d_wide - jnp.exp(y) * c).astype(d_y.dtype)  # (2)
