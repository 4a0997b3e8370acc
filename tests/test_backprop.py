"""Backpropagation of a whole objective: three gradients that agree, and the rules behind ``jax.grad`` elsewhere."""

from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient_cases.case import Case, normal
from pipeline.backprop import attach, attach_leaves, value_and_grad
from pipeline.layers.activations import ReLU
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Residual, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.layers.pooling import MaxPool
from pipeline.layers.repeat import Repeat
from pipeline.layers.shape import Flatten
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.training.state import init_state
from pipeline.training.step import make_train_step
from pipeline.verify import relative_errors

MODEL = Serial(
    (
        Conv(3, (3, 3), use_bias=False),
        BatchNorm(),
        ReLU(),
        MaxPool((2, 2)),
        Flatten(),
        Repeat(Residual(Serial((Dense(12), Dropout(0.3)))), 2),
        Dense(5),
    )
)
OBJECTIVE = Objective(MODEL, SoftmaxCrossEntropy())
RANDOM = np.random.default_rng(0)
BATCH = RANDOM.normal(size=(6, 4, 4, 2)), Targets(RANDOM.integers(0, 5, 6, np.int32), RANDOM.uniform(size=6))
CASE = Case("a model of every kind of layer", OBJECTIVE, BATCH, train=True)
TRAIN = Context(train=True, key=jax.random.key(0))


def initial():
    return jax.tree.map(jnp.asarray, CASE.params())


def arrays():
    return jax.tree.map(jnp.asarray, BATCH)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.02, momentum=0.9), optax.adamw(0.01)], ids=["sgd", "adamw"])
def test_three_gradients_train_the_same_parameters(optimizer):
    trained = {}
    for gradient in ("manual", "autodiff", "attached"):
        step = jax.jit(make_train_step(OBJECTIVE, optimizer, gradient))
        state = init_state(initial(), optimizer)
        for _ in range(50):
            state, _ = step(state, arrays())
        trained[gradient] = state.params
    moved = relative_errors(trained["manual"], initial())
    assert moved["model/layers/0/kernel"] > 1e-2, "nothing was trained"
    for other in ("autodiff", "attached"):
        for manual, theirs in zip(jax.tree.leaves(trained["manual"]), jax.tree.leaves(trained[other])):
            np.testing.assert_allclose(manual, theirs, rtol=0, atol=1e-9)


def test_value_outputs_and_weight():
    params, batch = initial(), arrays()
    results = {
        gradient: jax.jit(value_and_grad(OBJECTIVE, gradient))(params, batch, TRAIN, 0.25)
        for gradient in ("manual", "autodiff", "attached")
    }
    (value, outputs), d_params = results["manual"]
    (whole, _), d_whole = jax.jit(value_and_grad(OBJECTIVE))(params, batch, TRAIN)
    np.testing.assert_allclose(value, 0.25 * whole, rtol=1e-13)
    for d, d_all in zip(jax.tree.leaves(d_params), jax.tree.leaves(d_whole)):
        np.testing.assert_allclose(d, 0.25 * d_all, rtol=1e-12, atol=1e-16)
    for (other_value, other_outputs), other_d in (results["autodiff"], results["attached"]):
        np.testing.assert_allclose(value, other_value, rtol=1e-13)
        np.testing.assert_allclose(outputs, other_outputs, rtol=1e-12)
        assert max(relative_errors(d_params, other_d).values()) < 1e-11


def test_the_gradient_lowers_for_every_platform():
    def gradient(params, batch, key):
        return value_and_grad(OBJECTIVE)(params, batch, Context(train=True, key=jax.random.wrap_key_data(key)))[1]

    exported = jax.export.export(jax.jit(gradient), platforms=("cpu", "cuda", "tpu"))(
        initial(), arrays(), jax.random.key_data(jax.random.key(0))
    )
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


# attach: the same rules in other people's programs.


class FlaxConvnet(nn.Module):
    ours: bool

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = attach(MaxPool((2, 2)))({}, x) if self.ours else nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


