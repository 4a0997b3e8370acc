"""Wrong rules of what surrounds the mathematics: noise, stop_gradient, precision, devices, state, the contract."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .kinds import Draw
from .registry import Family, Mistake, Rule

KEEP = 0.7


def dropout(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)

    def kept(key, shape):
        return jax.random.bernoulli(key, KEEP, shape)

    def function(x, kernel, key):
        return jnp.where(kept(key, x.shape), x / KEEP, 0.0) @ kernel

    def forward(x, kernel, key):
        return function(x, kernel, key), (x, kernel, key)

    def backward(residuals, d_y):
        x, kernel, key = residuals
        mask = kept(key, x.shape)
        dropped = jnp.where(mask, x / KEEP, 0.0)
        d_dropped, d_kernel = d_y @ kernel.T, dropped.T @ d_y
        d_x = jnp.where(mask, d_dropped / KEEP, 0.0)
        match mistake:
            case "mask drawn afresh":
                d_x = jnp.where(kept(jax.random.fold_in(key, 1), x.shape), d_dropped / KEEP, 0.0)
            case "not divided by what is kept":
                d_x = d_x * KEEP
            case "divided twice":
                d_x = d_x / KEEP
            case "mask forgotten":
                d_x = d_dropped / KEEP
            case "mask inverted":
                d_x = jnp.where(mask, 0.0, d_dropped / KEEP)
            case "as in evaluation":
                d_x = d_dropped
            case "mask by example":
                d_x = jnp.where(mask[:, :1], d_dropped / KEEP, 0.0)
            case "kernel from what was not dropped":
                d_kernel = x.T @ d_y
            case "kernel not divided":
                d_kernel = d_kernel * KEEP
        return d_x, d_kernel, None

    return Rule(function, forward, backward, (draw.normal(size + 2, size + 1), draw.normal(size + 1, size), draw.key()))


DROPOUT = Family(
    "dropout",
    dropout,
    (
        Mistake("mask drawn afresh", "dropout's mask drawn afresh", "as if", "x"),
        Mistake("not divided by what is kept", "1/keep missing", "factor", "x"),
        Mistake("divided twice", "1/keep twice", "factor", "x"),
        Mistake(
            "mask forgotten", "mask forgotten", "padding, region, missing factor, missing term, as if, unknown", "x"
        ),
        Mistake("mask inverted", "mask inverted", "as if, unknown", "x"),
        Mistake(
            "as in evaluation", "evaluation's rule in training", "other function, as if, missing factor, unknown", "x"
        ),
        Mistake("mask by example", "mask of another shape", "region, as if, unknown", "x"),
        Mistake("kernel from what was not dropped", "another value saved", "as if, other function, unknown", "kernel"),
        Mistake("kernel not divided", "1/keep missing", "factor", "kernel"),
    ),
)


def bootstrapped(size: int, seed: int, mistake: str) -> Rule:
    """A temporal difference: the next state's value is a target, through which no gradient flows."""
    draw = Draw(seed)
    discount = np.float32(0.9)

    def values(params, states):
        return jnp.tanh(states @ params["kernel"]) @ params["head"]

    def function(params, states, following, rewards):
        target = lax.stop_gradient(rewards + discount * values(params, following))
        return 0.5 * jnp.square(values(params, states) - target).sum()

    def forward(params, states, following, rewards):
        return function(params, states, following, rewards), (params, states, following, rewards)

    def through(params, states, d):
        hidden = jnp.tanh(states @ params["kernel"])
        d_inner = d[:, None] * params["head"] * (1 - jnp.square(hidden))
        return {"kernel": states.T @ d_inner, "head": hidden.T @ d}, d_inner @ params["kernel"].T

    def backward(residuals, d_y):
        params, states, following, rewards = residuals
        error = d_y * (values(params, states) - rewards - discount * values(params, following))
        d_params, d_states = through(params, states, error)
        d_following = d_rewards = None
        match mistake:
            case "gradient into the target":
                of_target, _ = through(params, following, -discount * error)
                d_params = jax.tree.map(jnp.add, d_params, of_target)
            case "gradient into the next states":
                _, d_following = through(params, following, -discount * error)
            case "gradient into the rewards":
                d_rewards = -error
            case "gradient of the target alone":
                d_params, _ = through(params, following, -discount * error)
            case "states held back too":
                d_states = jnp.zeros_like(d_states)
            case "discount forgotten in the error":
                error = d_y * (values(params, states) - rewards - values(params, following))
                _, d_states = through(params, states, error)
        return d_params, d_states, d_following, d_rewards

    params = {"kernel": draw.normal(size, size) / np.float32(math.sqrt(size)), "head": draw.normal(size)}
    arguments = params, draw.normal(size + 1, size), draw.normal(size + 1, size), draw.normal(size + 1)
    return Rule(function, forward, backward, arguments)


