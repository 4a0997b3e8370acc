"""Wrong rules of functions of each element: activations, kinks, arithmetic."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from .kinds import Draw
from .registry import Family, Mistake, Rule

Slope = Callable[[Any, Any], Any]
"""From an input and the output to the derivative there."""


def _elementwise(
    function: Callable,
    slope: Slope,
    wrong: dict[str, Slope],
    draw: Callable,
    kink: float | None,
    size: int,
    seed: int,
    mistake: str,
) -> Rule:
    def value(x):
        return function(x)

    def forward(x):
        y = function(x)
        return y, (x, y)

    def backward(residuals, d_y):
        return (d_y * wrong.get(mistake, slope)(*residuals),)

    random = Draw(seed)
    x = draw(random, size, size + 1)
    at_kink = np.where(random.mask(*x.shape), np.float32(kink or 0), x)
    return Rule(value, forward, backward, (x,), () if kink is None else ((at_kink,),))


def activation(
    name: str,
    function: Callable,
    slope: Slope,
    *mistakes: tuple[str, str, str, Slope],
    draw: Callable = Draw.normal,
    kink: float | None = None,
) -> Family:
    """mistakes: name, class, kinds, and the wrong derivative of each. kink: an input to look at, as an edge."""
    wrong = {mistake: its_slope for mistake, _, _, its_slope in mistakes}
    build = partial(_elementwise, function, slope, wrong, draw, kink)
    return Family(name, build, tuple(Mistake(mistake, of, kinds, "x") for mistake, of, kinds, _ in mistakes))


def _density(x):
    return jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu(x):
    return special.ndtr(x) + x * _density(x)


def _gelu_by_tanh(x):
    root = math.sqrt(2 / math.pi)
    t = jnp.tanh(root * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x**2)


def _silu(x):
    s = jax.nn.sigmoid(x)
    return s * (1 + x * (1 - s))


def _as(x, condition):
    return condition.astype(x.dtype)


_GELU_DRAW = lambda draw, *shape: 2 * draw.normal(*shape)  # noqa: E731  (where the approximations part)

ACTIVATIONS = (
    activation(
        "relu",
        jax.nn.relu,
        lambda x, y: _as(x, x > 0),
        ("1 at zero", "a kink", "kink, ties", lambda x, y: _as(x, x >= 0)),
        (
            "of every input",
            "the choice forgotten",
            "region, other function, missing factor, cotangent",
            lambda x, y: jnp.ones_like(x),
        ),
        ("of negative inputs", "branches exchanged", "other function, as if, unknown", lambda x, y: _as(x, x < 0)),
        ("the input's sign", "sign in a branch", "region, other function", lambda x, y: jnp.sign(x)),
        (
            "leaky",
            "derivative of another function",
            "other function, region",
            lambda x, y: jnp.where(x > 0, 1.0, 0.01).astype(x.dtype),
        ),
        ("smoothed", "derivative of another function", "other function", lambda x, y: jax.nn.sigmoid(x)),
        kink=0.0,
    ),
    activation(
        "leaky relu",
        partial(jax.nn.leaky_relu, negative_slope=0.2),
        lambda x, y: jnp.where(x >= 0, 1.0, 0.2).astype(x.dtype),
        ("no slope below zero", "a branch forgotten", "region, other function", lambda x, y: _as(x, x >= 0)),
        (
            "another slope",
            "another hyper-parameter",
            "region, other function",
            lambda x, y: jnp.where(x >= 0, 1.0, 0.01).astype(x.dtype),
        ),
        ("slope negated", "sign in a branch", "region", lambda x, y: jnp.where(x >= 0, 1.0, -0.2).astype(x.dtype)),
        (
            "slope's reciprocal",
            "divided for multiplied",
            "region",
            lambda x, y: jnp.where(x >= 0, 1.0, 5.0).astype(x.dtype),
        ),
    ),
    activation(
        "gelu",
        partial(jax.nn.gelu, approximate=False),
        lambda x, y: _gelu(x),
        (
            "of the tanh approximation",
            "derivative of the tanh approximation for the exact GELU",
            "other function",
            lambda x, y: _gelu_by_tanh(x),
        ),
        (
            "of the sigmoid approximation",
            "derivative of another approximation",
            "other function",
            lambda x, y: jax.nn.sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - jax.nn.sigmoid(1.702 * x))),
        ),
        ("without the density", "a term missing", "missing term", lambda x, y: special.ndtr(x)),
        (
            "without x on the density",
            "a factor forgotten",
            "missing factor, doubled term, other function, unknown",
            lambda x, y: special.ndtr(x) + _density(x),
        ),
        (
            "density without 1/sqrt(2)",
            "a constant forgotten",
            "doubled term, other function",
            lambda x, y: special.ndtr(x) + math.sqrt(2) * x * _density(x),
        ),
        ("density subtracted", "sign of a term", "doubled term", lambda x, y: special.ndtr(x) - x * _density(x)),
        draw=_GELU_DRAW,
    ),
    activation(
        "gelu by tanh",
        jax.nn.gelu,
        lambda x, y: _gelu_by_tanh(x),
        (
            "of the exact GELU",
            "derivative of the exact GELU for the approximation",
            "other function",
            lambda x, y: _gelu(x),
        ),
        (
            "cubic term forgotten",
            "a term missing",
            "missing term",
            lambda x, y: (
                _gelu_by_tanh(x)
                - 0.5
                * x
                * (1 - jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) ** 2)
                * math.sqrt(2 / math.pi)
                * 3
                * 0.044715
                * x**2
            ),
        ),
        draw=_GELU_DRAW,
    ),
    activation(
        "silu",
        jax.nn.silu,
        lambda x, y: _silu(x),
        ("sigmoid alone", "a term missing", "missing term, other function", lambda x, y: jax.nn.sigmoid(x)),
        (
            "without 1 - sigmoid",
            "a factor forgotten",
            "missing factor, doubled term, other function, unknown",
            lambda x, y: jax.nn.sigmoid(x) * (1 + x),
        ),
        (
            "sigmoid's slope alone",
            "a term missing",
            "missing term",
            lambda x, y: x * jax.nn.sigmoid(x) * jax.nn.sigmoid(-x),
        ),
        ("from y for x", "y for x", "as if, other function, unknown", lambda x, y: _silu(y)),
    ),
    activation(
        "tanh",
        jnp.tanh,
        lambda x, y: 1 - y * y,
        ("1 - y", "a square forgotten", "missing factor, other function, extra factor, unknown", lambda x, y: 1 - y),
        ("1 - x squared", "x for y", "as if, other function, unknown", lambda x, y: 1 - x * x),
        ("1 + y squared", "sign of a term", "doubled term, other function, unknown", lambda x, y: 1 + y * y),
        ("of sigmoid", "derivative of another function", "other function, unknown", lambda x, y: y * (1 - y)),
        ("y squared", "a term missing", "other function, missing term, missing factor, unknown", lambda x, y: -y * y),
    ),
    activation(
        "sigmoid",
        jax.nn.sigmoid,
        lambda x, y: y * (1 - y),
        ("y alone", "a factor forgotten", "missing factor", lambda x, y: y),
        ("1 - y alone", "a factor forgotten", "missing factor", lambda x, y: 1 - y),
        (
            "sigmoid of y",
            "applied twice",
            "as if, other function, unknown",
            lambda x, y: jax.nn.sigmoid(y) * (1 - jax.nn.sigmoid(y)),
        ),
        (
            "of tanh",
            "derivative of another function",
            "other function, missing factor, unknown",
            lambda x, y: 1 - y * y,
        ),
        ("sharpened", "another hyper-parameter", "factor", lambda x, y: 2 * y * (1 - y)),
    ),
    activation(
        "softplus",
        jax.nn.softplus,
        lambda x, y: jax.nn.sigmoid(x),
        ("of relu", "derivative of another function", "other function, region", lambda x, y: _as(x, x > 0)),
        ("of -x", "sign of the input", "missing factor, other function, as if", lambda x, y: jax.nn.sigmoid(-x)),
        ("exp over 1 + exp", "unstable", "not finite", lambda x, y: jnp.exp(x) / (1 + jnp.exp(x))),
        kink=800.0,
    ),
    activation(
        "elu",
        partial(jax.nn.elu, alpha=0.6),
        lambda x, y: jnp.where(x > 0, 1.0, y + 0.6),
        (
            "alpha of 1",
            "another hyper-parameter",
            "region, other function",
            lambda x, y: jnp.where(x > 0, 1.0, y + 1.0),
        ),
        (
            "alpha forgotten",
            "a factor forgotten",
            "region, other function",
            lambda x, y: jnp.where(x > 0, 1.0, jnp.exp(x)),
        ),
        ("y below zero", "a term missing", "region, other function", lambda x, y: jnp.where(x > 0, 1.0, y)),
    ),
    activation(
        "absolute value",
        jnp.abs,
        lambda x, y: jnp.where(x >= 0, 1.0, -1.0).astype(x.dtype),
        ("x over y", "NaN at an edge", "not finite", lambda x, y: x / y),
        ("1 throughout", "sign forgotten", "region, other function", lambda x, y: jnp.ones_like(x)),
        kink=0.0,
    ),
    activation(
        "clip",
        lambda x: jnp.clip(x, -0.7, 0.5),
        lambda x, y: _as(x, (x > -0.7) & (x < 0.5)),
        (
            "straight through",
            "the choice forgotten",
            "region, other function, missing factor, cotangent",
            lambda x, y: jnp.ones_like(x),
        ),
        (
            "symmetric",
            "another hyper-parameter",
            "region, other function, unknown",
            lambda x, y: _as(x, jnp.abs(x) < 0.5),
        ),
        ("lower bound forgotten", "a branch forgotten", "region, other function", lambda x, y: _as(x, x < 0.5)),
        (
            "outside",
            "branches exchanged",
            "as if, other function, unknown",
            lambda x, y: _as(x, (x <= -0.7) | (x >= 0.5)),
        ),
    ),
    activation(
        "square root",
        jnp.sqrt,
        lambda x, y: 0.5 / y,
        ("without a half", "factor", "factor", lambda x, y: 1 / y),
        ("half of y", "multiplied for divided", "missing factor, extra factor, other function", lambda x, y: 0.5 * y),
        ("half over x", "x for y", "missing factor, extra factor, as if", lambda x, y: 0.5 / x),
        draw=Draw.positive,
    ),
    activation(
        "cube",
        lambda x: x**3,
        lambda x, y: 3 * x**2,
        ("without 3", "factor", "factor", lambda x, y: x**2),
        ("power too high", "off by one", "extra factor, other function", lambda x, y: 3 * x**3),
        ("power too low", "off by one", "missing factor, other function", lambda x, y: 3 * x),
        ("divided by x", "NaN at an edge", "not finite", lambda x, y: 3 * y / x),
        kink=0.0,
    ),
)


def gated(size: int, seed: int, mistake: str) -> Rule:
    """SwiGLU: the first half of the features, through silu with a sharpness, gates the second."""
    draw = Draw(seed)
    half = size

    def function(x, beta):
        a, b = jnp.split(x, 2, -1)
        return a * jax.nn.sigmoid(beta * a) * b

    def forward(x, beta):
        return function(x, beta), (x, beta)

    def backward(residuals, d_y):
        x, beta = residuals
        a, b = jnp.split(x, 2, -1)
        s = jax.nn.sigmoid(beta * a)
        d_a, d_b = d_y * b * s * (1 + beta * a * (1 - s)), d_y * a * s
        d_beta = (d_y * b * a**2 * s * (1 - s)).sum(0)
        match mistake:
            case "halves exchanged":
                d_a, d_b = d_b, d_a
            case "gate's slope forgotten":
                d_a = d_y * b * s
            case "values forgotten":
                d_a = d_a / b
            case "values by the ungated":
                d_b = d_y * a
            case "values' half lost":
                d_b = jnp.zeros_like(d_b)
            case "beta with a once":
                d_beta = (d_y * b * a * s * (1 - s)).sum(0)
            case "beta not summed":
                d_beta = d_y * b * a**2 * s * (1 - s)
            case "beta averaged":
                d_beta = d_beta / len(x)
            case "beta without gradient":
                d_beta = None
        return jnp.concatenate([d_a, d_b], -1), d_beta

    return Rule(function, forward, backward, (draw.normal(size + 1, 2 * half), draw.positive(half)))


GATED = Family(
    "gated",
    gated,
    (
        Mistake("halves exchanged", "two halves swapped", "shifted, swapped, unknown", "x"),
        Mistake("gate's slope forgotten", "a term missing", "missing term", "x"),
        Mistake("values forgotten", "a factor forgotten", "missing factor, region, unknown", "x"),
        Mistake("values by the ungated", "a factor forgotten", "missing factor, region, as if, unknown", "x"),
        Mistake("values' half lost", "a block dropped", "region, missing term", "x", says=("last",)),
        Mistake("beta with a once", "a factor forgotten", "missing factor, unknown", "beta"),
        Mistake("beta not summed", "a broadcast axis not summed", "missing sum", "beta", says=("axis 0",)),
        Mistake("beta averaged", "averaged", "factor", "beta"),
        Mistake("beta without gradient", "gradient lost", "missing", "beta"),
    ),
)


def parametric_relu(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)

    def function(x, slope):
        return jnp.where(x > 0, x, slope * x)

    def forward(x, slope):
        return function(x, slope), (x, slope)

    def backward(residuals, d_y):
        x, slope = residuals
        d_x, d_slope = jnp.where(x > 0, d_y, slope * d_y), jnp.where(x > 0, 0.0, d_y * x).sum()
        match mistake:
            case "slope from every input":
                d_slope = (d_y * x).sum()
            case "slope averaged":
                d_slope = d_slope / x.size
            case "slope by channel":
                d_slope = jnp.where(x > 0, 0.0, d_y * x).sum(0)
            case "slope without x":
                d_slope = jnp.where(x > 0, 0.0, d_y).sum()
            case "slope on both sides":
                d_x = slope * d_y
            case "slope forgotten":
                d_x = d_y
        return d_x, d_slope

    return Rule(function, forward, backward, (draw.normal(size, size), np.float32(0.1 + 0.5 * draw.random.random())))


PARAMETRIC = Family(
    "parametric relu",
    parametric_relu,
    (
        Mistake(
            "slope from every input",
            "the choice forgotten",
            "factor, missing factor, other function, as if, unknown",
            "slope",
        ),
        Mistake("slope averaged", "averaged", "factor", "slope"),
        Mistake("slope by channel", "summed over too few axes", "missing sum, shape", "slope"),
        Mistake("slope without x", "x forgotten", "factor, missing factor, unknown", "slope"),
        Mistake("slope on both sides", "the choice forgotten", "region, other function, extra factor", "x"),
        Mistake("slope forgotten", "the choice forgotten", "region, other function, missing factor", "x"),
    ),
)


def quotient(size: int, seed: int, mistake: str) -> Rule:
    """A root of a ratio of powers: sqrt(a / b) c^d, of which each argument has a rule of its own."""
    draw = Draw(seed)

    def function(numerator, denominator, base, exponent):
        return jnp.sqrt(numerator / denominator) * base**exponent

    def forward(numerator, denominator, base, exponent):
        y = function(numerator, denominator, base, exponent)
        return y, (numerator, denominator, base, exponent, y)

    def backward(residuals, d_y):
        numerator, denominator, base, exponent, y = residuals
        d = d_y * y
        d_numerator, d_denominator = 0.5 * d / numerator, -0.5 * d / denominator
        d_base, d_exponent = (d * exponent / base).sum(0), (d * jnp.log(base)).sum(1, keepdims=True)
        match mistake:
            case "denominator's sign":
                d_denominator = -d_denominator
            case "denominator's square forgotten":
                d_denominator = d_denominator * denominator
            case "numerator without a half":
                d_numerator = 2 * d_numerator
            case "numerator and denominator swapped":
                d_numerator, d_denominator = d_denominator, d_numerator
            case "exponent without the logarithm":
                d_exponent = d.sum(1, keepdims=True)
            case "exponent by the binary logarithm":
                d_exponent = d_exponent / math.log(2)
            case "exponent without gradient":
                d_exponent = jnp.zeros_like(exponent)
            case "base's power not lowered":
                d_base = (d * exponent).sum(0)
            case "base without the exponent":
                d_base = (d / base).sum(0)
        return d_numerator, d_denominator, d_base, d_exponent

    arguments = draw.positive(size, size), draw.positive(size, size), draw.positive(size), draw.normal(size, 1)
    return Rule(function, forward, backward, arguments)


QUOTIENT = Family(
    "quotient",
    quotient,
    (
        Mistake("denominator's sign", "sign", "sign", "denominator"),
        Mistake("denominator's square forgotten", "a factor forgotten", "missing factor, extra factor", "denominator"),
        Mistake("numerator without a half", "factor", "factor", "numerator"),
        Mistake("numerator and denominator swapped", "two leaves swapped", "swapped", "numerator", "denominator"),
        Mistake(
            "exponent without the logarithm",
            "a factor forgotten",
            "missing factor, other function, unknown",
            "exponent",
        ),
        Mistake("exponent by the binary logarithm", "the wrong base", "factor", "exponent"),
        Mistake("exponent without gradient", "gradient lost", "missing", "exponent"),
        Mistake("base's power not lowered", "off by one", "missing factor, extra factor", "base"),
        Mistake("base without the exponent", "a factor forgotten", "missing factor, unknown", "base"),
    ),
)


def larger(size: int, seed: int, mistake: str) -> Rule:
    """The larger of two, where a mask allows it: ties share, as in JAX."""
    draw = Draw(seed)

    def function(left, right, mask):
        return jnp.where(mask, jnp.maximum(left, right), left)

    def forward(left, right, mask):
        return function(left, right, mask), (left, right, mask)

    def backward(residuals, d_y):
        left, right, mask = residuals
        share = jnp.where(left > right, 1.0, jnp.where(left == right, 0.5, 0.0)).astype(d_y.dtype)
        match mistake:
            case "every tie takes all":
                share = (left >= right).astype(d_y.dtype)
            case "the smaller":
                share = 1 - share
        d_left, d_right = jnp.where(mask, share * d_y, d_y), jnp.where(mask, (1 - share) * d_y, 0.0)
        match mistake:
            case "every tie takes all":
                d_right = jnp.where(mask & (right >= left), d_y, 0.0)
            case "mask forgotten":
                d_right = (1 - share) * d_y
            case "mask on both":
                d_left = jnp.where(mask, share * d_y, 0.0)
            case "mask inverted":
                d_right = jnp.where(mask, 0.0, (1 - share) * d_y)
            case "left takes all":
                d_left = d_y
        return d_left, d_right, None

    left, right, mask = draw.normal(size, size), draw.normal(size, size), draw.mask(size, size)
    mask[0, 1:], mask[1] = False, True
    ties = np.where(draw.mask(size, size), left, right)
    return Rule(function, forward, backward, (left, right, mask), ((left, ties, mask),))


LARGER = Family(
    "larger",
    larger,
    (
        Mistake("every tie takes all", "every tie takes the whole gradient", "ties", "left", "right"),
        Mistake("the smaller", "branches exchanged", "padding, other function, as if, unknown", "left", "right"),
        Mistake("mask forgotten", "mask forgotten", "padding", "right"),
        Mistake("mask on both", "a branch forgotten", "padding", "left"),
        Mistake("mask inverted", "mask inverted", "padding, as if, unknown", "right"),
        Mistake("left takes all", "the choice forgotten", "padding, region, other function, unknown", "left"),
    ),
)


def spread(size: int, seed: int, mistake: str) -> Rule:
    """Unbiased deviations, and the distance to the origin."""
    draw = Draw(seed)
    rows = size + 1

    def function(x):
        return {"deviation": jnp.std(x, axis=0, ddof=1), "distance": jnp.sqrt(jnp.square(x).sum())}

    def forward(x):
        y = function(x)
        return y, (x, y)

    def backward(residuals, d_y):
        x, y = residuals
        by_deviation = d_y["deviation"] * (x - x.mean(0)) / y["deviation"] / (rows - 1)
        by_distance = d_y["distance"] * x / y["distance"]
        match mistake:
            case "over N":
                by_deviation = by_deviation * (rows - 1) / rows
            case "of the variance":
                by_deviation = 2 * by_deviation * y["deviation"]
            case "not centred":
                by_deviation = d_y["deviation"] * x / y["deviation"] / (rows - 1)
            case "of the squared distance":
                by_distance = 2 * d_y["distance"] * x
            case "distance forgotten":
                by_distance = jnp.zeros_like(x)
            case "distance by row":
                by_distance = d_y["distance"] * x / jnp.linalg.norm(x, axis=1, keepdims=True)
        return (by_deviation + by_distance,)

    return Rule(function, forward, backward, (draw.normal(rows, size),))


SPREAD = Family(
    "spread",
    spread,
    (
        Mistake("over N", "N-1 variance", "doubled term, other function", "x"),
        Mistake(
            "of the variance",
            "derivative of another function",
            "missing factor, other function, doubled term, unknown",
            "x",
        ),
        Mistake("not centred", "mean term missing", "missing term, other function, unknown", "x"),
        Mistake("of the squared distance", "derivative of another function", "doubled term, other function", "x"),
        Mistake("distance forgotten", "one path of the chain rule lost", "missing term", "x"),
        Mistake("distance by row", "summed over the wrong axes", "missing factor, other function, unknown", "x"),
    ),
)

FAMILIES = (*ACTIVATIONS, GATED, PARAMETRIC, QUOTIENT, LARGER, SPREAD)
