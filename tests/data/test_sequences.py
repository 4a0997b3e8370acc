"""Ragged features: derivatives by the formula, scales by groups, the least padding, batches of few lengths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.data.batches import evaluation_batches, train_batches
from pipeline.data.sequences import (
    FeatureSequences,
    StretchedSequences,
    TranscribedSequences,
    bucket,
    bucket_lengths,
    deltas,
    feature_scale,
    frame_mask,
    normalise,
    pad,
    stretch,
)

LENGTHS = (3, 30, 9, 17, 1, 64)


def draw(*lengths: int, features: int = 2) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(3, 2, size=(frames, features)) for frames in lengths]


def slope(x: np.ndarray, t: int, window: int) -> np.ndarray:
    """The slope of the least-squares line through the frames around ``t``."""
    around = np.clip(np.arange(t - window, t + window + 1), 0, len(x) - 1)
    return np.polyfit(np.arange(-window, window + 1), x[around], 1)[0]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_deltas_are_slopes_of_regression_lines(window):
    for x in draw(9, 1, 2):
        first = np.stack([slope(x, t, window) for t in range(len(x))])
        second = np.stack([slope(first, t, window) for t in range(len(x))])
        result = deltas(x, 2, window)
        np.testing.assert_allclose(result, np.concatenate([x, first, second], 1), atol=1e-12)


def test_deltas_of_a_padded_batch_are_those_of_its_sequences():
    sequences = draw(*LENGTHS)
    batch, lengths = pad([sequence.astype(np.float32) for sequence in sequences], 70)
    result = jax.vmap(lambda x, length: deltas(x, length=length))(jnp.asarray(batch), lengths)
    for row, sequence in zip(np.asarray(result), sequences):
        np.testing.assert_allclose(row[: len(sequence)], deltas(sequence), atol=1e-5)


def test_scales_of_all_of_groups_and_of_each():
    sequences, groups = draw(4, 50, 6), ["a", "b", "a"]
    scale = feature_scale(sequences)
    np.testing.assert_allclose(scale.mean, np.concatenate(sequences).mean(0), rtol=1e-6)
    np.testing.assert_allclose(scale.deviation, np.concatenate(sequences).std(0), rtol=1e-4)
    for parts in (normalise(sequences, scale=scale), [np.concatenate(normalise(sequences, groups)[::2])]):
        rows = np.concatenate(parts)
        np.testing.assert_allclose([rows.mean(0), rows.std(0)], [[0, 0], [1, 1]], atol=1e-4)
    assert all(abs(each.mean(0)).max() < 1e-5 for each in normalise(sequences))
    assert np.isfinite(normalise([np.ones((3, 2))])).all()


def test_buckets_have_the_least_padding():
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 4) * 5:
        lengths = random.integers(1, 120, size=12).tolist()
        sizes = bucket_lengths(lengths, count, excess=0.0)
        multiples = sorted({-(-length // 8) * 8 for length in lengths})
        choices = itertools.chain(*(itertools.combinations(multiples, m) for m in range(1, count + 1)))
        fits = (choice for choice in choices if max(choice) >= max(lengths))
        least = min(sum(bucket(length, choice) for length in lengths) for choice in fits)
        assert len(sizes) <= count and sum(bucket(length, sizes) for length in lengths) == least
        few = bucket_lengths(lengths, count, excess=0.3)
        assert len(few) <= len(sizes) and sum(bucket(length, few) for length in lengths) <= 1.3 * least
    assert bucket_lengths([100] * 50 + [110, 120], 5) == (104, 120)
    assert bucket_lengths(list(range(96, 105)), 5) == (104,)


def test_batches_hold_every_sequence_and_zeros_after_it():
    sequences = draw(*LENGTHS)
    examples = FeatureSequences(sequences, np.arange(6) * 10)
    batches = list(evaluation_batches(examples, 4))
    shapes = {inputs[0].shape for inputs, _ in batches}
    assert shapes == {(4, 32, 2), (4, 64, 2)}
    for (features, lengths), targets in batches:
        mask = frame_mask(lengths, features.shape[1])
        assert not features[~mask].any()
        for row, length, label in zip(features, lengths, targets.values):
            np.testing.assert_allclose(row[:length], sequences[label // 10], rtol=1e-6)
    longer = FeatureSequences(draw(100), np.zeros(1), sizes=(8, 16))
    assert longer.take(np.arange(1))[0][0].shape == (1, 128, 2)


def test_transcripts_that_a_model_with_strides_has_no_frames_for():
    examples = TranscribedSequences(
        draw(8, 8, 6),
        [np.array([1, 2]), np.array([1, 1, 1]), np.array([], int)],
        frames=lambda lengths, _: lengths // 2,
    )
    assert examples.feasible.tolist() == [True, False, True]
    (_, lengths), targets = examples.of([0, 2]).take(np.array([1, 0]))
    values = targets.values
    assert (lengths.tolist(), values.frames.tolist(), values.lengths.tolist()) == ([6, 8], [3, 4], [0, 2])
    assert values.labels[1, :2].tolist() == [1, 2]


def test_stretched_sequences_are_a_function_of_seed_and_epoch():
    x = np.arange(21.0)[:, None]
    np.testing.assert_allclose(stretch(x, 41 / 21).ravel(), np.arange(0, 20.1, 0.5))
    assert stretch(x[:1], 0.2).tolist() == [[0.0]] and stretch(x[:1], 3.0).tolist() == [[0.0]] * 3
    examples = TranscribedSequences(draw(*LENGTHS), [np.array([1])] * 6)
    first, again, other = (StretchedSequences(examples, 0.2, 5).at(epoch) for epoch in (3, 3, 4))
    assert first.lengths.tolist() == again.lengths.tolist() != other.lengths.tolist()
    change = np.abs(first.lengths / examples.lengths - 1)
    assert change.max() > 0.05 and (change <= 0.2 + 1 / examples.lengths).all()
    batches = train_batches(StretchedSequences(examples, 0.2, 5), 2, seed=0)
    assert len({next(batches)[0][0].shape for _ in range(30)}) <= 8


@pytest.mark.parametrize(
    "sequences, message",
    [
        ([np.zeros((3, 2)), np.zeros((3, 4))], r"sequence 1 has the shape \(3, 4\), and the first one \(3, 2\)"),
        ([np.zeros(3), np.zeros(3)], r"sequence 0 has the shape \(3,\)"),
        ([np.zeros((3, 2)), np.zeros((0, 2))], r"sequence 1 .* at least one frame"),
        ([np.zeros((3, 2))], "1 sequences and 2 labels"),
    ],
)
def test_what_is_no_set_of_sequences(sequences, message):
    with pytest.raises(ValueError, match=message):
        TranscribedSequences(sequences, [np.array([1])] * 2)
