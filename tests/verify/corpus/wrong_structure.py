"""Wrong rules whose parts are right and put together wrongly: outputs, steps, masks, orders, two ways at once."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from .kinds import Draw
from .registry import Family, Mistake, Rule


def softmax_pull(p, d_p):
    return p * (d_p - (p * d_p).sum(-1, keepdims=True))


def window(size: int, seed: int, mistake: str) -> Rule:
    """Attention over the two neighbours at each side."""
    draw = Draw(seed)
    time, width, out = size + 2, size, size + 1

    def weights(query, key, reach):
        place = np.arange(query.shape[0])
        near = np.abs(place[:, None] - place) <= reach
        return jax.nn.softmax(jnp.where(near, query @ key.T, -jnp.inf), -1)

    def function(query, key, value):
        return weights(query, key, 2) @ value

    def forward(query, key, value):
        return function(query, key, value), (query, key, value)

    def backward(residuals, d_y):
        query, key, value = residuals
        p = weights(query, key, 2)
        d_scores = softmax_pull(p, d_y @ value.T)
        d_query, d_key, d_value = d_scores @ key, d_scores.T @ query, p.T @ d_y
        match mistake:
            case "narrower for the query":
                d_query = softmax_pull(weights(query, key, 1), d_y @ value.T) @ key
            case "value by all":
                d_value = jax.nn.softmax(query @ key.T, -1).T @ d_y
        return d_query, d_key, d_value

    root = width**-0.25
    query, key = draw.normal(time, width) * root, draw.normal(time, width) * root
    return Rule(function, forward, backward, (query, key, draw.normal(time, out)))


WINDOW = Family(
    "window",
    window,
    (
        Mistake("narrower for the query", "mask off by one", "other function", "query", says=("narrower",)),
        Mistake("value by all", "mask forgotten in a recompute", "padding", "value", says=("mask",)),
    ),
)


def rotated(size: int, seed: int, mistake: str) -> Rule:
    """Scores of queries and keys whose halves are rotated by an angle that grows with the place."""
    draw = Draw(seed)
    time, half = size + 1, size

    def turned(x, sign=1.0):
        angle = jnp.arange(x.shape[0])[:, None] * (0.5 + jnp.arange(x.shape[1] // 2)) * 0.1
        cos, sin = jnp.cos(angle).astype(x.dtype), sign * jnp.sin(angle).astype(x.dtype)
        one, other = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
        return jnp.concatenate([one * cos - other * sin, one * sin + other * cos], 1)

    def function(query, key):
        return turned(query) @ turned(key).T

    def forward(query, key):
        return function(query, key), (query, key)

    def backward(residuals, d_y):
        query, key = residuals
        back = 1.0 if mistake == "rotated on" else -1.0
        return turned(d_y @ turned(key), -1.0), turned(d_y.T @ turned(query), back)

    return Rule(function, forward, backward, (draw.normal(time, 2 * half), draw.normal(time + 2, 2 * half)))


ROTATED = Family("rotated", rotated, (Mistake("rotated on", "not inverted", "doubled term", "key", says=("sign",)),))


def contrast(size: int, seed: int, mistake: str) -> Rule:
    """Two embeddings of the same examples tell each other's apart, in both directions."""
    draw = Draw(seed)
    batch, width = size, size + 2

    def function(one, other):
        scores = one @ other.T
        rows, columns = jax.nn.logsumexp(scores, 1), jax.nn.logsumexp(scores, 0)
        return 0.5 * jnp.mean(rows - jnp.diagonal(scores)) + 0.5 * jnp.mean(columns - jnp.diagonal(scores))

    def forward(one, other):
        return function(one, other), (one, other)

    def backward(residuals, d_y):
        one, other = residuals
        scores, eye = one @ other.T, jnp.eye(batch, dtype=one.dtype)
        rows, columns = jax.nn.softmax(scores, 1), jax.nn.softmax(scores, 0)
        d_scores = d_y / batch * ((rows + columns) / 2 - eye)
        alone = d_y / batch * (rows - eye)
        return d_scores @ other, (alone if mistake == "rows alone" else d_scores).T @ one

    root = width**-0.5
    return Rule(function, forward, backward, (draw.normal(batch, width) * root, draw.normal(batch, width)))


CONTRAST = Family(
    "contrast",
    contrast,
    (Mistake("rows alone", "one direction for both", "missing term, doubled term, other function", "other"),),
)


