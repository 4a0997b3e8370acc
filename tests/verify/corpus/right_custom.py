"""Functions that carry their rule, correct: libraries', Flax's layers, this project's, and some written here."""

import math
from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import optax
from jax import lax, nn
from jax.scipy import special

from pipeline.attachment import attach
from pipeline.layers.activations import GELU
from pipeline.layers.convolution import Conv
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import LayerNorm
from pipeline.layers.pooling import MaxPool

from .kinds import Right, custom


def with_rule(forward, backward):
    """A function that is ``forward``'s first output, and has this rule."""
    function = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    function.defvjp(forward, backward)
    return lambda *arguments: function(*arguments)


# ---- rules of JAX and optax


def log_softmax(x):
    shifted = x - lax.stop_gradient(x.max(-1, keepdims=True))
    return shifted - jnp.log(jnp.exp(shifted).sum(-1, keepdims=True))


def tall_inverse(a):
    if a.shape[0] < a.shape[1]:
        raise ValueError(f"a is {a.shape}; it must have at least as many rows as columns")
    return jnp.linalg.solve(a.T @ a, a.T)


fenchel_young = optax.losses.make_fenchel_young_loss(lambda scores: nn.logsumexp(scores))

# name, function, reference, arguments
LIBRARIES = (
    ("jax.nn.relu", nn.relu, lambda x: jnp.where(x > 0, x, 0), lambda draw: draw.normal(4, 5)),
    ("jax.nn.relu6", nn.relu6, lambda x: jnp.clip(x, 0, 6), lambda draw: draw.wide(4, 5)),
    ("jax.nn.silu", nn.silu, lambda x: x / (1 + jnp.exp(-x)), lambda draw: draw.normal(3, 5)),
    ("jax.nn.gelu", partial(nn.gelu, approximate=False), lambda x: x * (1 + special.erf(x / math.sqrt(2))) / 2,
     lambda draw: draw.normal(6)),
    ("jax.nn.log_sigmoid", nn.log_sigmoid, lambda x: -jnp.log1p(jnp.exp(-x)), lambda draw: draw.normal(6)),
    ("jax.nn.softmax", nn.softmax, lambda x: jnp.exp(log_softmax(x)), lambda draw: draw.normal(3, 4)),
    ("jax.nn.logsumexp", partial(nn.logsumexp, axis=1), lambda x: jnp.log(jnp.exp(x).sum(1)),
     lambda draw: draw.normal(3, 4)),
    ("jax.numpy.logaddexp", jnp.logaddexp, lambda x, y: jnp.log(jnp.exp(x) + jnp.exp(y)),
     lambda draw: (draw.normal(5), draw.normal(5))),
    ("jax.numpy.sinc", jnp.sinc, lambda x: jnp.sin(math.pi * x) / (math.pi * x), lambda draw: draw.signed(7)),
    ("jax.scipy.special.xlogy", special.xlogy, lambda x, y: x * jnp.log(y),
     lambda draw: (draw.normal(5), draw.positive(5))),
    ("jax.scipy.special.xlog1py", special.xlog1py, lambda x, y: x * jnp.log(1 + y),
     lambda draw: (draw.normal(5), draw.positive(5))),
    ("jax.scipy.special.log_ndtr", special.log_ndtr, lambda x: jnp.log(special.ndtr(x)), lambda draw: draw.normal(8)),
    ("jax.scipy.special.logit", special.logit, lambda p: jnp.log(p / (1 - p)), lambda draw: draw.unit(8)),
    ("jax.numpy.linalg.pinv", jnp.linalg.pinv, tall_inverse, lambda draw: draw.normal(5, 3)),
    ("jax.numpy.linalg.det", jnp.linalg.det, lambda a: a[0] @ jnp.cross(a[1], a[2]), lambda draw: draw.regular(3)),
    ("optax cross-entropy", optax.softmax_cross_entropy, lambda logits, labels: -(labels * log_softmax(logits)).sum(-1),
     lambda draw: (draw.normal(4, 5), draw.shares(4, 5))),
    ("optax safe cross-entropy", optax.safe_softmax_cross_entropy,
     lambda logits, labels: -(labels * log_softmax(logits)).sum(-1),
     lambda draw: (draw.normal(4, 5), draw.shares(4, 5))),
    ("optax Fenchel-Young loss", fenchel_young, lambda scores, targets: (
        jnp.log(jnp.exp(scores).sum(-1)) - (scores * targets).sum(-1)
    ), lambda draw: (draw.normal(3, 4), draw.shares(3, 4))),
    ("jax.nn.sparse_plus", nn.sparse_plus, lambda x: jnp.where(x > 1, x, jnp.maximum(x + 1, 0) ** 2 / 4),
     lambda draw: draw.normal(6)),
    ("optax scaled gradient", lambda x: optax.scale_gradient(x, 0.25),
     lambda x: 0.25 * x + lax.stop_gradient(0.75 * x), lambda draw: draw.normal(3, 4)),
    ("checkpointed layers", jax.checkpoint(lambda kernels, x: jnp.tanh(jnp.tanh(x @ kernels[0]) @ kernels[1])),
     lambda kernels, x: jnp.tanh(jnp.tanh(x @ kernels[0]) @ kernels[1]),
     lambda draw: ((draw.normal(4, 4), draw.normal(4, 4)), draw.normal(3, 4))),
)  # fmt: skip


