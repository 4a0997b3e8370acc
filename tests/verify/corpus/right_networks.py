"""Correct rules of layers and small networks: recurrent, convolutional, attention, norms, dropout."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, nn

from .kinds import Right, kept, vjp


def leak(decay, x):
    """h_t = decay h_(t-1) + x_t, over the first axis."""

    def step(h, x_t):
        h = decay * h + x_t
        return h, h

    return lax.scan(step, jnp.zeros_like(x[0]), x)[1]


def leak_forward(decay, x):
    h = leak(decay, x)
    return h, (decay, h)


def before(h):
    """What each step sees of the step before it."""
    return jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])


def leak_backward(residuals, d_h):
    decay, h = residuals
    d_x = jnp.flip(leak(decay, jnp.flip(d_h, 0)), 0)
    return (d_x * before(h)).sum(tuple(range(d_x.ndim - decay.ndim))), d_x


def gated_leak(decays, x):
    """h_t = decay_t h_(t-1) + x_t, in parallel."""
    combine = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])  # noqa: E731
    return lax.associative_scan(combine, (decays, x))[1]


def gated_leak_backward(residuals, d_h):
    decays, h = residuals
    later = jnp.concatenate([decays[1:], jnp.ones_like(decays[:1])])
    d_x = jnp.flip(gated_leak(jnp.flip(later, 0), jnp.flip(d_h, 0)), 0)
    return d_x * before(h), d_x


def returns(rewards, discount=0.9):
    """The discounted sum of what is still to come."""
    step = lambda later, reward: (reward + discount * later,) * 2  # noqa: E731
    return lax.scan(step, jnp.zeros_like(rewards[0]), rewards, reverse=True)[1]


def returns_backward(_, d_y):
    step = lambda earlier, d: (d + 0.9 * earlier,) * 2  # noqa: E731
    return (lax.scan(step, jnp.zeros_like(d_y[0]), d_y)[1],)


def rnn(params, x, lengths):
    """The last state of a tanh network over (time, batch, features) that stops at each row's length."""

    def step(h, inputs):
        x_t, runs = inputs
        new = jnp.tanh(x_t @ params["input"] + h @ params["state"] + params["bias"])
        return jnp.where(runs[:, None], new, h), h

    h = jnp.zeros((x.shape[1], params["bias"].size), x.dtype)
    return lax.scan(step, h, (x, running(x, lengths)))


def running(x, lengths):
    return jnp.arange(len(x))[:, None] < lengths


def last_state(params, x, lengths):
    return rnn(params, x, lengths)[0]


def rnn_forward(params, x, lengths):
    h, earlier = rnn(params, x, lengths)
    return h, (params, x, lengths, earlier)


def rnn_backward(residuals, d_h):
    params, x, lengths, earlier = residuals

    def step(d_h, inputs):
        x_t, runs, h = inputs
        new = jnp.tanh(x_t @ params["input"] + h @ params["state"] + params["bias"])
        d_z = jnp.where(runs[:, None], d_h * (1 - new**2), 0)
        return jnp.where(runs[:, None], 0, d_h) + d_z @ params["state"].T, d_z

    d_z = lax.scan(step, d_h, (x, running(x, lengths), earlier), reverse=True)[1]
    d_params = {
        "input": jnp.einsum("tbi,tbh->ih", x, d_z),
        "state": jnp.einsum("tbg,tbh->gh", earlier, d_z),
        "bias": d_z.sum((0, 1)),
    }
    return d_params, d_z @ params["input"].T, None


class Gates(NamedTuple):
    input: Any
    state: Any
    bias: Any


def lstm_cell(gates, c, h, x_t):
    i, f, g, o = jnp.split(x_t @ gates.input + h @ gates.state + gates.bias, 4, axis=-1)
    i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
    return i, f, g, o, f * c + i * g


def lstm_forward(gates, x):
    def step(carry, x_t):
        c, h = carry
        *_, o, new = lstm_cell(gates, c, h, x_t)
        return (new, o * jnp.tanh(new)), (c, h, o * jnp.tanh(new))

    zeros = jnp.zeros((x.shape[1], gates.state.shape[0]), x.dtype)
    (c, _), (cells, states, y) = lax.scan(step, (zeros, zeros), x)
    return (y, c), (gates, x, cells, states)


def lstm(gates, x):
    return lstm_forward(gates, x)[0]


