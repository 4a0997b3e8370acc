"""Wrong rules of convolution, its transpose, and pooling: flips, padding, strides, overlapping windows, ties."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .kinds import Draw
from .registry import Family, Mistake, Rule


def _taps(start: int, count: int, stride: int) -> slice:
    """Where the kernel's element at ``start`` stands, for ``count`` windows."""
    return slice(start, start + (count - 1) * stride + 1, stride)


def convolution(size: int, seed: int, mistake: str) -> Rule:
    """Of signals, with the past alone: padded by the kernel's width less 1."""
    draw = Draw(seed)
    batch, time, width = 2, size + 3, 3
    inputs, outputs = (min(size, 16),) * 2 if "untransposed" in mistake else (min(size, 16), min(size, 16) + 1)

    def function(x, kernel, bias):
        pads, names = [(width - 1, 0)], ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(x, kernel, (1,), pads, dimension_numbers=names) + bias

    def forward(x, kernel, bias):
        return function(x, kernel, bias), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        padded = jnp.pad(x, ((0, 0), (width - 1, 0), (0, 0)))
        d_padded, rows = jnp.zeros_like(padded), []
        for k in range(width):
            place = _taps(k, time, 1)
            weights = kernel[width - 1 - k] if mistake == "kernel not flipped" else kernel[k]
            by_tap = d_y @ (weights if mistake == "channels untransposed" else weights.T)
            d_padded = (
                d_padded.at[:, place].set(by_tap)
                if mistake == "windows overwritten"
                else d_padded.at[:, place].add(by_tap)
            )
            rows.append(jnp.einsum("nti,nto->io", padded[:, place], d_y))
        d_x, d_kernel, d_bias = d_padded[:, width - 1 :], jnp.stack(rows), d_y.sum((0, 1))
        match mistake:
            case "padding one less":
                d_x = d_padded[:, width - 2 : -1]
            case "padding on both sides":
                d_x = d_padded[:, 1:-1]
            case "padding after the signal":
                d_x = d_padded[:, : 1 - width]
            case "kernel flipped":
                d_kernel = d_kernel[::-1]
            case "kernel's channels untransposed":
                d_kernel = d_kernel.mT
            case "last window lost":
                d_kernel = d_kernel - jnp.stack(
                    [jnp.einsum("ni,no->io", padded[:, time - 1 + k], d_y[:, -1]) for k in range(width)]
                )
            case "kernel without padding":
                d_kernel = jnp.stack(
                    [jnp.einsum("nti,nto->io", padded[:, k + 2 : k + time], d_y[:, 2:]) for k in range(width)]
                )
            case "kernel averaged over the batch":
                d_kernel = d_kernel / batch
            case "kernel's middle alone":
                d_kernel = d_kernel.at[0].set(0.0).at[-1].set(0.0)
            case "bias over the batch alone":
                d_bias = d_y.sum(0)
            case "bias averaged over time":
                d_bias = d_y.mean(1).sum(0)
            case "bias of the first position":
                d_bias = d_y[:, 0].sum(0)
        return d_x, d_kernel, d_bias

    return Rule(
        function,
        forward,
        backward,
        (draw.normal(batch, time, inputs), draw.normal(width, inputs, outputs), draw.normal(outputs)),
    )


