"""Pooling: the maximum or the mean of every window, or of the whole image or signal."""

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

from pipeline.layers.base import Context, Layer, Static, reduction_dtype
from pipeline.layers.cpu_cache import examples_in_cache
from pipeline.layers.windows import Padding, check_axes, explicit_padding, spread_out


@dataclass(frozen=True)
class _Pool(Layer):
    """Windows over the spatial axes of (batch, *space, channels); one or two axes, by the length of ``window``.

    window: size along each axis. strides: steps between windows; None: the window, so that windows do not overlap.
    padding: "VALID", "SAME", or ((low, high), ...) for each axis.
    """

    positionwise: ClassVar[bool] = False

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
        """The places in a window, in row-major order."""
        return product(*(range(size) for size in self.window))

    def tiled(self, windows: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of non-overlapping windows laid open: (batch, windows, window, windows, window, channels)."""
        return (windows[0], *(n for pair in zip(windows[1:-1], self.window) for n in pair), windows[-1])

    def tile(self, y: Array) -> Array:
        """Every window's number at every place of that window, laid open."""
        axes = (0, *range(1, 2 * len(self.window), 2), 2 * len(self.window) + 1)
        return lax.broadcast_in_dim(y, self.tiled(y.shape), axes)

    def place_in_tile(self, full: tuple[int, ...], kind: Any) -> Array:
        """The number of each place within its window, in row-major order."""
        number = jnp.zeros((), jnp.int32)
        for axis, size in enumerate(self.window):
            number = number * jnp.int32(size) + lax.broadcasted_iota(jnp.int32, full, 2 * axis + 2)
        return number.astype(kind)

    def untile(self, d: Array, shape: tuple[int, ...]) -> Array:
        """Windows laid open as an input of ``shape``: what lies in the padding is cut off, what no window saw is 0."""
        d = d.reshape(shape[0], *(a * b for a, b in zip(d.shape[1:-1:2], d.shape[2:-1:2])), shape[-1])
        edges = [
            (-low, size + low - have, 0) for size, have, (low, _) in zip(shape[1:-1], d.shape[1:-1], self.pads(shape))
        ]
        return lax.pad(d, jnp.zeros((), d.dtype), [(0, 0, 0), *edges, (0, 0, 0)])

    def spread(self, d_windows: list[Array], shape: tuple[int, ...]) -> Array:
        """The sum of ``d_windows[k]``, cotangents of the k-th place of every window, at those places of ``shape``.

        Each addend is spread out by its stride and shifted to its place by padding, which XLA reads through: one pass
        over the output, no scatter, and nothing is written twice.
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
    """The maximum of every window; padding never wins. Of equal maxima the first (row-major) gets the gradient."""

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
            # A few examples at a time, while they are in the processor's cache. The loop also keeps XLA from computing
            # the winner again in the backward pass, for which it would have to keep x.
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
        """y_w = x_p(w) with p(w) the place of the window's first maximum, so

        (1) dL/dx_p = sum of dL/dy_w over the windows w that p won

        The residual is the winner's number within its window, one byte an output: neither x nor y is kept, and nothing
        is compared again. Without overlap a place belongs to one window, and (1) is one selection.
        """
        del params
        winner, shape = residuals
        zero = jnp.zeros((), d_y.dtype)
        if self.steps == self.window:
            full = self.tiled(d_y.shape)
            d_x = jnp.where(self.tile(winner) == self.place_in_tile(full, winner.dtype), self.tile(d_y), zero)
            return {}, self.untile(d_x, shape.value)
        d_places = [jnp.where(winner == k, d_y, zero) for k in range(math.prod(self.window))]
        return {}, self.spread(d_places, shape.value)


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of every window, over its places inside the image: padding does not count."""

    def _shares(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """1 / (places inside the image) for each window, shape (1, *windows, 1), computed while tracing."""
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
        return total * jnp.broadcast_to(self._shares(x.shape, x.dtype), total.shape)

    def forward(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *windows channels"], Any]:
        return self.apply(params, x, context), Static(x.shape)

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, "batch *windows channels"]
    ) -> tuple[dict, Float[Array, "batch *space channels"]]:
        """y_w = (1/n_w) sum of x_p over the n_w places p of w inside the image, so

        (1) dL/dx_p = sum over the windows w that hold p of dL/dy_w / n_w

        Linear: nothing is saved but x's shape.
        """
        del params
        share = d_y * jnp.broadcast_to(self._shares(residuals.value, d_y.dtype), d_y.shape)
        if self.steps == self.window:
            return {}, self.untile(self.tile(share), residuals.value)
        return {}, self.spread([share] * math.prod(self.window), residuals.value)


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over all positions: (batch, *space, channels) to (batch, channels).

    Where the context has a mask (batch, time), the mean over the positions that count; 0 where none does.
    """

    positionwise: ClassVar[bool] = False

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key, x
        return {}

    def _shares(self, x: Array, mask: Array | None) -> Array:
        if mask is None:
            return jnp.full((1,) * x.ndim, 1 / math.prod(x.shape[1:-1]), x.dtype)
        counts = jnp.maximum(mask.sum(1, keepdims=True, dtype=jnp.int32), 1)
        return (mask.astype(x.dtype) / counts.astype(x.dtype))[..., None]

    def apply(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch channels"]:
        del params
        share = jnp.broadcast_to(self._shares(x, context.mask), x.shape)
        axes = tuple(range(1, x.ndim - 1))
        counted = jnp.where(share > 0, x, jnp.zeros((), x.dtype))  # what padding holds may be anything
        return (counted * share).sum(axes, dtype=reduction_dtype(x.dtype)).astype(x.dtype)

    def forward(
        self, params: dict, x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch channels"], Any]:
        return self.apply(params, x, context), (self._shares(x, context.mask), Static(x.shape))

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, "batch channels"]
    ) -> tuple[dict, Float[Array, "batch *space channels"]]:
        """y_bc = sum_p s_bp x_bpc with shares s = mask / count, so dL/dx_bpc = s_bp dL/dy_bc."""
        del params
        share, shape = residuals
        d_y = d_y.reshape(shape.value[0], *(1 for _ in shape.value[1:-1]), shape.value[-1])
        return {}, jnp.broadcast_to(d_y, shape.value) * jnp.broadcast_to(share, shape.value)

    def after(self, context: Context) -> Context:
        return replace(context, mask=None)


@dataclass(frozen=True)
class GlobalMaxPool(Layer):
    """The maximum over all positions: (batch, *space, channels) to (batch, channels); the first of equal maxima.

    Where the context has a mask (batch, time), over the positions that count; 0 where none does.
    """

    positionwise: ClassVar[bool] = False

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        del key, x
        return {}

    def _winner(self, x: Array, mask: Array | None) -> Array:
        """The flat position of each maximum, (batch, 1, channels); -1 where no position counts."""
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        if mask is None:
            return jnp.argmax(flat, 1, keepdims=True).astype(jnp.int32)
        counts = jnp.broadcast_to(mask[..., None], flat.shape)
        winner = jnp.argmax(jnp.where(counts, flat, -jnp.asarray(jnp.inf, x.dtype)), 1, keepdims=True)
        return jnp.where(counts.any(1, keepdims=True), winner.astype(jnp.int32), jnp.int32(-1))

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
        """y = x at the winning position, so dL/dx is dL/dy there and 0 elsewhere. One integer an output is kept."""
        del params
        winner, shape = residuals
        positions = math.prod(shape.value[1:-1])
        full = (shape.value[0], positions, shape.value[-1])
        won = jnp.broadcast_to(winner, full) == lax.broadcasted_iota(jnp.int32, full, 1)
        d_x = jnp.where(won, jnp.broadcast_to(d_y[:, None], full), jnp.zeros((), d_y.dtype))
        return {}, d_x.reshape(shape.value)

    def after(self, context: Context) -> Context:
        return replace(context, mask=None)