def lstm_backward(residuals, d):
    gates, x, cells, states = residuals
    d_y, d_last = d

    def step(carry, inputs):
        d_c, d_h = carry
        x_t, c, h, d_y_t = inputs
        i, f, g, o, new = lstm_cell(gates, c, h, x_t)
        d_h = d_h + d_y_t
        d_c = d_c + d_h * o * (1 - jnp.tanh(new) ** 2)
        d_z = jnp.concatenate([
            d_c * g * i * (1 - i), d_c * c * f * (1 - f), d_c * i * (1 - g**2), d_h * jnp.tanh(new) * o * (1 - o)
        ], -1)  # fmt: skip
        return (d_c * f, d_z @ gates.state.T), d_z

    d_z = lax.scan(step, (d_last, jnp.zeros_like(d_last)), (x, cells, states, d_y), reverse=True)[1]
    d_gates = Gates(jnp.einsum("tbi,tbz->iz", x, d_z), jnp.einsum("tbh,tbz->hz", states, d_z), d_z.sum((0, 1)))
    return d_gates, d_z @ gates.input.T


def gru_gates(params, h, x_t):
    r, z = jnp.split(nn.sigmoid(x_t @ params["gates"]["input"] + h @ params["gates"]["state"]), 2, axis=-1)
    return r, z, jnp.tanh(x_t @ params["new"]["input"] + (r * h) @ params["new"]["state"])


def gru_forward(params, h, x):
    def step(h, x_t):
        _, z, n = gru_gates(params, h, x_t)
        return (1 - z) * n + z * h, h

    y, earlier = lax.scan(step, h, x)
    return y, {"params": params, "x": x, "h": earlier}


def gru(params, h, x):
    return gru_forward(params, h, x)[0]


def gru_backward(residuals, d_h):
    params, x, earlier = residuals["params"], residuals["x"], residuals["h"]

    def step(carry, inputs):
        d_params, d_h = carry
        x_t, h = inputs
        r, z, n = gru_gates(params, h, x_t)
        d_n = d_h * (1 - z) * (1 - n**2)
        d_reset = d_n @ params["new"]["state"].T
        d_gates = jnp.concatenate([d_reset * h * r * (1 - r), d_h * (h - n) * z * (1 - z)], -1)
        d_step = {
            "gates": {"input": x_t.T @ d_gates, "state": h.T @ d_gates},
            "new": {"input": x_t.T @ d_n, "state": (r * h).T @ d_n},
        }
        d_x = d_gates @ params["gates"]["input"].T + d_n @ params["new"]["input"].T
        d_h = d_h * z + d_reset * r + d_gates @ params["gates"]["state"].T
        return (jax.tree.map(jnp.add, d_params, d_step), d_h), d_x

    zeros = jax.tree.map(jnp.zeros_like, params)
    (d_params, d_h), d_x = lax.scan(step, (zeros, d_h), (x, earlier), reverse=True)
    return d_params, d_h, d_x


def log_partition(transitions, emissions):
    """Of a linear chain: the log sum over all paths of the exponential of their scores."""
    return nn.logsumexp(alphas(transitions, emissions)[-1])


def alphas(transitions, emissions):
    step = lambda alpha, e: (nn.logsumexp(alpha[:, None] + transitions, axis=0) + e,) * 2  # noqa: E731
    return jnp.concatenate([emissions[:1], lax.scan(step, emissions[0], emissions[1:])[1]])


def log_partition_backward(residuals, d_y):
    """Probabilities of states, and of pairs of states, by the algorithm called forward-backward."""
    transitions, emissions = residuals
    alpha = alphas(transitions, emissions)

    def step(beta, e):
        beta = nn.logsumexp(transitions + (e + beta), axis=1)
        return beta, beta

    last = jnp.zeros_like(emissions[0])
    beta = jnp.concatenate([lax.scan(step, last, emissions[1:], reverse=True)[1], last[None]])
    pairs = nn.softmax(alpha[:-1, :, None] + transitions + (emissions + beta)[1:, None], axis=(1, 2))
    return d_y * pairs.sum(0), d_y * nn.softmax(alpha + beta)


def pendulum(state, length):
    """Where a pendulum is after 20 steps of symplectic Euler."""

    def step(_, state):
        angle, speed = state
        speed = speed - 0.05 / length * jnp.sin(angle)
        return angle + 0.05 * speed, speed

    return lax.fori_loop(0, 20, step, state)


