"""``attach``: the hand-written rules in other people's programs, under every transformation of JAX."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradient_cases.case import ids, mask, normal
from gradient_cases.layers import CASES
from pipeline.attachment import attach, attach_leaves
from pipeline.layers.activations import ReLU
from pipeline.layers.attention import SelfAttention
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm, LayerNorm
from pipeline.layers.pooling import MaxPool
from pipeline.layers.recurrent import LSTM, Bidirectional
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.verify import relative_errors
from pipeline.verify.targets import draw_params

TRAIN = Context(train=True, key=jax.random.key(0))


def drawn(layer: Layer, x: Any) -> Any:
    return jax.tree.map(jnp.asarray, draw_params(layer, x))


def largest_error(ours: Any, theirs: Any) -> float:
    """The largest error of any number over the largest number: some leaves are zero but for rounding."""
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    scale = max(float(jnp.abs(b).max()) for _, b in pairs if b.size)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs if a.size) / scale


def loss(f):
    return lambda params, x: jnp.sin(f(params, x)).sum()


def one_by_one(f):
    return lambda params, x: jax.vmap(lambda example: f(params, example[None])[0])(x)


TRANSFORMATIONS = {
    "grad": lambda f: jax.grad(loss(f), (0, 1)),
    "grad of jit": lambda f: jax.grad(jax.jit(loss(f)), (0, 1)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(loss(f)), (0, 1)),
    "scan": lambda f: jax.grad(
        lambda params, x: jax.lax.scan(lambda y, row: (y + loss(f)(params, row[None]), None), 0.0, x)[0], (0, 1)
    ),
    "grad of vmap": lambda f: jax.grad(loss(one_by_one(f)), (0, 1)),
    "grad of vmap of vmap": lambda f: jax.grad(
        lambda params, x: loss(jax.vmap(one_by_one(f), (None, 1)))(params, jnp.stack([x, 2 * x], 1)), (0, 1)
    ),
    "vmap of grad": lambda f: lambda params, x: jax.vmap(lambda row: jax.grad(loss(f), (0, 1))(params, row[None]))(x),
    "vmap over parameters": lambda f: (
        lambda params, x: jax.grad(lambda both: jax.vmap(loss(f), (0, None))(both, x).sum())(
            jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
        )
    ),
    "jvp": lambda f: lambda params, x: jax.jvp(f, (params, x), (params, x)),
    "linearize": lambda f: lambda params, x: jax.linearize(jax.jit(f), params, x)[1](params, x),
    "jvp of vmap": lambda f: lambda params, x: jax.jvp(one_by_one(f), (params, x), (params, x)),
    "jacfwd": lambda f: lambda params, x: jax.jacfwd(lambda x: f(params, x).ravel()[:2])(x),
    "jacrev": lambda f: lambda params, x: jax.jacrev(lambda x: f(params, x).ravel()[:2])(x),
    "jvp of jvp": lambda f: (
        lambda params, x: jax.jvp(lambda x: jax.jvp(lambda x: f(params, x), (x,), (x * x,))[1], (x,), (x,))
    ),
    "jvp of grad": lambda f: lambda params, x: jax.jvp(lambda x: jax.grad(loss(f), 1)(params, x), (x,), (x,)),
    "grad of jvp": lambda f: (
        lambda params, x: jax.grad(lambda x: jax.jvp(lambda x: loss(f)(params, x), (x,), (x * x,))[1])(x)
    ),
    "grad of grad": lambda f: jax.grad(
        lambda params, x: sum(jnp.sin(d).sum() for d in jax.tree.leaves(jax.grad(loss(f), (0, 1))(params, x))), (0, 1)
    ),
    "hessian": lambda f: lambda params, x: jax.hessian(lambda x: loss(f)(params, x))(x),
}
LAYERS = {
    "Conv": (Conv(2, (2, 3)), normal(2, 3, 4, 2)),
    "LayerNorm": (LayerNorm(), normal(2, 3, 4)),
    "SelfAttention": (SelfAttention(2, causal=True), normal(2, 3, 4)),
    "Bidirectional": (Bidirectional(LSTM(2), LSTM(3, reverse=True)), normal(2, 3, 2)),
    "a layer that shares statistics": (BatchNorm(), normal(3, 2)),
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_transformations(name, transformation):
    layer, x = LAYERS[name]
    params, x = drawn(layer, x), jnp.asarray(x)
    ours, definition = (
        jax.jit(TRANSFORMATIONS[transformation](f))(params, x)
        for f in (attach(layer), lambda params, x: layer.apply(params, x, Context()))
    )
    assert largest_error(ours, definition) < 1e-10


PLAIN = [case for case in CASES if "/" not in case.name and jax.tree.leaves(case.x)[0].ndim]


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_vmap_makes_one_batch(case):
    """Two batches under vmap: equal to the definition's, and joined into one wherever examples are independent."""
    params = jax.tree.map(jnp.asarray, case.params())
    x = jax.tree.map(lambda leaf: jnp.stack([leaf, np.roll(leaf, 1, 0)]), case.x)
    context = jax.tree.map(jnp.asarray, case.context())
    f = jax.vmap(lambda x: attach(case.layer)(params, x, context))
    definition = jax.vmap(lambda x: case.layer.apply(params, x, context))
    ours, theirs = jax.jit(f)(x), jax.jit(definition)(x)
    for y, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-11)
    calls = [eqn for eqn in jax.make_jaxpr(f)(x).eqns if eqn.primitive.name == "attached"]
    assert [eqn.params["call"].layer == case.layer for eqn in calls] == [case.layer.independent_examples]


