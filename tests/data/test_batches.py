"""Batches: every example once an epoch, the same by seed, resumable anywhere, always of one shape."""

from itertools import islice

import numpy as np
import pytest

from pipeline.data.batches import evaluation_batches, steps_per_epoch, train_batches
from pipeline.data.dataset import Scaling, Split
from pipeline.errors import UserError


def numbered(count: int) -> Split:
    """Example i has the pixel i and the label i."""
    pixels = np.arange(count, dtype=np.uint16)[:, None, None, None]
    return Split(pixels, np.arange(count, dtype=np.int32), Scaling((0.0,), (1 / 65535,)))


def labels(batches) -> np.ndarray:
    return np.stack([targets.values for _, targets in batches])


def test_every_example_once_an_epoch_in_a_new_order():
    batches = train_batches(numbered(60), 12, seed=3)
    first, second = (labels(islice(batches, 5)).ravel() for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(60))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(60))


def test_inputs_belong_to_their_labels():
    for inputs, targets in islice(train_batches(numbered(60), 7, seed=3), 20):
        assert inputs.shape == (7, 1, 1, 1)
        assert inputs.dtype == np.float32
        np.testing.assert_allclose(inputs.ravel(), targets.values, rtol=1e-6)
        assert targets.weights is None


def test_the_remainder_is_dropped_and_never_carried():
    batches = train_batches(numbered(50), 12, seed=0)
    assert steps_per_epoch(numbered(50), 12) == 4
    epochs = [labels(islice(batches, 4)).ravel() for _ in range(40)]
    assert all(len(set(epoch.tolist())) == 48 for epoch in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(range(50)), "every example is seen in some epoch"


def test_the_seed_decides_the_order():
    one, same, other = (labels(islice(train_batches(numbered(60), 12, seed=seed), 10)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[5:], other[:5]), "one seed's second epoch is another's first"


@pytest.mark.parametrize("done", [0, 3, 5, 12])
def test_resuming_gives_the_batches_that_would_have_come(done):
    batches = train_batches(numbered(60), 12, seed=1)
    list(islice(batches, done))
    state = batches.get_state()
    resumed = train_batches(numbered(60), 12, seed=1)
    list(islice(resumed, 2))
    resumed.set_state(state)
    np.testing.assert_array_equal(labels(islice(resumed, 11)), labels(islice(batches, 11)))


@pytest.mark.parametrize("count, sizes", [(50, [12, 12, 12, 12, 2]), (48, [12, 12, 12, 12]), (5, [5])])
def test_evaluation_goes_through_all_once_and_pads_with_weight_zero(count, sizes):
    batches = evaluation_batches(numbered(count), 12)
    for _ in range(2):  # it can be gone through again
        result = list(batches)
        assert [targets.weights.sum() for _, targets in result] == sizes
        assert all(inputs.shape == (12, 1, 1, 1) for inputs, _ in result)
        assert all(targets.values.shape == targets.weights.shape == (12,) for _, targets in result)
        real = np.concatenate([targets.values[targets.weights == 1] for _, targets in result])
        np.testing.assert_array_equal(real, np.arange(count))
        padding = np.concatenate([targets.weights[size:] for (_, targets), size in zip(result, sizes)])
        assert not padding.any()
        assert result[0][1].weights.dtype == np.float32


@pytest.mark.parametrize(
    "batch_size, parts",
    [(61, ("a batch of 61 is larger", "60 examples", "at most 60")), (0, ("batch size is 0", "at least 1"))],
)
def test_a_batch_size_that_cannot_be(batch_size, parts):
    with pytest.raises(UserError) as caught:
        train_batches(numbered(60), batch_size, seed=0)
    assert all(part in str(caught.value) for part in parts)


class Counted:
    """Two examples an epoch, which say what it is."""

    def __len__(self) -> int:
        return 2

    def at(self, epoch: int) -> "Arrays":
        return Arrays(epoch)


class Arrays:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 2

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(rows), self.epoch), rows


def test_examples_that_are_drawn_anew_for_every_epoch():
    batches = train_batches(Counted(), 1, seed=0)
    result = [(int(x[0]), int(y.values[0])) for x, y in (next(batches) for _ in range(6))]
    assert [epoch for epoch, _ in result] == [0, 0, 1, 1, 2, 2]
    assert sorted(result) == [(epoch, row) for epoch in range(3) for row in range(2)]
    state = batches.get_state()
    following = [int(next(batches)[0][0]) for _ in range(3)]
    batches.set_state(state)
    assert [int(next(batches)[0][0]) for _ in range(3)] == following == [3, 3, 4]
