"""Layers that change the shape of an example and keep its elements."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Shaped

from .base import Context, Layer, Static


@dataclass(frozen=True)
class Reshape(Layer):
    """Reshapes every example to ``shape``, in which one size may be -1; the batch axis stays."""

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    shape: tuple[int, ...]

    def init(self, key: Any, x: Shaped[Array | jax.ShapeDtypeStruct, "batch *shape"]) -> dict:
        del key
        size, known = math.prod(x.shape[1:]), math.prod(s for s in self.shape if s != -1)
        if self.shape.count(-1) > 1 or (size % known if -1 in self.shape else size != known):
            raise ValueError(f"Reshape: an example of shape {tuple(x.shape[1:])} does not fit into {self.shape}")
        return {}

    def apply(
        self, params: dict, x: Shaped[Array, "batch *shape"], context: Context
    ) -> Shaped[Array, "batch *reshaped"]:
        del params, context
        return x.reshape(x.shape[0], *self.shape)

    def forward(
        self, params: dict, x: Shaped[Array, "batch *shape"], context: Context
    ) -> tuple[Shaped[Array, "batch *reshaped"], Static]:
        return self.apply(params, x, context), Static(x.shape)

    def backward(
        self, params: dict, residuals: Static, d_y: Shaped[Array, "batch *reshaped"]
    ) -> tuple[dict, Shaped[Array, "batch *shape"]]:
        """y has the elements of x in the same order, so (1) d_x is d_y in the shape of x, which is the residual."""
        del params
        return {}, d_y.reshape(residuals.value)  # (1)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Flatten(Layer):
    """Reshapes every example to one vector; the batch axis stays."""

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    def init(self, key: Any, x: Shaped[Array | jax.ShapeDtypeStruct, "batch *shape"]) -> dict:
        del key, x
        return {}

    def apply(
        self, params: dict, x: Shaped[Array, "batch *shape"], context: Context
    ) -> Shaped[Array, "batch features"]:
        del params, context
        return x.reshape(x.shape[0], -1)

    def forward(
        self, params: dict, x: Shaped[Array, "batch *shape"], context: Context
    ) -> tuple[Shaped[Array, "batch features"], Static]:
        return self.apply(params, x, context), Static(x.shape)

    def backward(
        self, params: dict, residuals: Static, d_y: Shaped[Array, "batch features"]
    ) -> tuple[dict, Shaped[Array, "batch *shape"]]:
        """y has the elements of x in the same order, so (1) d_x is d_y in the shape of x, which is the residual."""
        del params
        return {}, d_y.reshape(residuals.value)  # (1)  # pyright: ignore[reportArgumentType]
