"""Wrong rules of recurrences: what is carried from step to step, and which step a state belongs to."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .kinds import Draw
from .registry import Family, Mistake, Rule


def _kernels(draw: Draw, inputs: int, hidden: int, gates: int = 1) -> dict[str, np.ndarray]:
    scaled = lambda *shape: draw.normal(*shape) / np.float32(np.sqrt(shape[0]))  # noqa: E731
    return {
        "input": scaled(inputs, gates * hidden),
        "recurrent": scaled(hidden, gates * hidden),
        "bias": draw.normal(gates * hidden) / np.float32(2),
    }


def _before(start, states):
    """The state that each step was given."""
    return jnp.concatenate([start[None], states[:-1]])


def _d_kernels(x, before, d):
    """From what each step was given and its gates' cotangents."""
    return {
        "input": jnp.einsum("tni,tnh->ih", x, d),
        "recurrent": jnp.einsum("tnh,tng->hg", before, d),
        "bias": d.sum((0, 1)),
    }


_PARAMS = "params/input, params/bias, x"


def simple(size: int, seed: int, mistake: str) -> Rule:
    """h_t = tanh(x_t W + h_(t-1) U + b), all states given out; padding keeps the state."""
    draw = Draw(seed)
    time, batch, inputs, hidden = min(size, 12) + 2, 3, min(size, 16) + 1, min(size, 16)

    def states(params, x, start, lengths):
        def step(h, indexed):
            x, t = indexed
            new = jnp.tanh(x @ params["input"] + h @ params["recurrent"] + params["bias"])
            h = jnp.where((t < lengths)[:, None], new, h)
            return h, h

        return lax.scan(step, start, (x, jnp.arange(time)))[1]

    def function(params, x, start, lengths):
        return states(params, x, start, lengths)

    def forward(params, x, start, lengths):
        h = states(params, x, start, lengths)
        return h, (params, x, start, lengths, h)

    def backward(residuals, d_y):
        params, x, start, lengths, h = residuals
        if mistake == "gradient of the last step alone":
            d_y = jnp.zeros_like(d_y).at[-1].set(d_y[-1])
        recurrent = params["recurrent"] if mistake == "recurrent untransposed" else params["recurrent"].T

        def step(d_h, saved):
            d_y, h, t = saved
            d_h = d_y + d_h
            runs = (t < lengths)[:, None]
            if mistake == "padding runs":
                runs = jnp.ones_like(runs)
            slope = 1.0 if mistake == "slope forgotten" else 1 - jnp.square(h)
            d = jnp.where(runs, d_h * slope, 0)
            kept = jnp.zeros_like(d_h) if mistake == "gradient lost in padding" else jnp.where(runs, 0, d_h)
            carried = d @ recurrent + kept
            match mistake:
                case "dh dropped between steps":
                    carried = jnp.zeros_like(carried)
                case "dh twice between steps":
                    carried = 2 * carried
                case "dh cut every third step":
                    carried = jnp.where(t % 3 == 0, 0, carried)
            return carried, d

        d_start, d = lax.scan(step, jnp.zeros_like(start), (d_y, h, jnp.arange(time)), reverse=True)
        before = _before(start, h)
        d_params, d_x = _d_kernels(x, before, d), d @ params["input"].T
        match mistake:
            case "new state for the previous":
                d_params["recurrent"] = _d_kernels(x, h, d)["recurrent"]
            case "start taken for zero":
                d_params["recurrent"] = _d_kernels(x, before.at[0].set(0.0), d)["recurrent"]
            case "recurrent without the last step":
                d_params["recurrent"] = _d_kernels(x[:-1], before[:-1], d[:-1])["recurrent"]
            case "recurrent averaged over steps":
                d_params["recurrent"] = d_params["recurrent"] / time
            case "recurrent kernel transposed":
                d_params["recurrent"] = d_params["recurrent"].T
            case "bias of the first step":
                d_params["bias"] = d[0].sum(0)
            case "bias of each step":
                d_params["bias"] = d.sum(1)
            case "input kernel in reverse":
                d_params["input"] = _d_kernels(x[::-1], before, d)["input"]
            case "start without gradient":
                d_start = None
            case "start before the kernel":
                d_start = d[0]
            case "steps in reverse":
                d_x = d_x[::-1]
            case "steps one late":
                d_x = jnp.pad(d_x[:-1], ((1, 0), (0, 0), (0, 0)))
            case "last step lost":
                d_x = d_x.at[-1].set(0.0)
        return d_params, d_x, d_start, None

    lengths = np.array([time, time - 1, time - 2], np.int32)
    return Rule(
        function,
        forward,
        backward,
        (_kernels(draw, inputs, hidden), draw.normal(time, batch, inputs), draw.normal(batch, hidden), lengths),
    )


