from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from small_problem import NOISY, PLAIN, TRAIN, initial

from pipeline.errors import UserError
from pipeline.layers.combinators import Serial
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.training.gradient_check import gradient_check
from pipeline.training.precision import in_precision

BATCH = (TRAIN.inputs[:4], Targets(TRAIN.labels[:4]))


@dataclass(frozen=True)
class WrongBias(Dense):
    def backward(self, params, residuals, d_y):
        d_params, d_x = super().backward(params, residuals, d_y)
        return d_params | {"bias": 1.5 * d_params["bias"]}, d_x


def test_right_rules_agree_in_float64_on_float32_parameters():
    params = initial(NOISY)
    result = gradient_check(NOISY, params, BATCH)
    assert result["leaves"] == len(jax.tree.leaves(params)) == len(result["relative_error"])
    assert 0 < result["max_relative_error"] == result["relative_error"][result["worst_leaf"]] < 1e-11
    assert jax.tree.leaves(params)[0].dtype == jnp.float32


def test_a_model_in_bfloat16_is_checked_in_float64_too():
    objective = Objective(in_precision(PLAIN.model, "bfloat16"), PLAIN.loss)
    assert gradient_check(objective, initial(objective), BATCH)["max_relative_error"] < 1e-11


def test_a_wrong_rule_is_named():
    objective = Objective(Serial((Dense(4), WrongBias(3))), PLAIN.loss)
    result = gradient_check(objective, initial(objective), BATCH)
    assert result["worst_leaf"] == "model/layers/1/bias"
    assert abs(result["max_relative_error"] - 0.5) < 1e-9


def test_a_gradient_that_is_not_finite_is_named_and_compared_with_nothing():
    params = initial(PLAIN)
    params["model"]["layers"][2]["kernel"] *= jnp.nan
    with pytest.raises(UserError, match="manual gradient of model/layers/0/bias in the trained model is not finite"):
        gradient_check(PLAIN, params, BATCH)


@dataclass(frozen=True)
class Cut(Dense):
    """A layer whose output does not depend on its parameters, with the backward pass of one whose output does."""

    def apply(self, params, x, context):
        return super().apply(jax.tree.map(jax.lax.stop_gradient, params), x, context)


def test_a_gradient_where_autodiff_has_none_is_named():
    objective = Objective(Serial((Dense(4), Cut(3))), PLAIN.loss)
    with pytest.raises(UserError, match="0 throughout the layer of model/layers/1/bias, and the"):
        gradient_check(objective, initial(objective), BATCH)