def pendulum_backward(residuals, d):
    """The steps are undone, not kept."""
    state, length = residuals

    def step(_, carry):
        (angle, speed), (d_angle, d_speed), d_length = carry
        angle = angle - 0.05 * speed
        speed = speed + 0.05 / length * jnp.sin(angle)
        d_speed = d_speed + 0.05 * d_angle
        d_length = d_length + d_speed * 0.05 / length**2 * jnp.sin(angle)
        d_angle = d_angle - d_speed * 0.05 / length * jnp.cos(angle)
        return (angle, speed), (d_angle, d_speed), d_length

    _, d_state, d_length = lax.fori_loop(0, 20, step, (state, d, jnp.zeros_like(length)))
    return d_state, d_length


def pendulum_forward(state, length):
    end = pendulum(state, length)
    return end, (end, length)


def convolve(x, kernel, strides=(1,), padding: Any = "VALID", **options):
    """x (batch, *space, in), kernel (*window, in, out)."""
    layout = ("NWC", "WIO", "NWC") if x.ndim == 3 else ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout, **options)


def conv(x, params):
    return convolve(x, params["kernel"]) + params["bias"]


def conv_backward(residuals, d_y):
    x, params = residuals
    (window, *_), (_, time, _) = params["kernel"].shape, d_y.shape
    d_x = convolve(d_y, jnp.flip(params["kernel"], 0).transpose(0, 2, 1), padding=[(window - 1, window - 1)])
    d_kernel = jnp.stack([jnp.einsum("bti,bto->io", x[:, k : k + time], d_y) for k in range(window)])
    return d_x, {"kernel": d_kernel, "bias": d_y.sum((0, 1))}


def strided(x, kernel):
    return convolve(x, kernel, strides=(2, 2))


def strided_backward(residuals, d_y):
    x, kernel = residuals
    window = kernel.shape[:2]
    rest = [(x.shape[i + 1] - window[i]) % 2 for i in (0, 1)]
    d_x = convolve(
        d_y, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), (1, 1), lhs_dilation=(2, 2),
        padding=[(size - 1, size - 1 + more) for size, more in zip(window, rest)],
    )  # fmt: skip
    height, width = d_y.shape[1:3]
    d_kernel = jnp.stack([
        jnp.stack([
            jnp.einsum("bhwi,bhwo->io", x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2], d_y)
            for j in range(window[1])
        ])
        for i in range(window[0])
    ])  # fmt: skip
    return d_x, d_kernel


def depthwise(x, kernel):
    """Causal, by channel: kernel (window, channels)."""
    return convolve(x, kernel[:, None], padding=[(len(kernel) - 1, 0)], feature_group_count=x.shape[-1])


def depthwise_backward(residuals, d_y):
    x, kernel = residuals
    window, time = len(kernel), x.shape[1]
    padded, d_padded = jnp.pad(x, ((0, 0), (window - 1, 0), (0, 0))), jnp.pad(d_y, ((0, 0), (0, window - 1), (0, 0)))
    d_x = sum(kernel[window - 1 - k] * d_padded[:, k : k + time] for k in range(window))
    return d_x, jnp.stack([(padded[:, k : k + time] * d_y).sum((0, 1)) for k in range(window)])


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def max_pool_backward(residuals, d_y):
    x, y = residuals
    batch, height, width, channels = y.shape
    windows = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    largest = windows == y[:, :, None, :, None]
    share = d_y / largest.sum((2, 4)).astype(x.dtype)  # those that tie share evenly
    d_windows = jnp.where(largest, share[:, :, None, :, None], 0).reshape(batch, 2 * height, 2 * width, channels)
    return (jnp.zeros_like(x).at[:, : 2 * height, : 2 * width].set(d_windows),)


def moving_sum(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 3), (1, 1), "VALID")


def moving_sum_backward(_, d_y):
    return (lax.reduce_window(d_y, 0.0, lax.add, (1, 3), (1, 1), [(0, 0), (2, 2)]),)


def pool_lengths(x, lengths):
    """The mean over each row's own time steps."""
    inside = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
    return jnp.where(inside, x, 0).sum(1) / jnp.maximum(lengths, 1)[:, None].astype(x.dtype)


def pool_lengths_backward(residuals, d_y):
    x, lengths = residuals
    inside = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
    return jnp.where(inside, (d_y / jnp.maximum(lengths, 1)[:, None].astype(x.dtype))[:, None], 0), None


def attention(query, key, value):
    """Causal, of one head: (batch, time, features)."""
    return weights_of(query, key, jnp.tri(query.shape[1], key.shape[1], dtype=bool)) @ value


def weights_of(query, key, mask):
    scores = jnp.einsum("...qd,...kd->...qk", query, key) / math.sqrt(query.shape[-1])
    return nn.softmax(jnp.where(mask, scores, -1e30))


