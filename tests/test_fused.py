"""``fused``: each drop-in against the function whose name it has, values and gradients, in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradient_cases.case import ids, mask, normal, shares
from pipeline import fused
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.ctc import CTC

SCALE, BIAS = normal(4), normal(4, scale=0.5)
QUERY, KEYS = normal(2, 6, 4, 3), normal(2, 6, 2, 3)
VALID = mask(6, 6, 4)
LOGITS, LABELS = normal(3, 5, 4), ids(4, 3, 5)
CTC_PADDINGS = 1.0 - mask(7, 7, 5, 6)
INNER = CTC_PADDINGS.copy()
INNER[0, 2:4] = 1


def flax_norm(module):
    return lambda x, **params: module.apply({"params": params}, x)


def attention(query, key, value, bias=None, mask=None, *, scale=None, is_causal=False, lengths=None):
    """The formula of ``jax.nn.dot_product_attention``, whose own softmax is in float32."""
    key, value = (jnp.repeat(array, query.shape[-2] // array.shape[-2], -2) for array in (key, value))
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    size = scores.shape[-1]
    scores = scores if bias is None else scores + bias
    visible = jnp.ones(scores.shape[-2:], bool)
    visible = jnp.tril(visible) if is_causal else visible
    visible = visible if mask is None else visible & (mask != 0)
    visible = visible if lengths is None else visible & (jnp.arange(size) < lengths[:, None])[:, None, None]
    p = jax.nn.softmax(jnp.where(visible, scores, -1e30))
    return jnp.einsum("...hqk,...khd->...qhd", p, value)


CASES = {
    "max_pool": (fused.max_pool, nn.max_pool, (normal(2, 5, 6, 3),), {"window_shape": (2, 3)}),
    "max_pool/strides, padding": (
        fused.max_pool,
        nn.max_pool,
        (normal(2, 5, 6, 3),),
        {"window_shape": (3, 3), "strides": (2, 2), "padding": "SAME"},
    ),
    "max_pool/one example, explicit padding": (
        fused.max_pool,
        nn.max_pool,
        (normal(7, 3),),
        {"window_shape": (3,), "strides": (2,), "padding": [(1, 2)]},
    ),
    "max_pool/two batch axes, three spatial": (
        fused.max_pool,
        nn.max_pool,
        (normal(2, 2, 4, 4, 5, 2),),
        {"window_shape": (2, 2, 2), "strides": (2, 2, 2)},
    ),
    "layer_norm": (fused.layer_norm, flax_norm(nn.LayerNorm()), (normal(2, 3, 4),), {"scale": SCALE, "bias": BIAS}),
    "layer_norm/one row, plain": (
        fused.layer_norm,
        flax_norm(nn.LayerNorm(use_scale=False, use_bias=False)),
        (normal(4),),
        {},
    ),
    "rms_norm": (fused.rms_norm, flax_norm(nn.RMSNorm()), (normal(2, 3, 4),), {"scale": SCALE}),
    "gelu": (fused.gelu, jax.nn.gelu, (normal(3, 4, scale=3),), {}),
    "gelu/exact": (fused.gelu, jax.nn.gelu, (normal(3, 4, scale=3),), {"approximate": False}),
    "attention": (fused.dot_product_attention, attention, (QUERY, KEYS, KEYS[::-1]), {}),
    "attention/causal, scale, no batch": (
        fused.dot_product_attention,
        attention,
        (QUERY[0], KEYS[0], KEYS[1]),
        {"is_causal": True, "scale": 0.7},
    ),
    "attention/mask": (
        fused.dot_product_attention,
        attention,
        (QUERY, KEYS, KEYS[::-1]),
        {"mask": VALID[:, None, None]},
    ),
    "attention/mask of numbers": (
        fused.dot_product_attention,
        attention,
        (QUERY, KEYS, KEYS[::-1]),
        {"mask": VALID[:, None, None].astype(np.float32)},
    ),
    "attention/mask of every query, bias": (
        fused.dot_product_attention,
        attention,
        (QUERY, KEYS, KEYS[::-1]),
        {"mask": ids(2, 2, 1, 6, 6) + np.eye(6) > 0, "bias": normal(4, 6, 6)},
    ),
    "attention/causal, more keys than queries, one mask and bias": (
        fused.dot_product_attention,
        attention,
        (QUERY[:, :4], KEYS, KEYS[::-1]),
        {"mask": np.arange(6) != 2, "bias": normal(1, 1, 6), "is_causal": True},
    ),
    "cross entropy": (
        fused.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy_with_integer_labels,
        (LOGITS,),
        {"labels": LABELS},
    ),
    "cross entropy/one row": (
        fused.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy_with_integer_labels,
        (LOGITS[0, 0],),
        {"labels": LABELS[0, 0]},
    ),
    "cross entropy/axis, where": (
        fused.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy_with_integer_labels,
        (np.moveaxis(LOGITS, -1, 1),),
        {"labels": LABELS, "axis": 1, "where": mask(5, 5, 2, 0)},
    ),
    "cross entropy/axes, where of classes": (
        fused.softmax_cross_entropy_with_integer_labels,
        optax.softmax_cross_entropy_with_integer_labels,
        (normal(2, 3, 4),),
        {"labels": np.array([1, 3, 4, 0]), "axis": (0, 1), "where": np.arange(24).reshape(2, 3, 4) < 20},
    ),
    "fused_linear_cross_entropy": (
        fused.fused_linear_cross_entropy,
        lambda h, e, labels, where: (
            (optax.softmax_cross_entropy_with_integer_labels(h @ e.T, labels) * where).sum() / where.sum()
        ),
        (normal(3, 5, 4), normal(7, 4)),
        {"labels": ids(7, 3, 5), "where": shares(3, 5)},
    ),
    "ctc_loss": (
        fused.ctc_loss,
        optax.ctc_loss,
        (normal(3, 7, 4),),
        {
            "logit_paddings": CTC_PADDINGS,
            "labels": np.array([[1, 1, 2], [3, 1, 0], [2, 0, 0]]),
            "label_paddings": 1.0 - mask(3, 3, 2, 1),
        },
    ),
    "ctc_loss/padding inside, other blank": (
        fused.ctc_loss,
        optax.ctc_loss,
        (normal(3, 7, 4),),
        {
            "logit_paddings": INNER,
            "labels": np.array([[1, 1, 2], [0, 1, 0], [2, 0, 0]]),
            "label_paddings": 1.0 - mask(3, 3, 2, 1),
            "blank_id": 3,
        },
    ),
}


def assert_equal(ours, theirs, error):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # Where weights or paddings in float64 meet bfloat16, the other function promotes.
        assert b.dtype in (a.dtype, jnp.float64) and a.shape == b.shape
        scale = max(1.0, float(jnp.abs(b).max()))
        assert float(jnp.abs(a.astype(float) - b.astype(float)).max()) <= error * scale


def case(name):
    """Both functions of (arrays, floats), and these."""
    ours, theirs, arrays, options = CASES[name]
    floats = {key: value for key, value in options.items() if key in ("scale", "bias") and not np.isscalar(value)}
    others = {key: value for key, value in options.items() if key not in floats}
    both = [lambda arrays, floats, f=f: f(*arrays, **floats, **others) for f in (ours, theirs)]
    return both, jax.tree.map(jnp.asarray, (arrays, floats))


def loss(f):
    """A number whose cotangents of y's elements differ."""
    return lambda *x: jnp.sin(f(*x)).sum()


