import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pipeline.training import TrainingConfig, fit

PARAMS = {"w": jnp.zeros(2)}
BATCHES = [np.ones((4, 2)), np.zeros((4, 2)), np.ones((4, 2))]


class Tensor:
    """An array of another library."""

    def __init__(self, values) -> None:
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


class Loader:
    """Batches without a known number, which can begin again."""

    def __iter__(self):
        return iter(BATCHES)


def train(batches, epochs=2, **options):
    seen = []

    def loss(params, batch, context):
        return jnp.square(params["w"] - batch).mean(), {"mean": batch.mean()}

    fit(
        loss,
        PARAMS,
        batches,
        TrainingConfig(epochs=epochs, quiet=True),
        optimizer=optax.sgd(0.1),
        callbacks=[lambda step, state, metrics: seen.append(float(metrics["mean"]))],
        **options,
    )
    return seen


@pytest.mark.parametrize(
    "batches, options",
    [
        (BATCHES, {}),
        (tuple(map(Tensor, BATCHES)), {}),
        (Loader(), {"steps_per_epoch": 3}),
        (iter(BATCHES * 2), {"steps_per_epoch": 3}),
    ],
    ids=["list", "another library's arrays", "loader", "iterator"],
)
def test_every_epoch_sees_the_batches_in_order(batches, options):
    assert train(batches, **options) == [1.0, 0.0, 1.0] * 2


@pytest.mark.parametrize(
    "batches, options, message",
    [
        (
            iter(BATCHES),
            {"steps_per_epoch": 3},
            "batches ended after 3 of the 6 .*list_iterator is an iterator, which cannot",
        ),
        ((b for b in BATCHES), {}, "batches is a generator, which does not say how many it has; give steps_per_epoch"),
        ([], {}, "batches is an empty list"),
        ((), {"steps_per_epoch": 2}, "batches is an empty tuple"),
        (["text"], {}, "batch 1 holds str .* where an array of numbers is needed"),
    ],
)
def test_batches_that_do_not_suffice_are_said(batches, options, message):
    with pytest.raises(ValueError, match=message):
        train(batches, **options)
