"""Correct rules of functions that sum, order, cut and put together arrays, and of transforms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax, nn

from .kinds import Right, kept, vjp


def linear(name, function, transpose, arguments):
    """Of a function linear in its one argument: there is nothing to keep."""
    return vjp(name, function, lambda x: (function(x), None), lambda _, d_y: (transpose(d_y),), arguments)


def reverse_cumsum(d, axis=-1):
    return jnp.flip(jnp.cumsum(jnp.flip(d, axis), axis), axis)


def cumprod_backward(residuals, d_y):
    """Without dividing by x: where an element is 0, the products of the others still count."""
    (x,) = residuals
    eye = jnp.eye(len(x), dtype=bool)[..., None]
    others = jnp.cumprod(jnp.where(eye, 1, x), 1)  # (i, j, columns): the product up to j without x_i
    return (jnp.einsum("ijc,jc->ic", jnp.where(jnp.tri(len(x), dtype=bool).T[..., None], others, 0), d_y),)


def logcumsumexp_backward(residuals, d_y):
    (x,) = residuals
    y = lax.cumlogsumexp(x, axis=1)
    weights = jnp.exp(jnp.minimum(x[:, :, None] - y[:, None, :], 0))  # how much of y_j is x_i, for i <= j
    return (jnp.einsum("bij,bj->bi", jnp.triu(weights), d_y),)


def softmax_backward(y, d_y):
    return (y * (d_y - (y * d_y).sum(-1, keepdims=True)),)


def weighted_logsumexp_backward(residuals, d_y):
    x, weights = residuals
    d_x = d_y[:, None] * nn.softmax(x + jnp.log(weights))
    return d_x, d_x / weights


def log_softmax_backward(y, d_y):
    return (d_y - jnp.exp(y) * d_y.sum(-1, keepdims=True),)


def variance_backward(residuals, d_y):
    (x,) = residuals
    return (d_y[None] * 2 * (x - x.mean(0)) / (len(x) - 1),)


def deviation_forward(x):
    y = jnp.std(x, axis=-1)
    return y, (x - x.mean(-1, keepdims=True), y)


def deviation_backward(residuals, d_y):
    centred, y = residuals
    return ((d_y / (y * centred.shape[-1]))[..., None] * centred,)


def standardize_forward(x):
    y = nn.standardize(x)
    return y, (y, lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5))


def standardize_backward(residuals, d_y):
    y, r = residuals
    return (r * (d_y - d_y.mean(-1, keepdims=True) - y * (d_y * y).mean(-1, keepdims=True)),)


def glu_backward(residuals, d_y):
    (x,) = residuals
    value, gate = jnp.split(x, 2, axis=-1)
    return (jnp.concatenate([d_y * nn.sigmoid(gate), d_y * value * nn.sigmoid(gate) * nn.sigmoid(-gate)], -1),)


def product_backward(residuals, d_y):
    (x,) = residuals
    return (d_y * jnp.prod(jnp.where(jnp.eye(x.size, dtype=bool), 1, x), 1),)


def max_backward(residuals, d_y):
    (x,) = residuals
    return (d_y[:, None] * nn.one_hot(jnp.argmax(x, 1), x.shape[1], dtype=x.dtype),)


def max_of_ties_backward(residuals, d_y):
    """Those that tie for the maximum share evenly."""
    (x,) = residuals
    first = x == x.max(0)
    return (d_y * first / first.sum(0).astype(x.dtype),)


def min_backward(residuals, d_y):
    """The first that is least takes it all."""
    (x,) = residuals
    return (d_y * nn.one_hot(jnp.argmin(x), x.size, dtype=x.dtype).reshape(x.shape),)


def best(scores):
    """The best score of each row and its place."""
    return jnp.max(scores, 1), jnp.argmax(scores, 1)


def best_forward(scores):
    y, place = best(scores)
    return (y, place), (place, jnp.zeros_like(scores))


def best_backward(residuals, d):
    place, zeros = residuals
    return (zeros.at[jnp.arange(len(place)), place].set(d[0]),)


def range_backward(residuals, d_y):
    (x,) = residuals
    count = x.shape[-1]
    highest, lowest = (nn.one_hot(f(x, -1), count, dtype=x.dtype) for f in (jnp.argmax, jnp.argmin))
    return (d_y[..., None] * (highest - lowest),)


def sort_forward(x):
    order = jnp.argsort(x, axis=-1)
    return jnp.take_along_axis(x, order, -1), order


def sort_backward(order, d_y):
    return (jnp.take_along_axis(d_y, jnp.argsort(order, axis=-1), -1),)


def median_backward(residuals, d_y):
    (x,) = residuals
    middle = jnp.argsort(x, 0)[len(x) // 2]
    return (d_y * nn.one_hot(middle, len(x), axis=0, dtype=x.dtype),)


def top(x):
    values, ids = lax.top_k(x, 3)
    return {"values": values, "ids": ids}


def top_forward(x):
    y = top(x)
    return y, {"ids": y["ids"], "like": jnp.zeros_like(x)}


def top_backward(residuals, d):
    return (jax.vmap(lambda row, ids, d: row.at[ids].add(d))(residuals["like"], residuals["ids"], d["values"]),)


def norm_backward(residuals, d_y):
    (x,) = residuals
    return (d_y[..., None] * x / jnp.linalg.norm(x, axis=-1, keepdims=True),)


def normalize(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def normalize_backward(residuals, d_y):
    (x,) = residuals
    y = normalize(x)
    return ((d_y - y * (y * d_y).sum(-1, keepdims=True)) / jnp.linalg.norm(x, axis=-1, keepdims=True),)


def convolve_backward(residuals, d_y):
    signal, kernel = residuals
    return jnp.correlate(d_y, kernel, "valid"), jnp.correlate(d_y, signal, "valid")


def convolve(signal, kernel):
    """The full convolution of a signal and a kernel that is no longer."""
    if kernel.size > signal.size:
        raise ValueError("the kernel is longer than the signal")
    return jnp.convolve(signal, kernel)


def kron_backward(residuals, d_y):
    a, b = residuals
    d = d_y.reshape(a.shape[0], b.shape[0], a.shape[1], b.shape[1])
    return jnp.einsum("ikjl,kl->ij", d, b), jnp.einsum("ikjl,ij->kl", d, a)


def take_backward(residuals, d_y):
    like, ids = residuals
    return jnp.zeros_like(like).at[ids].add(d_y), None


def along_axis_backward(residuals, d_y):
    x, ids = residuals
    hot = nn.one_hot(ids, x.shape[1], dtype=x.dtype)
    return jnp.einsum("bkc,bk->bc", hot, d_y), None


def segment_sum(x, segments):
    return jax.ops.segment_sum(x, segments, num_segments=4)


def segment_mean(x, segments):
    counts = jax.ops.segment_sum(jnp.ones(len(x), x.dtype), segments, num_segments=5)
    return jax.ops.segment_sum(x, segments, num_segments=5) / jnp.maximum(counts, 1)[:, None]


def segment_mean_backward(residuals, d_y):
    x, segments = residuals
    counts = jax.ops.segment_sum(jnp.ones(len(x), x.dtype), segments, num_segments=5)
    return d_y[segments] / counts[segments][:, None], None


def segment_softmax(scores, segments):
    """Attention over a graph's edges: scores that share a node compete."""
    shifted = jnp.exp(scores - lax.stop_gradient(jax.ops.segment_max(scores, segments, num_segments=4))[segments])
    return shifted / jax.ops.segment_sum(shifted, segments, num_segments=4)[segments]