@pytest.mark.parametrize("name", CASES)
def test_equals_its_namesake(name):
    both, x = case(name)
    ours, theirs = (jax.jit(lambda *x, f=f: (f(*x), jax.grad(loss(f), (0, 1))(*x)))(*x) for f in both)
    assert_equal(ours, theirs, 1e-12)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), x)
    ours, theirs = (jax.jit(lambda *x, f=f: (f(*x), jax.grad(loss(f), (0, 1))(*x)))(*narrow) for f in both)
    assert_equal(ours, theirs, 0.06)


@pytest.mark.parametrize("name", CASES)
def test_under_transformations(name):
    """The gradient of a scan of a checkpoint of vmap, in a program that may overwrite its arguments."""
    both, x = case(name)
    x = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, leaf**2, -leaf]).reshape(2, 2, *leaf.shape), x)

    def total(f):
        step = jax.checkpoint(lambda y, x: (y + loss(jax.vmap(f))(*x), None))
        return lambda *x: jax.lax.scan(step, jnp.zeros(()), x)[0]

    ours, theirs = (
        jax.jit(jax.grad(total(f), (0, 1)), donate_argnums=(0, 1))(*jax.tree.map(jnp.copy, x)) for f in both
    )
    assert_equal(ours, theirs, 1e-12)


def test_where_it_differs_from_its_namesake():
    """Rows without an alignment, and queries all of whose keys are masked."""
    paddings, labels = jnp.asarray(1.0 - mask(7, 1, 7)), jnp.array([[1, 2], [1, 2]])
    f = lambda z: fused.ctc_loss(z, paddings, labels, jnp.zeros((2, 2)), log_epsilon=-99.0)  # noqa: E731
    losses, pull_back = jax.vjp(f, jnp.asarray(normal(2, 7, 4)))
    assert losses[0] == 99 and losses[1] < 99
    assert not pull_back(jnp.ones(2))[0][0].any()
    lengths = jnp.array([0, 6], jnp.int32)
    y = fused.dot_product_attention(QUERY, KEYS, KEYS, key_value_seq_lengths=lengths, query_seq_lengths=lengths // 2)
    assert not y[0].any() and y[1, :3].any() and not y[1, 3:].any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: fused.max_pool(normal(2, 5, 6, 3), (2, 2), (2,)),
        lambda: fused.max_pool(normal(3), (2, 2)),
        lambda: fused.max_pool(normal(2, 5, 3), (2,), padding=((0, 0), (0, 0))),
        lambda: fused.layer_norm(normal(2, 4), normal(3)),
        lambda: fused.rms_norm(normal(2, 4), normal(2, 4)),
        lambda: fused.dot_product_attention(QUERY, normal(2, 6, 3, 3), normal(2, 6, 3, 3)),
        lambda: fused.dot_product_attention(QUERY, KEYS, KEYS, mask=np.where(VALID, 0.0, -1e9)[:, None, None]),
        lambda: fused.softmax_cross_entropy_with_integer_labels(LOGITS, shares(3, 5)),
        lambda: fused.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS[:, :4]),
        lambda: fused.fused_linear_cross_entropy(normal(3, 4), normal(4, 7), ids(7, 3)),
        lambda: fused.ctc_loss(normal(3, 7, 4), CTC_PADDINGS, ids(4, 3, 2), CTC_PADDINGS),
        lambda: CTC(reduction="sum"),
        lambda: Objective(Dense(4), SoftmaxCrossEntropy(reduction="none")),
    ],
)
def test_what_does_not_fit_is_an_error(call):
    with pytest.raises(ValueError, match=r"must|need"):
        call()