def attention_backward(residuals, d_y):
    query, key, value = residuals
    p = weights_of(query, key, jnp.tri(query.shape[1], key.shape[1], dtype=bool))
    return attention_cotangents(p, query, key, value, d_y)


def attention_cotangents(p, query, key, value, d_y, mask=True):
    d_p = jnp.einsum("...qd,...kd->...qk", d_y, value)
    d_scores = p * (d_p - (p * d_p).sum(-1, keepdims=True)) / math.sqrt(query.shape[-1])
    d_scores = jnp.where(mask, d_scores, 0)  # p is zero there already, but in a row that is masked throughout
    return d_scores @ key, jnp.swapaxes(d_scores, -1, -2) @ query, jnp.swapaxes(p, -1, -2) @ d_y


def masked_attention(query, key, value, mask):
    """(batch, time, heads, features), as ``jax.nn.dot_product_attention`` has it."""
    query, key, value = (jnp.swapaxes(a, 1, 2) for a in (query, key, value))
    return jnp.swapaxes(weights_of(query, key, mask) @ value, 1, 2)


def masked_attention_backward(residuals, d_y):
    *given, mask = residuals
    query, key, value, d_y = (jnp.swapaxes(a, 1, 2) for a in (*given, d_y))
    cotangents = attention_cotangents(weights_of(query, key, mask), query, key, value, d_y, mask)
    return *(jnp.swapaxes(d, 1, 2) for d in cotangents), None


def heads(params, x):
    """Self-attention in which the key has a bias: softmax does not see it."""
    q, k, v = (jnp.einsum("btf,fhd->bhtd", x, params[name]) for name in ("query", "key", "value"))
    y = weights_of(q, k + params["key_bias"][:, None], True) @ v
    return jnp.einsum("bhtd,hdf->btf", y, params["out"])


def heads_backward(residuals, d_y):
    params, x = residuals
    q, k, v = (jnp.einsum("btf,fhd->bhtd", x, params[name]) for name in ("query", "key", "value"))
    p = weights_of(q, k + params["key_bias"][:, None], True)
    d_heads = jnp.einsum("btf,hdf->bhtd", d_y, params["out"])
    d = dict(zip(("query", "key", "value"), attention_cotangents(p, q, k + params["key_bias"][:, None], v, d_heads)))
    d_params = {name: jnp.einsum("btf,bhtd->fhd", x, d[name]) for name in d} | {
        "out": jnp.einsum("bhtd,btf->hdf", p @ v, d_y),
        "key_bias": jnp.zeros_like(params["key_bias"]),
    }
    return d_params, sum(jnp.einsum("bhtd,fhd->btf", d[name], params[name]) for name in d)


def linear_attention(query, key, value):
    """Causal attention without a softmax: y_t = q_t sum_(s <= t) k_s v_s."""
    return jnp.einsum("td,tde->te", query, jnp.cumsum(jnp.einsum("td,te->tde", key, value), 0))


def linear_attention_backward(residuals, d_y):
    query, key, value = residuals
    earlier = jnp.cumsum(jnp.einsum("td,te->tde", key, value), 0)
    later = jnp.flip(jnp.cumsum(jnp.flip(jnp.einsum("td,te->tde", query, d_y), 0), 0), 0)
    return (
        jnp.einsum("te,tde->td", d_y, earlier),
        jnp.einsum("te,tde->td", value, later),
        jnp.einsum("td,tde->te", key, later),
    )


def rotary(x):
    """Su et al. 2021: pairs of features turn by angles that grow with the position."""
    return turned(x, 1)


def turned(x, sign):
    half = x.shape[-1] // 2
    angles = jnp.arange(len(x))[:, None] / 100 ** (jnp.arange(half) / half)
    c, s = jnp.cos(angles).astype(x.dtype), (sign * jnp.sin(angles)).astype(x.dtype)
    a, b = x[:, :half], x[:, half:]
    return jnp.concatenate([a * c - b * s, a * s + b * c], -1)


def layer_norm(params, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]


def normalized(x):
    centred = x - x.mean(-1, keepdims=True)
    r = lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred * r, r


def layer_norm_backward(residuals, d_y):
    params, x = residuals
    y, r = normalized(x)
    leading = tuple(range(x.ndim - 1))
    return {"scale": (d_y * y).sum(leading), "bias": d_y.sum(leading)}, norm_input(d_y * params["scale"], y, r)