CONVOLUTION = Family(
    "convolution",
    convolution,
    (
        Mistake("kernel not flipped", "kernel not flipped", "flipped", "x"),
        Mistake("channels untransposed", "dx = dy W", "transposed", "x"),
        Mistake("windows overwritten", "overlapping windows overwritten", "missing term, region, as if, unknown", "x"),
        Mistake("padding one less", "padding off by one", "shifted", "x"),
        Mistake("padding on both sides", "padding of the wrong kind", "shifted", "x"),
        Mistake("padding after the signal", "padding on the wrong side", "shifted", "x"),
        Mistake("kernel flipped", "kernel flipped once too often", "flipped", "kernel"),
        Mistake("kernel's channels untransposed", "dW = dy^T x", "transposed", "kernel"),
        Mistake("last window lost", "last row dropped", "region, missing term", "kernel", says=("last",)),
        Mistake("kernel without padding", "edges dropped", "region, missing term, as if", "kernel"),
        Mistake("kernel averaged over the batch", "1/N too many", "factor", "kernel"),
        Mistake("kernel's middle alone", "a part dropped", "region", "kernel", says=("first and the last",)),
        Mistake("bias over the batch alone", "summed over too few axes", "missing sum", "bias"),
        Mistake("bias averaged over time", "averaged", "factor", "bias"),
        Mistake("bias of the first position", "summed over too few", "region, missing sum", "bias"),
    ),
)


def image_convolution(size: int, seed: int, mistake: str) -> Rule:
    """With strides and dilation that differ by axis, on square images with square kernels."""
    draw = Draw(seed)
    batch, side, inputs, outputs = 2, min(size, 16) + 5, 3, 4
    strides, spacing, pads = (2, 1), (1, 2), (1, 2)
    if mistake in ("height and width exchanged", "kernel flipped along width"):
        strides, spacing, pads = (1, 1), (1, 1), (1, 1)

    def function(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, strides, [(p, p) for p in pads], rhs_dilation=spacing, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def forward(x, kernel):
        return function(x, kernel), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        low = (0, pads[1]) if mistake == "padding of one axis forgotten" else pads
        padded = jnp.pad(x, ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)))
        d_padded, d_kernel = jnp.zeros_like(padded), jnp.zeros_like(kernel)
        for i, j in np.ndindex(3, 3):
            step = strides[::-1] if mistake == "strides exchanged" else strides
            gap = (1, 1) if mistake == "dilation forgotten" else spacing
            if mistake == "stride forgotten":
                step = (1, 1)
            tall, wide = _taps(i * gap[0], d_y.shape[1], step[0]), _taps(j * gap[1], d_y.shape[2], step[1])
            if mistake == "strides exchanged":  # what stands beyond the image falls off
                across = [jnp.minimum(jnp.arange(s.start, s.stop, s.step), side) for s in (tall, wide)]
                seen = padded[:, across[0]][:, :, across[1]]
            else:
                seen = padded[:, tall, wide]
            d_kernel = d_kernel.at[i, j].set(jnp.einsum("nhwi,nhwo->io", seen, d_y))
            tall, wide = (
                _taps(i * spacing[0], d_y.shape[1], strides[0]),
                _taps(j * spacing[1], d_y.shape[2], strides[1]),
            )
            d_padded = d_padded.at[:, tall, wide].add(d_y @ kernel[i, j].T)
        d_x = d_padded[:, low[0] : low[0] + side, low[1] : low[1] + side]
        match mistake:
            case "height and width exchanged":
                d_kernel = d_kernel.swapaxes(0, 1)
            case "image transposed":
                d_x = d_x.swapaxes(1, 2)
            case "kernel flipped along width":
                d_kernel = d_kernel[:, ::-1]
            case "last row of the image":
                d_x = d_x.at[:, -1].set(0.0)
            case "summed over the batch":
                d_x = jnp.broadcast_to(d_x.sum(0), d_x.shape)
        return d_x, d_kernel

    return Rule(
        function, forward, backward, (draw.normal(batch, side, side, inputs), draw.normal(3, 3, inputs, outputs))
    )


IMAGES = Family(
    "image convolution",
    image_convolution,
    (
        Mistake("padding of one axis forgotten", "padding off by one", "shifted", "x"),
        Mistake("strides exchanged", "strides of another axis", "other function, as if, transposed, unknown", "kernel"),
        Mistake("stride forgotten", "stride forgotten", "other function, as if, shifted, unknown", "kernel"),
        Mistake(
            "dilation forgotten", "dilation forgotten", "region, other function, as if, shifted, unknown", "kernel"
        ),
        Mistake("height and width exchanged", "axes swapped", "transposed", "kernel"),
        Mistake("image transposed", "axes swapped", "transposed", "x"),
        Mistake("kernel flipped along width", "kernel flipped along one axis", "flipped", "kernel", says=("axis 1",)),
        Mistake("last row of the image", "last row dropped", "region", "x", says=("last",)),
        Mistake("summed over the batch", "summed over an axis to keep", "extra sum", "x"),
    ),
)