# ---- rules written here


def softplus_backward(x, d_y):
    return (d_y * nn.sigmoid(x),)


def cross_entropy_forward(logits, labels):
    log_p = nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[:, None], 1).mean(), (log_p, labels)


def cross_entropy_backward(residuals, d_y):
    log_p, labels = residuals
    return d_y / len(labels) * jnp.exp(log_p).at[jnp.arange(len(labels)), labels].add(-1), None


def cross_entropy(logits, labels):
    return -(nn.one_hot(labels, logits.shape[1], dtype=logits.dtype) * log_softmax(logits)).sum() / len(labels)


def rms_norm(x, scale):
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def rms_norm_forward(x, scale):
    r = lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    return x * r * scale, (x * r, r, scale)


def rms_norm_backward(residuals, d_y):
    n, r, scale = residuals
    d_n = d_y * scale
    return r * (d_n - n * (n * d_n).mean(-1, keepdims=True)), (d_y * n).sum(0)


def flash_forward(query, key, value):
    """One key at a time, with a running maximum and sum (Dao et al. 2022)."""

    def step(carry, key_value):
        best, total, y = carry
        scores = query @ key_value[0] / math.sqrt(query.shape[1])
        new = jnp.maximum(best, scores)
        old, share = jnp.exp(best - new), jnp.exp(scores - new)
        return (new, old * total + share, old[:, None] * y + share[:, None] * key_value[1]), None

    start = jnp.full(len(query), -jnp.inf, query.dtype), jnp.zeros(len(query), query.dtype)
    (best, total, y), _ = lax.scan(step, (*start, jnp.zeros((len(query), value.shape[1]), value.dtype)), (key, value))
    y = y / total[:, None]
    return y, (query, key, value, y, best + jnp.log(total))


def flash_backward(residuals, d_y):
    query, key, value, y, normalizer = residuals
    root = math.sqrt(query.shape[1])
    rows = (d_y * y).sum(-1)

    def step(d_query, key_value):
        key, value = key_value
        p = jnp.exp(query @ key / root - normalizer)
        d_scores = p * (d_y @ value - rows) / root
        return d_query + d_scores[:, None] * key, (d_scores @ query, p @ d_y)

    d_query, (d_key, d_value) = lax.scan(step, jnp.zeros_like(query), (key, value))
    return d_query, d_key, d_value


def attention(query, key, value):
    return nn.softmax(query @ key.T / math.sqrt(query.shape[1])) @ value


def lookup_backward(residuals, d_y):
    table, ids = residuals
    return jax.ops.segment_sum(d_y, ids, num_segments=len(table)), None


def contraction(kernel, z, x):
    """Which has one fixed point in z, whatever the kernel."""
    return 0.5 * jnp.tanh(kernel / (1 + jnp.abs(kernel).sum()) @ z + x)


def fixed_point(kernel, x):
    return lax.fori_loop(0, 60, lambda _, z: contraction(kernel, z, x), jnp.zeros_like(x))


def fixed_point_backward(residuals, d_z):
    """By the implicit function theorem, at the fixed point."""
    kernel, z, x = residuals
    total = 1 + jnp.abs(kernel).sum()
    slope = 0.5 * (1 - jnp.tanh(kernel / total @ z + x) ** 2)
    jacobian = slope[:, None] * kernel / total
    d_x = slope * jnp.linalg.solve(jnp.eye(len(x), dtype=x.dtype) - jacobian.T, d_z)
    d_scaled = jnp.outer(d_x, z)
    return d_scaled / total - jnp.sign(kernel) * jnp.vdot(d_scaled, kernel) / total**2, d_x


