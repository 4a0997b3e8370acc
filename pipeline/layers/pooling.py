"""Pooling: the maximum or the mean over windows, or over all positions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .base import Context, Layer, Static, reduction_dtype
from .cpu_cache import examples_in_cache
from .windows import Padding, check_axes, explicit_padding, spread_out


@dataclass(frozen=True)
class _Pool(Layer):
    """Windows over the one or two spatial axes of (batch, *space, channels).

    window: its size along each axis. strides: the steps between windows; None: the window, so that they do not overlap.
    padding: "VALID", "SAME", or ((low, high), ...) for each axis.
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    window: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "VALID"

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key
        check_axes(self, x.shape, len(self.window))
        return {}

    @property
    def steps(self) -> tuple[int, ...]:
        return self.strides or self.window

    def pads(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        return explicit_padding(self.padding, shape[1:-1], self.window, self.steps)

    def reduce(self, x: Array, start: float, operation: Any) -> Array:
        """``lax.reduce_window`` over the spatial axes."""
        pads = ((0, 0), *self.pads(x.shape), (0, 0))
        return lax.reduce_window(
            x, np.asarray(start, x.dtype), operation, (1, *self.window, 1), (1, *self.steps, 1), pads
        )

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """The positions in a window, in row-major order."""
        return product(*(range(size) for size in self.window))

    def tiled(self, windows: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of tiles, with an axis for windows and one for positions in them along each spatial axis."""
        return (windows[0], *(n for pair in zip(windows[1:-1], self.window) for n in pair), windows[-1])

    def tile(self, y: Array) -> Array:
        """Tiles with every window's element at all positions of that window."""
        axes = (0, *range(1, 2 * len(self.window), 2), 2 * len(self.window) + 1)
        return lax.broadcast_in_dim(y, self.tiled(y.shape), axes)

    def position_in_tile(self, full: tuple[int, ...], kind: Any) -> Array:
        """Tiles with the number of each position within its window, in row-major order."""
        number = jnp.zeros((), jnp.int32)
        for axis, size in enumerate(self.window):
            number = number * jnp.int32(size) + lax.broadcasted_iota(jnp.int32, full, 2 * axis + 2)
        return number.astype(kind)

    def untile(self, d: Array, shape: tuple[int, ...]) -> Array:
        """Tiles as an input of ``shape``: padding is cut off, and positions in no window are 0."""
        d = d.reshape(shape[0], *(a * b for a, b in zip(d.shape[1:-1:2], d.shape[2:-1:2])), shape[-1])
        edges = [
            (-low, size + low - have, 0) for size, have, (low, _) in zip(shape[1:-1], d.shape[1:-1], self.pads(shape))
        ]
        return lax.pad(d, jnp.zeros((), d.dtype), [(0, 0, 0), *edges, (0, 0, 0)])

    def spread(self, d_windows: list[Array], shape: tuple[int, ...]) -> Array:
        """Cotangents of an input of ``shape``: the sum over k of ``d_windows[k]`` at the k-th position of each window.

        Each term is spread out by the strides and shifted by padding, which XLA fuses into one pass over the output,
        without a scatter.
        """
        d_x = jnp.zeros(shape, d_windows[0].dtype)
        for offset, d in zip(self.offsets(), d_windows):
            starts = [place - low for place, (low, _) in zip(offset, self.pads(shape))]
            d_x += spread_out(d, starts, self.steps, shape)
        return d_x

    def after(self, context: Context) -> Context:
        if context.mask is None or len(self.window) != 1:
            return context
        mask = self.reduce(context.mask[..., None].astype(jnp.float32), 0.0, lax.max)
        return replace(context, mask=mask[..., 0] > 0)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """Max-pooling: the maximum of every window, ignoring padding.

    Of equal maxima the first, in row-major order, gets the gradient.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> y, residuals = MaxPool((2, 2)).forward({}, x, Context())
    >>> y[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    >>> _, d_x = MaxPool((2, 2)).backward({}, residuals, jnp.ones_like(y))
    >>> d_x[0, :, :, 0].tolist()[3]
    [0.0, 1.0, 0.0, 1.0]
    """

    def apply(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *windows channels"]:
        del params, context
        return self.reduce(x, -np.inf, lax.max)

    def forward(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *windows channels"], Any]:
        del params, context
        chunk = examples_in_cache(x.shape[0], math.prod(x.shape[1:]) * x.dtype.itemsize)
        y, winner = lax.platform_dependent(
            x,
            # A few examples at a time, so that they stay in the cache. The loop also stops XLA from recomputing the
            # winner in the backward pass, for which it would have to save x.
            cpu=lambda x: lax.map(
                lambda one: jax.tree.map(lambda a: a[0], self._compete(one[None])), x, batch_size=chunk
            ),
            default=self._compete,
        )
        return y, (winner, Static(x.shape))

    def _compete(self, x: Array) -> tuple[Array, Array]:
        """The maximum of every window, and the number of its first winner within the window."""
        pads = [(0, 0, 0), *((*pad, 0) for pad in self.pads(x.shape)), (0, 0, 0)]
        padded = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), pads)
        places = [self._places(padded, offset) for offset in self.offsets()]
        kind = jnp.uint8 if len(places) <= 256 else jnp.int32
        y, winner = places[0], jnp.zeros(places[0].shape, kind)
        for k, place in enumerate(places[1:], 1):
            winner = jnp.where(place > y, jnp.asarray(k, kind), winner)
            y = jnp.maximum(y, place)
        return y, winner

    def _places(self, padded: Array, offset: tuple[int, ...]) -> Array:
        space = [(size - window) // step for size, window, step in zip(padded.shape[1:-1], self.window, self.steps)]
        ends = [place + count * step + 1 for place, count, step in zip(offset, space, self.steps)]
        return lax.slice(padded, (0, *offset, 0), (padded.shape[0], *ends, padded.shape[-1]), (1, *self.steps, 1))

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, "batch *windows channels"]
    ) -> tuple[dict, Float[Array, "batch *space channels"]]:
        """From y_w = x_p(w), with p(w) the position of the first maximum of window w:

        (1) d_x_p = sum of d_y_w over the windows w with p(w) = p

        The residual is the winner's number within its window, one byte per output: neither x nor y is saved, and
        nothing is compared again. If windows do not overlap, a position is in one window and (1) is a selection.
        """
        del params
        winner, shape = residuals
        zero = jnp.zeros((), d_y.dtype)
        if self.steps == self.window:
            full = self.tiled(d_y.shape)
            d_x = jnp.where(self.tile(winner) == self.position_in_tile(full, winner.dtype), self.tile(d_y), zero)
            return {}, self.untile(d_x, shape.value)
        d_places = [jnp.where(winner == k, d_y, zero) for k in range(math.prod(self.window))]
        return {}, self.spread(d_places, shape.value)


@dataclass(frozen=True)
class AveragePool(_Pool):
    """Average pooling: the mean over the positions of every window, without padding."""

    def _reciprocal_counts(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """1 / (positions that are not padding) for each window, (1, *windows, 1), computed while tracing."""
        counts = np.ones((), np.int64)
        for size, window, step, (low, high) in zip(shape[1:-1], self.window, self.steps, self.pads(shape)):
            starts = np.arange(-low, size + high - window + 1, step)
            inside = np.minimum(starts + window, size) - np.maximum(starts, 0)
            counts = counts[..., None] * np.maximum(inside, 1)
        return jnp.asarray(1 / counts[None, ..., None], dtype)

    def apply(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *windows channels"]:
        del params, context
        total = self.reduce(x, 0.0, lax.add)
        return total * jnp.broadcast_to(self._reciprocal_counts(x.shape, x.dtype), total.shape)

    def forward(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *windows channels"], Any]:
        return self.apply(params, x, context), Static(x.shape)

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, "batch *windows channels"]
    ) -> tuple[dict, Float[Array, "batch *space channels"]]:
        """From y_w = (1/n_w) sum of x_p over the n_w positions p of window w that are not padding:

        (1) d_x_p = sum over the windows w that contain p of d_y_w / n_w

        The layer is linear, so the residual is only the shape of x.
        """
        del params
        d_mean = d_y * jnp.broadcast_to(self._reciprocal_counts(residuals.value, d_y.dtype), d_y.shape)
        if self.steps == self.window:
            return {}, self.untile(self.tile(d_mean), residuals.value)
        return {}, self.spread([d_mean] * math.prod(self.window), residuals.value)


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over all positions, from (batch, *space, channels) to (batch, channels).

    With a mask (batch, time) in the context, the mean is over the positions that are not masked, and 0 if all are.
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key, x
        return {}

    def _weights(self, x: Array, mask: Array | None) -> Array:
        if mask is None:
            return jnp.full((1,) * x.ndim, 1 / math.prod(x.shape[1:-1]), x.dtype)
        count = jnp.maximum(mask.sum(1, keepdims=True, dtype=jnp.int32), 1)
        return (mask.astype(x.dtype) / count.astype(x.dtype))[..., None]

    def apply(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch channels"]:
        del params
        weights = jnp.broadcast_to(self._weights(x, context.mask), x.shape)
        axes = tuple(range(1, x.ndim - 1))
        unmasked = jnp.where(weights > 0, x, jnp.zeros((), x.dtype))  # masked positions may hold anything, even NaN
        return (unmasked * weights).sum(axes, dtype=reduction_dtype(x.dtype)).astype(x.dtype)

    def forward(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch channels"], Any]:
        return self.apply(params, x, context), (self._weights(x, context.mask), Static(x.shape))

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, "batch channels"]
    ) -> tuple[dict, Float[Array, "batch *space channels"]]:
        """From y_bc = sum_p w_bp x_bpc, with w = mask / count: (1) d_x_bpc = w_bp d_y_bc. The residual is w."""
        del params
        weights, shape = residuals
        d_y = d_y.reshape(shape.value[0], *(1 for _ in shape.value[1:-1]), shape.value[-1])
        return {}, jnp.broadcast_to(d_y, shape.value) * jnp.broadcast_to(weights, shape.value)

    def after(self, context: Context) -> Context:
        return replace(context, mask=None)


@dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """The maximum over all positions, from (batch, *space, channels) to (batch, channels).

    With a mask (batch, time) in the context, the maximum is over the positions that are not masked, and 0 if all are.
    Of equal maxima the first gets the gradient.
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key, x
        return {}

    def _winner(self, x: Array, mask: Array | None) -> Array:
        """The flat position of each maximum, (batch, 1, channels); -1 if all positions are masked."""
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        if mask is None:
            return jnp.argmax(flat, 1, keepdims=True).astype(jnp.int32)
        valid = jnp.broadcast_to(mask[..., None], flat.shape)
        winner = jnp.argmax(jnp.where(valid, flat, -jnp.asarray(jnp.inf, x.dtype)), 1, keepdims=True)
        return jnp.where(valid.any(1, keepdims=True), winner.astype(jnp.int32), jnp.int32(-1))

    def apply(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch channels"]:
        del params
        winner = self._winner(x, context.mask)
        chosen = jnp.take_along_axis(x.reshape(x.shape[0], -1, x.shape[-1]), jnp.maximum(winner, 0), 1)
        return jnp.where(winner >= 0, chosen, jnp.zeros((), x.dtype))[:, 0]

    def forward(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch channels"], Any]:
        return self.apply(params, x, context), (self._winner(x, context.mask), Static(x.shape))

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, "batch channels"]
    ) -> tuple[dict, Float[Array, "batch *space channels"]]:
        """(1) d_x is d_y at the position of the maximum, else 0. The residual is that position, an integer."""
        del params
        winner, shape = residuals
        positions = math.prod(shape.value[1:-1])
        full = (shape.value[0], positions, shape.value[-1])
        won = jnp.broadcast_to(winner, full) == lax.broadcasted_iota(jnp.int32, full, 1)
        d_x = jnp.where(won, jnp.broadcast_to(d_y[:, None], full), jnp.zeros((), d_y.dtype))
        return {}, d_x.reshape(shape.value)

    def after(self, context: Context) -> Context:
        return replace(context, mask=None)
