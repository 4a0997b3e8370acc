from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import PLAIN, TRAIN, initial

from pipeline.layers.activations import ReLU
from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Parallel, Remat, Residual, Serial
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.layers.repeat import Repeat
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.training.nonfinite import locate

BATCH = (jnp.asarray(TRAIN.inputs[:8]), Targets(jnp.asarray(TRAIN.labels[:8])))


@dataclass(frozen=True)
class SquareRoot(Layer):
    """Of |x|: finite at 0, where its slope is not."""

    def init(self, key, x):
        return {}

    def apply(self, params, x, context):
        return jnp.sqrt(abs(x))

    def forward(self, params, x, context):
        return self.apply(params, x, context), x

    def backward(self, params, residuals, d_y):
        return {}, d_y * jnp.sign(residuals) / (2 * jnp.sqrt(abs(residuals)))


def place(model: Layer, params=None, batch=BATCH):
    objective = Objective(model, SoftmaxCrossEntropy())
    params = params or initial(objective)
    return locate(objective, params, batch, Context(train=True, key=jax.random.key(0)))


def test_a_healthy_model_has_nobody_to_blame():
    assert place(PLAIN.model) is None


def test_bad_inputs_and_parameters_are_named_as_such():
    inputs, targets = BATCH
    assert place(PLAIN.model, batch=(inputs.at[3, 1].set(jnp.inf), targets)) == (
        "the batch's own inputs (example 3 of the batch)"
    )
    weights = jnp.ones(8).at[6].set(jnp.nan)
    assert place(PLAIN.model, batch=(inputs, Targets(targets.values, weights))) == (
        "the batch's own targets (example 6 of the batch)"
    )
    params = initial(PLAIN)
    params["model"]["layers"][2]["bias"] += np.nan
    assert place(PLAIN.model, params) == "the parameter model/layers/2/bias"


def test_the_first_layer_to_overflow_is_named():
    params = initial(PLAIN)
    params["model"]["layers"][2]["kernel"] *= 3e38
    params["model"]["layers"][0]["kernel"] *= 1e4
    assert place(PLAIN.model, params) == "model/layers/2 (Dense), in its forward pass"


def test_the_first_layer_of_the_backward_pass_is_named():
    model = Serial((Dense(6), ReLU(), SquareRoot(), Dense(3)))
    assert place(model) == "model/layers/2 (SquareRoot), in its backward pass"


def test_a_gradient_too_long_for_float32_is_named():
    params = initial(PLAIN)
    inputs, targets = BATCH
    assert place(PLAIN.model, params, (1e22 * inputs, targets)) == (
        "the norm of the gradient of model/layers/0, whose squares overflow"
    )


@pytest.mark.parametrize("wrap", [lambda layer: layer, Remat], ids=["kept", "recomputed"])
def test_a_repeat_says_in_which_of_its_layers(wrap):
    model = Serial((Dense(6), Repeat(Repeat(wrap(Residual(Serial((ReLU(), Dense(6))))), 2), 3), Dense(3)))
    objective = Objective(model, SoftmaxCrossEntropy())
    inner = "/layer" if wrap is Remat else ""
    kernel = lambda params: params["model"]["layers"][1]["layer"]["layer"]  # noqa: E731
    params = initial(objective)
    dense = kernel(params)["layer"] if wrap is not Remat else kernel(params)["layer"]["layer"]
    dense["layers"][1]["kernel"] = dense["layers"][1]["kernel"].at[2, 1].mul(3e38)
    expected = f"model/layers/1/layer[2]/layer[1]{inner}/layer/layers/1 (Dense), in its forward pass"
    assert place(model, params) == expected


def test_a_repeat_says_in_which_of_its_layers_the_backward_pass_failed():
    # The middle one of three puts zeros into the square root: its kernel is 0, and there is no bias.
    block = Serial((Dense(5, use_bias=False), SquareRoot()))
    model = Serial((Parallel((Repeat(block, 3),)), Dense(3)))
    objective = Objective(model, SoftmaxCrossEntropy())
    params = initial(objective)
    dense = params["model"]["layers"][0]["layers"][0]["layer"]["layers"][0]
    dense["kernel"] = dense["kernel"].at[2].set(0.0)
    expected = "model/layers/0/layers/0/layer[2]/layers/1 (SquareRoot), in its backward pass"
    assert place(model, params) == expected