def test_one_rule_in_a_flax_model():
    images, targets = arrays()
    params = FlaxConvnet(ours=False).init(jax.random.key(0), images)

    def loss(params, ours):
        logits: Any = FlaxConvnet(ours=ours).apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets.values).mean()

    ours, theirs = (jax.jit(jax.grad(lambda params, ours=ours: loss(params, ours)))(params) for ours in (True, False))
    assert max(relative_errors(ours, theirs).values()) < 1e-12


def test_attach_under_vmap_and_grad():
    layer, x, d_y = Dense(3), jnp.asarray(RANDOM.normal(size=(2, 5, 4))), jnp.asarray(RANDOM.normal(size=(2, 5, 3)))
    params = {"kernel": jnp.asarray(RANDOM.normal(size=(4, 3))), "bias": jnp.arange(3.0)}

    def weighted(f):
        return lambda params, x, d_y: (d_y * f(params, x)).sum()

    def gradients(f):
        return jax.jit(jax.vmap(jax.grad(weighted(f), argnums=(0, 1)), in_axes=(None, 0, 0)))(params, x, d_y)

    ours, definition = gradients(attach(layer)), gradients(lambda params, x: layer.apply(params, x, Context()))
    assert max(relative_errors(ours, definition).values()) < 1e-13


def test_attach_with_integers_and_with_a_context():
    ids = jnp.array([[1, 2, 1], [0, 2, 2]])
    table = jnp.asarray(RANDOM.normal(size=(4, 3)))
    d_table = jax.grad(lambda table: jnp.sin(attach(Embedding(4, 3))({"embedding": table}, ids)).sum())(table)
    np.testing.assert_allclose(d_table, jax.grad(lambda table: jnp.sin(table[ids]).sum())(table), rtol=1e-13)
    x = jnp.ones((4, 8))
    d_x = jax.grad(lambda x: attach(Dropout(0.5))({}, x, TRAIN).sum())(x)
    np.testing.assert_array_equal(d_x, Dropout(0.5).apply({}, x, TRAIN))


def test_equal_layers_are_one_function():
    assert attach(MaxPool((2, 2))) is attach(MaxPool((2, 2)))
    assert attach(MaxPool((2, 2))) is not attach(MaxPool((2, 3)))


def test_there_is_no_forward_mode():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: attach(ReLU())({}, x), (jnp.ones(3),), (jnp.ones(3),))


class Narrow(ReLU):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return d_params, d_x.astype(jnp.float32)


def test_attach_checks_the_dtype_of_cotangents():
    with pytest.raises(TypeError, match=r"Narrow\.backward gives float32 for d_x, which is float64"):
        jax.grad(lambda x: attach(Narrow())({}, x).sum())(jnp.ones(3))


def test_attached_leaves_have_the_same_parameters_and_value():
    attached, params = attach_leaves(MODEL), initial()["model"]
    x = arrays()[0]
    assert jax.tree.structure(jax.eval_shape(attached.init, jax.random.key(0), x)) == jax.tree.structure(params)
    y, expected = (jax.jit(layer.apply)(params, x, TRAIN) for layer in (attached, MODEL))
    np.testing.assert_allclose(y, expected, rtol=1e-13)


# Configurations nobody thought of.

small, sizes = st.integers(1, 3), st.integers(3, 8)


def check(layer: Layer, shape: tuple[int, ...]) -> None:
    Case("drawn", layer, normal(*shape)).verify(precisions=(), checks=()).raise_if_failed()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 2), st.sampled_from(["SAME", "VALID", "explicit"]))
def test_any_convolution(data, space, padding):
    draw = lambda each: data.draw(st.tuples(*[each] * space))  # noqa: E731
    window, strides, dilation, groups = draw(small), draw(small), draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    size = draw(st.integers(5, 8))
    if padding == "explicit":
        padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    check(Conv(2 * groups, window, strides, dilation, groups, padding), (2, *size, 3 * groups))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 2), st.sampled_from(["SAME", "VALID"]))
def test_any_max_pool(data, space, padding):
    draw = lambda each: data.draw(st.tuples(*[each] * space))  # noqa: E731
    check(MaxPool(draw(small), draw(small), padding), (2, *draw(sizes), 3))