BOOTSTRAPPED = Family(
    "bootstrapped",
    bootstrapped,
    (
        Mistake("gradient into the target", "stop_gradient ignored", "stop_gradient", "params/kernel", "params/head"),
        Mistake("gradient into the next states", "stop_gradient ignored", "stop_gradient", "following"),
        Mistake("gradient into the rewards", "stop_gradient ignored", "stop_gradient", "rewards"),
        Mistake(
            "gradient of the target alone",
            "stop_gradient on the wrong side",
            "stop_gradient, as if, other function, unknown",
            "params/kernel",
            "params/head",
        ),
        Mistake("states held back too", "gradient lost", "missing", "states"),
        Mistake(
            "discount forgotten in the error", "another hyper-parameter", "other function, as if, unknown", "states"
        ),
    ),
)


def quantised(size: int, seed: int, mistake: str) -> Rule:
    """The nearest code of each row, straight through, with a commitment loss (van den Oord et al. 2017)."""
    draw = Draw(seed)

    def nearest(x, codes):
        return jnp.argmin(jnp.square(x[:, None] - codes).sum(-1), 1)

    def function(x, codes):
        chosen = codes[nearest(x, codes)]
        straight = x + lax.stop_gradient(chosen - x)
        commitment = jnp.square(x - lax.stop_gradient(chosen)).sum()
        return straight, commitment + jnp.square(lax.stop_gradient(x) - chosen).sum()

    def forward(x, codes):
        return function(x, codes), (x, codes)

    def backward(residuals, cotangents):
        x, codes = residuals
        d_straight, d_loss = cotangents
        ids = nearest(x, codes)
        apart = 2 * d_loss * (x - codes[ids])
        d_x, d_codes = d_straight + apart, jnp.zeros_like(codes).at[ids].add(-apart)
        match mistake:
            case "nothing straight through":
                d_x = apart
            case "codes get the straight gradient":
                d_codes = d_codes.at[ids].add(d_straight)
            case "both sides of the loss":
                d_x = d_straight + 2 * apart
            case "commitment held back too":
                d_x = d_straight
            case "codes overwritten":
                d_codes = jnp.zeros_like(codes).at[ids].set(-apart)
            case "codes' sign":
                d_codes = -d_codes
        return d_x, d_codes

    codes = draw.normal(3, size)
    x = np.concatenate([codes + draw.normal(3, size) / 4, codes[:2] + draw.normal(2, size) / 4])
    return Rule(function, forward, backward, (x.astype(np.float32), codes))


QUANTISED = Family(
    "quantised",
    quantised,
    (
        Mistake("nothing straight through", "one path of the chain rule lost", "missing term", "x"),
        Mistake(
            "codes get the straight gradient",
            "stop_gradient ignored",
            "stop_gradient, other function, unknown",
            "codes",
        ),
        Mistake("both sides of the loss", "stop_gradient ignored", "stop_gradient, doubled term", "x"),
        Mistake("commitment held back too", "one path of the chain rule lost", "missing term", "x"),
        Mistake(
            "codes overwritten",
            "duplicate ids overwritten",
            "duplicates, region, missing sum, missing term, unknown",
            "codes",
        ),
        Mistake("codes' sign", "sign", "sign", "codes"),
    ),
)


def precision(size: int, seed: int, mistake: str) -> Rule:
    """A dense layer that keeps its arguments' precision throughout."""
    draw = Draw(seed)

    def function(x, kernel, bias):
        return jnp.tanh(x @ kernel + bias)

    def forward(x, kernel, bias):
        y = function(x, kernel, bias)
        kept = y.astype(jnp.bfloat16) if mistake == "output saved in bfloat16" else y
        if mistake == "forward in float16":
            y = function(*(a.astype(jnp.float16) for a in (x, kernel, bias))).astype(x.dtype)
        return y, (x, kernel, kept)

    def backward(residuals, d_y):
        x, kernel, y = residuals
        d = d_y * (1 - jnp.square(y.astype(d_y.dtype)))
        d_x, d_kernel, d_bias = d @ kernel.T, x.T @ d, d.sum(0)
        match mistake:
            case "product in bfloat16":
                d_kernel = (x.astype(jnp.bfloat16).T @ d.astype(jnp.bfloat16)).astype(x.dtype)
            case "sum in bfloat16":
                d_bias = d.astype(jnp.bfloat16).sum(0).astype(x.dtype)
            case "input's product in float16":
                d_x = (d.astype(jnp.float16) @ kernel.astype(jnp.float16).T).astype(x.dtype)
            case "rounded to thousandths":
                d_kernel = jnp.round(d_kernel * 1000) / 1000
        return d_x, d_kernel, d_bias

    arguments = draw.normal(size, size), draw.normal(size, size) / np.float32(math.sqrt(size)), draw.normal(size)
    return Rule(function, forward, backward, arguments)


