"""Correct rules of functions of each element alone: those of one argument, and of two that broadcast."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special, stats

from .kinds import Draw, Right, vjp

sigmoid = jax.nn.sigmoid
ROOT_PI = math.sqrt(math.pi)
ROOT_2PI = math.sqrt(2 * math.pi)


def density(x):
    return jnp.exp(-x * x / 2) / ROOT_2PI


def gelu_slope(x):
    return special.ndtr(x) + x * density(x)


def gelu_tanh_slope(x):
    root = math.sqrt(2 / math.pi)
    t = jnp.tanh(root * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t) * (1 + t) * root * (1 + 3 * 0.044715 * x**2)


def below(x):
    """exp(x), which cannot overflow where it is not used."""
    return jnp.exp(jnp.minimum(x, 0))


def mish_slope(x):
    t = jnp.tanh(jax.nn.softplus(x))
    return t + x * (1 - t) * (1 + t) * sigmoid(x)


def sinc_slope(x):
    z = math.pi * x
    safe = jnp.where(jnp.abs(z) < 0.1, 1.0, z)
    series = -z / 3 * (1 - z**2 / 10 * (1 - z**2 / 28 * (1 - z**2 / 54 * (1 - z**2 / 88))))
    return math.pi * jnp.where(jnp.abs(z) < 0.1, series, (jnp.cos(safe) - jnp.sin(safe) / safe) / safe)


def silu_slope(x):
    return sigmoid(x) * (1 + x * sigmoid(-x))


def inside(low, high):
    return lambda x: jnp.asarray((x > low) & (x < high), x.dtype)


# name, function, derivative, what its argument is drawn from
OF_ONE: tuple[tuple[str, Callable, Callable, Callable], ...] = (
    ("relu", jax.nn.relu, lambda x: jnp.asarray(x > 0, x.dtype), Draw.normal),
    ("relu6", jax.nn.relu6, inside(0, 6), Draw.wide),
    ("gelu", partial(jax.nn.gelu, approximate=False), gelu_slope, Draw.normal),
    ("gelu by tanh", jax.nn.gelu, gelu_tanh_slope, Draw.normal),
    ("silu", jax.nn.silu, silu_slope, Draw.normal),
    ("silu, saturated", lambda x: x * sigmoid(x), silu_slope, Draw.wide),
    ("elu", jax.nn.elu, lambda x: jnp.where(x > 0, 1, below(x)), Draw.normal),
    (
        "selu", jax.nn.selu,
        lambda x: 1.0507009873554804934193349852946 * jnp.where(x > 0, 1, 1.6732632423543772848170429916717 * below(x)),
        Draw.normal,
    ),
    ("celu", partial(jax.nn.celu, alpha=0.7), lambda x: jnp.where(x > 0, 1, below(x / 0.7)), Draw.normal),
    ("softplus", jax.nn.softplus, sigmoid, Draw.normal),
    ("softplus, saturated", jax.nn.softplus, sigmoid, Draw.wide),
    ("leaky_relu", jax.nn.leaky_relu, lambda x: jnp.where(x > 0, 1, 0.01).astype(x.dtype), Draw.normal),
    ("mish", jax.nn.mish, mish_slope, Draw.normal),
    ("soft_sign", jax.nn.soft_sign, lambda x: 1 / (1 + jnp.abs(x)) ** 2, Draw.normal),
    ("log_sigmoid", jax.nn.log_sigmoid, lambda x: sigmoid(-x), Draw.normal),
    ("squareplus", jax.nn.squareplus, lambda x: (1 + x / jnp.sqrt(x**2 + 4)) / 2, Draw.normal),
    ("hard_tanh", jax.nn.hard_tanh, inside(-1, 1), Draw.normal),
    ("hard_sigmoid", jax.nn.hard_sigmoid, lambda x: inside(-3, 3)(x) / 6, Draw.wide),
    ("hard_silu", jax.nn.hard_silu, lambda x: jnp.where(x > 3, 1, jnp.where(x < -3, 0, x / 3 + 0.5)), Draw.normal),
    (
        "sparse_plus", jax.nn.sparse_plus,
        lambda x: jnp.clip((x + 1) / 2, 0, 1), Draw.normal,
    ),
    ("sigmoid", sigmoid, lambda x: sigmoid(x) * sigmoid(-x), Draw.normal),
    ("tanh", jnp.tanh, lambda x: 1 / jnp.cosh(x) ** 2, Draw.normal),
    ("tanh, saturated", jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, Draw.wide),
    ("erf", special.erf, lambda x: 2 / ROOT_PI * jnp.exp(-x * x), Draw.normal),
    ("erfc", special.erfc, lambda x: -2 / ROOT_PI * jnp.exp(-x * x), Draw.normal),
    ("erfinv", special.erfinv, lambda x: ROOT_PI / 2 * jnp.exp(special.erfinv(x) ** 2), Draw.narrow),
    ("gammaln", special.gammaln, special.digamma, Draw.positive),
    ("digamma", special.digamma, lambda x: special.polygamma(1, x), Draw.positive),
    ("entr", special.entr, lambda x: -1 - jnp.log(x), Draw.unit),
    ("ndtr", special.ndtr, density, Draw.normal),
    ("log_ndtr", special.log_ndtr, lambda x: jnp.exp(-x * x / 2 - special.log_ndtr(x)) / ROOT_2PI, Draw.normal),
    ("ndtri", special.ndtri, lambda p: 1 / density(special.ndtri(p)), Draw.unit),
    ("logit", special.logit, lambda p: 1 / (p * (1 - p)), Draw.unit),
    ("i0", special.i0, special.i1, Draw.normal),
    ("i0e", special.i0e, lambda x: special.i1e(x) - jnp.sign(x) * special.i0e(x), Draw.signed),
    ("normal log density", stats.norm.logpdf, lambda x: -x, Draw.normal),
    ("Laplace log density", stats.laplace.logpdf, lambda x: -jnp.sign(x), Draw.signed),
    ("Cauchy log density", stats.cauchy.logpdf, lambda x: -2 * x / (1 + x * x), Draw.normal),
    ("sinc", jnp.sinc, sinc_slope, Draw.signed),
    ("arctan", jnp.arctan, lambda x: 1 / (1 + x * x), Draw.normal),
    ("arctanh", jnp.arctanh, lambda x: 1 / ((1 - x) * (1 + x)), Draw.narrow),
    ("arcsinh", jnp.arcsinh, lambda x: lax.rsqrt(1 + x * x), Draw.normal),
    ("arccos", jnp.arccos, lambda x: -lax.rsqrt((1 - x) * (1 + x)), Draw.narrow),
    ("log1p", jnp.log1p, lambda x: 1 / (1 + x), Draw.positive),
    ("expm1", jnp.expm1, jnp.exp, Draw.normal),
    ("sqrt", jnp.sqrt, lambda x: 0.5 * lax.rsqrt(x), Draw.positive),
    ("rsqrt", lax.rsqrt, lambda x: -0.5 * lax.rsqrt(x) / x, Draw.positive),
    ("cbrt", jnp.cbrt, lambda x: 1 / (3 * jnp.cbrt(x) ** 2), Draw.signed),
    ("reciprocal", jnp.reciprocal, lambda x: -1 / x**2, Draw.signed),
    ("abs", jnp.abs, jnp.sign, Draw.signed),
    ("fifth power", lambda x: x**5, lambda x: 5 * x**4, Draw.normal),
    ("square in float16", jnp.square, lambda x: 2 * x, Draw.half),
    ("tanh in bfloat16", jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, Draw.bfloat16),
    ("cosine in float64", jnp.cos, lambda x: -jnp.sin(x), Draw.double),
    ("clip", partial(jnp.clip, min=-0.5, max=0.8), inside(-0.5, 0.8), Draw.normal),
    ("Tukey's biweight", lambda x: jnp.where(jnp.abs(x) < 1, 1 - (1 - x**2) ** 3, 1) / 6,
     lambda x: jnp.where(jnp.abs(x) < 1, x * (1 - x**2) ** 2, 0), Draw.normal),
    ("straight-through round", lambda x: x + lax.stop_gradient(jnp.round(x) - x), jnp.ones_like, Draw.normal),
    ("gradient scaled down", lambda x: 0.1 * x + lax.stop_gradient(0.9 * x), lambda x: jnp.full_like(x, 0.1),
     Draw.normal),
    ("distance to its own copy", lambda x: (x - lax.stop_gradient(x)) ** 2 + x, jnp.ones_like, Draw.normal),
    ("sigmoid as gate only", lambda x: x * lax.stop_gradient(sigmoid(x)), sigmoid, Draw.normal),
)  # fmt: skip


def reduced(d: Any, like: Any) -> Any:
    """``d`` summed over the axes along which ``like`` was broadcast."""
    d = d.sum(tuple(range(d.ndim - like.ndim)))
    return d.sum(tuple(i for i, size in enumerate(like.shape) if size == 1), keepdims=True)


# name, function, derivatives by both arguments, the arguments
OF_TWO: tuple[tuple[str, Callable, Callable, Callable], ...] = (
    ("product of two", jnp.multiply, lambda x, y: (y, x), lambda draw: (draw.normal(4, 3), draw.normal(3))),
    ("quotient", jnp.divide, lambda x, y: (1 / y, -x / y**2), lambda draw: (draw.normal(3, 4), draw.signed(3, 1))),
    ("product with a scalar", lambda x, scale: scale * x, lambda x, scale: (scale, x),
     lambda draw: (draw.normal(5, 2), draw.normal())),
    ("power", jnp.power, lambda x, y: (y * x ** (y - 1), x**y * jnp.log(x)),
     lambda draw: (draw.positive(4, 1), draw.normal(1, 5))),
    ("logaddexp", jnp.logaddexp, lambda x, y: (sigmoid(x - y), sigmoid(y - x)),
     lambda draw: (draw.wide(3, 5), draw.wide(5))),
    ("arctan2", jnp.arctan2, lambda y, x: (x / (x**2 + y**2), -y / (x**2 + y**2)),
     lambda draw: (draw.signed(6), draw.signed(6))),
    ("hypot", jnp.hypot, lambda x, y: (x / jnp.hypot(x, y), y / jnp.hypot(x, y)),
     lambda draw: (draw.signed(2, 3), draw.signed(2, 3))),
    ("maximum", jnp.maximum, lambda x, y: (jnp.asarray(x > y, x.dtype), jnp.asarray(x < y, x.dtype)),
     lambda draw: (draw.normal(4, 5), draw.normal(5))),
    ("remainder", jnp.remainder, lambda x, y: (jnp.ones_like(x), -jnp.floor(x / y)),
     lambda draw: (draw.normal(7), draw.positive(7))),
    ("xlogy", special.xlogy, lambda x, y: (jnp.log(y), x / y), lambda draw: (draw.positive(3, 4), draw.positive(4))),
    ("betaln", special.betaln,
     lambda a, b: (special.digamma(a) - special.digamma(a + b), special.digamma(b) - special.digamma(a + b)),
     lambda draw: (draw.positive(5), draw.positive(5))),
    ("rel_entr", special.rel_entr, lambda p, q: (1 + jnp.log(p / q), -p / q),
     lambda draw: (draw.unit(3, 4), draw.unit(4))),
    ("Poisson log likelihood",
     lambda log_rate, count: count * log_rate - jnp.exp(log_rate) - special.gammaln(count + 1),
     lambda log_rate, count: (count - jnp.exp(log_rate), log_rate - special.digamma(count + 1)),
     lambda draw: (draw.normal(6), draw.positive(6))),
    ("lerp with a fixed weight", lambda x, y: x + 0.3 * (y - x), lambda x, y: (0.7, 0.3),
     lambda draw: (draw.normal(2, 1, 3), draw.normal(4, 1))),
    ("target network", lambda x, target: 0.5 * (x - lax.stop_gradient(target)) ** 2,
     lambda x, target: (x - target, jnp.zeros_like(target)), lambda draw: (draw.normal(3, 4), draw.normal(3, 4))),
)  # fmt: skip


def of_one(name: str, function: Callable, slope: Callable, draw: Callable) -> Right:
    return vjp(
        name, function, lambda x: (function(x), x), lambda x, d_y: (d_y * slope(x).astype(x.dtype),),
        lambda of: draw(of, 5, 7),
    )  # fmt: skip


def of_two(name: str, function: Callable, slopes: Callable, arguments: Callable) -> Right:
    def backward(residuals, d_y):
        return tuple(reduced(d_y * slope, x) for slope, x in zip(slopes(*residuals), residuals))

    return vjp(name, function, lambda x, y: (function(x, y), (x, y)), backward, arguments)


ELEMENTWISE: tuple[Right, ...] = (*(of_one(*row) for row in OF_ONE), *(of_two(*row) for row in OF_TWO))
