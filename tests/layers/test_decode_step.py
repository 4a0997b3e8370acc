"""Position by position, a layer gives what it gives for all positions at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.layers.activations import GELU
from pipeline.layers.attention import CrossAttention, SelfAttention
from pipeline.layers.base import Context
from pipeline.layers.combinators import Parallel, Remat, Residual, Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.dropout import Dropout
from pipeline.layers.embedding import Embedding
from pipeline.layers.gated import SwiGLU
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import LayerNorm
from pipeline.layers.pooling import GlobalAveragePool, MaxPool
from pipeline.layers.positions import LearnedPositions, SinusoidalPositions
from pipeline.layers.recurrent import LSTM
from pipeline.layers.repeat import Repeat
from pipeline.layers.tying import Tied

BLOCK = Residual(Serial((LayerNorm(), Dense(6), GELU(), Dropout(0.5), Dense(4))))
DECODED = (
    Serial((Dense(4), Repeat(BLOCK, 3), LayerNorm())),
    Serial((LSTM(5), Residual(LSTM(5)), Dense(3))),
    Serial((Dense(4), Repeat(Residual(LSTM(4)), 2))),
    Parallel((LSTM(3), Dense(3))),
    Remat(LSTM(3)),
    Tied(Serial((Dense(4), LSTM(4), Dense(4))), (("layers/2/kernel", "layers/0/kernel"),)),
)


ATTENTIVE = Serial((LearnedPositions(7), Repeat(Residual(SelfAttention(2, 1, causal=True, rotary=True)), 2)))
DECODED += (ATTENTIVE, Serial((SinusoidalPositions(), SelfAttention(4, causal=True), SwiGLU(5))))


def one_by_one(layer, params, x):
    cache = layer.init_cache(params, x, x.shape[1], Context())
    step = jax.jit(lambda cache, x: layer.decode_step(params, cache, x, Context()))
    outputs = []
    for t in range(x.shape[1]):
        y, cache = step(cache, x[:, t : t + 1])
        outputs.append(y)
    return jnp.concatenate(outputs, 1)


@pytest.mark.parametrize("layer", DECODED, ids=lambda layer: type(layer).__name__)
def test_step_by_step_is_all_at_once(layer):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4)))
    params = layer.init(jax.random.key(0), x)
    np.testing.assert_allclose(one_by_one(layer, params, x), layer.apply(params, x, Context()), rtol=1e-12, atol=1e-12)


def test_several_positions_at_once_and_then_one_by_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 4)))
    params = ATTENTIVE.init(jax.random.key(0), x)
    first, cache = ATTENTIVE.decode_step(params, ATTENTIVE.init_cache(params, x, 7, Context()), x[:, :4], Context())
    rest = []
    for t in (4, 5):
        y, cache = ATTENTIVE.decode_step(params, cache, x[:, t : t + 1], Context())
        rest.append(y)
    expected = ATTENTIVE.apply(params, x, Context())
    np.testing.assert_allclose(jnp.concatenate([first, *rest], 1), expected, rtol=1e-12, atol=1e-12)


def test_padding_step_by_step():
    layer, mask = SelfAttention(2, causal=True), jnp.asarray([[False, False, True, True], [True] * 4])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 6)))
    params = layer.init(jax.random.key(0), x)
    cache, outputs = layer.init_cache(params, x, 4, Context()), []
    for t in range(4):
        y, cache = layer.decode_step(params, cache, x[:, t : t + 1], Context(mask=mask[:, t : t + 1]))
        outputs.append(y)
    expected = layer.apply(params, x, Context(mask=mask))
    np.testing.assert_allclose(jnp.concatenate(outputs, 1), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", [CrossAttention(2), Repeat(Residual(CrossAttention(4, 2)), 2)])
def test_memory_step_by_step(layer):
    random = np.random.default_rng(0)
    x, memory = jnp.asarray(random.normal(size=(2, 5, 8))), jnp.asarray(random.normal(size=(2, 3, 6)))
    context = Context(memory_mask=jnp.asarray([[True, True, False], [True, False, True]]))
    params = layer.init(jax.random.key(0), (x, memory))
    step = jax.jit(lambda cache, x: layer.decode_step(params, cache, (x, memory), context))
    cache, outputs = layer.init_cache(params, (x, memory), 5, context), []
    for t in range(5):
        y, cache = step(cache, x[:, t : t + 1])
        outputs.append(y)
    expected = layer.apply(params, (x, memory), context)
    np.testing.assert_allclose(jnp.concatenate(outputs, 1), expected, rtol=1e-12, atol=1e-12)


def test_ids_step_by_step():
    layer, ids = Serial((Embedding(7, 4), LSTM(3))), jnp.asarray([[1, 2, 6], [0, 3, 3]], jnp.int32)
    params = layer.init(jax.random.key(0), ids)
    np.testing.assert_allclose(one_by_one(layer, params, ids), layer.apply(params, ids, Context()), rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [Conv(3, (3,)), MaxPool((2,)), GlobalAveragePool(), LSTM(3, reverse=True), SelfAttention(2)],
    ids=lambda layer: type(layer).__name__,
)
def test_what_looks_ahead_says_so(layer):
    x = jnp.ones((2, 5, 4))
    model = Serial((Dense(4), layer))
    params = model.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="cannot decode"):
        model.init_cache(params, x, 5, Context())
