from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import NOISY, PLAIN, TRAIN, initial, same_bytes

from pipeline.evaluation.batch_statistics import make_batch_statistics
from pipeline.layers.base import Context
from pipeline.layers.combinators import Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.regression import MeanSquaredError

LAYERS = NOISY.model.layers  # pyright: ignore[reportAttributeAccessIssue]  (a Serial)


def test_statistics_are_the_mean_of_the_batches():
    objective = Objective(Serial((Dropout(0.9), BatchNorm())), MeanSquaredError())
    params = initial(objective, batch=(TRAIN.inputs, Targets(TRAIN.inputs)))
    batches = [(part, Targets(part)) for part in np.split(TRAIN.inputs[:40], 5)]
    norm = make_batch_statistics(objective)(params, batches)["model"]["layers"][1]
    # Without the dropout: evaluation has none either.
    np.testing.assert_allclose(norm["mean"], TRAIN.inputs[:40].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm["mean_square"], np.square(TRAIN.inputs[:40]).mean(0), rtol=1e-5)
    assert same_bytes(norm["scale"], params["model"]["layers"][1]["scale"])


def test_evaluation_with_a_batch_s_statistics_equals_training_on_it():
    without_dropout = Objective(
        Serial(tuple(replace(part, rate=0.0) if isinstance(part, Dropout) else part for part in LAYERS)),
        NOISY.loss,
    )
    params = initial(without_dropout)
    batch = (jnp.asarray(TRAIN.inputs), Targets(jnp.asarray(TRAIN.labels)))
    evaluated = make_batch_statistics(without_dropout)(params, [batch])
    trained = without_dropout.apply(params, batch, Context(train=True))
    np.testing.assert_allclose(without_dropout.apply(evaluated, batch, Context()), trained, rtol=1e-5)
    assert abs(without_dropout.apply(params, batch, Context()) - trained) > 1e-3


def test_models_without_statistics_need_no_batches():
    params = initial(PLAIN)
    assert make_batch_statistics(PLAIN)(params, ()) is params
    with pytest.raises(ValueError, match="needs batches to compute"):
        make_batch_statistics(NOISY)(initial(NOISY), ())
