"""Models of sequences that differ in length: what is padding, and one sequence made from another."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pipeline.layers.base import Context, Layer, PyTree

Ids = Int[Array, "batch time"]


@dataclass(frozen=True)
class Masked(Layer):
    """``layer`` on ids (batch, time), with the context's mask made from them: what has the id ``padding`` counts not.

    The loss behind it takes its weights from its targets, as every loss does.
    """

    layer: Layer
    padding: int = 0

    def _context(self, x: Ids, context: Context) -> Context:
        return replace(context, mask=x != self.padding)

    def init(self, key: Any, x: Int[Array | jax.ShapeDtypeStruct, "batch time"]) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: Ids, context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x, self._context(x, context))

    def forward(self, params: PyTree, x: Ids, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.forward(params["layer"], x, self._context(x, context))

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, None]:
        """The layer's own: a mask is made of integers, through which no gradient flows."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y)
        return {"layer": d_params}, d_x

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class MaskedByLength(Layer):
    """``layer`` on x of (x, lengths), with the context's mask made from the lengths: int, (batch,).

    Of each example's positions on x's second axis the first so many count. As ``Masked``, for what is no ids: features
    of sound, or of images.
    """

    layer: Layer

    def _context(self, x: Any, lengths: Int[Array, " batch"], context: Context) -> Context:
        places = jnp.arange(x.shape[1], dtype=lengths.dtype)
        return replace(context, mask=places[None] < lengths[:, None])

    def init(self, key: Any, x: tuple[PyTree, Int[Array | jax.ShapeDtypeStruct, " batch"]]) -> PyTree:
        return {"layer": self.layer.init(key, x[0])}

    def apply(self, params: PyTree, x: tuple[PyTree, Int[Array, " batch"]], context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x[0], self._context(*x, context))

    def forward(
        self, params: PyTree, x: tuple[PyTree, Int[Array, " batch"]], context: Context
    ) -> tuple[PyTree, PyTree]:
        return self.layer.forward(params["layer"], x[0], self._context(*x, context))

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, tuple[PyTree, None]]:
        """The layer's own: a mask is made of integers, through which no gradient flows."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y)
        return {"layer": d_params}, (d_x, None)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class MaskPadding(Layer):
    """y = x where the context's mask says that a position of (batch, time, ...) counts, and 0 elsewhere.

    In front of a layer that looks across positions and knows no mask, as a convolution: behind the end of a sequence it
    sees what it sees beyond the end of the array, however long the others in the batch are.
    """

    def init(self, key: Any, x: PyTree) -> dict:
        del key, x
        return {}

    def apply(
        self, params: dict, x: Float[Array, "batch time *features"], context: Context
    ) -> Float[Array, "batch time *features"]:
        del params
        return _where_counts(context.mask, x)

    def forward(
        self, params: dict, x: Float[Array, "batch time *features"], context: Context
    ) -> tuple[Float[Array, "batch time *features"], Bool[Array, "batch time"] | None]:
        return self.apply(params, x, context), context.mask

    def backward(
        self, params: dict, residuals: Bool[Array, "batch time"] | None, d_y: Float[Array, "batch time *features"]
    ) -> tuple[dict, Float[Array, "batch time *features"]]:
        """y_t = m_t x_t, with a mask m of zeros and ones, so d_x_t = m_t d_y_t. The mask is all that is kept."""
        del params
        return {}, _where_counts(residuals, d_y)


def _where_counts(mask: Bool[Array, "batch time"] | None, x: Array) -> Array:
    if mask is None:
        return x
    return jnp.where(jnp.expand_dims(mask, tuple(range(2, x.ndim))), x, jnp.zeros((), x.dtype))
