"""Transformer blocks: where the norms stand, what a position sees, and gradients in every form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.layers.base import Context
from pipeline.models.transformer import block
from pipeline.verify import verify

X = 3 * np.random.default_rng(0).normal(size=(2, 5, 8))
MEMORY = np.random.default_rng(1).normal(size=(2, 3, 6))


def answer(layer, params, x, memory):
    given = (jnp.asarray(x), jnp.asarray(memory)) if layer.reads_memory else jnp.asarray(x)
    return np.asarray(layer.apply(params, given, Context()))


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_what_a_position_sees(causal, memory, post_norm):
    layer = block(8, 2, causal=causal, memory=memory, post_norm=post_norm)
    params = layer.init(jax.random.key(0), (jnp.asarray(X), jnp.asarray(MEMORY)) if memory else jnp.asarray(X))
    y, later = answer(layer, params, X, MEMORY), X.copy()
    later[:, 3] += 1
    moved = np.abs(answer(layer, params, later, MEMORY) - y).max((0, 2)) > 1e-9
    assert moved.tolist() == ([False] * 3 + [True] * 2 if causal else [True] * 5)
    other_memory = np.abs(answer(layer, params, X, MEMORY[:, ::-1] + 1) - y).max((0, 2)) > 1e-9
    assert other_memory.all() == memory
    sizes = np.sqrt((y**2).mean(-1))
    assert np.allclose(sizes, 1, atol=1e-4) == post_norm  # a norm at the end, or a sum that grows


@pytest.mark.parametrize("post_norm", [False, True])
def test_gradients_by_hand(post_norm):
    layer = block(8, 2, dropout=0.3, causal=True, memory=True, post_norm=post_norm)
    params = layer.init(jax.random.key(0), (jnp.asarray(X), jnp.asarray(MEMORY)))
    context = Context(train=True, key=jax.random.key(2), memory_mask=jnp.asarray([[True, True, False], [False] * 3]))
    verify(layer, params, (X, MEMORY), context, precisions=(), checks=()).raise_if_failed()