PRECISION = Family(
    "precision",
    precision,
    (
        Mistake("product in bfloat16", "products in bfloat16", "precision", "kernel"),
        Mistake("sum in bfloat16", "sums in bfloat16", "precision", "bias"),
        Mistake("input's product in float16", "products in float16", "precision", "x"),
        Mistake("output saved in bfloat16", "residuals in bfloat16", "precision", "kernel", "x, bias"),
        Mistake("rounded to thousandths", "rounded", "cotangent, precision, unknown", "kernel"),
        Mistake("forward in float16", "wrong forward value", "value, precision", "y"),
    ),
)


def sharded(size: int, seed: int, mistake: str) -> Rule:
    """The mean loss of a batch that lies on four devices (here: a mapped axis), each with the whole kernel."""
    draw = Draw(seed)
    devices, rows = 4, size

    def on_one(kernel, x, target):
        error = x @ kernel - target
        return lax.pmean(jnp.square(error).mean(), "devices")

    def function(kernel, x, target):
        return jax.vmap(on_one, (None, 0, 0), axis_name="devices")(kernel, x, target)[0]

    def forward(kernel, x, target):
        return function(kernel, x, target), (kernel, x, target)

    def backward(residuals, d_y):
        kernel, x, target = residuals

        def on_one(x, target):
            d = 2 * d_y * (x @ kernel - target) / target.size
            d_kernel, d_target = x.T @ d, -d / devices
            match mistake:
                case "psum missing":
                    d_kernel = d_kernel / devices
                case "psum for pmean":
                    d_kernel = lax.psum(d_kernel, "devices")
                case "psum twice":
                    d_kernel = lax.psum(lax.pmean(d_kernel, "devices"), "devices")
                case "pmean twice":
                    d_kernel = lax.pmean(d_kernel / devices, "devices")
                case _:
                    d_kernel = lax.pmean(d_kernel, "devices")
            match mistake:
                case "targets not divided":
                    d_target = -d
                case "targets summed":
                    d_target = lax.psum(d_target, "devices")
                case "targets of the next device":
                    d_target = lax.ppermute(d_target, "devices", [(i, (i + 1) % devices) for i in range(devices)])
            return d_kernel, d @ kernel.T / devices, d_target

        d_kernel, d_x, d_target = jax.vmap(on_one, axis_name="devices")(x, target)
        return d_kernel[0], d_x, d_target

    arguments = draw.normal(size, size), draw.normal(devices, rows, size), draw.normal(devices, rows, size)
    return Rule(function, forward, backward, arguments)


SHARDED = Family(
    "sharded",
    sharded,
    (
        Mistake("psum missing", "a psum missing", "partial sum, missing sum, region, missing term, as if", "kernel"),
        Mistake("psum for pmean", "a psum for a pmean", "factor", "kernel"),
        Mistake("psum twice", "a psum doubled", "factor", "kernel"),
        Mistake("pmean twice", "a pmean doubled", "factor", "kernel"),
        Mistake("targets not divided", "1/N of the devices", "factor", "target"),
        Mistake("targets summed", "summed over an axis to keep", "extra sum", "target"),
        Mistake("targets of the next device", "off by one", "shifted", "target"),
    ),
)


