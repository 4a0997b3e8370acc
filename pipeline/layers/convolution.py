"""Convolution and its transpose, over signals (batch, time, channels) and images (batch, height, width, channels)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .base import Context, Layer, reduction_dtype, vary_like
from .cpu_cache import CACHE_BYTES, examples_in_cache
from .initializers import Initializer, lecun_normal
from .windows import Padding, check_axes, explicit_padding, spread_out


def _dimensions(space: int) -> lax.ConvDimensionNumbers:
    axes = "HW"[:space]
    names = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_dimension_numbers((1,) * (space + 2), (1,) * (space + 2), names)


def _in_cache(function: Callable[[Array, Array], Array], kernel: Array, x: Array) -> Array:
    """``function(kernel, x)`` for a few examples at a time, so that its temporary arrays stay in the cache."""
    chunk = examples_in_cache(x.shape[0], math.prod((*kernel.shape[:-2], *x.shape[1:])) * x.dtype.itemsize)
    return lax.map(lambda one: function(kernel, one[None])[0], x, batch_size=chunk)


@dataclass(frozen=True)
class Conv(Layer):
    """Convolution: y_q = sum_k x_(q stride + k dilation - low) W_k + b; a cross-correlation, as in other libraries.

    Parameters: kernel (*window, in / groups, features); bias (features,), unless ``use_bias`` is False.

    window: the kernel's size along each spatial axis, of which there are one (signals) or two (images).
    strides, dilation: a number for each axis; None: 1.
    groups: input and output channels are split into this many groups, each convolved by itself; with one input channel
        per group the convolution is depthwise.
    padding: "SAME", "VALID", or ((low, high), ...) for each axis.

    >>> layer, x = Conv(features=8, window=(3, 3), strides=(2, 2)), jnp.ones((4, 16, 16, 3))
    >>> params = layer.init(jax.random.key(0), x)
    >>> params["kernel"].shape, layer.apply(params, x, Context()).shape
    ((3, 3, 3, 8), (4, 8, 8, 8))
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    features: int
    window: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    groups: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal

    @property
    def steps(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.window)

    @property
    def spacing(self) -> tuple[int, ...]:
        return self.dilation or (1,) * len(self.window)

    @property
    def reach(self) -> tuple[int, ...]:
        """The extent of the dilated kernel along each axis."""
        return tuple((size - 1) * space + 1 for size, space in zip(self.window, self.spacing))

    def pads(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        return explicit_padding(self.padding, shape[1:-1], self.reach, self.steps)

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        channels = x.shape[-1]
        check_axes(self, x.shape, len(self.window))
        if channels % self.groups or self.features % self.groups:
            raise ValueError(f"Conv: groups={self.groups} must divide both {channels} and {self.features} channels")
        shape = (*self.window, channels // self.groups, self.features)
        params = {"kernel": self.kernel_init(key, shape, jnp.float32)}
        return params | {"bias": jnp.zeros(self.features, jnp.float32)} if self.use_bias else params

    def apply(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *positions features"]:
        del context
        return self._with_bias(params, self._convolve(params["kernel"].astype(x.dtype), x))

    def _convolve(self, kernel: Array, x: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            self.steps,
            self.pads(x.shape),
            rhs_dilation=self.spacing,
            dimension_numbers=_dimensions(len(self.window)),
            feature_group_count=self.groups,
        )

    def _with_bias(self, params: dict[str, Array], y: Array) -> Array:
        return y + jnp.broadcast_to(params["bias"].astype(y.dtype), y.shape) if self.use_bias else y

    def forward(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *positions features"], Float[Array, "batch *space channels"]]:
        if self.groups == 1:
            return self.apply(params, x, context), x
        # XLA has no fast grouped convolution on a CPU.
        kernel = params["kernel"].astype(x.dtype)
        in_parts = self._convolve_by_taps if self.depthwise(kernel) else self._convolve_by_group
        y = lax.platform_dependent(
            kernel,
            x,
            cpu=partial(_in_cache, lambda kernel, x: self._with_bias(params, in_parts(kernel, x))),
            default=lambda kernel, x: self._with_bias(params, self._convolve(kernel, x)),
        )
        return y, x

    def depthwise(self, kernel: Array) -> bool:
        """Whether every output channel depends on one input channel."""
        return self.groups > 1 and kernel.shape[-2] == 1

    def backward(
        self,
        params: dict[str, Array],
        residuals: Float[Array, "batch *space channels"],
        d_y: Float[Array, "batch *positions features"],
    ) -> tuple[dict[str, Array], Float[Array, "batch *space channels"]]:
        """From y_nq = sum_k x_(n, q s + k d - low) W_k + b, with stride s, dilation d, padding low, examples n:

        (1) d_W_k = sum_nq x_(n, q s + k d - low)^T d_y_nq
        (2) d_b   = sum_nq d_y_nq
        (3) d_x_p = sum_k d_y_(p + low - k d)/s W_k^T, over the k for which the index is an integer

        (1) is a convolution of x with d_y that sums over the batch, in which stride and dilation swap their roles.
        (3) is a convolution of d_y, with s - 1 zeros between its elements, by the kernel flipped in space and with its
        channels transposed, padded to the size of x (LeCun et al. 1989; Dumoulin & Visin 2016, relationship 14).

        On a CPU, (1) is a sum of matmuls instead, and groups are convolved one by one; in depthwise convolutions y, (1)
        and (3) are sums over the positions of the window. The residual is x, needed in (1).
        """
        x, kernel = residuals, params["kernel"]
        d_kernel, d_bias = self._d_params(kernel, x, d_y)  # (1), (2)
        d_params = {"kernel": d_kernel.astype(kernel.dtype)}
        if self.use_bias:
            d_params["bias"] = d_bias.astype(params["bias"].dtype)
        return d_params, self._d_x(kernel.astype(x.dtype), x.shape, d_y)  # (3)

    def _d_params(self, kernel: Array, x: Array, d_y: Array) -> tuple[Array, Array]:
        if self.groups == 1 and len(self.window) == 1:  # along one axis a CPU's convolution is fast
            return self._d_params_by_convolution(x, d_y)
        by_matmul = partial(self._sums_by_matmul, gathered=self._gathered(x, d_y))
        sums = self._sums_by_taps if self.depthwise(kernel) else by_matmul
        on_cpu = partial(self._d_params_in_cache, sums)
        return lax.platform_dependent(x, d_y, cpu=on_cpu, default=self._d_params_by_convolution)

    def _reached(self, x: Array, d_y: Array) -> tuple[tuple[int, int], ...]:
        """The padding that windows reach: less than ``pads`` at the high end if the last window ends before it."""
        return tuple(
            (low, (count - 1) * step + reach - low - size)
            for (low, _), count, step, reach, size in zip(
                self.pads(x.shape), d_y.shape[1:-1], self.steps, self.reach, x.shape[1:-1]
            )
        )

    def _padded(self, x: Array, pads: tuple[tuple[int, int], ...]) -> Array:
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])

    def _d_params_by_convolution(self, x: Array, d_y: Array) -> tuple[Array, Array]:
        axes, sums = "HW"[: len(self.window)], reduction_dtype(x.dtype)
        d_kernel = lax.conv_general_dilated(
            x,
            d_y,
            self.spacing,
            self._reached(x, d_y),
            rhs_dilation=self.steps,
            dimension_numbers=(f"C{axes}N", f"I{axes}O", f"{axes}NC"),
            batch_group_count=self.groups,
            preferred_element_type=sums,
        )
        return d_kernel, d_y.sum(tuple(range(d_y.ndim - 1)), dtype=sums)

    def _d_params_in_cache(self, sums: Callable[..., Array], x: Array, d_y: Array) -> tuple[Array, Array]:
        """(1) and (2) for a few examples at a time, so that the temporary arrays of ``sums`` stay in the cache.

        A convolution over the batch strides through memory; here every example is read once.
        """
        dtype = reduction_dtype(x.dtype)
        chunk = examples_in_cache(x.shape[0], self._patch_bytes(x, d_y, self._gathered(x, d_y)))
        pads = self._reached(x, d_y)

        def of(x: Array, d_y: Array) -> tuple[Array, Array]:
            return sums(self._padded(x, pads), d_y), d_y.sum(tuple(range(d_y.ndim - 1)), dtype=dtype)

        def step(i: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
            return jax.tree.map(jnp.add, totals, of(*(lax.dynamic_slice_in_dim(a, i * chunk, chunk) for a in (x, d_y))))

        # Slices and not a scan, whose reshaped operand would be a second copy of d_y beside the one for (3).
        whole, rest = divmod(x.shape[0], chunk)
        start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(of, x, d_y))
        d_rows, d_bias = lax.fori_loop(0, whole, step, vary_like(start, x, d_y))
        if rest:
            d_rows, d_bias = jax.tree.map(jnp.add, (d_rows, d_bias), of(x[-rest:], d_y[-rest:]))
        inputs = (
            x.shape[-1] // self.groups
        )  # d_rows: (groups, features per group, window positions and inputs per group)
        return jnp.moveaxis(d_rows, 2, 0).reshape(*self.window, inputs, self.features), d_bias

    def _patch_bytes(self, x: Array, d_y: Array, window: tuple[int, ...]) -> int:
        """The size of one example's patches: the inputs of ``window`` at every output position."""
        return math.prod((*d_y.shape[1:-1], *window, x.shape[-1])) * x.dtype.itemsize

    def _gathered(self, x: Array, d_y: Array) -> tuple[int, ...]:
        """What one patch gathers: the window, or one row of it if patches of whole windows would not fit the cache."""
        fits = self._patch_bytes(x, d_y, self.window) <= CACHE_BYTES // 4
        return self.window if fits or self.groups > 1 else self.window[-1:]

    def _sums_by_matmul(self, padded: Array, d_y: Array, gathered: tuple[int, ...]) -> Array:
        """(1) as d_y^T [patches of x], group by group, with one matmul for each ``gathered`` part of the window."""

        def one(padded: Array, d_y: Array) -> Array:
            d_rows = d_y.reshape(-1, d_y.shape[-1]).T
            sums = []
            for start in np.ndindex(self.window[: -len(gathered)]):
                taps = [self._tap(padded, (*start, *place), d_y.shape) for place in np.ndindex(gathered)]
                patches = jnp.concatenate(taps, -1)
                rows = patches.reshape(-1, patches.shape[-1])
                sums.append(jnp.matmul(d_rows, rows, preferred_element_type=reduction_dtype(d_y.dtype)))
            return jnp.concatenate(sums, -1)

        return jnp.stack([one(*part) for part in self._split(padded, d_y)])

    def _sums_by_taps(self, padded: Array, d_y: Array) -> Array:
        """(1) as one sum for each position in the window."""
        sums, axes = reduction_dtype(d_y.dtype), tuple(range(d_y.ndim - 1))
        padded, d_rows = padded.astype(sums), self._by_channel(d_y.astype(sums))
        taps = [self._tap(padded, place, d_y.shape)[..., None] for place in np.ndindex(self.window)]
        return jnp.stack([(jnp.broadcast_to(tap, d_rows.shape) * d_rows).sum(axes) for tap in taps], -1)

    def _tap(self, padded: Array, place: tuple[int, ...], positions: tuple[int, ...]) -> Array:
        """The inputs of the kernel's element at ``place``, for every output position."""
        starts = [i * space for i, space in zip(place, self.spacing)]
        ends = [start + (count - 1) * step + 1 for start, count, step in zip(starts, positions[1:-1], self.steps)]
        full = padded.shape
        return lax.slice(padded, (0, *starts, 0), (full[0], *ends, full[-1]), (1, *self.steps, 1))

    def _d_x(self, kernel: Array, shape: tuple[int, ...], d_y: Array) -> Array:
        by_convolution = partial(self._d_x_by_convolution, shape=shape)
        if self.groups == 1:
            return by_convolution(kernel, d_y)
        in_parts = self._d_x_by_taps if self.depthwise(kernel) else self._d_x_by_group
        return lax.platform_dependent(
            kernel, d_y, cpu=partial(_in_cache, partial(in_parts, shape=shape)), default=by_convolution
        )

    def _d_x_by_convolution(self, kernel: Array, d_y: Array, shape: tuple[int, ...]) -> Array:
        space = len(self.window)
        kernel = jnp.flip(kernel, tuple(range(space)))
        if self.groups > 1:  # (..., in / groups, features) to (..., features / groups, in), group by group
            inputs = kernel.shape[-2]
            kernel = kernel.reshape(*self.window, inputs, self.groups, self.features // self.groups)
            kernel = jnp.moveaxis(kernel, -3, -1).swapaxes(-3, -2)
            kernel = kernel.reshape(*self.window, self.features // self.groups, self.groups * inputs)
        else:
            kernel = kernel.swapaxes(-1, -2)
        pads = tuple(
            (reach - 1 - low, size + low - ((count - 1) * step + 1))
            for (low, _), count, step, reach, size in zip(
                self.pads(shape), d_y.shape[1:-1], self.steps, self.reach, shape[1:-1]
            )
        )
        return lax.conv_general_dilated(
            d_y,
            kernel,
            (1,) * space,
            pads,
            lhs_dilation=self.steps,
            rhs_dilation=self.spacing,
            dimension_numbers=_dimensions(space),
            feature_group_count=self.groups,
        )

    # Grouped convolution as one convolution for each group.

    @property
    def _one_group(self) -> "Conv":
        return replace(self, features=self.features // self.groups, groups=1)

    def _split(self, *arrays: Array) -> Iterator[tuple[Array, ...]]:
        """The channels of each group, of all arrays."""
        yield from zip(*(jnp.split(array, self.groups, axis=-1) for array in arrays))

    def _convolve_by_group(self, kernel: Array, x: Array) -> Array:
        return jnp.concatenate([self._one_group._convolve(*part) for part in self._split(kernel, x)], -1)

    def _d_x_by_group(self, kernel: Array, d_y: Array, shape: tuple[int, ...]) -> Array:
        shape = (*shape[:-1], shape[-1] // self.groups)
        parts = self._split(kernel, d_y)
        return jnp.concatenate([self._one_group._d_x_by_convolution(*part, shape=shape) for part in parts], -1)

    # Depthwise convolution as sums over window positions, on arrays (..., channels, features per channel).

    def _by_channel(self, y: Array) -> Array:
        return y.reshape(*y.shape[:-1], self.groups, self.features // self.groups)

    def _convolve_by_taps(self, kernel: Array, x: Array) -> Array:
        positions = jax.eval_shape(self._convolve, kernel, x).shape
        sums = reduction_dtype(x.dtype)
        padded = self._padded(x, self.pads(x.shape)).astype(sums)
        weights = self._by_channel(kernel[..., 0, :]).astype(sums)
        y = jnp.zeros((*positions[:-1], *weights.shape[-2:]), sums)
        for place in np.ndindex(self.window):
            tap = self._tap(padded, place, positions)[..., None]
            y += jnp.broadcast_to(tap, y.shape) * jnp.broadcast_to(weights[place], y.shape)
        return y.reshape(positions).astype(x.dtype)

    def _d_x_by_taps(self, kernel: Array, d_y: Array, shape: tuple[int, ...]) -> Array:
        sums = reduction_dtype(d_y.dtype)
        d_rows, weights = self._by_channel(d_y).astype(sums), self._by_channel(kernel[..., 0, :]).astype(sums)
        d_x = jnp.zeros((d_y.shape[0], *shape[1:]), sums)
        for place in np.ndindex(self.window):
            d_tap = (d_rows * jnp.broadcast_to(weights[place], d_rows.shape)).sum(-1)
            starts = [i * space - low for i, space, (low, _) in zip(place, self.spacing, self.pads(shape))]
            d_x += spread_out(d_tap, starts, self.steps, shape)
        return d_x.astype(d_y.dtype)

    def after(self, context: Context) -> Context:
        """An output position is masked like the input at the centre of its window."""
        if context.mask is None or len(self.window) != 1:
            return context
        size = context.mask.shape[1]
        (low, high), step, reach = self.pads((0, size, 0))[0], self.steps[0], self.reach[0]
        centres = jnp.arange((size + low + high - reach) // step + 1) * step - low + (reach - 1) // 2
        inside = (centres >= 0) & (centres < size)
        return replace(context, mask=context.mask[:, jnp.clip(centres, 0, size - 1)] & inside[None])


@dataclass(frozen=True)
class ConvTranspose(Layer):
    """Transposed convolution: every input position adds a copy of the kernel, weighted by its value, to the output.

    y_q = sum x_p W_k + b over p and k with p s + k - low = q (Dumoulin & Visin 2016, section 4). A stride of s makes
    the output s times as large ("SAME"), or (size - 1) s + window ("VALID").

    Parameters: kernel (*window, in, features); bias (features,), unless ``use_bias`` is False.

    padding: "SAME", "VALID", or ((low, high), ...): what is cut off the full output at both ends of each axis.

    >>> layer, x = ConvTranspose(features=4, window=(3, 3), strides=(2, 2)), jnp.ones((1, 8, 8, 2))
    >>> layer.apply(layer.init(jax.random.key(0), x), x, Context()).shape
    (1, 16, 16, 4)
    """

    positionwise: ClassVar[bool] = False
    examplewise: ClassVar[bool] = True

    features: int
    window: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal

    @property
    def steps(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.window)

    def cuts(self) -> tuple[tuple[int, int], ...]:
        """(low, high) for each axis: what is cut off the full output of size (size - 1) stride + window."""
        if not isinstance(self.padding, str):
            return self.padding
        if self.padding == "VALID":
            return tuple((0, min(0, window - step)) for window, step in zip(self.window, self.steps))
        surplus = [window - step for window, step in zip(self.window, self.steps)]
        return tuple((max(s // 2, 0), s - max(s // 2, 0)) for s in surplus)

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "batch *space channels"]) -> dict[str, Array]:
        check_axes(self, x.shape, len(self.window))
        params = {"kernel": self.kernel_init(key, (*self.window, x.shape[-1], self.features), jnp.float32)}
        return params | {"bias": jnp.zeros(self.features, jnp.float32)} if self.use_bias else params

    def apply(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> Float[Array, "batch *positions features"]:
        del context
        space = len(self.window)
        y = lax.conv_general_dilated(
            x,
            jnp.flip(params["kernel"].astype(x.dtype), tuple(range(space))),
            (1,) * space,
            tuple((window - 1 - low, window - 1 - high) for window, (low, high) in zip(self.window, self.cuts())),
            lhs_dilation=self.steps,
            dimension_numbers=_dimensions(space),
        )
        if self.use_bias:
            y += jnp.broadcast_to(params["bias"].astype(x.dtype), y.shape)
        return y

    def forward(
        self, params: dict[str, Array], x: Float[Array, "batch *space channels"], context: Context
    ) -> tuple[Float[Array, "batch *positions features"], Float[Array, "batch *space channels"]]:
        return self.apply(params, x, context), x

    def backward(
        self,
        params: dict[str, Array],
        residuals: Float[Array, "batch *space channels"],
        d_y: Float[Array, "batch *positions features"],
    ) -> tuple[dict[str, Array], Float[Array, "batch *space channels"]]:
        """From y_nq = sum x_np W_k + b over p and k with p s + k - low = q, with stride s, cut low and examples n:

        (1) d_W_k = sum_np x_np^T d_y_(n, p s + k - low)
        (2) d_b   = sum_nq d_y_nq
        (3) d_x_p = sum_k d_y_(p s + k - low) W_k^T

        (3) is an ordinary convolution of d_y with stride s, the transpose of a transpose. (1) is Conv's (1) with the
        roles of x and d_y swapped. The residual is x.
        """
        x, kernel = residuals, params["kernel"]
        space, axes, sums = len(self.window), "HW"[: len(self.window)], reduction_dtype(x.dtype)
        d_kernel = lax.conv_general_dilated(  # (1)
            d_y,
            x,
            (1,) * space,
            self.cuts(),
            rhs_dilation=self.steps,
            dimension_numbers=(f"C{axes}N", f"I{axes}O", f"{axes}CN"),
            preferred_element_type=sums,
        )
        d_params = {"kernel": d_kernel.astype(kernel.dtype)}
        if self.use_bias:
            d_params["bias"] = d_y.sum(tuple(range(d_y.ndim - 1)), dtype=sums).astype(params["bias"].dtype)  # (2)
        d_x = lax.conv_general_dilated(  # (3)
            d_y, kernel.astype(x.dtype).swapaxes(-1, -2), self.steps, self.cuts(), dimension_numbers=_dimensions(space)
        )
        return d_params, d_x
