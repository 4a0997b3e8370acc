"""CTC against the enumeration of all alignments, against optax's, and where it has nothing to sum."""

import itertools
import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pipeline.layers.base import Context
from pipeline.losses import scaled_float
from pipeline.losses.base import Targets
from pipeline.losses.ctc import CTC, Transcripts

Batch = tuple[Any, Targets]


def batch(labels: list[list[int]], frames: list[int], symbols: int, weights: Any = None, seed: int = 0) -> Batch:
    """Random logits; labels are padded with the last symbol."""
    size, random = max(map(len, labels)), np.random.default_rng(seed)
    rows = [row + [symbols - 1] * (size - len(row)) for row in labels]
    transcripts = Transcripts(
        jnp.asarray(np.array(rows, np.int32).reshape(len(labels), size)),
        jnp.asarray([len(row) for row in labels], jnp.int32),
        jnp.asarray(frames, jnp.int32),
    )
    weights = None if weights is None else jnp.asarray(weights)
    return jnp.asarray(random.normal(size=(len(labels), max(frames), symbols))), Targets(transcripts, weights)


@cache
def rules(loss: CTC) -> tuple[Any, Any]:
    """Value and gradient by hand and by autodiff, compiled once for each loss and shape."""

    def manual(z: Any, targets: Targets) -> tuple[Any, Any]:
        y, residuals = loss.forward({}, (z, targets), Context())
        return y, loss.backward({}, residuals, jnp.ones_like(y))[1][0]

    return jax.jit(manual), jax.jit(jax.value_and_grad(lambda z, targets: loss.apply({}, (z, targets), Context())))


def by_hand(loss: CTC, x: Batch) -> tuple[float, np.ndarray]:
    return of_numpy(rules(loss)[0](*x))


def by_autodiff(loss: CTC, x: Batch) -> tuple[float, np.ndarray]:
    return of_numpy(rules(loss)[1](*x))


def of_numpy(result: tuple[Any, Any]) -> tuple[float, np.ndarray]:
    return float(result[0]), np.asarray(result[1])


def probability(log_y: np.ndarray, labels: tuple[int, ...], blank: int) -> float:
    """The sum over all alignments of these frames."""
    total = 0.0
    for path in itertools.product(range(log_y.shape[1]), repeat=len(log_y)):
        if tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank) == labels:
            total += math.exp(sum(log_y[t, symbol] for t, symbol in enumerate(path)))
    return total


@pytest.mark.parametrize("blank", [0, 2])
def test_the_sum_over_all_alignments(blank):
    a, b = (symbol for symbol in range(3) if symbol != blank)
    labels = [[], [a], [b, a], [a, a], [b, b, b], [a, b, a], [b, a, a], [a], []]
    frames = [5, 5, 4, 3, 5, 3, 5, 1, 0]
    x = batch(labels, frames, 3)
    log_y = np.asarray(jax.nn.log_softmax(x[0]))
    expected = [
        -math.log(probability(rows[:count], tuple(row), blank)) for rows, count, row in zip(log_y, frames, labels)
    ]
    each = jax.jit(jax.vmap(lambda weights: CTC(blank).apply({}, (x[0], Targets(x[1].values, weights)), Context())))
    np.testing.assert_allclose(each(jnp.eye(len(labels))), expected, rtol=1e-12, atol=1e-12)
    assert by_hand(CTC(blank), x)[0] == pytest.approx(np.mean(expected), rel=1e-12)


def test_equal_to_optax():
    random = np.random.default_rng(1)
    lengths, frames = [10, 0, 7, 9, 4], [40, 25, 31, 40, 39]
    x = batch([random.integers(1, 5, length).tolist() for length in lengths], frames, 6)
    labels = x[1].values.labels
    paddings = [
        jnp.asarray(np.arange(size)[None] >= np.array(lengths)[:, None], jnp.float64)
        for size, lengths in ((40, frames), (labels.shape[1], lengths))
    ]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = lambda z: optax.ctc_loss(z, paddings[0], labels, paddings[1]).mean()  # noqa: E731
        expected, d_expected = of_numpy(jax.jit(jax.value_and_grad(theirs))(x[0]))
    value, d_z = by_hand(CTC(), x)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(d_z, d_expected, atol=1e-11)


