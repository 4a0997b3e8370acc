"""Random numbers in float64 that are those of float32.

Under x64, ``jax.random`` draws other bits: a mask of dropout has other units, and a rule that draws its own in float32
would seem wrong. Here a draw in float64 takes the bits that a draw in float32 takes, so that both give the same numbers
up to rounding.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

_STATE = jax.make_user_context(False)
"""Part of the key of JAX's caches: no program that is traced with these draws is used without them."""


@contextlib.contextmanager
def draws_of_float32(on: bool = True) -> Iterator[None]:
    """Within it, draws in float64 and int64 are those of float32 and int32; ``on=False`` changes nothing."""
    module: Any = sys.modules[jax.random.uniform.__module__]  # where jax.random's functions look up what draws bits
    bits, integers = getattr(module, "_random_bits", None), getattr(module, "_randint", None)
    if not on or bits is None or integers is None:
        yield
        return

    def few_bits(key: Any, bit_width: int, shape: Any) -> Any:
        if bit_width != 64:
            return bits(key, bit_width, shape)
        # 23 bits make a number of float32. As the upper ones of float64's 52 they make the same number.
        return (bits(key, 32, shape).astype(jnp.uint64) >> 9) << 41

    def few_integers(key: Any, minval: Any, maxval: Any, shape: Any, dtype: Any) -> Any:
        if jnp.dtype(dtype).itemsize != 8:
            return integers(key, minval, maxval, shape, dtype)
        small = jnp.dtype(dtype).name.replace("64", "32")
        return integers(key, jnp.asarray(minval, small), jnp.asarray(maxval, small), shape, jnp.dtype(small)).astype(
            dtype
        )

    module._random_bits, module._randint = few_bits, few_integers
    try:
        with _STATE(True):
            yield
    finally:
        module._random_bits, module._randint = bits, integers
