"""A function in place of an objective: the same parameters as the objective's, however its gradient is made."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pipeline.backprop import value_and_grad
from pipeline.layers import Context, Dense, Objective
from pipeline.losses import MeanSquaredError, Targets
from pipeline.training import NonFiniteError, Run, StopConfig, TrainingConfig, fit, load_params

OBJECTIVE = Objective(Dense(1), MeanSquaredError())
X = jax.random.normal(jax.random.key(0), (4, 8, 3), jnp.float32)
BATCHES = [(x, Targets(x.sum(1, keepdims=True))) for x in X]
PARAMS = OBJECTIVE.init(jax.random.key(0), BATCHES[0])
CONFIG = TrainingConfig(epochs=2, quiet=True, batch_size=8)


def loss(params, batch, context):
    return OBJECTIVE.apply(params, batch, context), {"bias": params["model"]["bias"].sum(), "text": jnp.zeros(2)}


def evaluate(params):
    return {"loss": loss(params, BATCHES[0], Context())[0]}


@pytest.mark.parametrize(
    "optimizer, accumulate",
    [
        (optax.sgd(0.1), 2),
        (optax.chain(optax.polyak_sgd(0.1), optax.contrib.reduce_on_plateau()), 1),
        (optax.lbfgs(), 1),
    ],
    ids=["gradient alone", "needs the loss", "needs the function"],
)
def test_a_function_with_or_without_its_own_gradient_is_trained_as_an_objective_is(optimizer, accumulate):
    config = TrainingConfig(epochs=2, quiet=True, batch_size=8, accumulate=accumulate)
    results = [
        fit(objective, PARAMS, BATCHES, config, optimizer=optimizer)
        for objective in (OBJECTIVE, loss, value_and_grad(OBJECTIVE))
    ]
    initial = float(evaluate(PARAMS)["loss"])
    for result in results:
        assert result.steps == 8 and float(evaluate(result.params)["loss"]) < initial / 2
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), result.params, results[0].params)


def test_with_a_run_its_lines_and_the_best_parameters_are_written_and_it_cannot_be_resumed(tmp_path, caplog):
    config = TrainingConfig(epochs=2, quiet=True, average=0.5)
    with Run.create(tmp_path / "run", "own", config) as run:
        result = fit(loss, PARAMS, BATCHES, config, run, optimizer=optax.sgd(0.1), evaluate=evaluate)
        assert "cannot be resumed" in caplog.text
        steps = [line for line in run.metrics() if line["kind"] == "step"]
        assert {"loss", "bias"} < steps[0].keys() and not {"text", "learning_rate"} & steps[0].keys()
        jax.tree.map(np.testing.assert_array_equal, load_params(run.directory, PARAMS), result.params)
        with pytest.raises(
            ValueError, match=r"run holds a training already, and batches is a list, which cannot resume"
        ):
            fit(loss, PARAMS, BATCHES, config, run, optimizer=optax.sgd(0.1))


def test_without_a_run_the_best_parameters_are_kept_and_are_not_the_last():
    values = iter([1.0, 0.5, 2.0])
    seen = []

    def worsening(params):
        seen.append(jax.tree.map(np.array, params))
        return {"loss": next(values)}

    config = TrainingConfig(epochs=3, quiet=True, stop=StopConfig(patience=5))
    result = fit(loss, PARAMS, BATCHES, config, optimizer=optax.sgd(0.1), evaluate=worsening)
    jax.tree.map(np.testing.assert_array_equal, result.params, seen[1])
    jax.tree.map(np.testing.assert_array_equal, result.state.params, seen[2])


def test_a_callback_sees_every_step_may_keep_the_state_and_stops():
    states = []

    def enough(step, state, metrics):
        states.append(state)
        return step == 3 and float(metrics["loss"]) > 0

    result = fit(loss, PARAMS, BATCHES, CONFIG, optimizer=optax.sgd(0.1), callbacks=[enough])
    assert (result.steps, result.stopped_because) == (3, "stopped by the callback enough")
    assert [int(state.step) for state in states] == [1, 2, 3]
    jax.tree.map(np.testing.assert_array_equal, result.params, states[-1].params)


def test_a_batch_or_a_gradient_that_is_not_finite_is_named():
    bad = [*BATCHES[:1], (jnp.full((8, 3), jnp.nan, jnp.float32), BATCHES[0][1])]
    with pytest.raises(NonFiniteError, match=r"loss of step 2 is not finite.*the batch's own 0\..*since run is None"):
        fit(loss, PARAMS, bad, CONFIG, optimizer=optax.sgd(0.1))

    def root(params, batch, context):
        return jnp.sqrt(params["model"]["bias"]).sum(), {}

    with pytest.raises(
        NonFiniteError, match=r"gradient or the update of step 1 .*the gradient of model\. .*optax\.clip"
    ):
        fit(root, PARAMS, BATCHES, CONFIG, optimizer=optax.sgd(0.1))


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda p, b, c: jnp.float32(0), r"returned float32\[\]; it must return \(loss, aux\)"),
        (lambda p, b, c: (jnp.zeros(8), {}), r"float64\[8\] as the loss, which must be one number; take its mean"),
        (lambda p, b, c: (jnp.int32(1), {}), r"int32\[\] as the loss, which must be a float"),
        (lambda p, b, c: ({}, {}), r"a dict of 0 as the loss"),
        (
            lambda p, b, c: ((jnp.float32(1), {}), {"model": p["model"]}),
            r"gradient that is not like params: it is PyTreeDef",
        ),
        (
            lambda p, b, c: ((jnp.float32(1), {}), jax.tree.map(lambda leaf: leaf[:0], p)),
            r"at model/bias it has shape \(0,\), and params shape \(1,\)",
        ),
        (lambda p, b, c: (p["model"]["bias"].sum(), {"step": 1.0}), "objective returns step in aux"),
    ],
)
def test_what_a_function_returns_is_checked(function, message):
    with pytest.raises(ValueError, match=message):
        fit(function, PARAMS, BATCHES, CONFIG, optimizer=optax.sgd(0.1))