def test_vmap_keeps_the_cost_of_the_batched_rule():
    for layer, x in (
        (Conv(4, (3, 3)), normal(8, 9, 9, 3)),
        (MaxPool((2, 2)), normal(8, 8, 8, 3)),
        (LSTM(4), normal(8, 7, 3)),
    ):
        params = drawn(layer, x)

        def flops(f, params=params, x=x):
            program = jax.jit(jax.grad(loss(f), (0, 1))).lower(params, x).compile()
            return (program.cost_analysis() or {})["flops"]

        assert flops(one_by_one(attach(layer))) <= 1.1 * flops(attach(layer))


def test_vmap_with_masks_and_rows():
    layer, x, lengths = LSTM(3), jnp.asarray(normal(2, 3, 5, 2)), jnp.asarray(mask(5, 3, 5, 1))
    params = drawn(layer, x[0])
    for in_axes, masks in ((None, lengths), (0, jnp.stack([lengths, lengths[::-1]]))):
        ours, definition = (
            jax.vmap(lambda x, mask, f=f: f(params, x, Context(mask=mask)), (0, in_axes))(x, masks)
            for f in (attach(layer), layer.apply)
        )
        np.testing.assert_allclose(ours, definition, rtol=1e-12)
    dense, rows = Dense(3), jnp.asarray(normal(5, 4))
    params = drawn(dense, rows)
    np.testing.assert_allclose(
        jax.vmap(lambda row: attach(dense)(params, row))(rows), attach(dense)(params, rows), rtol=1e-12
    )


class FlaxConvnet(nn.Module):
    ours: bool

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = attach(MaxPool((2, 2)))({}, x) if self.ours else nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


def test_one_rule_in_a_flax_model():
    images, labels = jnp.asarray(normal(6, 4, 4, 2)), jnp.asarray(ids(5, 6))
    params = FlaxConvnet(ours=False).init(jax.random.key(0), images)

    def loss(params, ours):
        logits: Any = FlaxConvnet(ours=ours).apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    ours, theirs = (jax.jit(jax.grad(lambda params, ours=ours: loss(params, ours)))(params) for ours in (True, False))
    assert max(relative_errors(ours, theirs).values()) < 1e-12


def test_integers_and_a_context():
    tokens = jnp.array([[1, 2, 1], [0, 2, 2]])
    table = jnp.asarray(normal(4, 3))
    d_table = jax.grad(lambda table: jnp.sin(attach(Embedding(4, 3))({"embedding": table}, tokens)).sum())(table)
    np.testing.assert_allclose(d_table, jax.grad(lambda table: jnp.sin(table[tokens]).sum())(table), rtol=1e-13)
    x = jnp.ones((4, 8))
    d_x = jax.jit(jax.grad(lambda x: attach(Dropout(0.5))({}, x, TRAIN).sum()))(x)
    np.testing.assert_array_equal(d_x, Dropout(0.5).apply({}, x, TRAIN))


def test_equal_layers_are_one_function():
    assert attach(MaxPool((2, 2))) is attach(MaxPool((2, 2)))
    assert attach(MaxPool((2, 2))) is not attach(MaxPool((2, 3)))


def test_a_rule_of_reverse_mode_alone():
    relu, x = attach(ReLU(), forward_mode=False), jnp.array([1.0, -1.0])
    assert jax.grad(lambda x: relu({}, x).sum())(x).tolist() == [1.0, 0.0]
    for forward in (lambda f: jax.jvp(f, (x,), (x,)), lambda f: jax.linearize(f, x)[1](x), lambda f: jax.jacfwd(f)(x)):
        with pytest.raises(TypeError, match=r"attach\(ReLU\(\), forward_mode=False\) has the manual rule alone"):
            forward(lambda x: relu({}, x))


class Narrow(ReLU):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return d_params, d_x.astype(jnp.float32)


class Short(Dense):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return {"kernel": d_params["kernel"][:1], "bias": d_params["bias"]}, d_x


class Forgetful(Dense):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return {"kernel": d_params["kernel"]}, d_x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Narrow(), r"Narrow\.backward gives float32\[2, 3\] for d_x, which is float64\[2, 3\]"),
        (Short(4), r"Short\.backward gives float64\[1, 4\] for d_params\['kernel'\], which is float64\[3, 4\]"),
        (Forgetful(4), r"Forgetful\.backward: d_params and params differ in structure"),
    ],
)
def test_cotangents_are_checked(layer, message):
    x = jnp.asarray(normal(2, 3))
    with pytest.raises(TypeError, match=message):
        jax.grad(loss(attach(layer)), (0, 1))(drawn(layer, x), x)


def test_attached_leaves_have_the_same_parameters_and_value():
    model = Serial((Conv(3, (3, 3)), BatchNorm(), Dense(5), Dropout(0.3)))
    attached, x = attach_leaves(model), jnp.asarray(normal(2, 4, 4, 2))
    params = drawn(model, x)
    assert jax.tree.structure(jax.eval_shape(attached.init, jax.random.key(0), x)) == jax.tree.structure(params)
    y, expected = (jax.jit(layer.apply)(params, x, TRAIN) for layer in (attached, model))
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_a_loss_has_no_derivative_of_its_labels():
    x, labels = jnp.asarray(normal(4, 3)), jnp.asarray(ids(3, 4))
    d_x = jax.grad(lambda x: attach(SoftmaxCrossEntropy())({}, (x, Targets(labels))))(x)
    expected = jax.grad(lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels).mean())(x)
    np.testing.assert_allclose(d_x, expected, rtol=1e-12)