SIMPLE = Family(
    "recurrence",
    simple,
    (
        Mistake(
            "dh dropped between steps",
            "dh dropped between steps",
            "missing term",
            "params/recurrent",
            f"{_PARAMS}, start",
        ),
        Mistake("dh twice between steps", "a term twice", "doubled term", "params/recurrent", f"{_PARAMS}, start"),
        Mistake(
            "dh cut every third step",
            "truncated",
            "missing term, region, unknown",
            "params/recurrent",
            f"{_PARAMS}, start",
        ),
        Mistake("recurrent untransposed", "dx = dy W", "transposed", "params/recurrent", f"{_PARAMS}, start"),
        Mistake(
            "slope forgotten",
            "a factor forgotten",
            "missing factor, missing term, other function, unknown",
            "params/recurrent",
            f"{_PARAMS}, start",
        ),
        Mistake(
            "gradient of the last step alone", "gradient lost", "region, as if", "params/recurrent", f"{_PARAMS}, start"
        ),
        Mistake("padding runs", "mask forgotten in a recompute", "padding", "params/recurrent", f"{_PARAMS}, start"),
        Mistake(
            "gradient lost in padding",
            "a term missing",
            "missing term, padding",
            "params/recurrent",
            f"{_PARAMS}, start",
        ),
        Mistake("new state for the previous", "h_t for h_(t-1)", "shifted", "params/recurrent"),
        Mistake("start taken for zero", "first step dropped", "as if, region, missing term", "params/recurrent"),
        Mistake(
            "recurrent without the last step", "last step dropped", "region, missing term, unknown", "params/recurrent"
        ),
        Mistake("recurrent averaged over steps", "averaged", "factor", "params/recurrent"),
        Mistake("recurrent kernel transposed", "dW = dy^T x", "transposed", "params/recurrent"),
        Mistake(
            "bias of the first step", "summed over too few", "region, missing sum, missing term, unknown", "params/bias"
        ),
        Mistake("bias of each step", "a broadcast axis not summed", "missing sum", "params/bias"),
        Mistake("input kernel in reverse", "direction of a scan", "flipped, as if, unknown", "params/input"),
        Mistake("start without gradient", "gradient lost", "missing", "start"),
        Mistake("start before the kernel", "a factor forgotten", "missing factor, missing term, unknown", "start"),
        Mistake("steps in reverse", "direction of a scan", "flipped", "x", says=("axis 0",)),
        Mistake("steps one late", "off by one", "shifted", "x"),
        Mistake("last step lost", "last step dropped", "region", "x", says=("last",)),
    ),
)


def long_short(size: int, seed: int, mistake: str) -> Rule:
    """Long short-term memory (Hochreiter & Schmidhuber 1997); gates: input, forget, candidate, output."""
    draw = Draw(seed)
    time, batch, inputs, hidden = min(size, 8) + 1, 2, min(size, 12), min(size, 12)

    def run(params, x):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ params["input"] + h @ params["recurrent"] + params["bias"], 4, -1)
            i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
            c = f * c + i * g
            h = o * jnp.tanh(c)
            return (h, c), (h, c, i, f, g, o)

        start = jnp.zeros((batch, hidden), x.dtype)
        return lax.scan(step, (start, start), x)[1]

    def function(params, x):
        return run(params, x)[0]

    def forward(params, x):
        saved = run(params, x)
        return saved[0], (params, x, *saved)

    def backward(residuals, d_y):
        params, x, h, c, *gates = residuals
        start = jnp.zeros_like(h[0])
        c_before, h_before = _before(start, c), _before(start, h)
        if mistake == "new cell for the previous":
            c_before = c

        def step(carry, saved):
            d_h, d_c = carry
            d_y, c, c_before, i, f, g, o = saved
            d_h, t = d_y + d_h, jnp.tanh(c)
            d_o = d_h * (c if mistake == "output gate by the raw cell" else t) * o * (1 - o)
            d_c = d_c + d_h * o * (1.0 if mistake == "cell's slope forgotten" else 1 - t * t)
            d_i, d_f, d_g = d_c * g * i * (1 - i), d_c * c_before * f * (1 - f), d_c * i * (1 - g * g)
            carried_c = d_c * f
            match mistake:
                case "dc dropped between steps":
                    carried_c = jnp.zeros_like(d_c)
                case "dc past the forget gate":
                    carried_c = d_c
                case "dc twice":
                    carried_c = 2 * carried_c
                case "input gate's slope forgotten":
                    d_i = d_c * g
                case "candidate's slope of sigmoid":
                    d_g = d_c * i * g * (1 - g)
                case "input and forget gates exchanged":
                    d_i, d_f = d_f, d_i
                case "output gate lost":
                    d_o = jnp.zeros_like(d_o)
            d = jnp.concatenate([d_i, d_f, d_g, d_o], -1)
            d_h = jnp.zeros_like(d_h) if mistake == "dh dropped between steps" else d @ params["recurrent"].T
            return (d_h, carried_c), d

        _, d = lax.scan(step, (start, start), (d_y, c, c_before, *gates), reverse=True)
        d_params, d_x = _d_kernels(x, h_before, d), d @ params["input"].T
        match mistake:
            case "new state for the previous":
                d_params["recurrent"] = _d_kernels(x, h, d)["recurrent"]
            case "bias of the forget gate lost":
                d_params["bias"] = d_params["bias"].at[hidden : 2 * hidden].set(0.0)
            case "bias in another order":
                d_params["bias"] = jnp.roll(d_params["bias"], hidden)
            case "input from the state":
                d_params["input"] = _d_kernels(h_before, h_before, d)["input"]
        return d_params, d_x

    return Rule(function, forward, backward, (_kernels(draw, inputs, hidden, 4), draw.normal(time, batch, inputs)))