def smoothed(size: int, seed: int, mistake: str) -> Rule:
    """Cross-entropy with a tenth of the target spread over all classes."""
    draw = Draw(seed)
    batch, classes = size, size + 3

    def function(logits, labels):
        log_p = jax.nn.log_softmax(logits, -1)
        of_label = jnp.take_along_axis(log_p, labels[:, None], -1)[:, 0]
        return -jnp.mean(0.9 * of_label + 0.1 * log_p.mean(-1))

    def forward(logits, labels):
        return function(logits, labels), (logits, labels)

    def backward(residuals, d_y):
        logits, labels = residuals
        uniform = 0.0 if mistake == "without the uniform part" else 0.1 / classes
        target = 0.9 * jax.nn.one_hot(labels, classes, dtype=logits.dtype) + uniform
        return d_y / batch * (jax.nn.softmax(logits, -1) - target), None

    return Rule(function, forward, backward, (draw.normal(batch, classes), draw.ids(classes, batch)))


SMOOTHED = Family(
    "smoothed",
    smoothed,
    (Mistake("without the uniform part", "smoothing only in the forward", "missing term", "logits", says=("also",)),),
)


def normalised(size: int, seed: int, mistake: str) -> Rule:
    """Rows of length one."""
    draw = Draw(seed)

    def function(x):
        return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6)

    def forward(x):
        return function(x), x

    def backward(x, d_y):
        root = 1 / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-6)
        along = x if mistake == "input for output" else x * root
        return (root * (d_y - along * jnp.sum(along * d_y, -1, keepdims=True)),)

    return Rule(function, forward, backward, (draw.normal(size + 1, size),))


NORMALISED = Family(
    "normalised",
    normalised,
    (Mistake("input for output", "input for output", "missing factor, extra factor", "x", says=()),),
)


def states(size: int, seed: int, mistake: str) -> Rule:
    """A recurrence that gives all its states, and the last one once more."""
    draw = Draw(seed)
    time, batch, width = size, 3, size + 1

    def function(kernel, start, x):
        def step(state, x_t):
            state = jnp.tanh(x_t + state @ kernel)
            return state, state

        last, all_of_them = jax.lax.scan(step, start, x)
        return all_of_them, last

    def forward(kernel, start, x):
        y = function(kernel, start, x)
        return y, (kernel, start, y[0])

    def backward(residuals, d_y):
        kernel, start, all_of_them = residuals
        d_all, d_last = d_y
        before = jnp.concatenate([start[None], all_of_them[:-1]])
        if mistake == "last state ignored":
            d_last = jnp.zeros_like(d_last)

        def step(d_state, given):
            d_t, state = given
            d_sum = (d_state + d_t) * (1 - state**2)
            return d_sum @ kernel.T, d_sum

        d_start, d_sums = jax.lax.scan(step, d_last, (d_all, all_of_them), reverse=True)
        first = 1 if mistake == "kernel without the first step" else 0
        d_kernel = jnp.einsum("tbi,tbj->ij", before[first:], d_sums[first:])
        return d_kernel, d_start, d_sums

    kernel = draw.normal(width, width) / math.sqrt(width)
    return Rule(function, forward, backward, (kernel, draw.normal(batch, width), draw.normal(time, batch, width)))


STATES = Family(
    "states",
    states,
    (
        Mistake("last state ignored", "an output's cotangent lost", "missing term", "kernel", "start, x", ("ignored",)),
        Mistake("kernel without the first step", "h_0 taken for zero", "missing term", "kernel", says=("first step",)),
    ),
)


def causal_filter(size: int, seed: int, mistake: str) -> Rule:
    """Every channel filtered over time by taps of its own, from the present back."""
    draw = Draw(seed)
    time, channels, taps = size + 3, size, 3

    def function(x, kernel):
        padded = jnp.pad(x, ((taps - 1, 0), (0, 0)))
        return sum(padded[k : k + x.shape[0]] * kernel[k] for k in range(taps))

    def forward(x, kernel):
        return function(x, kernel), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        padded = jnp.pad(x, ((taps - 1, 0), (0, 0)))
        d_kernel = jnp.stack([(padded[k : k + x.shape[0]] * d_y).sum(0) for k in range(taps)])
        if mistake == "filtered forwards":
            return function(d_y, kernel), d_kernel
        after = jnp.pad(d_y, ((0, taps - 1), (0, 0)))
        return sum(after[taps - 1 - k : taps - 1 - k + x.shape[0]] * kernel[k] for k in range(taps)), d_kernel

    return Rule(function, forward, backward, (draw.normal(time, channels), draw.normal(taps, channels)))


FILTER = Family(
    "causal filter",
    causal_filter,
    (Mistake("filtered forwards", "convolution for correlation", "transposed", "x", says=("transpose",)),),
)


def largest_three(size: int, seed: int, mistake: str) -> Rule:
    """The three largest numbers of every row, the largest first."""
    draw = Draw(seed)

    def function(x):
        return jax.lax.top_k(x, 3)[0]

    def forward(x):
        values, places = jax.lax.top_k(x, 3)
        return values, (x, places)

    def backward(residuals, d_y):
        x, places = residuals
        if mistake == "places sorted":
            places = jnp.sort(places, -1)
        return (jnp.zeros_like(x).at[jnp.arange(x.shape[0])[:, None], places].add(d_y),)

    return Rule(function, forward, backward, (draw.normal(size, size + 2),))


