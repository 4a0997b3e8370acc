from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_problem import NOISY, PLAIN, TRAIN, initial, same_bytes

from pipeline.backprop import value_and_grad
from pipeline.errors import UserError
from pipeline.evaluation.classification import accuracy_metric
from pipeline.layers.base import Context
from pipeline.layers.objective import Objective
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.models.image import mlp
from pipeline.training.optimizer import OptimizerConfig, make_optimizer
from pipeline.training.precision import in_precision
from pipeline.training.state import init_state
from pipeline.training.step import make_train_step

DESCENT = optax.sgd(1.0)  # the update is minus the gradient


def batch_of(count: int, weights=None):
    return TRAIN.inputs[:count], Targets(TRAIN.labels[:count], weights)


def descended(objective, batch, dtype="float32", **options):
    """The gradient that a step used, and what it measured."""
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), initial(objective))
    step = jax.jit(make_train_step(objective, DESCENT, metrics=accuracy_metric, **options))
    state, step_metrics = step(init_state(params, DESCENT), (batch[0].astype(dtype), batch[1]))
    return jax.tree.map(jnp.subtract, params, state.params), step_metrics


WEIGHTS = np.array([1, 1, 1, 0.5, 2, 1, 0, 0, 1, 0, 0, 0], np.float32)  # the last of three parts counts nothing but 1


def test_accumulated_gradients_are_the_whole_batch_s():
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), initial(PLAIN))
    whole, in_parts = (
        jax.jit(make_train_step(PLAIN, DESCENT, metrics=accuracy_metric, accumulate=parts)) for parts in (1, 3)
    )
    inputs = TRAIN.inputs[:12].astype("float64")
    for weights in (None, WEIGHTS, np.float32(WEIGHTS > 1), 0 * WEIGHTS):
        batch = (inputs, Targets(TRAIN.labels[:12], weights))
        (one, metrics_in_parts), (other, step_metrics) = (
            step(init_state(params, DESCENT), batch) for step in (in_parts, whole)
        )
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15), one.params, other.params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-15), metrics_in_parts, step_metrics)
        assert same_bytes(one.params, params) == (weights is not None and not weights.any())


def test_a_batch_that_does_not_split_says_what_to_do():
    with pytest.raises(UserError, match=r"--accumulate is 5, .* batch of 12 examples"):
        descended(PLAIN, batch_of(12), accumulate=5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_three_gradients_train_the_same_parameters(name):
    config = OptimizerConfig(name=name, learning_rate=0.01, weight_decay=0.01)
    trained = {}
    for gradient in ("manual", "autodiff", "attached"):
        params = jax.tree.map(lambda leaf: leaf.astype("float64"), initial(NOISY))
        optimizer = make_optimizer(config, NOISY, params, 50)
        step = jax.jit(make_train_step(NOISY, optimizer, gradient))
        state = init_state(params, optimizer)
        inputs = TRAIN.inputs.astype("float64")
        for i in range(50):
            rows = slice(i % 4 * 8, i % 4 * 8 + 8)
            state, _ = step(state, (inputs[rows], Targets(TRAIN.labels[rows])))
        trained[gradient] = state.params
    for gradient in ("autodiff", "attached"):
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-9, rtol=0), trained[gradient], trained["manual"])


def test_randomness_is_a_function_of_seed_and_step():
    def once(step, seed):
        take = jax.jit(make_train_step(NOISY, DESCENT, seed=seed))
        state = init_state(initial(NOISY), DESCENT)
        state = jax.tree.map(lambda leaf: leaf, state)
        return take(type(state)(state.params, state.optimizer_state, jnp.int32(step), None, state.finite), batch_of(8))

    first = once(3, seed=1)[0].params
    assert same_bytes(first, once(3, seed=1)[0].params)
    assert not same_bytes(first, once(4, seed=1)[0].params)
    assert not same_bytes(first, once(3, seed=2)[0].params)


def test_augmentation_changes_what_the_model_sees_with_the_step_s_key():
    noise = lambda key, inputs: inputs + jax.random.normal(key, inputs.shape)  # noqa: E731
    plain, augmented, again = (descended(PLAIN, batch_of(8), augment=augment)[0] for augment in (None, noise, noise))
    assert not same_bytes(plain, augmented) and same_bytes(augmented, again)