def cube_root(x):
    """By Newton's method, differentiated as a root."""
    newton = lambda f, start: lax.fori_loop(0, 60, lambda _, y: y - f(y) / (3 * y**2), start)  # noqa: E731
    tangent = lambda g, y: y / g(jnp.ones_like(y))  # noqa: E731
    return lax.custom_root(lambda y: y**3 - x, jnp.maximum(x, 1), newton, tangent)


def linear_solve(a, b):
    solve = lambda _, b: jnp.linalg.inv(a) @ b  # noqa: E731
    transposed = lambda _, b: jnp.linalg.inv(a).T @ b  # noqa: E731
    return lax.custom_linear_solve(lambda x: a @ x, b, solve, transposed)


def binarize(x):
    return jnp.clip(x, -1, 1) + lax.stop_gradient(jnp.sign(x) - jnp.clip(x, -1, 1))


def dropout(x, key):
    return x * jax.random.bernoulli(key, 0.5, x.shape) * 2


def dropout_forward(x, key):
    keep = jax.random.bernoulli(key, 0.5, x.shape)
    return jnp.where(keep, 2 * x, 0), keep


power = jax.custom_vjp(lambda degree, x: x**degree, nondiff_argnums=(0,))
power.defvjp(lambda degree, x: (x**degree, x), lambda degree, x, d_y: (d_y * degree * x ** (degree - 1),))


def decayed_sums(x):
    weights = 0.8 ** jnp.maximum(jnp.arange(len(x))[:, None] - jnp.arange(len(x)), 0)
    return jnp.tril(weights).astype(x.dtype) @ x


def decayed_forward(x):
    step = lambda h, x_t: (0.8 * h + x_t,) * 2  # noqa: E731
    return lax.scan(step, jnp.zeros_like(x[0]), x)[1], None


def moments_forward(x):
    y = {"mean": x.mean(0), "variance": x.var(0)}
    return y, x - y["mean"]


def moments_backward(centred, d):
    return ((d["mean"] + 2 * centred * d["variance"]) / len(centred),)


def accumulated(x, kernel):
    """A product of bfloat16 whose sums are float32."""
    return jnp.matmul(x, kernel, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32)).astype(x.dtype)


def accumulated_backward(residuals, d_y):
    x, kernel = residuals
    return accumulated(d_y, kernel.T), accumulated(x.T, d_y)


def gated_params(params):
    return nn.sigmoid(params["gate"]) * params["value"]


def gated_forward(params):
    gate = nn.sigmoid(params["gate"])
    return gate * params["value"], {"gate": gate, "value": params["value"]}


def gated_backward(residuals, d_y):
    gate, value = residuals["gate"], residuals["value"]
    return ({"gate": d_y * value * gate * (1 - gate), "value": d_y * gate},)