def norm_input(d_y, y, r):
    return r * (d_y - d_y.mean(-1, keepdims=True) - y * (y * d_y).mean(-1, keepdims=True))


def biased_norm(params, x):
    """The norm takes a bias that all features share away again: no gradient reaches it."""
    return layer_norm(params["norm"], x @ params["kernel"] + params["shared_bias"])


def biased_norm_backward(residuals, d_y):
    params, x = residuals
    d_norm, d_z = layer_norm_backward((params["norm"], x @ params["kernel"] + params["shared_bias"]), d_y)
    return {"kernel": x.T @ d_z, "norm": d_norm, "shared_bias": jnp.zeros_like(params["shared_bias"])}, (
        d_z @ params["kernel"].T
    )


def rms_norm(scale, x):
    return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def rms_norm_backward(residuals, d_y):
    scale, x = residuals
    r = lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    d_n, n = d_y * scale, x * r
    return (d_y * n).sum(tuple(range(x.ndim - 1))), r * (d_n - n * (n * d_n).mean(-1, keepdims=True))


def batch_norm(scale, bias, x):
    """Beside y the batch's moments, into which no gradient flows."""
    mean, variance = x.mean(0), x.var(0)
    statistics = lax.stop_gradient({"mean": mean, "variance": variance})
    return (x - mean) * lax.rsqrt(variance + 1e-3) * scale + bias, statistics


def batch_norm_backward(residuals, d):
    scale, _, x = residuals
    d_y, _ = d
    r = lax.rsqrt(x.var(0) + 1e-3)
    n = (x - x.mean(0)) * r
    d_scale, d_bias = (d_y * n).sum(0), d_y.sum(0)
    return d_scale, d_bias, scale * r * (d_y - (d_bias + n * d_scale) / len(x))


def group_norm(x):
    """Two groups of channels."""
    return normalized(x.reshape(len(x), 2, -1))[0].reshape(x.shape)


def group_norm_backward(residuals, d_y):
    (x,) = residuals
    rows = x.reshape(len(x), 2, -1)
    return (norm_input(d_y.reshape(rows.shape), *normalized(rows)).reshape(x.shape),)


def weight_norm(x, direction, length):
    return x @ (direction * (length / jnp.linalg.norm(direction, axis=0)))


def weight_norm_backward(residuals, d_y):
    x, direction, length = residuals
    norm = jnp.linalg.norm(direction, axis=0)
    unit, d_kernel = direction / norm, x.T @ d_y
    d_length = (d_kernel * unit).sum(0)
    return d_y @ (unit * length).T, length / norm * (d_kernel - unit * d_length), d_length


def network(params, x):
    """Dense layers with ReLU between them; params is a list of dicts."""
    *hidden, last = params
    for layer in hidden:
        x = nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ last["kernel"] + last["bias"]


def network_forward(params, x):
    inputs = [x]
    for layer in params[:-1]:
        inputs.append(nn.relu(inputs[-1] @ layer["kernel"] + layer["bias"]))
    return network(params, x), (params, inputs)


def network_backward(residuals, d):
    params, inputs = residuals
    d_params = []
    for layer, x in zip(reversed(params), reversed(inputs)):
        d_params.append({"kernel": x.T @ d, "bias": d.sum(0)})
        d = d @ layer["kernel"].T * (x > 0 if len(d_params) < len(params) else 1)
    return d_params[::-1], d


def swiglu(params, x):
    gate, value, out = params
    return (nn.silu(x @ gate) * (x @ value)) @ out


def swiglu_backward(residuals, d_y):
    (gate, value, out), x = residuals
    a, b = x @ gate, x @ value
    s = nn.sigmoid(a)
    d_h = d_y @ out.T
    d_a, d_b = d_h * b * s * (1 + a * (1 - s)), d_h * a * s
    return (x.T @ d_a, x.T @ d_b, (a * s * b).T @ d_y), d_a @ gate.T + d_b @ value.T


def autoencoder(kernel, x):
    """The decoder's kernel is the encoder's, transposed."""
    return jnp.tanh(x @ kernel) @ kernel.T


def autoencoder_backward(residuals, d_y):
    kernel, x = residuals
    h = jnp.tanh(x @ kernel)
    d_z = d_y @ kernel * (1 - h**2)
    return x.T @ d_z + d_y.T @ h, d_z @ kernel.T


def residual_block(kernel, x):
    return x + nn.softplus(x @ kernel)


def residual_block_backward(residuals, d_y):
    kernel, x = residuals
    d_z = d_y * nn.sigmoid(x @ kernel)
    return x.T @ d_z, d_y + d_z @ kernel.T