def transposed_convolution(size: int, seed: int, mistake: str) -> Rule:
    """y_(2 t + k) = sum_t x_t W_k, as generators do."""
    draw = Draw(seed)
    time, width, channels = size, 3, min(size, 16)

    def function(x, kernel):
        return lax.conv_general_dilated(
            x, kernel[::-1], (1,), [(width - 1, width - 1)], lhs_dilation=(2,), dimension_numbers=("NWC", "WIO", "NWC")
        )

    def forward(x, kernel):
        return function(x, kernel), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        taps = [d_y[:, _taps(k, time, 2)] for k in range(width)]
        d_kernel = jnp.stack([jnp.einsum("nti,nto->io", x, tap) for tap in taps])
        d_x = sum(tap @ kernel[k].T for k, tap in enumerate(taps))
        match mistake:
            case "kernel flipped for x":
                d_x = sum(tap @ kernel[width - 1 - k].T for k, tap in enumerate(taps))
            case "kernel flipped":
                d_kernel = d_kernel[::-1]
            case "channels untransposed":
                d_x = sum(tap @ kernel[k] for k, tap in enumerate(taps))
            case "last tap forgotten":
                d_x = sum(tap @ kernel[k].T for k, tap in enumerate(taps[:-1]))
            case "stride forgotten":
                d_x = sum(d_y[:, k : k + time] @ kernel[k].T for k in range(width))
            case "one place late":
                later = jnp.pad(d_y[:, 1:], ((0, 0), (0, 1), (0, 0)))
                d_kernel = jnp.stack([jnp.einsum("nti,nto->io", x, later[:, _taps(k, time, 2)]) for k in range(width)])
        return d_x, d_kernel

    return Rule(function, forward, backward, (draw.normal(2, time, channels), draw.normal(width, channels, channels)))


TRANSPOSED = Family(
    "transposed convolution",
    transposed_convolution,
    (
        Mistake("kernel flipped for x", "kernel not flipped", "flipped", "x"),
        Mistake("kernel flipped", "kernel not flipped", "flipped", "kernel"),
        Mistake("channels untransposed", "dx = dy W", "transposed", "x"),
        Mistake("last tap forgotten", "last row dropped", "region, missing term", "x"),
        Mistake("stride forgotten", "stride forgotten", "other function, as if, shifted, unknown", "x"),
        Mistake("one place late", "off by one", "shifted", "kernel"),
    ),
)