def accumulated(size: int, seed: int, mistake: str) -> Rule:
    """The mean loss of three micro-batches, one after the other."""
    draw = Draw(seed)
    parts = 3

    def function(params, x):
        def one(total, x):
            return total + jnp.square(x @ params["kernel"] + params["bias"]).sum() / parts, None

        return lax.scan(one, jnp.zeros((), x.dtype), x)[0]

    def forward(params, x):
        return function(params, x), (params, x)

    def backward(residuals, d_y):
        params, x = residuals
        if mistake == "loss scale not undone":
            d_y = d_y * 1024

        def one(total, x):
            d = 2 * d_y * (x @ params["kernel"] + params["bias"]) / parts
            gradient = {"kernel": x.T @ d, "bias": d.sum(0)}
            added = gradient if mistake == "last micro-batch alone" else jax.tree.map(jnp.add, total, gradient)
            return added, d @ params["kernel"].T

        d_params, d_x = lax.scan(one, jax.tree.map(jnp.zeros_like, params), x)
        match mistake:
            case "sum for the mean":
                d_params["kernel"] = d_params["kernel"] * parts
            case "clipped":
                norm = jnp.sqrt(sum(jnp.square(d).sum() for d in jax.tree.leaves(d_params)))
                d_params = jax.tree.map(lambda d: d / jnp.maximum(norm, 1.0), d_params)
            case "weight decay":
                d_params["kernel"] = d_params["kernel"] + 0.01 * params["kernel"]
            case "momentum of 0.9":
                d_params["bias"] = 0.1 * d_params["bias"]
            case "ascent":
                d_params["bias"] = -d_params["bias"]
            case "constant added":
                d_params["bias"] = d_params["bias"] + 0.1
        return d_params, d_x

    params = {"kernel": draw.normal(size, size), "bias": draw.normal(size)}
    return Rule(function, forward, backward, (params, draw.normal(parts, size, size)))


ACCUMULATED = Family(
    "accumulated",
    accumulated,
    (
        Mistake(
            "last micro-batch alone",
            "overwritten in a loop",
            "region, missing term, missing sum, as if",
            "params/kernel",
            "params/bias",
        ),
        Mistake("sum for the mean", "missing 1/N", "factor", "params/kernel"),
        Mistake("loss scale not undone", "factor", "factor", "params/kernel", "params/bias, x", ("1024",)),
        Mistake("clipped", "not linear in the incoming gradient", "cotangent", "params/kernel", "params/bias"),
        Mistake("weight decay", "something added whatever comes in", "cotangent", "params/kernel"),
        Mistake("momentum of 0.9", "factor", "factor", "params/bias"),
        Mistake("ascent", "sign", "sign", "params/bias"),
        Mistake("constant added", "something added whatever comes in", "cotangent", "params/bias"),
    ),
)


def stateful(size: int, seed: int, mistake: str) -> Rule:
    """The largest of each row, by NumPy on the host, in buffers that a careless rule keeps between calls."""
    draw = Draw(seed)
    kept: dict[str, np.ndarray] = {}
    random = np.random.default_rng()

    def scattered(x, d_y):
        x, d_y = np.asarray(x), np.asarray(d_y)
        fresh = np.zeros_like(x)
        d = kept.setdefault(x.dtype.name, fresh) if mistake in ("buffer not cleared", "buffer added to") else fresh
        place = x.argmax(-1)[..., None]
        before = np.take_along_axis(d, place, -1) if mistake == "buffer added to" else 0
        np.put_along_axis(d, place, d_y[..., None] + before, -1)
        if mistake == "noise added":
            d = d + 1e-3 * random.normal(size=d.shape).astype(d.dtype)
        if mistake == "memory not initialised":
            d = np.where(d == 0, random.normal(size=d.shape).astype(d.dtype), d)
        return d.copy()

    def function(x):
        return x.max(-1)

    def forward(x):
        if mistake == "saved aside":
            kept["x"] = x
        return x.max(-1), x

    def backward(x, d_y):
        if mistake == "saved aside":
            x = kept["x"]
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return (jax.pure_callback(scattered, shape, x, d_y, vmap_method="sequential"),)

    return Rule(function, forward, backward, (draw.normal(size, size + 1),))


STATEFUL = Family(
    "stateful",
    stateful,
    (
        Mistake("buffer not cleared", "state left from the last call", "state", ""),
        Mistake("buffer added to", "state left from the last call", "not deterministic, state", ""),
        Mistake("saved aside", "state left from the last call", "state", ""),
        Mistake("noise added", "depends on the run", "not deterministic", ""),
        Mistake("memory not initialised", "depends on the run", "not deterministic", ""),
    ),
)