def test_the_average_follows_the_parameters():
    step = jax.jit(make_train_step(PLAIN, DESCENT, average=0.5))
    state = init_state(initial(PLAIN), DESCENT, average=0.5)
    expected = state.average
    for i in range(12):
        state, _ = step(state, batch_of(8))
        decay = min(0.5, (1 + i) / (10 + i))
        expected = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, expected, state.params)  # noqa: B023
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state.average, expected)
    assert state.evaluated is state.average and not same_bytes(state.average, state.params)


@pytest.mark.parametrize("objective", [PLAIN, NOISY], ids=["plain", "noisy"])
def test_measures_are_those_of_the_gradient(objective):
    gradient, step_metrics = descended(objective, batch_of(8))
    assert set(step_metrics["gradient_norm"]) == {path.rpartition("/")[0] for path in paths(gradient)}
    total = sum(norm**2 for norm in step_metrics["gradient_norm"].values()) ** 0.5
    np.testing.assert_allclose(total, optax.tree.norm(gradient), rtol=1e-5)
    assert step_metrics["finite"] and 0 <= step_metrics["accuracy"] <= 1


def paths(tree):
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


@pytest.mark.parametrize("what", ["loss", "update"])
def test_a_step_that_is_not_finite_changes_nothing_nor_does_any_after_it(what):
    # 1e41 times a gradient overflows, although loss and gradient are finite.
    optimizer = (
        make_optimizer(OptimizerConfig(), PLAIN, initial(PLAIN), 9)
        if what == "loss"
        else optax.chain(optax.scale(-1e38), optax.scale(1e3))
    )
    step = jax.jit(make_train_step(PLAIN, optimizer, average=0.9))
    before = init_state(initial(PLAIN), optimizer, average=0.9)
    inputs, targets = batch_of(8)
    bad = inputs.copy()
    bad[3] = np.nan
    state, step_metrics = step(before, (bad if what == "loss" else inputs, targets))
    assert not step_metrics["finite"] and bool(np.isfinite(step_metrics["loss"])) == (what == "update")
    state, step_metrics = step(state, (inputs, targets))
    assert not step_metrics["finite"] and not state.finite
    for field in ("params", "optimizer_state", "step", "average"):
        assert same_bytes(getattr(state, field), getattr(before, field))


def test_bfloat16_keeps_parameters_and_loss_in_float32_and_is_close():
    objective = Objective(in_precision(PLAIN.model, "bfloat16"), PLAIN.loss)
    params = initial(PLAIN)
    cast = {"model": {"layers": [{}, *params["model"]["layers"], {}]}, "loss": {}}
    assert jax.tree.structure(cast) == jax.tree.structure(initial(objective))
    (loss, outputs), gradient = jax.jit(value_and_grad(objective))(cast, batch_of(8), Context())
    (reference, _), _ = jax.jit(value_and_grad(PLAIN))(params, batch_of(8), Context())
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((loss, outputs, gradient))} == {"float32"}
    assert (outputs == outputs.astype("bfloat16")).all() and 0 < abs(loss - reference) < 0.02
    assert in_precision(PLAIN.model, "float32") is PLAIN.model


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_the_step_lowers_for_every_platform(name):
    objective = Objective(mlp(3, widths=(8,)), SoftmaxCrossEntropy())
    batch = (np.zeros((8, 4, 4, 1), np.float32), Targets(np.zeros(8, np.int32)))
    params = initial(objective, batch=batch)
    optimizer = make_optimizer(OptimizerConfig(name=name), objective, params, 10)
    step = jax.jit(make_train_step(objective, optimizer, average=0.9, metrics=accuracy_metric), donate_argnums=0)
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(init_state(params, optimizer, 0.9), batch)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_a_step_can_be_donated_its_state():
    params = initial(NOISY)  # BatchNorm's fresh parameters share buffers
    state = init_state(params, DESCENT, average=0.9)
    step = jax.jit(make_train_step(NOISY, DESCENT, average=0.9), donate_argnums=0)
    updated, _ = step(state, batch_of(8))
    assert state.params["model"]["layers"][0]["kernel"].is_deleted()
    assert not updated.step.is_deleted() and not params["model"]["layers"][0]["kernel"].is_deleted()
