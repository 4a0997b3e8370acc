import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import BATCH, PLAIN, TRAIN, VALIDATION, initial

from pipeline.data.batches import evaluation_batches
from pipeline.evaluation.evaluate import make_evaluation, predict
from pipeline.layers.base import Context
from pipeline.losses.base import Targets


def test_means_over_padded_batches_are_those_over_the_set():
    params = initial(PLAIN)
    metrics = make_evaluation(PLAIN)(params, evaluation_batches(VALIDATION, BATCH))
    loss, outputs = PLAIN.evaluate(
        params, (jnp.asarray(VALIDATION.inputs), Targets(jnp.asarray(VALIDATION.labels))), Context()
    )
    right = (outputs.argmax(1) == VALIDATION.labels).mean()
    assert len(VALIDATION) % BATCH and list(metrics) == ["loss", "accuracy"]
    np.testing.assert_allclose([metrics["loss"], metrics["accuracy"]], [loss, right], rtol=1e-6)


def test_predictions_come_for_every_example_in_order():
    params = initial(PLAIN)
    outputs = predict(PLAIN.model, params["model"], evaluation_batches(VALIDATION, BATCH))
    expected = PLAIN.model.apply(params["model"], jnp.asarray(VALIDATION.inputs), Context())
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_nothing_but_padding_is_no_division_by_zero():
    weights = np.zeros(BATCH, np.float32)
    batch = jax.tree.map(jnp.asarray, (TRAIN.inputs[:BATCH], Targets(TRAIN.labels[:BATCH], weights)))
    real = (TRAIN.inputs[:BATCH], Targets(TRAIN.labels[:BATCH], weights + 1))
    evaluate, params = make_evaluation(PLAIN), initial(PLAIN)
    assert evaluate(params, [batch, real]) == pytest.approx(evaluate(params, [real]))
