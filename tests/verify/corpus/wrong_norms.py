"""Wrong rules of normalisation: the shares of mean and variance, epsilon, scale, and evaluation for training."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .kinds import Draw
from .registry import Family, Mistake, Rule

EPSILON = 1e-2


def layer_norm(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)
    rows, features = (size, size) if mistake == "bias over features" else (size + 1, size + 2)

    def parts(x, scale, bias):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        r = lax.rsqrt(variance + EPSILON)
        n = (x - mean) * r
        return n * scale + bias, (x, scale, n, r)

    def function(x, scale, bias):
        return parts(x, scale, bias)[0]

    def forward(x, scale, bias):
        return parts(x, scale, bias)

    def backward(residuals, d_y):
        x, scale, n, r = residuals
        d_scale, d_bias = (d_y * n).sum(0), d_y.sum(0)
        d_n = d_y if mistake == "scale forgotten" else d_y * scale
        along_mean, along_n = d_n.mean(-1, keepdims=True), (d_n * n).mean(-1, keepdims=True)
        d_x = r * (d_n - along_mean - n * along_n)
        match mistake:
            case "mean's share forgotten":
                d_x = r * (d_n - n * along_n)
            case "variance's share forgotten":
                d_x = r * (d_n - along_mean)
            case "statistics as constants":
                d_x = r * d_n
            case "mean's share twice":
                d_x = r * (d_n - 2 * along_mean - n * along_n)
            case "variance's share added":
                d_x = r * (d_n - along_mean + n * along_n)
            case "variance's share summed":
                d_x = r * (d_n - along_mean - n * along_n * features)
            case "variance over N-1":
                d_x = r * (d_n - along_mean - n * along_n * features / (features - 1))
            case "epsilon forgotten":
                r = lax.rsqrt(jnp.square(x - x.mean(-1, keepdims=True)).mean(-1, keepdims=True))
                n = (x - x.mean(-1, keepdims=True)) * r
                d_x = r * (d_n - along_mean - n * (d_n * n).mean(-1, keepdims=True))
            case "r once too often":
                d_x = d_x * r
            case "r forgotten":
                d_x = d_x / r
            case "variance for deviation":
                d_x = d_x * r**2
            case "scale from x":
                d_scale = (d_y * x).sum(0)
            case "scale from the centred x":
                d_scale = (d_y * n / r).sum(0)
            case "scale averaged":
                d_scale = (d_y * n).mean(0)
            case "scale from the output":
                d_scale = (d_y * n * scale).sum(0)
            case "bias scaled":
                d_bias = (d_y * scale).sum(0)
            case "bias over features":
                d_bias = d_y.sum(1)
            case "mean over the batch":
                d_x = r * (d_n - d_n.mean(0, keepdims=True) - n * along_n)
        return d_x, d_scale, d_bias

    return Rule(
        function, forward, backward, (draw.normal(rows, features) + 0.5, draw.signed(features), draw.normal(features))
    )


LAYER_NORM = Family(
    "layer norm",
    layer_norm,
    (
        Mistake("mean's share forgotten", "mean term missing", "missing term", "x"),
        Mistake("variance's share forgotten", "variance term missing", "missing term", "x"),
        Mistake("statistics as constants", "mean and variance terms missing", "missing term", "x"),
        Mistake("mean's share twice", "mean term twice", "doubled term", "x"),
        Mistake("variance's share added", "sign of a term", "doubled term", "x"),
        Mistake("variance's share summed", "a term's 1/N missing", "doubled term", "x"),
        Mistake("variance over N-1", "N-1 variance", "doubled term, other function", "x"),
        Mistake("epsilon forgotten", "eps forgotten", "other function, as if", "x"),
        Mistake("r once too often", "a factor too many", "extra factor, unknown", "x"),
        Mistake("r forgotten", "a factor forgotten", "missing factor, extra factor", "x"),
        Mistake("variance for deviation", "a factor too many", "missing factor, extra factor, unknown", "x"),
        Mistake("scale forgotten", "scale forgotten in dx", "missing factor", "x"),
        Mistake(
            "scale from x", "dscale from x instead of normalised x", "as if, missing factor, other function", "scale"
        ),
        Mistake("scale from the centred x", "a factor forgotten", "missing factor, as if", "scale"),
        Mistake("scale averaged", "averaged", "factor", "scale"),
        Mistake("scale from the output", "another value saved", "extra factor, as if", "scale"),
        Mistake("bias scaled", "a factor too many", "extra factor", "bias"),
        Mistake("bias over features", "summed over the wrong axes", "transposed, missing sum, extra sum", "bias"),
        Mistake("mean over the batch", "summed over the wrong axes", "other function, doubled term, unknown", "x"),
    ),
)


def batch_norm(size: int, seed: int, mistake: str) -> Rule:
    """Of images, in training: statistics over examples and places."""
    draw = Draw(seed)
    batch, height, width, channels = min(size, 16), 3, 2, size + 1
    axes, count = (0, 1, 2), batch * 6

    def parts(x, params):
        mean = x.mean(axes)
        variance = jnp.square(x - mean).mean(axes)
        r = lax.rsqrt(variance + EPSILON)
        n = (x - mean) * r
        return n * params["scale"] + params["bias"], (params["scale"], n, r)

    def function(x, params):
        return parts(x, params)[0]

    def forward(x, params):
        return parts(x, params)

    def backward(residuals, d_y):
        scale, n, r = residuals
        d_scale, d_bias = (d_y * n).sum(axes), d_y.sum(axes)
        divisor = batch if mistake == "divided by the examples alone" else count
        d_x = scale * r * (d_y - d_bias / divisor - n * d_scale / divisor)
        match mistake:
            case "evaluation's rule":
                d_x = scale * r * d_y
            case "mean's share forgotten":
                d_x = scale * r * (d_y - n * d_scale / count)
            case "variance's share forgotten":
                d_x = scale * r * (d_y - d_bias / count)
            case "variance's share twice":
                d_x = scale * r * (d_y - d_bias / count - 2 * n * d_scale / count)
            case "scale forgotten":
                d_x = d_x / scale
            case "scale squared":
                d_x = d_x * scale
            case "bias over the batch alone":
                d_bias = d_y.sum(0)
            case "bias averaged":
                d_bias = d_y.mean(axes)
            case "scale by example":
                d_scale = (d_y * n).sum((1, 2))[0]
            case "scale and bias swapped":
                d_scale, d_bias = d_bias, d_scale
            case "variance unbiased":
                d_x = scale * r * (d_y - d_bias / count - n * d_scale / (count - 1))
        return d_x, {"scale": d_scale, "bias": d_bias}

    params = {"scale": draw.signed(channels), "bias": draw.normal(channels)}
    return Rule(function, forward, backward, (draw.normal(batch, height, width, channels), params))


BATCH_NORM = Family(
    "batch norm",
    batch_norm,
    (
        Mistake("divided by the examples alone", "N of one axis", "doubled term, factor, unknown", "x"),
        Mistake("evaluation's rule", "evaluation backward in training", "missing term, other function", "x"),
        Mistake("mean's share forgotten", "mean term missing", "missing term", "x"),
        Mistake("variance's share forgotten", "variance term missing", "missing term", "x"),
        Mistake("variance's share twice", "variance term twice", "doubled term", "x"),
        Mistake("scale forgotten", "scale forgotten in dx", "missing factor", "x"),
        Mistake("scale squared", "a factor too many", "extra factor", "x"),
        Mistake("bias over the batch alone", "summed over too few axes", "missing sum", "params/bias"),
        Mistake("bias averaged", "db averaged", "factor", "params/bias"),
        Mistake("scale by example", "summed over too few", "region, missing sum", "params/scale"),
        Mistake("scale and bias swapped", "two leaves swapped", "swapped", "params/scale", "params/bias"),
        Mistake("variance unbiased", "N-1 variance", "doubled term, other function", "x"),
    ),
)


def frozen_batch_norm(size: int, seed: int, mistake: str) -> Rule:
    """In evaluation: the statistics are arguments, into which gradients flow."""
    draw = Draw(seed)
    rows, channels = size + 1, size

    def function(x, scale, mean, variance):
        return (x - mean) / jnp.sqrt(variance + EPSILON) * scale

    def forward(x, scale, mean, variance):
        r = lax.rsqrt(variance + EPSILON)
        return (x - mean) * r * scale, (x, scale, mean, r)

    def backward(residuals, d_y):
        x, scale, mean, r = residuals
        n = (x - mean) * r
        d_x, d_scale = d_y * scale * r, (d_y * n).sum(0)
        d_mean, d_variance = -(d_y * scale * r).sum(0), -0.5 * (d_y * scale * n * r**2).sum(0)
        match mistake:
            case "training's rule":
                d_x = scale * r * (d_y - d_y.mean(0) - n * d_scale / rows)
            case "mean without gradient":
                d_mean = jnp.zeros_like(mean)
            case "mean's sign":
                d_mean = -d_mean
            case "variance's sign":
                d_variance = -d_variance
            case "variance without a half":
                d_variance = 2 * d_variance
            case "variance with r once":
                d_variance = -0.5 * (d_y * scale * n * r).sum(0)
            case "mean without scale":
                d_mean = -(d_y * r).sum(0)
            case "mean and variance swapped":
                d_mean, d_variance = d_variance, d_mean
        return d_x, d_scale, d_mean, d_variance

    arguments = draw.normal(rows, channels), draw.signed(channels), draw.normal(channels), draw.positive(channels)
    return Rule(function, forward, backward, arguments)


FROZEN = Family(
    "frozen batch norm",
    frozen_batch_norm,
    (
        Mistake("training's rule", "training backward in evaluation", "other function, unknown", "x"),
        Mistake("mean without gradient", "gradient lost", "missing", "mean"),
        Mistake("mean's sign", "sign", "sign", "mean"),
        Mistake("variance's sign", "sign", "sign", "variance"),
        Mistake("variance without a half", "factor", "factor", "variance"),
        Mistake("variance with r once", "a factor forgotten", "missing factor, extra factor, unknown", "variance"),
        Mistake("mean without scale", "scale forgotten", "missing factor", "mean"),
        Mistake("mean and variance swapped", "two leaves swapped", "swapped", "mean", "variance"),
    ),
)


def group_norm(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)
    batch, time, groups, each = 3, size, 2, min(size, 16)

    def grouped(a):
        return a.reshape(*a.shape[:-1], groups, each)

    def normalised(x):
        g = grouped(x)
        mean = g.mean((1, 3), keepdims=True)
        r = lax.rsqrt(jnp.square(g - mean).mean((1, 3), keepdims=True) + EPSILON)
        return (g - mean) * r, r

    def function(x, scale, bias):
        return normalised(x)[0].reshape(x.shape) * scale + bias

    def forward(x, scale, bias):
        n, r = normalised(x)
        return n.reshape(x.shape) * scale + bias, (scale, n, r)

    def backward(residuals, d_y):
        scale, n, r = residuals
        d_n = grouped(d_y * scale)
        d_scale, d_bias = (d_y * n.reshape(d_y.shape)).sum((0, 1)), d_y.sum((0, 1))
        axes = {"statistics by position": (3,), "statistics over all groups": (1, 2, 3)}.get(mistake, (1, 3))
        along_mean, along_n = d_n.mean(axes, keepdims=True), (d_n * n).mean(axes, keepdims=True)
        d_x = r * (d_n - along_mean - n * along_n)
        match mistake:
            case "mean's share forgotten":
                d_x = r * (d_n - n * along_n)
            case "variance's share forgotten":
                d_x = r * (d_n - along_mean)
            case "scale forgotten":
                d_n = grouped(d_y)
                d_x = r * (d_n - d_n.mean(axes, keepdims=True) - n * (d_n * n).mean(axes, keepdims=True))
            case "divided by the channels of a group":
                d_x = r * (d_n - time * along_mean - time * n * along_n)
            case "r of the first group":
                d_x = d_x / r * r[:, :, :1]
            case "groups interleaved":
                d_x = d_x.mT
            case "scale by group":
                d_scale = jnp.tile(grouped(d_scale).mean(0), groups)
            case "r of the whole":
                d_x = d_x / r * r.mean()
        return d_x.reshape(d_y.shape), d_scale, d_bias

    channels = groups * each
    spread = np.repeat([1.0, 3.0], each).astype(np.float32)  # the groups' deviations differ
    arguments = spread * draw.normal(batch, time, channels), draw.signed(channels), draw.normal(channels)
    return Rule(function, forward, backward, arguments)


GROUP_NORM = Family(
    "group norm",
    group_norm,
    (
        Mistake("mean's share forgotten", "mean term missing", "missing term", "x"),
        Mistake("variance's share forgotten", "variance term missing", "missing term", "x"),
        Mistake("scale forgotten", "scale forgotten in dx", "missing factor", "x"),
        Mistake("statistics by position", "summed over too few axes", "other function, doubled term, unknown", "x"),
        Mistake(
            "statistics over all groups", "summed over too many axes", "other function, doubled term, unknown", "x"
        ),
        Mistake("divided by the channels of a group", "N of one axis", "doubled term, factor, unknown", "x"),
        Mistake("r of the first group", "another group's value", "region", "x"),
        Mistake("groups interleaved", "axes swapped", "transposed, unknown", "x"),
        Mistake(
            "scale by group", "summed over the wrong axes", "other function, missing sum, extra sum, unknown", "scale"
        ),
        Mistake(
            "r of the whole", "summed over too many axes", "missing factor, extra factor, other function, unknown", "x"
        ),
    ),
)


def rms_norm(size: int, seed: int, mistake: str) -> Rule:
    """With 1 + scale, so that a scale of 0 is no change."""
    draw = Draw(seed)

    def function(x, scale):
        return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON) * (1 + scale)

    def forward(x, scale):
        return function(x, scale), (x, scale)

    def backward(residuals, d_y):
        x, scale = residuals
        r = lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)
        n = x * r
        d_n = d_y * (scale if mistake == "1 + forgotten" else 1 + scale)
        d_x, d_scale = r * (d_n - n * (d_n * n).mean(-1, keepdims=True)), (d_y * n).sum((0, 1))
        match mistake:
            case "norm as a constant":
                d_x = r * d_n
            case "norm's share summed":
                d_x = r * (d_n - n * (d_n * n).sum(-1, keepdims=True))
            case "norm's share with r once":
                d_x = r * (d_n - x * (d_n * n).mean(-1, keepdims=True))
            case "mean's share subtracted":
                d_x = d_x - r * d_n.mean(-1, keepdims=True)
            case "norm's share by twice":
                d_x = r * (d_n - 2 * n * (d_n * n).mean(-1, keepdims=True))
            case "scale from x":
                d_scale = (d_y * x).sum((0, 1))
            case "scale with the scale":
                d_scale = (d_y * n * (1 + scale)).sum((0, 1))
            case "scale over the batch":
                d_scale = (d_y * n).sum(0)
            case "scale forgotten":
                d_x = r * (d_y - n * (d_y * n).mean(-1, keepdims=True))
        return d_x, d_scale

    return Rule(function, forward, backward, (draw.normal(3, size, size + 1), draw.signed(size + 1)))


RMS_NORM = Family(
    "rms norm",
    rms_norm,
    (
        Mistake("norm as a constant", "variance term missing", "missing term", "x"),
        Mistake("norm's share summed", "a term's 1/N missing", "doubled term", "x"),
        Mistake(
            "norm's share with r once", "a factor forgotten", "missing factor, doubled term, missing term, unknown", "x"
        ),
        Mistake("mean's share subtracted", "layer norm's rule", "other function, unknown", "x"),
        Mistake("norm's share by twice", "a term twice", "doubled term", "x"),
        Mistake("scale from x", "dscale from x instead of normalised x", "missing factor, as if", "scale"),
        Mistake("scale with the scale", "a factor too many", "extra factor", "scale"),
        Mistake("scale over the batch", "summed over too few axes", "missing sum", "scale"),
        Mistake("scale forgotten", "scale forgotten in dx", "missing factor, missing term, as if", "x"),
        Mistake("1 + forgotten", "a constant forgotten", "other function, missing term, missing factor", "x"),
    ),
)


def weight_norm(size: int, seed: int, mistake: str) -> Rule:
    """x W with columns W_j = gain_j v_j / |v_j|."""
    draw = Draw(seed)

    def kernel(direction, gain):
        return gain * direction / jnp.linalg.norm(direction, axis=0)

    def function(x, direction, gain):
        return x @ kernel(direction, gain)

    def forward(x, direction, gain):
        return function(x, direction, gain), (x, direction, gain)

    def backward(residuals, d_y):
        x, direction, gain = residuals
        norm = jnp.sqrt(jnp.square(direction).sum(0))
        unit = direction / norm
        d_kernel = x.T @ d_y
        d_gain = (d_kernel * unit).sum(0)
        d_direction = gain / norm * (d_kernel - unit * d_gain)
        d_x = d_y @ (gain * unit).T
        match mistake:
            case "norm as a constant":
                d_direction = gain / norm * d_kernel
            case "gain forgotten":
                d_direction = d_direction / gain
            case "norm forgotten":
                d_direction = d_direction * norm
            case "norms of rows":
                d_direction = d_direction * norm / jnp.linalg.norm(direction, axis=1, keepdims=True)
            case "gain from the direction":
                d_gain = (d_kernel * direction).sum(0)
            case "input through the direction":
                d_x = d_y @ direction.T
        return d_x, d_direction, d_gain

    return Rule(function, forward, backward, (draw.normal(size, size), draw.normal(size, size), draw.signed(size)))


WEIGHT_NORM = Family(
    "weight norm",
    weight_norm,
    (
        Mistake("norm as a constant", "a term missing", "missing term", "direction"),
        Mistake("gain forgotten", "scale forgotten", "missing factor", "direction"),
        Mistake("norm forgotten", "a factor forgotten", "missing factor, extra factor", "direction"),
        Mistake("norms of rows", "summed over the wrong axes", "missing factor, extra factor, unknown", "direction"),
        Mistake("gain from the direction", "another value saved", "missing factor, extra factor, as if", "gain"),
        Mistake("input through the direction", "another value saved", "as if, missing factor", "x"),
    ),
)


def unit_vectors(size: int, seed: int, mistake: str) -> Rule:
    """x / |x|, and 0 for rows of zeros."""
    draw = Draw(seed)

    def parts(x):
        square = jnp.square(x).sum(-1, keepdims=True)
        norm = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        return x / norm, (x, norm)

    def function(x):
        return parts(x)[0]

    def forward(x):
        return parts(x)

    def backward(residuals, d_y):
        x, norm = residuals
        if mistake == "division by zero":
            norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
        n = x / norm
        along = (d_y * n).sum(-1, keepdims=True)
        match mistake:
            case "norm as a constant":
                return (d_y / norm,)
            case "projection added":
                return ((d_y + n * along) / norm,)
            case "projection halved":
                return ((d_y - n * along / 2) / norm,)
            case "projection alone":
                return (-n * along / norm,)
            case "square of the norm":
                return ((d_y - n * along) / norm**2,)
            case "projection of each element":
                return (d_y * (1 - n * n) / norm,)
        return ((d_y - n * along) / norm,)

    x = draw.normal(size, size)
    zeros = x.copy()
    zeros[1] = 0
    return Rule(function, forward, backward, (x,), ((zeros,),) if mistake == "division by zero" else ())


UNIT = Family(
    "unit vectors",
    unit_vectors,
    (
        Mistake("division by zero", "NaN at an edge", "not finite", "x"),
        Mistake("norm as a constant", "a term missing", "missing term", "x"),
        Mistake("projection added", "sign of a term", "doubled term", "x"),
        Mistake("projection halved", "factor of a term", "doubled term", "x"),
        Mistake("projection alone", "one path of the chain rule lost", "missing term", "x"),
        Mistake("square of the norm", "a factor too many", "extra factor, missing factor", "x"),
        Mistake("projection of each element", "only the diagonal", "missing sum, missing term, unknown", "x"),
    ),
)

FAMILIES = (LAYER_NORM, BATCH_NORM, FROZEN, GROUP_NORM, RMS_NORM, WEIGHT_NORM, UNIT)