LONG_SHORT = Family(
    "lstm",
    long_short,
    (
        Mistake("dh dropped between steps", "dh dropped between steps", "missing term", "params/recurrent", _PARAMS),
        Mistake("dc dropped between steps", "dc dropped between steps", "missing term", "params/recurrent", _PARAMS),
        Mistake(
            "dc past the forget gate",
            "a factor forgotten",
            "missing factor, other function, unknown",
            "params/recurrent",
            _PARAMS,
        ),
        Mistake("dc twice", "a term twice", "doubled term", "params/recurrent", _PARAMS),
        Mistake("new cell for the previous", "c_t for c_(t-1)", "shifted", "params/recurrent", _PARAMS),
        Mistake(
            "output gate by the raw cell",
            "another value saved",
            "as if, missing factor, other function, unknown",
            "params/recurrent",
            _PARAMS,
        ),
        Mistake(
            "cell's slope forgotten",
            "a factor forgotten",
            "missing factor, missing term, other function, unknown",
            "params/recurrent",
            _PARAMS,
        ),
        Mistake(
            "input gate's slope forgotten",
            "a factor forgotten",
            "missing factor, missing term, other function, unknown",
            "params/recurrent",
            _PARAMS,
        ),
        Mistake(
            "candidate's slope of sigmoid",
            "derivative of another function",
            "other function, unknown",
            "params/recurrent",
            _PARAMS,
        ),
        Mistake(
            "input and forget gates exchanged", "two leaves swapped", "swapped, unknown", "params/recurrent", _PARAMS
        ),
        Mistake(
            "output gate lost", "one path of the chain rule lost", "missing term, region", "params/recurrent", _PARAMS
        ),
        Mistake("new state for the previous", "h_t for h_(t-1)", "shifted", "params/recurrent"),
        Mistake("bias of the forget gate lost", "a block dropped", "region", "params/bias"),
        Mistake("bias in another order", "gates in another order", "shifted, swapped", "params/bias"),
        Mistake("input from the state", "another value saved", "other leaf, as if", "params/input"),
    ),
)