WRITTEN_HERE = (
    ("stable softplus", with_rule(lambda x: (jnp.logaddexp(x, 0), x), softplus_backward),
     lambda x: jnp.log1p(jnp.exp(x)), lambda draw: draw.normal(3, 4)),
    ("cross-entropy from probabilities", with_rule(cross_entropy_forward, cross_entropy_backward), cross_entropy,
     lambda draw: (draw.normal(6, 4), draw.ids(4, 6))),
    ("RMS norm that keeps x / rms", with_rule(rms_norm_forward, rms_norm_backward), rms_norm,
     lambda draw: (draw.normal(4, 6), draw.normal(6))),
    ("attention, one key at a time", with_rule(flash_forward, flash_backward), attention,
     lambda draw: (draw.normal(4, 3), draw.normal(6, 3), draw.normal(6, 2))),
    ("lookup", with_rule(lambda table, ids: (table[ids], (table, ids)), lookup_backward),
     lambda table, ids: jnp.take(table, ids, axis=0), lambda draw: (draw.normal(5, 3), draw.ids(5, 8))),
    ("fixed point", with_rule(
        lambda kernel, x: (fixed_point(kernel, x), (kernel, fixed_point(kernel, x), x)), fixed_point_backward
    ), fixed_point, lambda draw: (draw.normal(3, 3), draw.normal(3))),
    ("root by Newton's method", cube_root, jnp.cbrt, lambda draw: draw.positive(5)),
    ("linear solve", linear_solve, jnp.linalg.solve, lambda draw: (draw.regular(4), draw.normal(4))),
    ("binarization, straight through", with_rule(
        lambda x: (jnp.sign(x), jnp.abs(x) < 1), lambda inside, d: (jnp.where(inside, d, 0),)
    ), binarize, lambda draw: draw.normal(4, 4)),
    ("gradient reversed", with_rule(lambda x: (x, None), lambda _, d: (-d,)),
     lambda x: lax.stop_gradient(2 * x) - x, lambda draw: draw.normal(5)),
    ("dropout with its key", with_rule(dropout_forward, lambda keep, d: (jnp.where(keep, 2 * d, 0), None)), dropout,
     lambda draw: (draw.normal(5, 4), draw.key())),
    ("power of a fixed degree", partial(power, 3), lambda x: x * x * x, lambda draw: draw.normal(6)),
    ("power, by row", lambda x: jax.vmap(partial(power, 2))(x), jnp.square, lambda draw: draw.normal(3, 4)),
    ("decayed sums", with_rule(
        decayed_forward, lambda _, d: (jnp.flip(decayed_forward(jnp.flip(d, 0))[0], 0),)
    ), decayed_sums, lambda draw: draw.normal(7, 2)),
    ("moments, as a dict", with_rule(moments_forward, moments_backward),
     lambda x: {"mean": x.mean(0), "variance": (x**2).mean(0) - x.mean(0) ** 2}, lambda draw: draw.normal(6, 3)),
    ("bfloat16 product with float32 sums", with_rule(
        lambda x, kernel: (accumulated(x, kernel), (x, kernel)), accumulated_backward
    ), jnp.matmul, lambda draw: (draw.bfloat16(4, 5), draw.bfloat16(5, 3))),
    ("gate of a dict", with_rule(gated_forward, gated_backward), gated_params,
     lambda draw: {"gate": draw.normal(4), "value": draw.normal(4)}),
)  # fmt: skip


# ---- Flax's layers


def normalize(x, axes, epsilon=1e-6):
    return (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + epsilon)


def windows(x, size):
    """(batch, time, features) to (batch, time - size + 1, size, features)."""
    return jnp.stack([x[:, k : x.shape[1] - size + 1 + k] for k in range(size)], 2)


def image_conv(params, x):
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    rows, columns = ((x.shape[i + 1] - kernel.shape[i]) // 2 + 1 for i in (0, 1))
    taps = [
        x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] @ kernel[i, j]
        for i in range(kernel.shape[0]) for j in range(kernel.shape[1])
    ]  # fmt: skip
    return sum(taps) + bias


def group_norm(params, x):
    y = normalize(x.reshape(*x.shape[:-1], 2, -1), (1, 3)).reshape(x.shape)
    return y * params["params"]["scale"] + params["params"]["bias"]


def batch_norm(variables, x):
    params, statistics = variables["params"], variables["batch_stats"]
    return (x - statistics["mean"]) / jnp.sqrt(statistics["var"] + 1e-5) * params["scale"] + params["bias"]


def self_attention(params, x):
    params = params["params"]
    q, k, v = (
        jnp.einsum("btf,fhd->bhtd", x, params[name]["kernel"]) + params[name]["bias"][:, None]
        for name in ("query", "key", "value")
    )
    y = nn.softmax(q @ jnp.swapaxes(k, 2, 3) / math.sqrt(q.shape[-1])) @ v
    return jnp.einsum("bhtd,hdf->btf", y, params["out"]["kernel"]) + params["out"]["bias"]


