"""Backpropagation of a whole objective: three gradients that agree, and the rules behind ``jax.grad`` elsewhere."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient_cases.case import Case, normal
from pipeline.backprop import value_and_grad
from pipeline.layers.activations import ReLU
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Residual, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
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
