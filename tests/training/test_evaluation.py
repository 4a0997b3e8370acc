from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import BATCH, NOISY, PLAIN, TRAIN, VALIDATION, initial, same_bytes

from pipeline.data.batches import evaluation_batches
from pipeline.evaluation.batch_statistics import make_batch_statistics
from pipeline.evaluation.evaluate import make_evaluation, predict
from pipeline.layers.base import Context
from pipeline.layers.combinators import Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.regression import MeanSquaredError

LAYERS = NOISY.model.layers  # pyright: ignore[reportAttributeAccessIssue]  (a Serial)


def test_means_over_padded_batches_are_those_over_the_set():
    params = initial(PLAIN)
    found = make_evaluation(PLAIN)(params, evaluation_batches(VALIDATION, BATCH))
    loss, outputs = PLAIN.evaluate(
        params, (jnp.asarray(VALIDATION.inputs), Targets(jnp.asarray(VALIDATION.labels))), Context()
    )
    right = (outputs.argmax(1) == VALIDATION.labels).mean()
    assert len(VALIDATION) % BATCH and list(found) == ["loss", "accuracy"]
    np.testing.assert_allclose([found["loss"], found["accuracy"]], [loss, right], rtol=1e-6)


def test_predictions_come_for_every_example_in_order():
    params = initial(PLAIN)
    outputs = predict(PLAIN.model, params["model"], evaluation_batches(VALIDATION, BATCH))
    expected = PLAIN.model.apply(params["model"], jnp.asarray(VALIDATION.inputs), Context())
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_calibration_writes_the_mean_of_the_batches_statistics():
    objective = Objective(Serial((Dropout(0.9), BatchNorm())), MeanSquaredError())
    params = initial(objective, batch=(TRAIN.inputs, Targets(TRAIN.inputs)))
    batches = [(part, Targets(part)) for part in np.split(TRAIN.inputs[:40], 5)]
    norm = make_batch_statistics(objective)(params, batches)["model"]["layers"][1]
    # Without the dropout: evaluation has none either.
    np.testing.assert_allclose(norm["mean"], TRAIN.inputs[:40].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm["mean_square"], np.square(TRAIN.inputs[:40]).mean(0), rtol=1e-5)
    assert same_bytes(norm["scale"], params["model"]["layers"][1]["scale"])


def test_a_calibrated_model_judges_a_batch_as_training_saw_it():
    quiet = Objective(
        Serial(tuple(replace(part, rate=0.0) if isinstance(part, Dropout) else part for part in LAYERS)),
        NOISY.loss,
    )
    params = initial(quiet)
    batch = (jnp.asarray(TRAIN.inputs), Targets(jnp.asarray(TRAIN.labels)))
    calibrated = make_batch_statistics(quiet)(params, [batch])
    trained = quiet.apply(params, batch, Context(train=True))
    np.testing.assert_allclose(quiet.apply(calibrated, batch, Context()), trained, rtol=1e-5)
    assert abs(quiet.apply(params, batch, Context()) - trained) > 1e-3


def test_models_without_statistics_need_no_batches():
    params = initial(PLAIN)
    assert make_batch_statistics(PLAIN)(params, ()) is params
    with pytest.raises(ValueError, match="needs batches to calibrate"):
        make_batch_statistics(NOISY)(initial(NOISY), ())


def test_nothing_but_padding_is_no_division_by_zero():
    weights = np.zeros(BATCH, np.float32)
    batch = jax.tree.map(jnp.asarray, (TRAIN.inputs[:BATCH], Targets(TRAIN.labels[:BATCH], weights)))
    real = (TRAIN.inputs[:BATCH], Targets(TRAIN.labels[:BATCH], weights + 1))
    evaluate, params = make_evaluation(PLAIN), initial(PLAIN)
    assert evaluate(params, [batch, real]) == pytest.approx(evaluate(params, [real]))