def depthwise(size: int, seed: int, mistake: str) -> Rule:
    """Each channel by a kernel of its own."""
    draw = Draw(seed)
    time, width, channels = size + 2, 3, size

    def function(x, kernel):
        return lax.conv_general_dilated(
            x, kernel[:, None], (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=channels
        )

    def forward(x, kernel):
        return function(x, kernel), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        count = d_y.shape[1]
        d_x = jnp.zeros_like(x)
        for k in range(width):
            d_x = d_x.at[:, k : k + count].add(
                d_y * (kernel[width - 1 - k] if mistake == "kernel not flipped" else kernel[k])
            )
        taps = jnp.stack([x[:, k : k + count] for k in range(width)])
        d_kernel = (taps * d_y).sum((1, 2))
        match mistake:
            case "channels mixed":
                d_kernel = jnp.broadcast_to(d_kernel.sum(1, keepdims=True), d_kernel.shape)
            case "kernel by example":
                d_kernel = (taps * d_y).sum(2)
            case "kernel flipped":
                d_kernel = d_kernel[::-1]
            case "kernel of the first example":
                d_kernel = (taps * d_y)[:, 0].sum(1)
            case "edges halved":
                d_x = d_x.at[:, 0].multiply(0.5).at[:, -1].multiply(0.5)
        return d_x, d_kernel

    return Rule(function, forward, backward, (draw.normal(3, time, channels), draw.normal(width, channels)))


DEPTHWISE = Family(
    "depthwise convolution",
    depthwise,
    (
        Mistake("kernel not flipped", "kernel not flipped", "flipped", "x"),
        Mistake("channels mixed", "summed over an axis to keep", "extra sum", "kernel"),
        Mistake("kernel by example", "a broadcast axis not summed", "missing sum", "kernel"),
        Mistake("kernel flipped", "kernel flipped once too often", "flipped", "kernel"),
        Mistake("kernel of the first example", "summed over too few", "region, missing sum", "kernel"),
        Mistake("edges halved", "edges", "region", "x", says=("first and the last",)),
    ),
)


def max_pool(size: int, seed: int, mistake: str) -> Rule:
    """Of windows side by side; equal maxima share the gradient, as in JAX."""
    draw = Draw(seed)
    window, windows, channels = 3, size, size + 1

    def function(x):
        return x.reshape(2, windows, window, channels).max(2)

    def forward(x):
        return function(x), (x, function(x))

    def backward(residuals, d_y):
        x, y = residuals
        tiles = x.reshape(2, windows, window, channels)
        most = tiles == y[:, :, None]
        shares = most / most.sum(2, keepdims=True)
        d = d_y[:, :, None] * shares
        match mistake:
            case "every tie takes all":
                d = d_y[:, :, None] * most
            case "minimum":
                least = tiles == tiles.min(2, keepdims=True)
                d = d_y[:, :, None] * least / least.sum(2, keepdims=True)
            case "shared by the whole window":
                d = jnp.broadcast_to(d_y[:, :, None] / window, tiles.shape)
            case "to the whole window":
                d = jnp.broadcast_to(d_y[:, :, None], tiles.shape)
            case "place after the maximum":
                d = jnp.roll(d, 1, 2)
            case "first of the window":
                d = jnp.zeros_like(tiles).at[:, :, 0].set(d_y)
            case "scaled by the maximum":
                d = d * y[:, :, None]
            case "last window lost":
                d = d.at[:, -1].set(0.0)
        return (d.reshape(x.shape),)

    shape = 2, window * windows, channels
    ties = draw.random.integers(-1, 2, shape).astype(np.float32)
    return Rule(
        function, forward, backward, (draw.normal(*shape),), ((ties,),) if mistake == "every tie takes all" else ()
    )


MAX_POOL = Family(
    "max pool",
    max_pool,
    (
        Mistake("every tie takes all", "every tie takes the whole gradient", "ties", "x"),
        Mistake("minimum", "the wrong element", "other function, as if, unknown", "x"),
        Mistake("shared by the whole window", "averaged", "other function, unknown", "x"),
        Mistake("to the whole window", "the choice forgotten", "region, missing factor, other function, unknown", "x"),
        Mistake("place after the maximum", "off by one", "shifted, unknown", "x"),
        Mistake("first of the window", "the wrong element", "as if, other function, unknown", "x"),
        Mistake("scaled by the maximum", "a factor too many", "extra factor", "x"),
        Mistake("last window lost", "last row dropped", "region", "x", says=("last",)),
    ),
)


def overlapping_max_pool(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)
    time, window, stride = 2 * size + 1, 3, 2
    count = (time - window) // stride + 1

    def function(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, 1), (1, stride, 1), "VALID")

    def forward(x):
        return function(x), x

    def backward(x, d_y):
        seen = jnp.stack([x[:, _taps(k, count, stride)] for k in range(window)])
        place = jnp.argmax(seen, 0)
        if mistake == "smallest of the window":
            place = jnp.argmin(seen, 0)
        d_x = jnp.zeros_like(x)
        for k in range(window):
            here, share = _taps(k, count, stride), jnp.where(place == k, d_y, 0.0)
            if mistake == "windows overwritten":
                d_x = d_x.at[:, here].set(jnp.where(place == k, d_y, d_x[:, here]))
            else:
                d_x = d_x.at[:, here].add(share)
        match mistake:
            case "averaged where windows overlap":
                overlaps = jnp.zeros(time, x.dtype)
                for k in range(window):
                    overlaps = overlaps.at[_taps(k, count, stride)].add(1.0)
                d_x = d_x / overlaps[:, None]
            case "stride of the window":
                d_x = jnp.zeros_like(x)
                for k in range(window):
                    there = jnp.minimum(jnp.arange(count) * window + k, time - 1)
                    d_x = d_x.at[:, there].add(jnp.where(place == k, d_y, 0.0))
        return (d_x,)

    return Rule(function, forward, backward, (draw.normal(3, time, size),))


