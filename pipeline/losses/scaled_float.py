"""Non-negative numbers with a separate exponent, for products of thousands of probabilities, and sums of these."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

ZERO = -(2**28)
"""The exponent of zero. Numbers below 2^(ZERO / 2) count as zero, too."""


class ScaledFloat(NamedTuple):
    """The number mantissa 2^exponent.

    Like a logarithm it does not underflow, but adding two takes no exponentials, and no digits are lost to a large
    integer part. Mantissas stay near 1; ``add`` reads their exponents from the bits of the float (IEEE 754).

    >>> tiny = power_of_two(jnp.array(-3000.0))
    >>> round(float(log(multiply(tiny, tiny)) / np.log(2)))
    -6000
    """

    mantissa: Float[Array, "*shape"]
    exponent: Int[Array, "*shape"]


def _layout(dtype: Any) -> tuple[Any, int, int]:
    """The integer type of a float's size, the first bit of its exponent, and the exponent's bias."""
    return (jnp.int64, 52, 1023) if dtype == jnp.float64 else (jnp.int32, 23, 127)


def _exponent(x: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """floor(log2(x)) for positive normal floats."""
    integer, place, bias = _layout(x.dtype)
    return (lax.bitcast_convert_type(x, integer) >> place).astype(jnp.int32) - bias


def _float(exponent: Int[Array, "*shape"], dtype: Any) -> Float[Array, "*shape"]:
    """2^exponent as a float; 0 if it is too small for one."""
    integer, place, bias = _layout(dtype)
    return lax.bitcast_convert_type(jnp.maximum(exponent + bias, 0).astype(integer) << place, dtype)


def ones(where: Bool[Array, "*shape"], dtype: Any) -> ScaledFloat:
    """1 where ``where`` is True, 0 elsewhere."""
    return ScaledFloat(jnp.ones(where.shape, dtype), jnp.where(where, 0, ZERO).astype(jnp.int32))


def power_of_two(x: Float[Array, "*shape"]) -> ScaledFloat:
    """2^x for x <= 0; 0 for minus infinity."""
    whole = jnp.floor(jnp.maximum(x, ZERO))
    return ScaledFloat(jnp.exp2(jnp.maximum(x - whole, 0.0)), whole.astype(jnp.int32))


def log(a: ScaledFloat) -> Float[Array, "*shape"]:
    """The natural logarithm; minus infinity for zero."""
    whole = a.exponent.astype(a.mantissa.dtype) * jnp.asarray(np.log(2), a.mantissa.dtype)
    is_zero = (a.exponent <= ZERO // 2) & ~jnp.isnan(a.mantissa)
    return jnp.where(is_zero, -jnp.inf, whole + jnp.log(a.mantissa))


def add(*terms: ScaledFloat) -> ScaledFloat:
    """The sum of ``terms``."""
    tops = [exponent + _exponent(mantissa) for mantissa, exponent in terms]
    top = tops[0]
    for other in tops[1:]:
        top = jnp.maximum(top, other)
    parts = [mantissa * _float(exponent - top, mantissa.dtype) for mantissa, exponent in terms]
    return ScaledFloat(sum(parts[1:], start=parts[0]), top)


def multiply(a: ScaledFloat, b: ScaledFloat) -> ScaledFloat:
    """a b."""
    return ScaledFloat(a.mantissa * b.mantissa, jnp.maximum(a.exponent + b.exponent, ZERO))


def ratio(a: ScaledFloat, b: ScaledFloat, c: ScaledFloat) -> Float[Array, "*shape"]:
    """a b / c as a float, whose range it must not leave."""
    scale = _float(a.exponent + b.exponent - c.exponent, c.mantissa.dtype)
    return a.mantissa * b.mantissa * (1 / c.mantissa) * scale


def where(condition: Bool[Array, "*shape"], a: ScaledFloat) -> ScaledFloat:
    """``a`` where the condition holds, 0 elsewhere."""
    return ScaledFloat(a.mantissa, jnp.where(condition, a.exponent, ZERO))


def select(condition: Bool[Array, "*shape"], a: ScaledFloat, b: ScaledFloat) -> ScaledFloat:
    """``a`` where the condition holds, ``b`` elsewhere."""
    return ScaledFloat(*(jnp.where(condition, part_a, part_b) for part_a, part_b in zip(a, b)))


def without_first(a: ScaledFloat) -> ScaledFloat:
    """All elements but the first along the last axis."""
    return ScaledFloat(*(part[..., 1:] for part in a))


def without_last(a: ScaledFloat) -> ScaledFloat:
    """All elements but the last along the last axis."""
    return ScaledFloat(*(part[..., :-1] for part in a))


def pad(a: ScaledFloat, before: int, after: int) -> ScaledFloat:
    """``a`` with so many zeros before and after it along the last axis."""
    widths = [(0, 0)] * (a.mantissa.ndim - 1) + [(before, after)]
    return ScaledFloat(
        jnp.pad(a.mantissa, widths, constant_values=1.0), jnp.pad(a.exponent, widths, constant_values=ZERO)
    )
