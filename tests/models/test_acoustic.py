"""Acoustic models: padding changes nothing, and masks follow the strides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.layers.base import Context
from pipeline.layers.recurrent import LSTM
from pipeline.models.acoustic import conformer, convolutional_recurrent, frames_after


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_so_many_frames_are_kept(stride):
    model = convolutional_recurrent(5, 4, 3, stride=stride)
    lengths = np.array([0, 1, 2, 3, 6, 7, 12, 13])
    np.testing.assert_array_equal(frames_after(model, lengths, 13), -(-lengths // stride))
    x = jax.ShapeDtypeStruct((2, 13, 6), jnp.float32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), x))
    y = jax.eval_shape(lambda params: model.apply(params, jnp.zeros(x.shape, x.dtype), Context()), params)
    assert y.shape == (2, -(-13 // stride), 5)


def test_an_utterance_is_the_same_whatever_it_is_padded_to():
    model = convolutional_recurrent(5, 4, 3, cell=LSTM)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 6)))
    params = model.init(jax.random.key(0), x)
    alone = model.apply(params, x, Context())
    padded = jnp.pad(x, ((0, 0), (0, 5), (0, 0)))
    together = model.apply(params, padded, Context(mask=jnp.arange(14)[None] < 9))
    np.testing.assert_allclose(together[:, :5], alone, rtol=1e-12, atol=1e-12)


def test_a_conformer_makes_the_same_of_an_utterance_whatever_it_is_padded_to():
    model = conformer(5, 8, 2, 2, window=5, stride=2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 6)))
    params = model.init(jax.random.key(0), x)
    alone = model.apply(params, x, Context())
    padded = jnp.pad(x, ((0, 0), (0, 6), (0, 0)))
    together = model.apply(params, padded, Context(mask=jnp.arange(15)[None] < 9))
    assert frames_after(model, np.array([9, 15]), 15).tolist() == [5, 8]
    np.testing.assert_allclose(together[:, :5], alone, rtol=1e-12, atol=1e-12)
