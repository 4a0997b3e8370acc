from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_problem import Dying, Killed, same_bytes

from pipeline.data.batches import train_batches
from pipeline.layers.attention import CrossAttention
from pipeline.layers.combinators import EncoderDecoder, Residual, Serial
from pipeline.layers.embedding import Embedding
from pipeline.layers.linear import Dense
from pipeline.layers.objective import Objective
from pipeline.layers.pooling import GlobalAveragePool
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import fit
from pipeline.training.nonfinite import NonFiniteError
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.run import Run
from pipeline.training.sparse_updates import SparseTable, with_sparse_updates
from pipeline.training.state import init_state
from pipeline.training.step import make_train_step

TABLE = SparseTable(("model/layers/0/embedding",), ("0",))


def bags(count: int) -> Objective:
    """A label for the mean of a few rows of a table of ``count``."""
    return Objective(Serial((Embedding(count, 4), GlobalAveragePool(), Dense(3))), SoftmaxCrossEntropy())


def bag_batch(count: int, seed: int):
    random = np.random.default_rng(seed)
    return random.integers(count, size=(8, 5), dtype=np.int32), Targets(random.integers(3, size=8, dtype=np.int32))


def states(objective, optimizer, batches, average=0.0, tables=None):
    """The state before the first step and after each, on all rows or, where ``tables`` are given, on the batch's."""
    params = objective.init(jax.random.key(0), jax.tree.map(jnp.asarray, batches[0]))
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), params)
    step = make_train_step(objective, optimizer, average=average)
    step = jax.jit(step if tables is None else with_sparse_updates(step, tables))
    result = [init_state(params, optimizer, average)]
    for batch in batches:
        result.append(step(result[-1], batch)[0])
    return result


class Bags:
    """Forty bags of ids, and their labels."""

    def __len__(self):
        return 40

    def take(self, rows):
        ids, targets = bag_batch(60, 0)
        ids, labels = np.tile(ids, (5, 1)), np.tile(targets.values, 5)
        ids = (ids + np.arange(40, dtype=np.int32)[:, None]) % 60
        return ids[rows], labels[rows]


def fitted(folder, tables=(), params=None, die_at=None, resume=False):
    """Three epochs of plain descent by ``fit``, on all rows or on those of the batch."""
    rule = OptimizerConfig(name="sgd", learning_rate=0.5, momentum=0.0)
    config = TrainingConfig(epochs=3, batch_size=8, quiet=True, optimizer=rule)
    batches = train_batches(Bags(), 8, 0)
    objective = bags(60)
    params = params or objective.init(jax.random.key(0), jax.tree.map(jnp.asarray, bag_batch(60, 0)))
    return fit(
        objective,
        params,
        batches if die_at is None else Dying(batches, die_at),
        config,
        Run.open(folder) if resume else Run.create(folder, "test", config),
        steps_per_epoch=5,
        evaluate=lambda params: {"loss": float(np.square(params["model"]["layers"][2]["kernel"]).sum())},
        tables=tables,
    )


def test_fit_on_the_rows_of_each_batch(tmp_path):
    dense, on_the_rows = (fitted(tmp_path / name, tables) for name, tables in (("all", ()), ("rows", (TABLE,))))
    compare = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(compare, on_the_rows.state.params, dense.state.params)
    with pytest.raises(Killed):
        fitted(tmp_path / "killed", (TABLE,), die_at=8)
    resumed = fitted(tmp_path / "killed", (TABLE,), resume=True)
    assert same_bytes(resumed.state, on_the_rows.state)


def test_fit_on_rows_names_the_layer_that_is_not_finite(tmp_path):
    params = bags(60).init(jax.random.key(0), jax.tree.map(jnp.asarray, bag_batch(60, 0)))
    params["model"]["layers"][0]["embedding"] *= 1e38
    params["model"]["layers"][2]["kernel"] *= 1e8
    with pytest.raises(NonFiniteError, match=r"of step 1 is not finite.*model/layers/2 \(Dense\), in its forward pass"):
        fitted(tmp_path / "run", (TABLE,), params)


def assert_close(one, other):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), one, other)


def test_plain_descent_is_the_step_on_all_rows():
    batches = [bag_batch(60, seed) for seed in range(4)]
    dense, on_the_rows = (states(bags(60), optax.sgd(0.5), batches, tables=tables) for tables in (None, (TABLE,)))
    assert_close(on_the_rows[-1].params, dense[-1].params)
    assert not same_bytes(dense[-1].params, dense[0].params)


