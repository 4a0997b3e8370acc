"""Attributions are the input's gradient by hand: equal to autodiff's, and complete along a path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.case import Case, normal
from pipeline.attribution import input_gradients, integrated_gradients, log_odds, log_probability
from pipeline.layers.activations import Tanh
from pipeline.layers.base import Context
from pipeline.layers.combinators import Serial
from pipeline.layers.linear import Dense
from pipeline.models.autoencoder import AnomalyScore, dense
from pipeline.models.image import convnet_1d, gru_1d, mlp, resnet
from pipeline.verify.measure import relative_errors

MODELS = {
    "mlp": (mlp(3, (6, 5)), (4, 7)),
    "resnet": (resnet(3, (4, 6)), (2, 8, 8, 1)),
    "convnet_1d": (convnet_1d(3, (4, 5), 6), (3, 13, 2)),
    "gru": (gru_1d(3, (4,), 3), (3, 11, 2)),
    "autoencoder": (AnomalyScore(dense((7,), (6, 5), 2)), (4, 7)),
}


def given(name):
    model, shape = MODELS[name]
    x = normal(*shape)
    return model, jax.tree.map(jnp.asarray, Case(name, model, x).params()), jnp.asarray(x)


@pytest.mark.parametrize("name", MODELS)
def test_input_gradients_are_those_of_autodiff(name):
    model, params, x = given(name)

    def total(x, is_odds):
        logits = model.apply(params, x, Context())
        log_p = jax.nn.log_softmax(logits)
        its = jnp.take_along_axis(log_p, logits.argmax(-1)[:, None], -1)[:, 0]
        return (its - jnp.log1p(-jnp.exp(its)) if is_odds else its).sum()

    def both(x, is_odds):
        score = log_odds if is_odds else log_probability
        return input_gradients(model, params, x, score=score), jax.value_and_grad(total)(x, is_odds)

    results = jax.jit(lambda x: [both(x, is_odds) for is_odds in (False, True)])(x)
    for attribution, (value, expected) in results:
        assert attribution.score.sum() == pytest.approx(float(value), rel=1e-11)
        assert max(relative_errors(attribution.d_x, expected).values()) < 1e-11
        assert attribution.d_x.shape == x.shape


def test_integrated_gradients_are_the_integral_of_autodiff_s():
    model, params, x = given("gru")
    classes, baseline, steps = jnp.asarray([2, 0, 1]), 0.3, 5
    nodes, weights = np.polynomial.legendre.leggauss(steps)

    def total(x):
        log_p = jax.nn.log_softmax(model.apply(params, x, Context()))
        return jnp.take_along_axis(log_p, classes[:, None], -1).sum()

    derivative = jax.jit(jax.grad(total))
    at = [derivative(baseline + (1 + node) / 2 * (x - baseline)) for node in nodes]
    expected = (x - baseline) * sum(weight / 2 * its for weight, its in zip(weights, at))
    attribution = integrated_gradients(model, params, x, baseline, classes, steps=steps, score=log_probability)
    assert max(relative_errors(attribution.d_x, expected).values()) < 1e-11


@pytest.mark.parametrize(
    ("model", "steps", "limit"),
    [(Serial((Dense(5), Tanh(), Dense(3))), 24, 1e-10), (mlp(3, (6, 5)), 400, 1e-2)],
    ids=["smooth", "with kinks"],
)
def test_attributions_add_up_to_the_difference_from_the_baseline(model, steps, limit):
    x, baseline = jnp.asarray(normal(4, 7)), jnp.asarray(normal(7))
    params = jax.tree.map(jnp.asarray, Case("", model, x).params())
    attribution = integrated_gradients(model, params, x, baseline, steps=steps)
    classes = attribution.outputs.argmax(-1)
    there, _ = log_odds(model.apply(params, jnp.broadcast_to(baseline, x.shape), Context()), classes)
    np.testing.assert_allclose(attribution.d_x.sum(-1), attribution.score - there, atol=limit)
    np.testing.assert_allclose(attribution.outputs, model.apply(params, x, Context()))
    assert np.abs(attribution.score - there).max() > 0.1


def test_of_a_linear_model_each_input_adds_its_weight():
    model, x = Dense(2), jnp.asarray(normal(3, 4))
    params = jax.tree.map(jnp.asarray, Case("", model, x).params())
    attribution = integrated_gradients(model, params, x, 0.0, jnp.ones(3, jnp.int32), steps=1)
    np.testing.assert_allclose(attribution.d_x, x * (params["kernel"][:, 1] - params["kernel"][:, 0]), rtol=1e-12)


def test_steps():
    with pytest.raises(ValueError, match="steps is 0"):
        integrated_gradients(Dense(2), {}, jnp.ones((1, 2)), steps=0)