def test_what_has_no_alignment():
    labels, frames = [[1, 1], [1, 2], [1, 2, 3]], [2, 2, 2]
    x = batch(labels, frames, 4)
    assert by_hand(CTC(), x)[0] == np.inf
    value, d_z = by_hand(CTC(infeasible="zero"), x)
    expected, d_expected = by_hand(CTC(), batch(labels, frames, 4, [0.0, 1.0, 0.0]))
    assert value == pytest.approx(expected / 3, rel=1e-12)
    np.testing.assert_allclose(d_z, d_expected / 3, atol=1e-15)
    assert np.abs(d_z[1]).max() > 0.01
    assert not d_z[[0, 2]].any()


def test_padding_may_hold_anything_and_what_counts_may_not():
    z, (transcripts, weights) = batch([[1], [2, 1], [3]], [4, 6, 5], 4, [1.0, 2.0, 0.0])
    expected, d_expected = by_hand(CTC(), (z, Targets(transcripts, weights)))
    padding = (np.arange(6) >= np.array([4, 6, 0])[:, None])[..., None]
    rubbish = Transcripts(transcripts.labels.at[0, 1].set(99), transcripts.lengths.at[2].set(50), transcripts.frames)
    filled = jnp.where(padding, jnp.nan, z), Targets(rubbish, weights)
    value, d_z = by_hand(CTC(), filled)
    assert value == expected
    np.testing.assert_array_equal(d_z, d_expected)
    assert by_autodiff(CTC(), filled)[0] == pytest.approx(expected, rel=1e-12)
    # A model that has diverged must not look as if its transcripts were too long.
    diverged = z.at[1, 2, 3].set(jnp.nan), Targets(transcripts, weights)
    assert np.isnan(by_hand(CTC(infeasible="zero"), diverged)[0])
    assert np.isnan(by_autodiff(CTC(), diverged)[0])


def test_float32_over_800_frames():
    random = np.random.default_rng(2)
    z, targets = batch([random.integers(1, 8, 100).tolist() for _ in range(2)], [800, 700], 8)
    expected, d_expected = by_hand(CTC(), (2 * z, targets))
    x = (2 * z).astype(jnp.float32), targets
    with jax.enable_x64(False):
        value, d_z = by_hand(CTC(), x)
        _, derived = by_autodiff(CTC(), x)
    assert value == pytest.approx(expected, rel=1e-6)
    error, own = (np.abs(d - d_expected).max() / np.abs(d_expected).max() for d in (d_z, derived))
    assert error <= 5e-6
    assert own > 10 * error, "logarithms lose digits"


def test_mistakes():
    with pytest.raises(ValueError, match=r"CTC.infeasible is 'inf'; it must be 'infinite' or 'zero'"):
        CTC(infeasible="inf")
    z, (transcripts, _) = batch([[1], [2]], [3, 3], 4)
    with pytest.raises(ValueError, match=r"logits of shape \(1, 3, 4\) for labels of shape \(2, 1\)"):
        CTC().forward({}, (z[:1], Targets(transcripts)), Context())


def test_scaled_floats():
    one = scaled_float.ones(jnp.asarray([True, False]), jnp.float32)
    np.testing.assert_array_equal(scaled_float.log(one), [0.0, -np.inf])
    tiny = scaled_float.power_of_two(jnp.asarray([-1e5, -np.inf], jnp.float32))
    np.testing.assert_allclose(scaled_float.log(tiny), [-1e5 * np.log(2), -np.inf], rtol=1e-6)
    both = scaled_float.add(scaled_float.multiply(tiny, tiny), scaled_float.multiply(tiny, tiny))
    np.testing.assert_allclose(scaled_float.log(both), [(1 - 2e5) * np.log(2), -np.inf], rtol=1e-6)
    np.testing.assert_array_equal(scaled_float.log(scaled_float.add(one, tiny)), [0.0, -np.inf])
    assert scaled_float.ratio(both, one, scaled_float.multiply(tiny, tiny))[0] == 2