def segment_softmax_forward(scores, segments):
    y = segment_softmax(scores, segments)
    return y, (y, segments)


def segment_softmax_backward(residuals, d_y):
    y, segments = residuals
    return y * (d_y - jax.ops.segment_sum(y * d_y, segments, num_segments=4)[segments]), None


def add_at(table, ids, rows):
    return jnp.asarray(table).at[ids].add(rows)


def replace_at(table, ids, rows):
    return jnp.asarray(table).at[ids].set(rows)


def replace_backward(ids, d_y):
    return d_y.at[ids].set(0), None, d_y[ids]


def permute_backward(order, d_y):
    return jnp.zeros_like(d_y).at[order].set(d_y), None


def interpolate(x, knots, values):
    """Piecewise linear, constant outside."""
    return jnp.interp(x, knots, values)


def interpolate_backward(residuals, d_y):
    x, knots, values = residuals
    i = jnp.clip(jnp.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
    width, rise = knots[i + 1] - knots[i], values[i + 1] - values[i]
    inside = (x > knots[0]) & (x < knots[-1])
    share = jnp.clip((x - knots[i]) / width, 0, 1)
    d_x = jnp.where(inside, d_y * rise / width, 0)
    zeros = jnp.zeros_like(knots)
    d_knots = zeros.at[i].add(-d_x * (1 - share)).at[i + 1].add(-d_x * share)
    return d_x, d_knots, zeros.at[i].add(d_y * (1 - share)).at[i + 1].add(d_y * share)


def reflected(x):
    if x.size < 3:
        raise ValueError(f"x has {x.size} elements; 2 of them are reflected, about a third")
    return jnp.pad(x, (2, 1), mode="reflect")


def masked_mean(x, mask):
    return jnp.sum(jnp.where(mask, x, 0), -1) / jnp.maximum(mask.sum(-1), 1).astype(x.dtype)


def masked_mean_backward(residuals, d_y):
    x, mask = residuals
    share = d_y / jnp.maximum(mask.sum(-1), 1).astype(x.dtype)
    return jnp.where(mask, share[..., None], 0), None


def masked_softmax(x, mask):
    return nn.softmax(x, where=mask, axis=-1)


def masked_softmax_forward(x, mask):
    y = masked_softmax(x, mask)
    return y, y


def weighted_mean_backward(residuals, d_y):
    x, weights = residuals
    total = weights.sum()
    mean = weights @ x / total
    return weights[:, None] / total * d_y, (x - mean) @ d_y / total


def polynomial(coefficients, x):
    return jnp.polyval(coefficients, x)


def polynomial_backward(residuals, d_y):
    coefficients, x = residuals
    degrees = jnp.arange(len(coefficients))[::-1]
    by_x = jnp.polyval(coefficients[:-1] * degrees[:-1].astype(x.dtype), x)
    return (d_y[:, None] * x[:, None] ** degrees).sum(0), d_y * by_x


def power_spectrum(x):
    return jnp.abs(jnp.fft.rfft(x)) ** 2


def power_spectrum_backward(residuals, d_y):
    # y_k = sum_mn x_m x_n cos(2 pi k (m - n) / N), so that d_x is twice a sum of cosines: an inverse transform.
    (x,) = residuals
    size = x.shape[-1]
    spectrum = d_y * jnp.fft.rfft(x)
    padded = jnp.zeros((*x.shape[:-1], size), spectrum.dtype).at[..., : spectrum.shape[-1]].set(spectrum)
    return (2 * size * jnp.fft.ifft(padded).real,)


def low_pass(x, cutoff=3):
    spectrum = jnp.fft.rfft(x)
    return jnp.fft.irfft(jnp.where(jnp.arange(spectrum.shape[-1]) < cutoff, spectrum, 0), x.shape[-1])


def circular(x, kernel):
    """Convolution around a circle, by Fourier transforms."""
    return jnp.fft.ifft(jnp.fft.fft(x) * jnp.fft.fft(kernel)).real


def circular_backward(residuals, d_y):
    x, kernel = residuals
    correlate = lambda a: jnp.fft.ifft(jnp.fft.fft(d_y) * jnp.conj(jnp.fft.fft(a))).real  # noqa: E731
    return correlate(kernel), correlate(x)


def discrete_cosines(x):
    """The orthonormal DCT-II."""
    return jax.scipy.fft.dct(x, norm="ortho")


def intensity(wave):
    return jnp.abs(wave) ** 2


def total_variation(image):
    return jnp.abs(jnp.diff(image, axis=0)).sum() + jnp.abs(jnp.diff(image, axis=1)).sum()


def total_variation_backward(residuals, d_y):
    (image,) = residuals
    down, right = (jnp.sign(jnp.diff(image, axis=i)) for i in (0, 1))
    d_image = -jnp.diff(jnp.pad(down, ((1, 1), (0, 0))), axis=0) - jnp.diff(jnp.pad(right, ((0, 0), (1, 1))), axis=1)
    return (d_y * d_image,)


FIXED_MASK = jnp.asarray([True, False, True, True, False])
FIXED_BASIS = jnp.asarray([[0.5, -0.25, 1.0], [2.0, 0.125, -0.75]])


def project(x):
    """Onto a basis that is no argument."""
    return x @ FIXED_BASIS.astype(x.dtype).T


def gated(x):
    """Zero where a mask that is no argument says so; five columns, no more and no less."""
    if x.shape[-1] != 5:
        raise ValueError(f"x has {x.shape[-1]} columns; it must have 5")
    return jnp.where(FIXED_MASK, x, 0)


def attention_bias(distances, slope):
    return -slope[:, None, None] * jnp.abs(distances[:, None] - distances[None])


def attention_bias_backward(residuals, d_y):
    distances, slope = residuals
    apart = distances[:, None] - distances[None]
    d_apart = -jnp.einsum("hij,h->ij", d_y, slope) * jnp.sign(apart)
    return d_apart.sum(1) - d_apart.sum(0), -jnp.einsum("hij,ij->h", d_y, jnp.abs(apart))


logsumexp = jax.scipy.special.logsumexp
PAD = ((1, 2), (0, 1))
maximum = partial(jnp.max, axis=1)
maximum_of_columns = partial(jnp.max, axis=0)
one_row = lambda draw: draw.normal(7)  # noqa: E731
matrix = lambda draw: draw.normal(4, 5)  # noqa: E731

ARRAYS: tuple[Right, ...] = (
    linear("sum along an axis", partial(jnp.cumsum, axis=1), partial(reverse_cumsum, axis=1), matrix),
    linear("roll", partial(jnp.roll, shift=2, axis=0), partial(jnp.roll, shift=-2, axis=0), matrix),
    linear("upper triangle", partial(jnp.triu, k=1), partial(jnp.triu, k=1), lambda draw: draw.normal(5, 5)),
    linear("lower triangle", jnp.tril, jnp.tril, matrix),
    linear("transpose", lambda x: jnp.transpose(x, (2, 0, 1)), lambda d: jnp.transpose(d, (1, 2, 0)),
           lambda draw: draw.normal(2, 3, 4)),
    linear("padding", lambda x: jnp.pad(x, PAD), lambda d: d[1:-2, :-1], matrix),
    linear("reflecting padding", reflected,
           lambda d: d[2:-1].at[jnp.asarray((2, 1, -2))].add(d[jnp.asarray((0, 1, -1))]), one_row),
    linear("repeat", partial(jnp.repeat, repeats=3, axis=1),
           lambda d: d.reshape(d.shape[0], -1, 3).sum(2), matrix),
    linear("tile", lambda x: jnp.tile(x, (2, 3)),
           lambda d: d.reshape(2, d.shape[0] // 2, 3, -1).sum((0, 2)), matrix),
    linear("differences", jnp.diff, lambda d: jnp.pad(d, ((0, 0), (1, 0))) - jnp.pad(d, ((0, 0), (0, 1))), matrix),
    kept("last row", lambda x: x[-1:], lambda kept, d: (jnp.zeros_like(kept[0]).at[-1:].set(d),),
         lambda draw: draw.normal(4, 1)),
    linear("diagonal matrix", jnp.diag, jnp.diag, one_row),
    linear("orthonormal cosine transform", discrete_cosines,
           lambda d: jax.scipy.fft.idct(d, norm="ortho"), lambda draw: draw.normal(3, 6)),
    linear("low-pass filter", low_pass, low_pass, lambda draw: draw.normal(2, 9)),
    linear("projection on a fixed basis", project, lambda d: d @ FIXED_BASIS.astype(d.dtype),
           lambda draw: draw.normal(4, 3)),
    linear("fixed mask", gated, lambda d: jnp.where(FIXED_MASK, d, 0), matrix),
    kept("sum and mean, as a tuple", lambda x: (x.sum(0), x.mean()),
         lambda kept, d: (jnp.broadcast_to(d[0] + d[1] / kept[0].size, kept[0].shape),),
         lambda draw: draw.normal(6, 2)),
    kept("running product", partial(jnp.cumprod, axis=0), cumprod_backward, lambda draw: draw.signed(5, 3)),
    kept("running logsumexp", partial(lax.cumlogsumexp, axis=1), logcumsumexp_backward, matrix),
    kept("product", jnp.prod, product_backward, lambda draw: draw.signed(6)),
    kept("variance", partial(jnp.var, axis=0, ddof=1), variance_backward, matrix),
    vjp("standard deviation", partial(jnp.std, axis=-1), deviation_forward, deviation_backward, matrix),
    vjp("standardize", nn.standardize, standardize_forward, standardize_backward, matrix),
    vjp("softmax", nn.softmax, lambda x: (nn.softmax(x),) * 2, softmax_backward, matrix),
    vjp("softmax at large logits", nn.softmax, lambda x: (nn.softmax(x),) * 2, softmax_backward,
        lambda draw: 100 + 3 * draw.normal(4, 5)),
    vjp("softmax along an axis of size 1", nn.softmax, lambda x: (nn.softmax(x),) * 2, softmax_backward,
        lambda draw: draw.normal(4, 1)),
    vjp("log_softmax", nn.log_softmax, lambda x: (nn.log_softmax(x),) * 2, log_softmax_backward,
        lambda draw: draw.wide(2, 3, 4)),
    kept("logsumexp", partial(logsumexp, axis=-1), lambda kept, d: (d[..., None] * nn.softmax(kept[0]),), matrix),
    kept("logsumexp with weights", lambda x, weights: logsumexp(x, axis=-1, b=weights), weighted_logsumexp_backward,
         lambda draw: (draw.normal(3, 4), draw.positive(3, 4))),
    kept("glu", nn.glu, glu_backward, lambda draw: draw.normal(3, 8)),
    kept("maximum along an axis", maximum, max_backward, matrix),
    kept("maximum of ties", maximum_of_columns, max_of_ties_backward, lambda draw: jnp.round(draw.normal(9, 4))),
    kept("minimum", jnp.min, min_backward, matrix),
    vjp("maximum beside its place", best, best_forward, best_backward, matrix),
    kept("range", partial(jnp.ptp, axis=-1), range_backward, matrix),
    vjp("sort", jnp.sort, sort_forward, sort_backward, matrix),
    kept("median of an odd number", partial(jnp.median, axis=0), median_backward, lambda draw: draw.normal(5, 3)),
    vjp("three largest", top, top_forward, top_backward, lambda draw: draw.normal(3, 6)),
    kept("norm", partial(jnp.linalg.norm, axis=-1), norm_backward, matrix),
    kept("normalized rows", normalize, normalize_backward, matrix),
    kept("outer product", jnp.outer, lambda kept, d: (d @ kept[1], kept[0] @ d),
         lambda draw: (draw.normal(4), draw.normal(4))),
    kept("einsum of three", lambda a, b, c: jnp.einsum("ij,jk,k->i", a, b, c), lambda kept, d: (
        jnp.outer(d, kept[1] @ kept[2]), jnp.outer(kept[0].T @ d, kept[2]), kept[1].T @ (kept[0].T @ d)
    ), lambda draw: (draw.normal(3, 3), draw.normal(3, 3), draw.normal(3))),
    kept("cross product", jnp.cross, lambda kept, d: (jnp.cross(kept[1], d), jnp.cross(d, kept[0])),
         lambda draw: (draw.normal(5, 3), draw.normal(5, 3))),
    kept("convolution of vectors", convolve, convolve_backward, lambda draw: (draw.normal(8), draw.normal(3))),
    kept("Kronecker product", jnp.kron, kron_backward, lambda draw: (draw.normal(2, 3), draw.normal(3, 2))),
    kept("take rows", lambda table, ids: jnp.take(table, ids, axis=0), take_backward,
         lambda draw: (draw.normal(5, 3), draw.ids(5, 7))),
    kept("rows by one-hot matmul", lambda table, ids: nn.one_hot(ids, len(table), dtype=table.dtype) @ table,
         take_backward, lambda draw: (draw.normal(6, 2), draw.ids(6, 2, 4))),
    kept("take along an axis", lambda x, ids: jnp.take_along_axis(x, ids, 1), along_axis_backward,
         lambda draw: (draw.normal(3, 5), draw.ids(5, 3, 4))),
    vjp("permute rows", lambda x, order: x[order], lambda x, order: (x[order], order), permute_backward,
        lambda draw: (draw.normal(6, 2), draw.permutation(6))),
    vjp("segment sum", segment_sum, lambda x, segments: (segment_sum(x, segments), segments),
        lambda segments, d: (d[segments], None), lambda draw: (draw.normal(9, 2), draw.ids(4, 9))),
    kept("segment mean", segment_mean, segment_mean_backward,
         lambda draw: (draw.normal(8, 3), jnp.sort(draw.ids(5, 8)))),
    vjp("softmax over segments", segment_softmax, segment_softmax_forward, segment_softmax_backward,
        lambda draw: (draw.normal(10), draw.ids(4, 10))),
    vjp("add rows to a table", add_at, lambda table, ids, rows: (add_at(table, ids, rows), ids),
        lambda ids, d: (d, None, d[ids]), lambda draw: (draw.normal(5, 2), draw.ids(5, 7), draw.normal(7, 2))),
    vjp("replace rows of a table", replace_at, lambda table, ids, rows: (replace_at(table, ids, rows), ids),
        replace_backward, lambda draw: (draw.normal(6, 2), draw.permutation(6)[:3], draw.normal(3, 2))),
    kept("interpolation", interpolate, interpolate_backward,
         lambda draw: (draw.positive(7), draw.increasing(5), draw.normal(5))),
    kept("mean of what a mask keeps", masked_mean, masked_mean_backward,
         lambda draw: (draw.normal(4, 5), draw.mask(4, 5))),
    vjp("softmax of what a mask keeps", masked_softmax, masked_softmax_forward,
        lambda y, d: (*softmax_backward(y, d), None), lambda draw: (draw.normal(4, 5), draw.mask(4, 5))),
    vjp("choice by a mask", jnp.where, lambda mask, x, y: (jnp.where(mask, x, y), mask),
        lambda mask, d: (None, jnp.where(mask, d, 0), jnp.where(mask, 0, d)),
        lambda draw: (draw.mask(3, 4), draw.normal(3, 4), draw.normal(3, 4))),
    vjp("concatenation of a dict", lambda parts: jnp.concatenate([parts["left"], parts["right"]["x"]], -1),
        lambda parts: (jnp.concatenate([parts["left"], parts["right"]["x"]], -1), parts["left"]),
        lambda left, d: ({"left": d[:, : left.shape[1]], "right": {"x": d[:, left.shape[1] :]}},),
        lambda draw: {"left": draw.normal(3, 2), "right": {"x": draw.normal(3, 4)}}),
    vjp("stack of a list", jnp.stack, lambda rows: (jnp.stack(rows), ()), lambda _, d: (list(d),),
        lambda draw: [draw.normal(4), draw.normal(4), draw.normal(4)]),
    kept("weighted mean", lambda x, weights: jnp.average(x, axis=0, weights=weights), weighted_mean_backward,
         lambda draw: (draw.normal(6, 3), draw.positive(6))),
    kept("polynomial", polynomial, polynomial_backward, lambda draw: (draw.normal(4), draw.narrow(6))),
    kept("power spectrum", power_spectrum, power_spectrum_backward, lambda draw: draw.normal(3, 8)),
    kept("circular convolution", circular, circular_backward, lambda draw: (draw.normal(7), draw.normal(7))),
    kept("intensity of a complex wave", intensity, lambda kept, d: (2 * d * jnp.conj(kept[0]),),
         lambda draw: draw.normal(6) + 1j * draw.normal(6)),
    kept("total variation", total_variation, total_variation_backward, matrix),
    kept("linear attention bias", attention_bias, attention_bias_backward,
         lambda draw: (draw.normal(5), draw.positive(2))),
    vjp("an argument without leaves", lambda params, x: x / math.e, lambda params, x: (x / math.e, None),
        lambda _, d: ({}, d / math.e), lambda draw: ({}, draw.normal(3, 4))),
    vjp("a leaf without influence", lambda params, x: params["scale"] * x,
        lambda params, x: (params["scale"] * x, (params, x)),
        lambda kept, d: ({"scale": jnp.vdot(d, kept[1]), "unused": jnp.zeros_like(kept[0]["unused"])},
                         d * kept[0]["scale"]),
        lambda draw: ({"scale": draw.normal(), "unused": draw.normal(2, 2)}, draw.normal(3, 4))),
)  # fmt: skip

SATURATED: tuple[Right, ...] = (
    vjp("saturated softmax", nn.softmax, lambda x: (nn.softmax(x),) * 2, softmax_backward,
        lambda draw: draw.wide(4, 5)),
)  # fmt: skip
"""Right, and yet up to 1e-9 away: all of their gradient is a small difference of large numbers."""