def dense(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def lstm_cell(params, carry, x):
    params, (c, h) = params["params"], carry
    i, f, g, o = (dense(params[f"i{gate}"], x) + dense(params[f"h{gate}"], h) for gate in "ifgo")
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    h = nn.sigmoid(o) * jnp.tanh(c)
    return (c, h), h


def gru_cell(params, h, x):
    params = params["params"]
    r, z = (nn.sigmoid(dense(params[f"i{gate}"], x) + dense(params[f"h{gate}"], h)) for gate in "rz")
    n = jnp.tanh(dense(params["in"], x) + r * dense(params["hn"], h))
    h = (1 - z) * n + z * h
    return h, h


def flax_layer(name, layer, reference, inputs):
    """A layer at parameters away from those it starts with. inputs: what follows the parameters."""

    def arguments(draw):
        given = inputs(draw)
        start = layer.init(draw.key(), *given)
        return jax.tree.map(lambda leaf: leaf + 0.3 * draw.narrow(*leaf.shape), start), *given

    return custom(name, lambda params, *inputs: layer.apply(params, *inputs), reference, arguments)


def batch_norm_arguments(draw):
    scales = {"scale": draw.signed(3), "bias": draw.normal(3)}
    return {"params": scales, "batch_stats": {"mean": draw.normal(3), "var": draw.positive(3)}}, draw.normal(5, 3)


EVALUATION_NORM = linen.BatchNorm(use_running_average=True)

FLAX: tuple[Right, ...] = (
    flax_layer("flax Dense", linen.Dense(5), lambda params, x: dense(params["params"], x),
               lambda draw: (draw.normal(2, 3, 4),)),
    flax_layer("flax Conv of signals", linen.Conv(4, (3,), padding="VALID"), lambda params, x: (
        jnp.einsum("btki,kio->bto", windows(x, 3), params["params"]["kernel"]) + params["params"]["bias"]
    ), lambda draw: (draw.normal(2, 6, 3),)),
    flax_layer("flax Conv of images", linen.Conv(3, (2, 3), strides=2, padding="VALID"), image_conv,
               lambda draw: (draw.normal(2, 5, 6, 2),)),
    flax_layer("flax LayerNorm", linen.LayerNorm(use_fast_variance=False), lambda params, x: (
        normalize(x, -1) * params["params"]["scale"] + params["params"]["bias"]
    ), lambda draw: (draw.normal(4, 6),)),
    flax_layer("flax GroupNorm", linen.GroupNorm(2, use_fast_variance=False), group_norm,
               lambda draw: (draw.normal(2, 5, 6),)),
    flax_layer("flax RMSNorm", linen.RMSNorm(), lambda params, x: rms_norm(x, params["params"]["scale"]),
               lambda draw: (draw.normal(4, 6),)),
    flax_layer("flax Embed", linen.Embed(6, 3), lambda params, ids: params["params"]["embedding"][ids],
               lambda draw: (draw.ids(6, 2, 5),)),
    flax_layer("flax attention", linen.MultiHeadDotProductAttention(2), self_attention,
               lambda draw: (draw.normal(2, 4, 6),)),
    flax_layer("flax LSTMCell", linen.LSTMCell(4), lstm_cell,
               lambda draw: ((draw.normal(2, 4), draw.normal(2, 4)), draw.normal(2, 3))),
    flax_layer("flax GRUCell", linen.GRUCell(4), gru_cell, lambda draw: (draw.normal(2, 4), draw.normal(2, 3))),
    custom("flax BatchNorm in evaluation", lambda params, x: EVALUATION_NORM.apply(params, x), batch_norm,
           batch_norm_arguments),
)  # fmt: skip


# ---- this project's layers


def pairs(x):
    """The largest of each two by two places."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x.max((2, 4))


def signal_conv(params, x):
    return jnp.einsum("btki,kio->bto", windows(x, len(params["kernel"])), params["kernel"]) + params["bias"]


ATTACHED = (
    ("attached Dense", Dense(3), lambda params, x: dense(params, x),
     lambda draw: ({"kernel": draw.normal(4, 3), "bias": draw.normal(3)}, draw.normal(5, 4))),
    ("attached LayerNorm", LayerNorm(), lambda params, x: normalize(x, -1) * params["scale"] + params["bias"],
     lambda draw: ({"scale": draw.normal(5), "bias": draw.normal(5)}, draw.normal(4, 5))),
    ("attached Conv", Conv(2, (3,), padding="VALID"), signal_conv,
     lambda draw: ({"kernel": draw.normal(3, 4, 2), "bias": draw.normal(2)}, draw.normal(2, 6, 4))),
    ("attached MaxPool", MaxPool((2, 2)), lambda params, x: pairs(x), lambda draw: ({}, draw.normal(2, 4, 5, 3))),
    ("attached GELU", GELU(), lambda params, x: x * special.ndtr(x), lambda draw: ({}, draw.normal(4, 3))),
    ("attached Embedding", Embedding(6, 3), lambda params, x: params["embedding"][x],
     lambda draw: ({"embedding": draw.normal(6, 3)}, draw.ids(6, 7))),
)  # fmt: skip


def attached(name, layer, reference, arguments):
    return custom(name, lambda params, x: attach(layer)(params, x), reference, arguments)


CUSTOM: tuple[Right, ...] = (
    *(custom(*row) for row in LIBRARIES),
    *(custom(*row) for row in WRITTEN_HERE),
    *FLAX,
    *(attached(*row) for row in ATTACHED),
)
