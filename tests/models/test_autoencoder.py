"""Autoencoders, and the score that says how badly one rebuilds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradient_cases.case import Case, normal
from pipeline.layers.base import Context
from pipeline.models.autoencoder import AnomalyScore, convolutional, dense

MODELS = {
    "findings": (dense((5,), (4, 3), 2), (3, 5)),
    "images": (convolutional((8, 4, 2), (3, 5), 2), (2, 8, 4, 2)),
    "signals": (convolutional((12, 1), (3, 4), 2), (3, 12, 1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_comes_out_is_like_what_goes_in(name):
    model, shape = MODELS[name]
    params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    assert jax.eval_shape(model.apply, params, jnp.zeros(shape, jnp.float32), Context()).shape == shape


def test_the_score_s_rule():
    model, shape = MODELS["findings"]
    Case("AnomalyScore", AnomalyScore(model), normal(*shape)).verify(checks=("values", "edges")).raise_if_failed()


def test_the_score_is_the_logarithm_of_the_mean_squared_error():
    model, shape = MODELS["findings"]
    case = Case("", AnomalyScore(model), normal(*shape))
    params = jax.tree.map(jnp.asarray, case.params())
    logits = case.layer.apply(params, jnp.asarray(case.x), Context())
    error = np.square(model.apply(params, jnp.asarray(case.x), Context()) - case.x).mean(-1)
    np.testing.assert_allclose(logits, np.stack([np.zeros(3), np.log(error)], -1), rtol=1e-12)


def test_sides_must_be_halved():
    with pytest.raises(ValueError, match="not multiples of 4"):
        convolutional((6, 8, 1), (3, 5))
