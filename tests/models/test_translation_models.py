"""Translation models: the decoder attends to the whole source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.attribution import cross_attention_weights
from pipeline.layers.base import Context
from pipeline.losses.base import Targets
from pipeline.models.translation import attention_gru, transformer, translation_objective

BEGIN, VOCABULARY = 1, 5
MODELS = {"transformer": transformer(VOCABULARY, 8, 2, 2), "gru": attention_gru(VOCABULARY, 8, 2)}
SOURCE, TARGET = np.array([[4, 4, 3, 2]], np.int32), np.array([[BEGIN, 3, 4]], np.int32)


@pytest.fixture(params=MODELS, scope="module")
def translator(request):
    """An objective, and parameters large enough that attention differs from position to position."""
    objective = translation_objective(MODELS[request.param], VOCABULARY)
    source, target = (jax.ShapeDtypeStruct(ids.shape, ids.dtype) for ids in (SOURCE, TARGET))
    params = objective.init(jax.random.key(0), ((source, target), Targets(target)))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return objective, jax.tree.map(lambda leaf: leaf + 0.5 * jax.random.normal(next(keys), leaf.shape), params)


def test_attention_weights_of_every_target_position_add_up_to_1(translator):
    objective, params = translator
    weights = cross_attention_weights(objective, params, SOURCE, TARGET)
    assert weights.shape == (3, 4)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    other = cross_attention_weights(objective, params, SOURCE[:, ::-1].copy(), TARGET)
    assert np.abs(weights - other).max() > 1e-3
    shorter = cross_attention_weights(objective, params, SOURCE, TARGET[:, :2])
    np.testing.assert_allclose(shorter, weights[:2], rtol=1e-5)


def test_the_first_output_depends_on_the_first_source_token(translator):
    objective, params = translator
    sources = (jnp.asarray([tokens], jnp.int32) for tokens in ([3, 4, 2], [4, 4, 2]))
    model_params = objective.expand(params)["model"]
    outputs = [objective.model.apply(model_params, (source, jnp.asarray(TARGET)), Context()) for source in sources]
    assert np.abs(outputs[0] - outputs[1])[0, 0].max() > 1e-4