LARGEST = Family("largest three", largest_three, (Mistake("places sorted", "order lost", "permuted", "x"),))


def codebook(size: int, seed: int, mistake: str) -> Rule:
    """The nearest code in place of each row, with the gradient passed straight through; a loss draws them together."""
    draw = Draw(seed)

    def function(z, codes):
        nearest = codes[jnp.argmin(((z[:, None] - codes) ** 2).sum(-1), -1)]
        passed = z + jax.lax.stop_gradient(nearest - z)
        pulled = ((jax.lax.stop_gradient(z) - nearest) ** 2).sum()
        return passed, pulled + 0.25 * ((z - jax.lax.stop_gradient(nearest)) ** 2).sum()

    def forward(z, codes):
        return function(z, codes), (z, codes)

    def backward(residuals, d_y):
        z, codes = residuals
        d_passed, d_loss = d_y
        chosen = jnp.argmin(((z[:, None] - codes) ** 2).sum(-1), -1)
        d_nearest = 2 * (codes[chosen] - z) * d_loss
        d_z = d_passed - 0.25 * d_nearest
        if mistake == "codes straight through":
            d_nearest += d_passed
        return d_z, jnp.zeros_like(codes).at[chosen].add(d_nearest)

    return Rule(function, forward, backward, (draw.normal(size + 1, 3), draw.normal(size, 3)))


CODEBOOK = Family(
    "codebook",
    codebook,
    (Mistake("codes straight through", "one stop_gradient ignored", "stop_gradient", "codes", says=("nearest - z",)),),
)


def mixed(size: int, seed: int, mistake: str) -> Rule:
    """A product of complex matrices."""
    draw = Draw(seed)

    def function(x, kernel):
        return x @ kernel

    def forward(x, kernel):
        return x @ kernel, (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        return d_y @ kernel.T, (x.conj() if mistake == "conjugated" else x).T @ d_y

    def complex_normal(*shape):
        return (draw.normal(*shape) + 1j * draw.normal(*shape)).astype(np.complex64)

    return Rule(function, forward, backward, (complex_normal(3, size), complex_normal(size, size + 1)))


MIXED = Family("mixed", mixed, (Mistake("conjugated", "another convention", "as if", "kernel", says=("conjugated",)),))


def capped(size: int, seed: int, mistake: str) -> Rule:
    """Logits that tanh keeps within 5, under a kernel."""
    draw = Draw(seed)

    def function(x, kernel):
        return 5.0 * jnp.tanh(x @ kernel / 5.0)

    def forward(x, kernel):
        return function(x, kernel), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        t = jnp.tanh(x @ kernel / 5.0)
        d_logits = d_y * (1 - (t if mistake == "not squared" else t**2))
        return d_logits @ kernel.T, x.T @ d_logits

    return Rule(function, forward, backward, (draw.normal(3, size), draw.normal(size, size + 1)))


CAPPED = Family(
    "capped", capped, (Mistake("not squared", "1 - t for 1 - t^2", "other function", "x", "kernel", ("not squared",)),)
)


def groups(size: int, seed: int, mistake: str) -> Rule:
    """Normalisation over the channels of a group and all positions."""
    draw = Draw(seed)
    batch, channels, positions = 3, 4, size + 1

    def function(x):
        rows = x.reshape(x.shape[0], 2, -1)
        mean, variance = rows.mean(-1, keepdims=True), rows.var(-1, keepdims=True)
        return ((rows - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape)

    def forward(x):
        return function(x), x

    def backward(x, d_y):
        rows, d_rows = x.reshape(x.shape[0], 2, -1), d_y.reshape(x.shape[0], 2, -1)
        count = 2 if mistake == "positions not counted" else rows.shape[-1]
        mean, variance = rows.mean(-1, keepdims=True), rows.var(-1, keepdims=True)
        root = 1 / jnp.sqrt(variance + 1e-5)
        unit = (rows - mean) * root
        both = d_rows.sum(-1, keepdims=True) + unit * (unit * d_rows).sum(-1, keepdims=True)
        return ((root * (d_rows - both / count)).reshape(x.shape),)

    return Rule(function, forward, backward, (draw.normal(batch, channels, positions),))


GROUPS = Family("groups", groups, (Mistake("positions not counted", "N too small", "doubled term", "x"),))

FAMILIES = (
    WINDOW, ROTATED, CONTRAST, SMOOTHED, NORMALISED, STATES, FILTER, LARGEST, CODEBOOK, MIXED, CAPPED, GROUPS,
)  # fmt: skip