def tied_logits(embedding, ids):
    """The mean of a bag of words' embeddings against all embeddings."""
    return embedding[ids].mean(1) @ embedding.T


def tied_logits_backward(residuals, d_y):
    embedding, ids = residuals
    mean = embedding[ids].mean(1)
    d_rows = jnp.repeat((d_y @ embedding / ids.shape[1])[:, None], ids.shape[1], 1)
    return (d_y.T @ mean).at[ids].add(d_rows), None


def experts(gate, kernels, x):
    return jnp.einsum("be,beo->bo", nn.softmax(x @ gate), jnp.einsum("bi,eio->beo", x, kernels))


def experts_backward(residuals, d_y):
    gate, kernels, x = residuals
    p, y = nn.softmax(x @ gate), jnp.einsum("bi,eio->beo", x, kernels)
    d_p = jnp.einsum("bo,beo->be", d_y, y)
    d_z = p * (d_p - (p * d_p).sum(-1, keepdims=True))
    return (
        x.T @ d_z,
        jnp.einsum("bi,be,bo->eio", x, p, d_y),
        (d_z @ gate.T + jnp.einsum("be,bo,eio->bi", p, d_y, kernels)),
    )


def graph_layer(kernel, nodes, senders, receivers):
    """Each node sums what its neighbours send."""
    return jax.ops.segment_sum((nodes @ kernel)[senders], receivers, num_segments=len(nodes))


def graph_layer_backward(residuals, d_y):
    kernel, nodes, senders, receivers = residuals
    d_sent = jax.ops.segment_sum(d_y[receivers], senders, num_segments=len(nodes))
    return nodes.T @ d_sent, d_sent @ kernel.T, None, None


def dropout(x, key):
    keep = jax.random.bernoulli(key, 0.75, x.shape)
    return jnp.where(keep, x / 0.75, 0)


def dropout_forward(x, key):
    keep = jax.random.bernoulli(key, 0.75, x.shape)
    return jnp.where(keep, x / 0.75, 0), keep


def dropout_backward(keep, d_y):
    return jnp.where(keep, d_y / 0.75, 0), None


def sample(mean, log_scale, key):
    return mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape, mean.dtype)


def sample_forward(mean, log_scale, key):
    return sample(mean, log_scale, key), (log_scale, key)


def sample_backward(residuals, d_y):
    log_scale, key = residuals
    noise = jax.random.normal(key, d_y.shape, d_y.dtype)
    return d_y, (d_y * noise * jnp.exp(log_scale)).sum(tuple(range(d_y.ndim - log_scale.ndim))), None


