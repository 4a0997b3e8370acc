"""Masking: layers that set the context's mask from ids or lengths, or that zero what is masked."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .base import Context, Layer, PyTree

Ids = Int[Array, "batch time *bag"]


@dataclass(frozen=True)
class Masked(Layer):
    """``layer`` applied to ids (batch, time), with the positions whose id is ``padding`` masked.

    Of bags of ids (batch, time, bag), see ``EmbeddingBag``, those are masked that hold nothing but padding. A loss
    after this layer does not see the mask: it takes its weights from its targets, as every loss does.
    """

    examplewise: ClassVar[bool] = True

    layer: Layer
    padding: int = 0

    def mask(self, x: Ids) -> Bool[Array, "batch time"]:
        """Which positions are not padding."""
        present = x != self.padding
        return present if x.ndim == 2 else present.any(-1)

    def _context(self, x: Ids, context: Context) -> Context:
        return replace(context, mask=self.mask(x))

    def init(self, key: Any, x: Int[Array | jax.ShapeDtypeStruct, "batch time *bag"]) -> PyTree:
        return {"layer": self.layer.init(key, x)}

    def apply(self, params: PyTree, x: Ids, context: Context) -> PyTree:
        return self.layer.apply(params["layer"], x, self._context(x, context))

    def forward(self, params: PyTree, x: Ids, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.forward(params["layer"], x, self._context(x, context))

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, None]:
        """The layer's own rule: ids and lengths are integers and have no cotangent."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y)
        return {"layer": d_params}, d_x

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class MaskedByLength(Layer):
    """``layer`` applied to x of an input (x, lengths), with the positions from each example's length on masked.

    lengths: int (batch,), how many positions of x's second axis belong to each example. It is ``Masked`` for inputs
    that are not ids, such as features of speech.
    """

    examplewise: ClassVar[bool] = True

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
        """The layer's own rule: ids and lengths are integers and have no cotangent."""
        d_params, d_x = self.layer.backward(params["layer"], residuals, d_y)
        return {"layer": d_params}, (d_x, None)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": self.layer.statistics(params["layer"], residuals)}


@dataclass(frozen=True)
class MaskPadding(Layer):
    """y = x at unmasked positions of x (batch, time, ...), and 0 at masked ones.

    For use before layers that combine positions without reading the mask, such as convolutions: after the end of a
    sequence they then see zeros, as they do beyond the end of the array, however far the batch is padded.

    >>> mask = jnp.array([[True, True, False]])
    >>> MaskPadding().apply({}, jnp.ones((1, 3, 1)), Context(mask=mask)).ravel().tolist()
    [1.0, 1.0, 0.0]
    """

    examplewise: ClassVar[bool] = True

    def init(self, key: Any, x: PyTree) -> dict:
        del key, x
        return {}

    def apply(
        self, params: dict, x: Float[Array, "batch time *features"], context: Context
    ) -> Float[Array, "batch time *features"]:
        del params
        return _zero_masked(context.mask, x)

    def forward(
        self, params: dict, x: Float[Array, "batch time *features"], context: Context
    ) -> tuple[Float[Array, "batch time *features"], Bool[Array, "batch time"] | None]:
        return self.apply(params, x, context), context.mask

    def backward(
        self, params: dict, residuals: Bool[Array, "batch time"] | None, d_y: Float[Array, "batch time *features"]
    ) -> tuple[dict, Float[Array, "batch time *features"]]:
        """From y_t = m_t x_t, with the mask m as zeros and ones: (1) d_x_t = m_t d_y_t. The residual is the mask."""
        del params
        return {}, _zero_masked(residuals, d_y)


def _zero_masked(mask: Bool[Array, "batch time"] | None, x: Array) -> Array:
    """``x`` with 0 where the mask is False."""
    if mask is None:
        return x
    return jnp.where(jnp.expand_dims(mask, tuple(range(2, x.ndim))), x, jnp.zeros((), x.dtype))
