"""Wrong rules of attention: softmax's row sum, the scale, masks forgotten in a recompute, heads, positions."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from .kinds import Draw
from .registry import Family, Mistake, Rule


def softmax(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)

    def function(x):
        return jax.nn.softmax(x / 2)

    def forward(x):
        p = jax.nn.softmax(x / 2)
        return p, p

    def backward(p, d_y):
        d = p * (d_y - (d_y * p).sum(-1, keepdims=True))
        match mistake:
            case "without the row sum":
                d = p * d_y
            case "diagonal alone":
                d = p * (1 - p) * d_y
            case "row sum added":
                d = p * (d_y + (d_y * p).sum(-1, keepdims=True))
            case "row sum without p":
                d = p * (d_y - d_y.sum(-1, keepdims=True))
            case "column sum":
                d = p * (d_y - (d_y * p).sum(0, keepdims=True))
            case "of log-softmax":
                d = d_y - p * d_y.sum(-1, keepdims=True)
            case "p once too often":
                d = p * d
            case "temperature multiplied":
                return (2 * d,)
            case "row mean":
                d = p * (d_y - (d_y * p).mean(-1, keepdims=True))
        return (d / 2,)

    return Rule(function, forward, backward, (draw.normal(size, size),))


SOFTMAX = Family(
    "softmax",
    softmax,
    (
        Mistake("without the row sum", "softmax backward without the row sum", "missing term", "x"),
        Mistake(
            "diagonal alone",
            "softmax backward with only its diagonal",
            "missing sum, missing term, as if, unknown",
            "x",
        ),
        Mistake("row sum added", "sign of a term", "doubled term", "x"),
        Mistake("row sum without p", "a factor forgotten", "missing factor, other function, unknown", "x"),
        Mistake("column sum", "the wrong axis", "transposed, other function, unknown", "x"),
        Mistake("of log-softmax", "derivative of another function", "other function", "x"),
        Mistake("p once too often", "a factor too many", "extra factor", "x"),
        Mistake("temperature multiplied", "multiplied for divided", "factor", "x"),
        Mistake("row mean", "averaged", "doubled term", "x"),
    ),
)


def attention(size: int, seed: int, mistake: str) -> Rule:
    """One head, causal, and with a mask of the keys that are no padding."""
    draw = Draw(seed)
    batch, time = 2, min(size, 32)
    width = time if mistake == "scale of the time" else time + 3

    def allowed(mask, offset=0):
        return jnp.tril(jnp.ones((time, time), bool), offset) & mask[:, None, :]

    def probabilities(q, k, seen):
        scores = q @ k.mT / math.sqrt(width)
        return jax.nn.softmax(jnp.where(seen, scores, -1e30))

    def function(q, k, v, mask):
        return probabilities(q, k, allowed(mask)) @ v

    def forward(q, k, v, mask):
        return function(q, k, v, mask), (q, k, v, mask)

    def backward(residuals, d_y):
        q, k, v, mask = residuals
        seen = allowed(mask)
        match mistake:
            case "padding seen in the recompute":
                seen = allowed(jnp.ones_like(mask))
            case "future seen in the recompute":
                seen = jnp.broadcast_to(mask[:, None, :], seen.shape)
            case "one step of the future seen":
                seen = allowed(mask, 1)
            case "first example's mask for all":
                seen = jnp.broadcast_to(seen[:1], seen.shape)
        p = probabilities(q, k, seen)
        if mistake == "softmax over queries":
            p = jnp.where(seen, jax.nn.softmax(jnp.where(seen, q @ k.mT / math.sqrt(width), -1e30), 1), 0)
        d_v, d_p = p.mT @ d_y, d_y @ v.mT
        row = (d_p * p).sum(-1, keepdims=True)
        d_scores = p * (d_p - row) / math.sqrt(width)
        match mistake:
            case "without the row sum":
                d_scores = p * d_p / math.sqrt(width)
            case "softmax's diagonal alone":
                d_scores = p * (1 - p) * d_p / math.sqrt(width)
            case "scores' slope forgotten":
                d_scores = jnp.where(seen, d_p, 0) / math.sqrt(width)
        d_q, d_k = d_scores @ k, d_scores.mT @ q
        match mistake:
            case "queries unscaled":
                d_q = d_q * math.sqrt(width)
            case "keys unscaled":
                d_k = d_k * math.sqrt(width)
            case "queries scaled by the width":
                d_q = d_q / math.sqrt(width)
            case "values by p untransposed":
                d_v = p @ d_y
            case "keys by scores untransposed":
                d_k = d_scores @ q
            case "queries by scores transposed":
                d_q = d_scores.mT @ k
            case "queries and keys swapped":
                d_q, d_k = d_k, d_q
            case "keys from keys":
                d_k = d_scores.mT @ k
            case "values like ones":
                d_v = jnp.where(seen, 1.0, 0.0).astype(d_y.dtype).mT @ d_y
            case "values of the first query":
                d_v = p[:, :1].mT @ d_y[:, :1]
            case "last query dropped":
                d_k = d_scores[:, :-1].mT @ q[:, :-1]
            case "values of a block of keys lost":
                d_v = d_v.at[:, -2:].set(0.0)
        return d_q, d_k, d_v, None

    mask = np.ones((batch, time), bool)
    mask[1, 2 * time // 3 :] = False
    arguments = *(2 * draw.normal(batch, time, width) for _ in range(3)), mask
    return Rule(function, forward, backward, arguments)


_ALL = "k, v"
ATTENTION = Family(
    "attention",
    attention,
    (
        Mistake("queries unscaled", "missing 1/sqrt(d) in dq", "factor", "q", says=("sqrt",)),
        Mistake("keys unscaled", "missing 1/sqrt(d) in dk", "factor", "k", says=("sqrt",)),
        Mistake("queries scaled by the width", "1/sqrt(d) twice", "factor", "q"),
        Mistake("without the row sum", "softmax backward without the row sum", "missing term", "q", "k"),
        Mistake(
            "softmax's diagonal alone",
            "softmax backward with only its diagonal",
            "missing term, missing sum, as if, unknown",
            "q",
            "k",
        ),
        Mistake(
            "scores' slope forgotten",
            "softmax skipped",
            "missing factor, other function, missing term, unknown",
            "q",
            "k",
        ),
        Mistake("padding seen in the recompute", "mask forgotten in a recompute", "padding", "q", _ALL),
        Mistake(
            "future seen in the recompute",
            "mask forgotten in a recompute",
            "padding, other function, as if, unknown",
            "q",
            _ALL,
        ),
        Mistake(
            "one step of the future seen",
            "mask off by one",
            "shifted, padding, other function, as if, unknown",
            "q",
            _ALL,
        ),
        Mistake("first example's mask for all", "mask of another row", "padding, as if, region", "q", _ALL),
        Mistake("softmax over queries", "the wrong axis", "transposed, other function, unknown", "q", _ALL),
        Mistake("values by p untransposed", "dv = p dy", "transposed", "v"),
        Mistake("keys by scores untransposed", "dk = ds q", "transposed", "k"),
        Mistake("queries by scores transposed", "dq = ds^T k", "transposed", "q"),
        Mistake("queries and keys swapped", "two leaves swapped", "swapped", "q", "k"),
        Mistake("keys from keys", "another value saved", "as if", "k"),
        Mistake("values like ones", "a factor forgotten", "missing factor, as if, other function, unknown", "v"),
        Mistake("values of the first query", "summed over too few", "region, missing sum", "v"),
        Mistake("last query dropped", "last row dropped", "region", "k"),
        Mistake("values of a block of keys lost", "a block dropped", "region", "v", says=("last",)),
    ),
)


def multi_head(size: int, seed: int, mistake: str) -> Rule:
    """Self-attention with its projections."""
    draw = Draw(seed)
    time, heads, each = min(size, 24) + 1, 2, min(size, 16)
    width = heads * each

    def split(a):
        return a.reshape(time, heads, each).swapaxes(0, 1)

    def merged(a):
        return a.swapaxes(0, 1).reshape(time, width)

    def parts(params, x):
        q, k, v = (split(x @ params[name]) for name in ("query", "key", "value"))
        p = jax.nn.softmax(q @ k.mT / math.sqrt(each))
        context = merged(p @ v)
        return context @ params["out"], (params, x, q, k, v, p, context)

    def function(params, x):
        return parts(params, x)[0]

    def forward(params, x):
        return parts(params, x)

    def backward(residuals, d_y):
        params, x, q, k, v, p, context = residuals
        d_out = context.T @ d_y
        d_context = split(d_y @ params["out"].T)
        d_v, d_p = p.mT @ d_context, d_context @ v.mT
        d_scores = p * (d_p - (d_p * p).sum(-1, keepdims=True)) / math.sqrt(each)
        d_q, d_k, d_v = merged(d_scores @ k), merged(d_scores.mT @ q), merged(d_v)
        d_query, d_key, d_value = x.T @ d_q, x.T @ d_k, x.T @ d_v
        by_query, by_key, by_value = d_q @ params["query"].T, d_k @ params["key"].T, d_v @ params["value"].T
        d_x = by_query + by_key + by_value
        match mistake:
            case "heads merged without transposing":
                d_out = (p @ v).reshape(time, width).T @ d_y
            case "query scaled by the whole width":
                d_query = d_query * math.sqrt(each / width)
            case "value's first head alone":
                d_value = d_value.at[:, each:].set(0.0)
            case "heads in reverse":
                d_value = x.T @ merged((p.mT @ d_context)[::-1])
            case "input through queries alone":
                d_x = by_query
            case "input not through keys":
                d_x = by_query + by_value
            case "input through values twice":
                d_x = by_query + by_key + 2 * by_value
            case "input by query's kernel untransposed":
                d_x = d_q @ params["query"] + by_key + by_value
            case "out's kernel from the values":
                d_out = merged(v).T @ d_y
            case "query and key kernels swapped":
                d_query, d_key = d_key, d_query
            case "key's row sum forgotten":
                d_key = x.T @ merged((p * d_p).mT @ q) / math.sqrt(each)
            case "out transposed":
                d_out = d_out.T
        return {"query": d_query, "key": d_key, "value": d_value, "out": d_out}, d_x

    params = {
        name: draw.normal(width, width) / np.float32(math.sqrt(width)) for name in ("query", "key", "value", "out")
    }
    return Rule(function, forward, backward, (params, 2 * draw.normal(time, width)))


MULTI_HEAD = Family(
    "multi-head attention",
    multi_head,
    (
        Mistake("heads merged without transposing", "axes swapped", "transposed, as if, unknown", "params/out"),
        Mistake("query scaled by the whole width", "the wrong size", "factor", "params/query", says=("sqrt",)),
        Mistake("value's first head alone", "a block dropped", "region", "params/value", says=("axis 1",)),
        Mistake("heads in reverse", "order along an axis", "flipped, permuted, unknown", "params/value"),
        Mistake("input through queries alone", "two paths of the chain rule lost", "missing term", "x"),
        Mistake("input not through keys", "one path of the chain rule lost", "missing term", "x"),
        Mistake("input through values twice", "a term twice", "doubled term", "x"),
        Mistake("input by query's kernel untransposed", "dx = dy W", "transposed", "x"),
        Mistake("out's kernel from the values", "another value saved", "as if, missing factor", "params/out"),
        Mistake("query and key kernels swapped", "two leaves swapped", "swapped", "params/query", "params/key"),
        Mistake("key's row sum forgotten", "softmax backward without the row sum", "missing term", "params/key"),
        Mistake("out transposed", "dW = dy^T x", "transposed", "params/out"),
    ),
)


def grouped_query(size: int, seed: int, mistake: str) -> Rule:
    """Four heads of queries that share two of keys and values, scores capped by tanh, biased by distance."""
    draw = Draw(seed)
    time, heads, shared, width = min(size, 16) + 2, 4, 2, min(size, 16)
    cap = 3.0
    distance = np.minimum(np.abs(np.arange(time)[:, None] - np.arange(time)), 3)

    def repeated(a):
        return jnp.repeat(a, heads // shared, axis=0)

    def parts(q, k, v, bias):
        capped = jnp.tanh(q @ repeated(k).mT / math.sqrt(width) / cap)
        p = jax.nn.softmax(cap * capped + bias[:, distance])
        return p @ repeated(v), (q, k, v, capped, p)

    def function(q, k, v, bias):
        return parts(q, k, v, bias)[0]

    def forward(q, k, v, bias):
        return parts(q, k, v, bias)

    def backward(residuals, d_y):
        q, k, v, capped, p = residuals
        d_p = d_y @ repeated(v).mT
        d_scores = p * (d_p - (d_p * p).sum(-1, keepdims=True))
        by_distance = jnp.zeros((heads, 4), d_y.dtype).at[:, distance]
        d_bias = by_distance.add(d_scores)
        d_raw = d_scores * (1 - jnp.square(capped)) / math.sqrt(width)
        of_shared = lambda d: d.reshape(shared, heads // shared, time, width)  # noqa: E731
        d_q = d_raw @ repeated(k)
        d_k, d_v = of_shared(d_raw.mT @ q), of_shared(p.mT @ d_y)
        match mistake:
            case "keys of the first query head":
                d_k = d_k[:, :1]
            case "values averaged":
                d_v = d_v / (heads // shared)
            case "values in tiles":
                d_v = (p.mT @ d_y).reshape(heads // shared, shared, time, width).swapaxes(0, 1)
            case "cap forgotten for queries":
                d_q = d_scores / math.sqrt(width) @ repeated(k)
            case "cap once too often":
                d_q = d_q / cap
            case "bias overwritten":
                d_bias = by_distance.set(d_scores)
            case "bias averaged over places":
                d_bias = d_bias / jnp.zeros(4, d_y.dtype).at[distance].add(1.0)
            case "bias over all heads":
                d_bias = jnp.broadcast_to(d_bias.sum(0), d_bias.shape)
            case "bias scaled like scores":
                d_bias = d_bias / math.sqrt(width)
        return d_q, d_k.sum(1), d_v.sum(1), d_bias

    arguments = draw.normal(heads, time, width), draw.normal(shared, time, width), draw.normal(shared, time, width)
    return Rule(function, forward, backward, (*arguments, draw.normal(heads, 4)))


GROUPED_QUERY = Family(
    "grouped-query attention",
    grouped_query,
    (
        Mistake(
            "keys of the first query head",
            "a broadcast axis not summed",
            "missing sum, missing term, region, unknown",
            "k",
        ),
        Mistake("values averaged", "averaged", "factor", "v"),
        Mistake("values in tiles", "the wrong axis of a reshape", "transposed, as if, unknown", "v"),
        Mistake(
            "cap forgotten for queries",
            "a factor forgotten",
            "missing factor, missing term, other function, unknown",
            "q",
        ),
        Mistake("cap once too often", "a factor too many", "factor", "q"),
        Mistake(
            "bias overwritten",
            "duplicate ids overwritten",
            "duplicates, region, missing sum, missing term, unknown",
            "bias",
        ),
        Mistake("bias averaged over places", "averaged", "missing factor, extra factor", "bias"),
        Mistake("bias over all heads", "summed over too many axes", "extra sum", "bias"),
        Mistake("bias scaled like scores", "1/sqrt(d) too many", "factor", "bias", says=("sqrt",)),
    ),
)


def rotary(size: int, seed: int, mistake: str) -> Rule:
    """Rotary positions (Su et al. 2021): pairs of features turned by an angle that grows with the position."""
    draw = Draw(seed)
    time, half = size, min(size, 16)

    def turned(x, angles, back=False):
        a, b = jnp.split(x, 2, -1)
        cos, sin = jnp.cos(angles), -jnp.sin(angles) if back else jnp.sin(angles)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def function(x, frequency):
        return turned(x, jnp.arange(time, dtype=x.dtype)[:, None] * frequency)

    def forward(x, frequency):
        return function(x, frequency), (x, frequency)

    def backward(residuals, d_y):
        x, frequency = residuals
        position = jnp.arange(time, dtype=x.dtype)[:, None]
        angles = position * frequency
        a, b = jnp.split(turned(x, angles), 2, -1)
        d_a, d_b = jnp.split(d_y, 2, -1)
        d_x, d_frequency = turned(d_y, angles, back=True), (position * (d_b * a - d_a * b)).sum((0, 1))
        match mistake:
            case "turned forwards again":
                d_x = turned(d_y, angles)
            case "not turned":
                d_x = d_y
            case "positions from 1":
                d_x = turned(d_y, angles + frequency, back=True)
            case "halves exchanged":
                d_x = jnp.concatenate(jnp.split(d_x, 2, -1)[::-1], -1)
            case "frequency without the position":
                d_frequency = (d_b * a - d_a * b).sum((0, 1))
            case "frequency of the unturned":
                a, b = jnp.split(x, 2, -1)
                d_frequency = (position * (d_b * a - d_a * b)).sum((0, 1))
        return d_x, d_frequency

    return Rule(function, forward, backward, (draw.normal(3, time, 2 * half), draw.positive(half)))


ROTARY = Family(
    "rotary positions",
    rotary,
    (
        Mistake("turned forwards again", "sign of a term", "doubled term, as if, transposed, unknown", "x"),
        Mistake("not turned", "derivative of the identity", "other function, cotangent, as if", "x"),
        Mistake("positions from 1", "off by one", "shifted, other function, as if, unknown", "x"),
        Mistake("halves exchanged", "order along an axis", "shifted, swapped, unknown", "x"),
        Mistake("frequency without the position", "a factor forgotten", "missing factor, other function", "frequency"),
        Mistake("frequency of the unturned", "another value saved", "as if, other function, unknown", "frequency"),
    ),
)

FAMILIES = (SOFTMAX, ATTENTION, MULTI_HEAD, GROUPED_QUERY, ROTARY)