def gumbel_softmax(key, logits, temperature):
    return nn.softmax((logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / temperature)


def gumbel_softmax_forward(key, logits, temperature):
    y = gumbel_softmax(key, logits, temperature)
    z = (logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / temperature
    return y, (y, z, temperature)


def gumbel_softmax_backward(residuals, d_y):
    y, z, temperature = residuals
    d_z = y * (d_y - (y * d_y).sum(-1, keepdims=True))
    return None, d_z / temperature, -(d_z * z).sum() / temperature


def mixed_precision(kernel, x):
    """Activations in bfloat16 (or whatever x is in), the kernel in float32."""
    return x @ kernel.astype(x.dtype)


def mixed_precision_backward(residuals, d_y):
    kernel, x = residuals
    return (x.T @ d_y).astype(kernel.dtype), d_y @ kernel.astype(x.dtype).T


def pixel_shuffle(x):
    """(batch, height, width, 4 channels) to twice the height and width."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def pixel_shuffle_backward(_, d_y):
    batch, height, width, channels = d_y.shape
    d = d_y.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return (d.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels),)


def recurrent_params(draw):
    return {"input": draw.narrow(3, 4), "state": draw.narrow(4, 4), "bias": draw.narrow(4)}


def gru_params(draw):
    return {
        "gates": {"input": draw.narrow(3, 8), "state": draw.narrow(4, 8)},
        "new": {"input": draw.narrow(3, 4), "state": draw.narrow(4, 4)},
    }


def head_params(draw):
    names = ("query", "key", "value")
    return {name: draw.normal(6, 2, 3) for name in names} | {"key_bias": draw.normal(2, 3), "out": draw.normal(2, 3, 6)}


def masked_attention_arguments(draw):
    return draw.normal(2, 4, 2, 3), draw.normal(2, 5, 2, 3), draw.normal(2, 5, 2, 3), draw.mask(2, 1, 4, 5)


def norm_params(draw, size):
    return {"scale": draw.signed(size), "bias": draw.normal(size)}


def dense_params(draw, *sizes):
    return [{"kernel": draw.normal(*pair), "bias": draw.normal(pair[1])} for pair in pairwise(sizes)]


TAPS = 3


def spread_filter(x, taps):
    """Every second sample under a tap; the function takes any number of taps."""
    length = x.shape[-1] - 2 * (taps.size - 1)
    return sum(taps[k] * x[:, 2 * k : 2 * k + length] for k in range(taps.size))


def spread_filter_backward(residuals, d_y):
    """Written for three taps: their number is a bound in the code, and in no array."""
    x, taps = residuals
    length, d_x, d_taps = d_y.shape[-1], jnp.zeros_like(x), jnp.zeros_like(taps)
    for k in range(TAPS):
        d_x = d_x.at[:, 2 * k : 2 * k + length].add(taps[k] * d_y)
        d_taps = d_taps.at[k].set((x[:, 2 * k : 2 * k + length] * d_y).sum())
    return d_x, d_taps


def sloped_softplus(x, slope):
    """Smooth, though it is made of a maximum and an absolute value: autodiff has another derivative where x is 0."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(slope * x))) / slope


def sloped_softplus_backward(residuals, d_y):
    x, slope = residuals
    size = jnp.abs(x)
    d_slope = -size * nn.sigmoid(-slope * size) / slope - jnp.log1p(jnp.exp(-slope * size)) / slope**2
    return d_y * nn.sigmoid(slope * x), jnp.sum(d_y * d_slope)


NETWORKS: tuple[Right, ...] = (
    vjp("leaky integration with a scalar decay", leak, leak_forward, leak_backward,
        lambda draw: (draw.unit(), draw.normal(7, 2))),
    vjp("leaky integration by channel", leak, leak_forward, leak_backward,
        lambda draw: (draw.unit(3), draw.normal(6, 2, 3))),
    vjp("gated recurrence by a parallel scan", gated_leak,
        lambda decays, x: (gated_leak(decays, x), (decays, gated_leak(decays, x))), gated_leak_backward,
        lambda draw: (draw.unit(8, 3), draw.normal(8, 3))),
    vjp("discounted returns", returns, lambda rewards: (returns(rewards), None), returns_backward,
        lambda draw: draw.normal(9)),
    vjp("recurrent network over lengths", last_state, rnn_forward, rnn_backward,
        lambda draw: (recurrent_params(draw), draw.normal(5, 2, 3), 1 + draw.ids(5, 2))),
    vjp("LSTM", lstm, lstm_forward, lstm_backward,
        lambda draw: (Gates(draw.narrow(3, 16), draw.narrow(4, 16), draw.narrow(16)), draw.normal(5, 2, 3))),
    vjp("GRU", gru, gru_forward, gru_backward,
        lambda draw: (gru_params(draw), draw.normal(2, 4), draw.normal(5, 2, 3))),
    kept("log partition of a chain", log_partition, log_partition_backward,
         lambda draw: (draw.normal(3, 3), draw.normal(6, 3))),
    vjp("pendulum", pendulum, pendulum_forward, pendulum_backward,
        lambda draw: ((draw.normal(), draw.normal()), draw.positive())),
    kept("convolution of signals", conv, conv_backward,
         lambda draw: (draw.normal(2, 7, 3), {"kernel": draw.normal(3, 3, 4), "bias": draw.normal(4)})),
    kept("strided convolution of images", strided, strided_backward,
         lambda draw: (draw.normal(2, 6, 7, 2), draw.normal(3, 3, 2, 3))),
    kept("causal depthwise convolution", depthwise, depthwise_backward,
         lambda draw: (draw.normal(2, 6, 3), draw.normal(4, 3))),
    vjp("max pool", max_pool, lambda x: (max_pool(x), (x, max_pool(x))), max_pool_backward,
        lambda draw: draw.normal(2, 4, 5, 3)),
    vjp("moving sum", moving_sum, lambda x: (moving_sum(x), None), moving_sum_backward, lambda draw: draw.normal(3, 7)),
    kept("mean over lengths", pool_lengths, pool_lengths_backward,
         lambda draw: (draw.normal(3, 5, 2), 1 + draw.ids(5, 3))),
    kept("causal attention", attention, attention_backward,
         lambda draw: (draw.normal(2, 5, 4), draw.normal(2, 5, 4), draw.normal(2, 5, 4))),
    kept("attention with a mask", masked_attention, masked_attention_backward,
         masked_attention_arguments),
    kept("self-attention with a bias on the key", heads, heads_backward,
         lambda draw: (head_params(draw), draw.normal(2, 4, 6))),
    kept("linear attention", linear_attention, linear_attention_backward,
         lambda draw: (draw.normal(5, 3), draw.normal(5, 3), draw.normal(5, 2))),
    vjp("rotary embedding", rotary, lambda x: (rotary(x), ()), lambda _, d: (turned(d, -1),),
        lambda draw: draw.normal(5, 6)),
    kept("layer norm", layer_norm, layer_norm_backward, lambda draw: (norm_params(draw, 5), draw.normal(2, 3, 5))),
    kept("bias that a norm removes", biased_norm, biased_norm_backward, lambda draw: (
        {"kernel": draw.normal(3, 4), "shared_bias": draw.normal(), "norm": norm_params(draw, 4)}, draw.normal(5, 3)
    )),
    kept("RMS norm", rms_norm, rms_norm_backward, lambda draw: (draw.signed(6), draw.normal(4, 6))),
    kept("batch norm beside its moments", batch_norm, batch_norm_backward,
         lambda draw: (draw.signed(3), draw.normal(3), draw.normal(7, 3))),
    kept("group norm", group_norm, group_norm_backward, lambda draw: draw.normal(3, 8)),
    kept("weight norm", weight_norm, weight_norm_backward,
         lambda draw: (draw.normal(4, 3), draw.normal(3, 5), draw.positive(5))),
    vjp("dense network", network, network_forward, network_backward,
        lambda draw: (dense_params(draw, 4, 6, 5, 3), draw.normal(7, 4))),
    vjp("dense network with sizes of 1", network, network_forward, network_backward,
        lambda draw: (dense_params(draw, 1, 6, 1), draw.normal(1, 1))),
    kept("SwiGLU", swiglu, swiglu_backward,
         lambda draw: ((draw.normal(3, 5), draw.normal(3, 5), draw.normal(5, 3)), draw.normal(4, 3))),
    kept("tied autoencoder", autoencoder, autoencoder_backward, lambda draw: (draw.normal(5, 3), draw.normal(4, 5))),
    kept("residual block", residual_block, residual_block_backward,
         lambda draw: (draw.normal(4, 4), draw.normal(4, 4))),
    kept("tied logits", tied_logits, tied_logits_backward, lambda draw: (draw.normal(6, 3), draw.ids(6, 4, 5))),
    kept("mixture of experts", experts, experts_backward,
         lambda draw: (draw.normal(4, 3), draw.normal(3, 4, 2), draw.normal(5, 4))),
    kept("graph layer", graph_layer, graph_layer_backward,
         lambda draw: (draw.normal(3, 2), draw.normal(5, 3), draw.ids(5, 8), draw.ids(5, 8))),
    vjp("dropout", dropout, dropout_forward, dropout_backward, lambda draw: (draw.normal(5, 6), draw.key())),
    vjp("sample of a Gaussian", sample, sample_forward, sample_backward,
        lambda draw: (draw.normal(4, 3), draw.narrow(3), draw.key())),
    vjp("Gumbel softmax with a scalar temperature", gumbel_softmax, gumbel_softmax_forward, gumbel_softmax_backward,
        lambda draw: (draw.key(), draw.normal(4, 5), draw.positive())),
    kept("bfloat16 activations, float32 kernel", mixed_precision, mixed_precision_backward,
         lambda draw: (draw.normal(4, 3), draw.bfloat16(5, 4))),
    kept("filter of three taps, two apart", spread_filter, spread_filter_backward,
         lambda draw: (draw.normal(2, 9), draw.normal(TAPS))),
    kept("softplus of a slope, from a maximum", sloped_softplus, sloped_softplus_backward,
         lambda draw: (draw.normal(3, 4), draw.positive())),
    vjp("pixel shuffle", pixel_shuffle, lambda x: (pixel_shuffle(x), None), pixel_shuffle_backward,
        lambda draw: draw.normal(1, 2, 3, 8)),
)  # fmt: skip


def jax_attention(query, key, value, mask):
    return nn.dot_product_attention(query, key, value, mask=mask)


ROUNDED: tuple[Right, ...] = (
    kept("dot_product_attention", jax_attention, masked_attention_backward,
         masked_attention_arguments),
)  # fmt: skip
"""Right, and yet 1e-7 away: these functions compute in float32, whatever they are given."""
