"""The kinds of correct rules, and what their arguments are drawn from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .registry import Rule


@dataclass(frozen=True, eq=False)
class Custom:
    """What ``check_custom_vjp`` takes: a function that carries its rule, the same in plain JAX, and arguments."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    arguments: tuple


@dataclass(frozen=True, eq=False)
class Gradient:
    """What ``check_gradient`` takes: a gradient by hand, the loss, its parameters, and data."""

    manual_gradient: Callable[..., Any]
    loss: Callable[..., Any]
    params: Any
    data: tuple


@dataclass(frozen=True, eq=False)
class Right:
    """A rule that must not be accused. make: from a seed to what is checked, of which ``kind`` says which check."""

    name: str
    make: Callable[[int], Any]
    kind: Literal["vjp", "custom", "gradient"]


class Draw:
    """NumPy arrays of float32, of which each call draws others."""

    def __init__(self, seed: int):
        self.seed = seed
        self.random = np.random.default_rng(seed)

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def positive(self, *shape: int) -> np.ndarray:
        """Numbers between 0.3 and 3."""
        return np.exp(self.random.uniform(np.log(0.3), np.log(3), shape)).astype(np.float32)

    def unit(self, *shape: int) -> np.ndarray:
        """Numbers between 0.05 and 0.95."""
        return self.random.uniform(0.05, 0.95, shape).astype(np.float32)

    def signed(self, *shape: int) -> np.ndarray:
        """Numbers between 0.3 and 3, of either sign: none is near 0."""
        return self.positive(*shape) * self.random.choice((-1, 1), shape).astype(np.float32)

    def narrow(self, *shape: int) -> np.ndarray:
        """Numbers between -0.9 and 0.9."""
        return self.random.uniform(-0.9, 0.9, shape).astype(np.float32)

    def wide(self, *shape: int) -> np.ndarray:
        """Numbers at which tanh and its like are saturated."""
        return 30 * self.normal(*shape)

    def half(self, *shape: int) -> np.ndarray:
        return self.normal(*shape).astype(np.float16)

    def bfloat16(self, *shape: int) -> np.ndarray:
        return self.normal(*shape).astype(jnp.bfloat16)

    def double(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape)

    def shares(self, *shape: int) -> np.ndarray:
        """Rows that add up to 1."""
        weights = self.random.uniform(0.2, 1, shape)
        return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)

    def signs(self, *shape: int) -> np.ndarray:
        return self.random.choice((-1, 1), shape).astype(np.float32)

    def flags(self, *shape: int) -> np.ndarray:
        """Zeros and ones, as floats."""
        return self.mask(*shape).astype(np.float32)

    def mask(self, *shape: int) -> np.ndarray:
        """Booleans, of which the first along the last axis is always true."""
        mask = self.random.random(shape) < 0.7
        mask[..., 0] = True
        return mask

    def ids(self, count: int, *shape: int) -> np.ndarray:
        """Integers below ``count``."""
        return self.random.integers(0, count, shape).astype(np.int32)

    def permutation(self, count: int) -> np.ndarray:
        return self.random.permutation(count).astype(np.int32)

    def increasing(self, count: int) -> np.ndarray:
        return np.cumsum(self.positive(count), dtype=np.float32)

    def definite(self, *shape: int) -> np.ndarray:
        """Symmetric positive definite matrices."""
        a = self.random.normal(size=shape)
        return (a @ np.swapaxes(a, -1, -2) / shape[-1] + np.eye(shape[-1])).astype(np.float32)

    def regular(self, size: int) -> np.ndarray:
        """A matrix far from singular."""
        return (self.random.normal(size=(size, size)) / np.sqrt(size) + 2 * np.eye(size)).astype(np.float32)

    def key(self) -> jax.Array:
        return jax.random.key(self.seed)


def vjp(
    name: str, function: Callable, forward: Callable, backward: Callable, arguments: Callable[[Draw], Any]
) -> Right:
    """A rule given as a pair. ``arguments`` draws a tuple, or a single array where that is the only argument."""

    def make(seed: int) -> Rule:
        return Rule(function, forward, backward, _as_tuple(arguments(Draw(seed))))

    return Right(name, make, "vjp")


def kept(name: str, function: Callable, backward: Callable, arguments: Callable[[Draw], Any]) -> Right:
    """A rule whose residuals are the arguments."""
    return vjp(name, function, lambda *given: (function(*given), given), backward, arguments)


def custom(name: str, function: Callable, reference: Callable, arguments: Callable[[Draw], Any]) -> Right:
    """A function that carries its rule."""
    return Right(name, lambda seed: Custom(function, reference, _as_tuple(arguments(Draw(seed)))), "custom")


def gradient(name: str, manual_gradient: Callable, loss: Callable, arguments: Callable[[Draw], tuple]) -> Right:
    """A whole gradient; the first of the arguments are the parameters."""

    def make(seed: int) -> Gradient:
        params, *data = arguments(Draw(seed))
        return Gradient(manual_gradient, loss, params, tuple(data))

    return Right(name, make, "gradient")


def _as_tuple(arguments: Any) -> tuple:
    return arguments if type(arguments) is tuple else (arguments,)