OVERLAPPING = Family(
    "overlapping max pool",
    overlapping_max_pool,
    (
        Mistake(
            "windows overwritten", "overlapping windows overwritten", "region, missing term, duplicates, unknown", "x"
        ),
        Mistake("averaged where windows overlap", "averaged", "region, missing factor, extra factor", "x"),
        Mistake("stride of the window", "stride off", "other function, unknown", "x"),
        Mistake("smallest of the window", "the wrong element", "other function, as if, unknown", "x"),
    ),
)


def average_pool(size: int, seed: int, mistake: str) -> Rule:
    """Of overlapping windows, over what they see of the signal: fewer at the edges."""
    draw = Draw(seed)
    time, window = size + 2, 3

    def summed(a):
        return lax.reduce_window(a, 0.0, lax.add, (1, window, 1), (1, 1, 1), "SAME")

    def function(x):
        return summed(x) / summed(jnp.ones_like(x))

    def forward(x):
        return function(x), None

    def backward(_, d_y):
        counts = summed(jnp.ones_like(d_y))
        match mistake:
            case "edges divided by the window":
                counts = jnp.full_like(counts, window)
            case "not divided":
                counts = jnp.ones_like(counts)
            case "divided after the sum":
                return (summed(d_y) / counts,)
            case "divided twice":
                counts = counts * window
            case "to the middle of the window":
                return (d_y / counts,)
            case "negated":
                return (-summed(d_y / counts),)
            case "one place late":
                return (jnp.roll(summed(d_y / counts), 1, 1),)
        return (summed(d_y / counts),)

    return Rule(function, forward, backward, (draw.normal(2, time, size),))


AVERAGE_POOL = Family(
    "average pool",
    average_pool,
    (
        Mistake("edges divided by the window", "edges counted wrongly", "region, other function", "x", says=("first",)),
        Mistake("not divided", "missing 1/N", "missing factor, other function, factor, missing term, unknown", "x"),
        Mistake("divided after the sum", "edges counted wrongly", "transposed, region, other function, unknown", "x"),
        Mistake("divided twice", "1/N too many", "factor", "x"),
        Mistake("to the middle of the window", "summed over too few", "missing sum, missing term, unknown", "x"),
        Mistake("negated", "sign", "sign", "x"),
        Mistake("one place late", "off by one", "shifted", "x"),
    ),
)