def gated(size: int, seed: int, mistake: str) -> Rule:
    """Gated recurrent units (Cho et al. 2014); gates: reset, update, candidate. The last state is given out."""
    draw = Draw(seed)
    time, batch, inputs, hidden = min(size, 8) + 1, 2, min(size, 12) + 1, min(size, 12)

    def run(params, x, start):
        def step(h, x):
            by_x, by_h = x @ params["input"] + params["bias"], h @ params["recurrent"]
            r, z, n = (a + b for a, b in zip(jnp.split(by_x, 3, -1), (*jnp.split(by_h, 3, -1)[:2], 0.0)))
            r, z, u = jax.nn.sigmoid(r), jax.nn.sigmoid(z), by_h[:, 2 * hidden :]
            n = jnp.tanh(n + r * u)
            return (1 - z) * n + z * h, (h, r, z, n, u)

        return lax.scan(step, start, x)

    def function(params, x, start):
        return run(params, x, start)[0]

    def forward(params, x, start):
        y, saved = run(params, x, start)
        return y, (params, x, saved)

    def backward(residuals, d_y):
        params, x, saved = residuals

        def step(d_h, saved):
            h, r, z, n, u = saved
            d_z, d_n = d_h * (h - n) * z * (1 - z), d_h * (1 - z) * (1 - n * n)
            d_r, d_u = d_n * u * r * (1 - r), d_n * r
            kept = d_h * z
            match mistake:
                case "kept state's path lost":
                    kept = jnp.zeros_like(kept)
                case "kept by 1 - z":
                    kept = d_h * (1 - z)
                case "update gate's sign":
                    d_z = -d_z
                case "update gate by the state alone":
                    d_z = d_h * h * z * (1 - z)
                case "reset gate lost":
                    d_r = jnp.zeros_like(d_r)
                case "reset forgotten for the state":
                    d_u = d_n
            by_x, by_h = jnp.concatenate([d_r, d_z, d_n], -1), jnp.concatenate([d_r, d_z, d_u], -1)
            return kept + by_h @ params["recurrent"].T, (by_x, by_h)

        d_start, (by_x, by_h) = lax.scan(step, d_y, saved, reverse=True)
        d_params = _d_kernels(x, saved[0], by_x)
        d_params["recurrent"] = _d_kernels(x, saved[0], by_h)["recurrent"]
        match mistake:
            case "recurrent like input":
                d_params["recurrent"] = _d_kernels(x, saved[0], by_x)["recurrent"]
            case "bias like recurrent":
                d_params["bias"] = by_h.sum((0, 1))
        return d_params, by_x @ params["input"].T, d_start

    return Rule(
        function,
        forward,
        backward,
        (_kernels(draw, inputs, hidden, 3), draw.normal(time, batch, inputs), draw.normal(batch, hidden)),
    )


_ALL = f"{_PARAMS}, start"
GATED = Family(
    "gru",
    gated,
    (
        Mistake("kept state's path lost", "dh dropped between steps", "missing term", "params/recurrent", _ALL),
        Mistake(
            "kept by 1 - z",
            "a factor for another",
            "missing factor, extra factor, other function, doubled term, as if, unknown",
            "params/recurrent",
            _ALL,
        ),
        Mistake("update gate's sign", "sign of a term", "doubled term", "params/recurrent", _ALL),
        Mistake("update gate by the state alone", "a term missing", "missing term", "params/recurrent", _ALL),
        Mistake("reset gate lost", "one path of the chain rule lost", "missing term, region", "params/recurrent", _ALL),
        Mistake(
            "reset forgotten for the state",
            "a factor forgotten",
            "missing factor, other function, unknown",
            "params/recurrent",
            _ALL,
        ),
        Mistake(
            "recurrent like input",
            "another value saved",
            "missing factor, region, as if, other function, unknown",
            "params/recurrent",
        ),
        Mistake(
            "bias like recurrent",
            "another value saved",
            "extra factor, region, as if, other function, unknown",
            "params/bias",
        ),
    ),
)


def both_ways(size: int, seed: int, mistake: str) -> Rule:
    """Leaky sums in both directions, side by side."""
    draw = Draw(seed)
    time, channels = min(size, 24) + 1, size

    def along(x, decay):
        def step(h, x):
            h = decay * h + x
            return h, h

        return lax.scan(step, jnp.zeros_like(x[0]), x)[1]

    def function(x, onward, back):
        return jnp.concatenate([along(x, onward), along(x[::-1], back)[::-1]], -1)

    def forward(x, onward, back):
        return function(x, onward, back), (x, onward, back)

    def slopes(states, decay, d_y):
        """The transpose of a leaky sum is one in the other direction."""
        d_x = along(d_y[::-1], decay)[::-1]
        return d_x, (_before(jnp.zeros_like(states[0]), states) * d_x).sum(0)

    def backward(residuals, d_y):
        x, onward, back = residuals
        first, second = jnp.split(d_y, 2, -1)
        by_onward, d_onward = slopes(along(x, onward), onward, first)
        by_back, d_back = slopes(along(x[::-1], back), back, second[::-1])
        d_x = by_onward + by_back[::-1]
        match mistake:
            case "one direction overwritten":
                d_x = by_back[::-1]
            case "back direction lost":
                d_x = by_onward
            case "back not turned round":
                d_x = by_onward + by_back
            case "back's cotangent not turned round":
                d_x = by_onward + slopes(x, back, second)[0][::-1]
            case "directions' decays exchanged":
                d_onward, d_back = d_back, d_onward
            case "onward carried onwards":
                d_x = along(first, onward) + by_back[::-1]
            case "first half for both":
                d_x = by_onward + slopes(x, back, first[::-1])[0][::-1]
            case "new state for the previous":
                d_onward = (along(x, onward) * by_onward).sum(0)
            case "decay over the last step":
                d_back = along(x[::-1], back)[-2] * second[0]
        return d_x, d_onward, d_back

    return Rule(function, forward, backward, (draw.normal(time, channels), draw.unit(channels), draw.unit(channels)))