def contract(size: int, seed: int, mistake: str) -> Rule:
    """Logits of rows that ids choose, from a tree of parameters: right numbers, handed over wrongly."""
    draw = Draw(seed)
    rows, inputs, outputs = size + 2, size, size + 1

    def function(params, x, ids):
        return params["scale"] * (x[ids] @ params["kernel"] + params["bias"])

    def forward(params, x, ids):
        y = function(params, x, ids)
        match mistake:
            case "value in another shape":
                y = y[None]
            case "value and its copy":
                y = (y, y)
        return y, (params, x, ids)

    def backward(residuals, d_y):
        params, x, ids = residuals
        d = params["scale"] * d_y
        d_params = {
            "kernel": x[ids].T @ d,
            "bias": d.sum(0),
            "scale": (d_y * (x[ids] @ params["kernel"] + params["bias"])).sum(),
        }
        d_x = jnp.zeros_like(x).at[ids].add(d @ params["kernel"].T)
        d_ids = None
        match mistake:
            case "leaf missing":
                del d_params["bias"]
            case "leaf too many":
                d_params["gain"] = d_params["bias"]
            case "leaf called otherwise":
                d_params["weight"] = d_params.pop("kernel")
            case "None for a parameter":
                d_params["bias"] = None
            case "zero as a Python number":
                d_params["scale"] = 0.0
            case "number with an axis":
                d_params["scale"] = d_params["scale"][None]
            case "kernel flattened":
                d_params["kernel"] = d_params["kernel"].reshape(-1)
            case "bias as a column":
                d_params["bias"] = d_params["bias"][:, None]
            case "bias in half precision":
                d_params["bias"] = d_params["bias"].astype(jnp.float16)
            case "whole numbers":
                d_params["bias"] = d_params["bias"].astype(jnp.int32)
            case "gradient for ids":
                d_ids = ids.astype(d_y.dtype)
            case "parameters in a list":
                return [d_params["bias"], d_params["kernel"], d_params["scale"]], d_x, None
            case "ids' place left out":
                return d_params, d_x
            case "one place too many":
                return d_params, d_x, None, None
            case "parameters alone":
                return d_params
            case "x's gradient without a place for params":
                return d_x
            case "error raised":
                raise FloatingPointError("the gradient is too large")
            case "batch of another size":
                d_x = d_x.reshape(rows + 1, inputs)
            case "residual out of range":
                d_x = residuals[3]
            case "branch on a value":
                d_x = d_x if d_y.sum() > 1e9 else d_x * 1.0
            case "number taken from an array":
                d_params["scale"] = jnp.asarray(float(d_params["scale"]), d_y.dtype)
        return d_params, d_x, d_ids

    params = {"kernel": draw.normal(inputs, outputs), "bias": draw.normal(outputs), "scale": np.float32(1.3)}
    return Rule(function, forward, backward, (params, draw.normal(rows, inputs), draw.ids(rows, rows)))


CONTRACT = Family(
    "contract",
    contract,
    (
        Mistake("leaf missing", "missing leaf", "structure, missing", "params/bias"),
        Mistake("leaf too many", "surplus leaf", "structure", "params/gain"),
        Mistake("leaf called otherwise", "missing leaf", "structure", "params/kernel", "params/weight"),
        Mistake("None for a parameter", "gradient lost", "missing", "params/bias"),
        Mistake("zero as a Python number", "Python number", "structure, dtype, shape, missing", "params/scale"),
        Mistake("number with an axis", "wrong shape", "shape", "params/scale"),
        Mistake("kernel flattened", "wrong shape", "shape", "params/kernel"),
        Mistake("bias as a column", "wrong shape", "shape", "params/bias"),
        Mistake("bias in half precision", "wrong dtype", "dtype, precision", "params/bias"),
        Mistake("whole numbers", "wrong dtype", "dtype, precision", "params/bias"),
        Mistake("gradient for ids", "wrong dtype", "dtype", "ids"),
        Mistake("parameters in a list", "other container", "structure", "params/kernel", "params/bias, params/scale"),
        Mistake("ids' place left out", "number of cotangents", "structure", ""),
        Mistake("one place too many", "number of cotangents", "structure", ""),
        Mistake("parameters alone", "other container", "structure", ""),
        Mistake("x's gradient without a place for params", "other container", "structure", ""),
        Mistake("error raised", "exception", "exception", ""),
        Mistake("batch of another size", "exception", "exception", ""),
        Mistake("residual out of range", "exception", "exception", ""),
        Mistake("branch on a value", "exception", "exception", ""),
        Mistake("number taken from an array", "exception", "exception", ""),
        Mistake("value in another shape", "wrong forward value", "value, shape", "y"),
        Mistake("value and its copy", "wrong forward value", "value, structure", "y"),
    ),
)

FAMILIES = (
    DROPOUT,
    BOOTSTRAPPED,
    QUANTISED,
    PRECISION,
    SHARDED,
    ACCUMULATED,
    STATEFUL,
    CONTRACT,
)
