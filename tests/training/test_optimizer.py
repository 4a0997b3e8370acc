import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_problem import NOISY, initial

from pipeline.errors import UserError
from pipeline.layers.attention import SelfAttention
from pipeline.layers.base import parameter_roles
from pipeline.layers.combinators import Serial
from pipeline.layers.convolution import Conv
from pipeline.layers.embedding import Embedding
from pipeline.layers.factorization import BiasedFactorization
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.objective import Objective
from pipeline.layers.repeat import Repeat
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.models.autoencoder import AnomalyScore
from pipeline.models.recommenders import biased, implicit
from pipeline.training.optimizer import OptimizerConfig, make_optimizer, make_schedule, stacked_axes

NAMES = ("sgd", "adamw", "lion", "muon")


def updated(config: OptimizerConfig, objective, params, gradients, steps: int = 3):
    optimizer = make_optimizer(config, objective, params, 10)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params


def changed(before, after) -> dict[str, bool]:
    different = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(different)
    }


@pytest.mark.parametrize("name", NAMES)
def test_decay_alone_moves_kernels_and_nothing_else(name):
    params = jax.tree.map(lambda leaf: leaf + 0.5, initial(NOISY))
    config = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.1, warmup=0.0, schedule="constant")
    moved = changed(params, updated(config, NOISY, params, jax.tree.map(jnp.zeros_like, params)))
    assert moved == {path: path.endswith("kernel") for path in moved}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", [biased(5, 6, 3), implicit(5, 6, 3)], ids=["biased", "implicit"])
def test_recommenders_embeddings_are_decayed(model, name):
    ids = jnp.zeros(2, jnp.int32)
    x = (ids, ids) if isinstance(model, BiasedFactorization) else (ids, jnp.ones((2, 6), bool))
    params = jax.tree.map(lambda leaf: leaf + 0.5, model.init(jax.random.key(0), x))
    config = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.1, warmup=0.0, schedule="constant")
    moved = changed(params, updated(config, model, params, jax.tree.map(jnp.zeros_like, params)))
    assert moved == {path: path.endswith(("embedding", "kernel")) for path in moved}


def test_roles_are_those_that_the_innermost_layer_declares():
    model = Objective(AnomalyScore(Serial((BatchNorm(), SelfAttention(2), Embedding(3, 4)))), SoftmaxCrossEntropy())
    names = {"0": ("scale", "mean"), "1/query": ("kernel", "bias"), "2": ("embedding",)}
    params = {f"model/layers/{layer}/{name}": 0.0 for layer, group in names.items() for name in group}
    assert list(jax.tree.leaves(parameter_roles(model, nested(params)))) == [
        *("statistic", "plain", "plain", "decayed", "plain"),
    ]


def nested(leaves):
    """A tree of dicts from leaves by their paths."""
    tree = {}
    for path, leaf in leaves.items():
        *names, last = path.split("/")
        node = tree
        for name in names:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_moves_all_but_statistics_and_keeps_dtypes(name):
    params = initial(NOISY)
    gradients = jax.tree.map(jnp.ones_like, params)  # even where the statistics have one
    config = OptimizerConfig(name=name, weight_decay=0.01, clip=1.0)
    after = updated(config, NOISY, params, gradients)
    moved = changed(params, after)
    assert moved == {path: not path.endswith(("mean", "mean_square")) for path in moved}
    assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, params)


def test_clip_scales_the_whole_gradient_to_the_limit():
    params = initial(NOISY)
    config = OptimizerConfig(name="sgd", learning_rate=1.0, momentum=0.0, clip=0.5, schedule="constant", warmup=0.0)
    gradients = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if str(path[-1].key).startswith("mean") else leaf + 3.0, params
    )
    after = updated(config, NOISY, params, gradients, steps=1)
    np.testing.assert_allclose(optax.tree.norm(jax.tree.map(jnp.subtract, after, params)), 0.5, rtol=1e-5)


def test_muon_orthogonalises_each_layer_of_a_repeat_and_a_convolution_as_a_matrix():
    model = Serial((Embedding(7, 4), Repeat(Conv(4, (3,)), 2), Repeat(Repeat(Dense(4), 2), 3)))
    objective = Objective(model, SoftmaxCrossEntropy())
    params = {"model": model.init(jax.random.key(0), jnp.zeros((2, 5), jnp.int32)), "loss": {}}
    assert [stacked_axes(objective, path) for path, _ in jax.tree_util.tree_leaves_with_path(params)] == [0, 1, 1, 2, 2]
    gradients = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), params)
    config = OptimizerConfig(name="muon", learning_rate=1.0, schedule="constant", warmup=0.0)
    moves = jax.tree.map(jnp.subtract, updated(config, objective, params, gradients, steps=1), params)
    for path, move in jax.tree_util.tree_leaves_with_path(moves):
        if str(path[-1].key) == "kernel":
            stacked = stacked_axes(objective, path)
            matrices = move.reshape(-1, int(np.prod(move.shape[stacked:-1])), 4)
            assert len(matrices) == np.prod(move.shape[:stacked])
            # Newton-Schulz's five steps bring singular values near 1; the scale is 0.2 sqrt(the longer side).
            values = np.linalg.svd(matrices, compute_uv=False) / (0.2 * np.sqrt(max(matrices.shape[1:])))
            assert values.min() > 0.5 and values.max() < 1.3
        else:
            np.testing.assert_allclose(abs(move), abs(move).mean(), rtol=1e-3)  # adam's first step: signs


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.5, 1.0, 0.75, 0.25, 0.0]),
        ("piecewise", [0.5, 1.0, 1.0, 0.1, 0.01]),
    ],
)
def test_schedules_rise_then_fall(schedule, expected):
    rate = make_schedule(OptimizerConfig(schedule=schedule, learning_rate=1.0, warmup=0.01), 100)
    places = [0, 1, 34, 67, 100]
    np.testing.assert_allclose([np.asarray(rate(place)) for place in places], expected, atol=0.01)


def test_one_cycle_rises_over_the_warmup_and_ends_near_zero():
    rate = make_schedule(OptimizerConfig(schedule="one_cycle", learning_rate=1.0, warmup=0.3), 100)
    rates = np.array([rate(step) for step in range(100)])
    assert rates.argmax() == 30 and rates[0] == pytest.approx(0.04) and rates[-1] < 0.01


def test_a_warmup_has_no_step_without_effect():
    rate = make_schedule(OptimizerConfig(learning_rate=1.0, warmup=0.1), 100)
    rates = [np.asarray(rate(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [(step + 1) / 11 for step in range(11)], rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"learning_rate": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"clip": -1.0}, {"warmup": 1.0}]
)
def test_options_out_of_range_are_named(options):
    (name,) = options
    with pytest.raises(UserError, match=f"--optimizer.{name.replace('_', '-')} is {options[name]}; it must be"):
        OptimizerConfig(**options)