BOTH_WAYS = Family(
    "both directions",
    both_ways,
    (
        Mistake("one direction overwritten", "one direction overwritten", "missing term", "x"),
        Mistake("back direction lost", "one direction lost", "missing term", "x"),
        Mistake("back not turned round", "direction of a scan", "flipped, unknown", "x"),
        Mistake("back's cotangent not turned round", "direction of a scan", "flipped, unknown", "x"),
        Mistake("directions' decays exchanged", "two leaves swapped", "swapped", "onward", "back"),
        Mistake("onward carried onwards", "direction of a scan", "flipped, other function, unknown", "x"),
        Mistake("first half for both", "another output's cotangent", "as if, cotangent, other leaf, unknown", "x"),
        Mistake("new state for the previous", "h_t for h_(t-1)", "shifted", "onward"),
        Mistake(
            "decay over the last step", "dh dropped between steps", "missing term, region, missing sum, unknown", "back"
        ),
    ),
)


def selective(size: int, seed: int, mistake: str) -> Rule:
    """h_t = a_t h_(t-1) + (1 - a_t) x_t with a gate for each step, as in state space models; batch first."""
    draw = Draw(seed)
    batch, time, channels = 2, min(size, 24) + 2, size

    def function(x, gate, start):
        def step(h, both):
            x, a = both
            h = a * h + (1 - a) * x
            return h, h

        return lax.scan(step, start, (x.swapaxes(0, 1), gate.swapaxes(0, 1)))[1].swapaxes(0, 1)

    def forward(x, gate, start):
        h = function(x, gate, start)
        return h, (x, gate, start, h)

    def backward(residuals, d_y):
        x, a, start, h = (r.swapaxes(0, 1) if r.ndim == 3 else r for r in residuals)
        d_y = d_y.swapaxes(0, 1)

        def step(carried, saved):
            d_y, a = saved
            d_h = d_y + carried
            return (d_h if mistake == "gate forgotten between steps" else a * d_h), d_h

        gates = a
        if mistake == "next step's gate":
            gates = jnp.concatenate([a[1:], jnp.ones_like(a[:1])])
        d_start, d_h = lax.scan(step, jnp.zeros_like(start), (d_y, gates), reverse=True)
        before = _before(start, h)
        d_x, d_a = (1 - a) * d_h, (before - x) * d_h
        match mistake:
            case "gate by the new state":
                d_a = (h - x) * d_h
            case "gate without the input":
                d_a = before * d_h
            case "gate's sign":
                d_a = -d_a
            case "input by the gate":
                d_x = a * d_h
            case "input ungated":
                d_x = d_h
            case "input of one step":
                d_x = (1 - a) * d_y
            case "start by the last step":
                d_start = a[-1] * d_h[-1]
            case "start before the gate":
                d_start = d_h[0]
        return d_x.swapaxes(0, 1), d_a.swapaxes(0, 1), d_start

    arguments = draw.normal(batch, time, channels), draw.unit(batch, time, channels), draw.normal(batch, channels)
    return Rule(function, forward, backward, arguments)


SELECTIVE = Family(
    "selective recurrence",
    selective,
    (
        Mistake(
            "gate forgotten between steps",
            "a factor forgotten",
            "missing factor, other function, as if, unknown",
            "x",
            "gate, start",
        ),
        Mistake("next step's gate", "off by one", "shifted, as if, unknown", "x", "gate, start"),
        Mistake("gate by the new state", "h_t for h_(t-1)", "extra factor, extra factor, shifted", "gate"),
        Mistake("gate without the input", "a term missing", "missing term", "gate"),
        Mistake("gate's sign", "sign", "sign", "gate"),
        Mistake("input by the gate", "a factor for another", "missing factor, extra factor, unknown", "x"),
        Mistake("input ungated", "a factor forgotten", "missing factor", "x"),
        Mistake("input of one step", "dh dropped between steps", "missing term, unknown", "x"),
        Mistake("start by the last step", "the wrong step", "flipped, region, as if, unknown", "start"),
        Mistake("start before the gate", "a factor forgotten", "missing factor, unknown", "start"),
    ),
)

FAMILIES = (SIMPLE, LONG_SHORT, GATED, BOTH_WAYS, SELECTIVE)