@pytest.mark.parametrize("gradient", ["manual", "attached"])
def test_an_id_that_no_row_has_is_not_finite(gradient):
    """It has no place among the batch's rows, which are fewer than the layer declares."""
    objective, (ids, targets) = bags(60), bag_batch(60, 0)
    step = jax.jit(with_sparse_updates(make_train_step(objective, optax.sgd(0.1), gradient), (TABLE,)))
    state = init_state(objective.init(jax.random.key(0), (jnp.asarray(ids), targets)), optax.sgd(0.1))
    assert step(state, (ids, targets))[1]["finite"]
    for number in (-1, 60):
        ids[3, 2] = number
        assert not step(state, (ids, targets))[1]["finite"]


def test_a_batch_of_more_ids_than_rows():
    batches = [bag_batch(7, seed) for seed in range(2)]
    dense, on_the_rows = (states(bags(7), optax.sgd(0.5), batches, tables=tables) for tables in (None, (TABLE,)))
    assert_close(on_the_rows[-1].params, dense[-1].params)


def test_two_tables_and_padding():
    model = EncoderDecoder(
        Serial((Embedding(50, 4), Dense(4))), Serial((Embedding(40, 4), Residual(CrossAttention(1)), Dense(3)))
    )
    tables = (
        SparseTable(("model/encoder/layers/0/embedding",), ("0/0",)),
        SparseTable(("model/decoder/layers/0/embedding",), ("0/1",)),
    )
    random = np.random.default_rng(0)
    source, target = (random.integers(1, count, (3, 6), np.int32) for count in (50, 40))
    source[1, 4:] = 0
    labels = Targets(random.integers(3, size=(3, 6), dtype=np.int32))
    # In the second batch nothing is padding: the smallest id of it must not be taken for padding either.
    batches = [((source, target), labels), ((target, target), labels)]
    objective = Objective(model, SoftmaxCrossEntropy())
    dense, on_the_rows = (states(objective, optax.sgd(0.5), batches, tables=each) for each in (None, tables))
    assert_close(on_the_rows[-1].params, dense[-1].params)


def test_rows_that_are_not_in_the_batch_wait():
    """Lazy Adam: parameters, both moments and the moving average; Adam itself moves on what it has seen before."""
    batches = [bag_batch(60, seed) for seed in range(2)]
    dense, on_the_rows = (
        states(bags(60), optax.adam(0.1), batches, average=0.9, tables=tables) for tables in (None, (TABLE,))
    )
    assert_close(on_the_rows[1].params, dense[1].params)  # at the first step no row has a moment that could move it

    def tables_of(state):
        moments = state.optimizer_state[0]
        trees = (state.params, moments.mu, moments.nu, state.average)
        return [np.asarray(tree["model"]["layers"][0]["embedding"]) for tree in trees]

    seen, waiting = np.unique(batches[1][0]), np.setdiff1d(batches[0][0], np.append(batches[1][0], 0))
    assert len(waiting) > 5
    for before, after, everywhere in zip(*map(tables_of, (on_the_rows[1], on_the_rows[2], dense[2]))):
        assert (after[waiting] == before[waiting]).all()
        assert (everywhere[waiting] != before[waiting]).any(axis=1).all()
        assert (after[seen] != before[seen]).any(axis=1).all()
    for one, other in zip(*map(tables_of, (on_the_rows[2], dense[2]))):
        np.testing.assert_allclose(one[seen], other[seen], rtol=1e-10, atol=1e-14)
    assert on_the_rows[2].optimizer_state[0].count == 2


def test_a_step_s_work_and_memory_do_not_grow_with_the_table():
    """What takes time is what is written: beside the donated state nothing, and little, is as large as the table."""

    def compiled(count: int):
        objective, optimizer = bags(count), optax.adam(0.1)
        batch = jax.tree.map(jnp.asarray, bag_batch(1_000, 0))
        params = objective.init(jax.random.key(0), batch)
        step = jax.jit(with_sparse_updates(make_train_step(objective, optimizer), (TABLE,)), donate_argnums=0)
        return step.lower(init_state(params, optimizer), batch).compile()

    small, memory = (compiled(count).memory_analysis() for count in (1_700, 170_000))
    assert small is not None and memory is not None
    assert memory.temp_size_in_bytes == small.temp_size_in_bytes
    assert memory.alias_size_in_bytes > 3 * 170_000 * 4 * 4  # the parameters and both moments, where they are
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 1_000


@pytest.mark.parametrize(
    "tables, message",
    [
        (
            (SparseTable(("model/layers/9/embedding",), ("0",)),),
            "no parameters at model/layers/9/embedding; there are: model",
        ),
        ((SparseTable(TABLE.parameters, ("0/1",)),), r"no ids at 0/1; there are: 0, 1/values"),
        ((SparseTable((*TABLE.parameters, "model/layers/2/bias"), ("0",)),), r"have \[3, 60\] rows"),
        ((TABLE, TABLE), "model/layers/0/embedding belongs to several tables"),
    ],
)
def test_tables_that_are_not_there(tables, message):
    with pytest.raises(ValueError, match=message):
        states(bags(60), optax.sgd(0.5), [bag_batch(60, 0)], tables=tables)