def global_pool(size: int, seed: int, mistake: str) -> Rule:
    """The mean over each example's own length, and the maximum beside it."""
    draw = Draw(seed)
    batch, time, channels = 3, size + 2, size

    def seen(lengths):
        return (jnp.arange(time) < lengths[:, None])[..., None]

    def function(x, lengths):
        mask = seen(lengths)
        mean = jnp.where(mask, x, 0).sum(1) / lengths[:, None]
        return {"mean": mean, "max": jnp.where(mask, x, -jnp.inf).max(1)}

    def forward(x, lengths):
        return function(x, lengths), (x, lengths)

    def backward(residuals, d_y):
        x, lengths = residuals
        mask = seen(lengths)
        counted = x if mistake == "maximum among the padding" else jnp.where(mask, x, -jnp.inf)
        place = jnp.argmax(counted, 1)
        if mistake == "place of the maximum off by one":
            place = place + 1
        best = jnp.arange(time)[:, None] == place[:, None]
        by_mean = jnp.where(mask, d_y["mean"][:, None] / lengths[:, None, None], 0)
        by_max = jnp.where(best, d_y["max"][:, None], 0)
        match mistake:
            case "divided by the padded length":
                by_mean = by_mean * lengths[:, None, None] / time
            case "padding leaks":
                by_mean = jnp.broadcast_to(d_y["mean"][:, None] / lengths[:, None, None], x.shape)
            case "mean forgotten":
                by_mean = jnp.zeros_like(x)
            case "maximum forgotten":
                by_max = jnp.zeros_like(x)
            case "maximum's sign":
                by_max = -by_max
            case "cotangents exchanged":
                by_mean = jnp.where(mask, d_y["max"][:, None] / lengths[:, None, None], 0)
        return by_mean + by_max, None

    lengths = np.array([time - 1, 2, time // 2], np.int32)
    x = draw.normal(batch, time, channels)
    x[:, -1] += 9  # a maximum that stands in the padding
    return Rule(function, forward, backward, (x, lengths))


GLOBAL = Family(
    "global pool",
    global_pool,
    (
        Mistake(
            "divided by the padded length", "N counts padding", "doubled term, missing factor, factor, unknown", "x"
        ),
        Mistake("padding leaks", "padding leaks", "padding", "x"),
        Mistake("mean forgotten", "one path of the chain rule lost", "missing term", "x"),
        Mistake("maximum forgotten", "one path of the chain rule lost", "missing term", "x"),
        Mistake("maximum's sign", "sign of a term", "doubled term", "x"),
        Mistake("maximum among the padding", "mask forgotten in a recompute", "padding, unknown", "x"),
        Mistake("place of the maximum off by one", "off by one", "shifted, unknown", "x"),
        Mistake("cotangents exchanged", "two outputs swapped", "cotangent, as if, swapped, unknown", "x"),
    ),
)


def upsampling(size: int, seed: int, mistake: str) -> Rule:
    """Every pixel twice along both axes."""
    draw = Draw(seed)
    side = min(size, 24)

    def function(x):
        return x.repeat(2, 1).repeat(2, 2)

    def forward(x):
        return function(x), None

    def backward(_, d_y):
        tiles = d_y.reshape(-1, side, 2, side, 2, d_y.shape[-1])
        match mistake:
            case "averaged":
                return (tiles.mean((2, 4)),)
            case "first of each tile":
                return (tiles[:, :, 0, :, 0],)
            case "along one axis":
                return (tiles[:, :, 0].sum(3),)
            case "in halves":
                return (d_y.reshape(-1, 2, side, 2, side, d_y.shape[-1]).sum((1, 3)),)
            case "image transposed":
                return (tiles.sum((2, 4)).swapaxes(1, 2),)
        return (tiles.sum((2, 4)),)

    return Rule(function, forward, backward, (draw.normal(2, side, side, 3),))


UPSAMPLING = Family(
    "upsampling",
    upsampling,
    (
        Mistake("averaged", "averaged", "factor", "x"),
        Mistake("first of each tile", "summed over too few", "missing sum, missing term, region, unknown", "x"),
        Mistake("along one axis", "summed over too few axes", "missing sum, missing term, region, unknown", "x"),
        Mistake("in halves", "the wrong axis of a reshape", "transposed, other function, unknown", "x"),
        Mistake("image transposed", "axes swapped", "transposed", "x"),
    ),
)

FAMILIES = (
    CONVOLUTION,
    IMAGES,
    TRANSPOSED,
    DEPTHWISE,
    MAX_POOL,
    OVERLAPPING,
    AVERAGE_POOL,
    GLOBAL,
    UPSAMPLING,
)
