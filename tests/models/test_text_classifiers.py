"""Classifiers of texts: padding reaches nothing, and what drives a model is its own gradient."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.attribution import word_contributions
from pipeline.layers.base import Context
from pipeline.models.text import cnn, gru, transformer
from pipeline.training.precision import in_precision

MODELS = {"cnn": cnn(9, 3, 8, 4), "gru": gru(9, 3, 8), "transformer": transformer(9, 3, 8, 2, 2)}
IDS = jnp.asarray(np.random.default_rng(0).integers(1, 9, (4, 6, 3)).astype(np.int32)).at[0, :, 1:].set(0)


def params_of(model):
    params = model.init(jax.random.key(0), IDS)
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), params)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [1, 2, 6])
def test_padding_changes_nothing(name, length):
    model = MODELS[name]
    params, short = params_of(model), IDS[:, :length]
    padded = jnp.pad(short, ((0, 0), (0, 5), (0, 2)))
    alone, beside = (model.apply(params, ids, Context()) for ids in (short, padded))
    np.testing.assert_allclose(beside, alone, rtol=1e-5, atol=1e-6)
    assert alone.shape == (4, 3)
    assert not np.allclose(alone[0], alone[1])


@pytest.mark.parametrize("name", MODELS)
def test_a_text_without_words_is_judged_without_an_error(name):
    model = MODELS[name]
    logits = model.apply(params_of(model), jnp.zeros((2, 8, 3), jnp.int32), Context())
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
def test_contributions_are_gradient_times_vector(name):
    model = MODELS[name]
    params = params_of(model)
    ids = jnp.pad(IDS, ((0, 0), (0, 2), (0, 0)))
    logits, found = word_contributions(model, params, np.asarray(ids))
    np.testing.assert_allclose(logits, model.apply(params, ids, Context()), rtol=1e-5)

    first, *others = model.layer.layers  # pyright: ignore[reportAttributeAccessIssue]  (a Serial)
    its_first, *its_others = params["layer"]["layers"]
    vectors, likeliest = first.apply(its_first, ids, Context()), np.asarray(logits).argmax(-1)

    def log_probability(vectors):
        x, context = vectors, replace(Context(), mask=(ids != 0).any(-1))
        for layer, its in zip(others, its_others):
            x, context = layer.apply(its, x, context), layer.after(context)
        return jnp.take_along_axis(jax.nn.log_softmax(x), likeliest[:, None], 1).sum()

    expected = (jax.grad(log_probability)(vectors) * vectors).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not np.asarray(found)[:, 6:].any()


def test_contributions_in_bfloat16():
    model = MODELS["cnn"]
    params = params_of(model)
    narrow = in_precision(model, "bfloat16")
    its = {"layer": {"layers": [*params["layer"]["layers"][:1], {}, *params["layer"]["layers"][1:], {}]}}
    found, wanted = (
        word_contributions(narrow, its, np.asarray(IDS))[1],
        word_contributions(model, params, np.asarray(IDS))[1],
    )
    np.testing.assert_allclose(found, wanted, rtol=0.1, atol=0.05 * np.abs(wanted).max())
