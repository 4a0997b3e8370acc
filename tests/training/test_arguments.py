import inspect

import jax.numpy as jnp
import optax
import pytest

from pipeline.layers import Dense, Objective
from pipeline.losses import MeanSquaredError, Targets
from pipeline.training import OptimizerConfig, Run, StopConfig, TrainingConfig, fit

FIT = inspect.unwrap(fit)
"""As users call it: the tests' own check of annotations comes before its errors."""
OBJECTIVE = Objective(Dense(1), MeanSquaredError())
X, TARGETS = jnp.ones((4, 3)), Targets(jnp.ones((4, 1)))


def loss(params, batch, context):
    return OBJECTIVE.apply(params, batch, context), {}


def call(**options):
    params = {"model": {"kernel": jnp.zeros((3, 1)), "bias": jnp.zeros(1)}, "loss": {}}
    given = {"objective": loss, "params": params, "batches": [(X, TARGETS)], "optimizer": optax.sgd(0.1)} | options
    return FIT(**{"config": TrainingConfig(epochs=1, quiet=True), **given})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": None}, "optimizer is None; a function as objective needs one"),
        ({"optimizer": optax.adam}, r"optimizer is the function adam; call it, as in optimizer=optax\.adam\(1e-3\)"),
        ({"optimizer": "adam"}, r"optimizer is a str: adam; give an optax optimiser"),
        (
            {"objective": OBJECTIVE, "config": TrainingConfig(optimizer=OptimizerConfig(name="sgd"))},
            "optimizer and config.optimizer are both given",
        ),
        ({"objective": Dense(1)}, r"objective is a Dense; give an Objective\(model, loss\), or a function"),
        ({"objective": 3}, "objective is a int; give"),
        ({"params": {}}, "params holds no array"),
        ({"params": {"a": {"b": jnp.tanh}}}, "params holds a .* at a/b; every leaf must be an array"),
        ({"batches": 3}, "batches is a int; it must be an iterable of batches"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0; it must be at least 1"),
        ({"metrics": lambda outputs, targets: {}}, "metrics can be given for an Objective only"),
        ({"config": TrainingConfig(verify_every=2)}, "verify_every can be given for an Objective only"),
        ({"config": TrainingConfig(stop=StopConfig(patience=2))}, "evaluate is None, and config.stop"),
        ({"evaluate": lambda params: 0.5}, "evaluate returned a float; it must return a dict of numbers"),
        (
            {"evaluate": lambda params: {"accuracy": 0.5}},
            r"evaluate returned accuracy, but config.stop.metric is 'loss'.*StopConfig\(metric=\"accuracy\"\)",
        ),
        ({"callbacks": [3]}, "callbacks holds a int; each must be a function"),
        ({"config": TrainingConfig(profile=2)}, "profile is given, but run is None"),
        ({"stop_requested": lambda: True}, "stop_requested is given, but run is None"),
    ],
)
def test_an_argument_that_is_not_of_its_kind_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        call(**options)


def test_a_stop_on_request_needs_batches_whose_position_can_be_saved(tmp_path):
    with pytest.raises(ValueError, match="stop_requested is given, but batches is a list, whose position"):
        call(stop_requested=lambda: True, run=Run.create(tmp_path / "run", "own", TrainingConfig()))
