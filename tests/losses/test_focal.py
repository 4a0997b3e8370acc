"""What the focal loss promises besides its gradient, which the property table proves."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.layers.base import Context
from pipeline.losses.base import Targets
from pipeline.losses.cross_entropy import SoftmaxCrossEntropy
from pipeline.losses.focal import Focal

LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
LABELS = jnp.asarray(np.array([0, 1, 2, 2, 1, 0], np.int32))


def by_hand(loss, logits, targets=None):
    """The value and its hand-written gradient."""
    y, residuals = loss.forward({}, (logits, targets or Targets(LABELS)), Context())
    return y, loss.backward({}, residuals, jnp.ones((), y.dtype))[1][0]


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gamma_0_is_softmax_cross_entropy(scale):
    for one, other in zip(by_hand(Focal(0.0), scale * LOGITS), by_hand(SoftmaxCrossEntropy(), scale * LOGITS)):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


def test_formula_with_factors_and_weights():
    p = np.asarray(jnp.exp(LOGITS) / jnp.exp(LOGITS).sum(-1, keepdims=True))[np.arange(6), LABELS]
    weights, alpha = np.array([1, 2, 0, 0.5, 1, 1]), np.array([0.2, 1.5, 0.7])
    expected = (weights * -alpha[LABELS] * (1 - p) ** 1.5 * np.log(p)).sum() / weights.sum()
    found, _ = by_hand(Focal(1.5, tuple(alpha.tolist())), LOGITS, Targets(LABELS, jnp.asarray(weights)))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_what_is_surely_right_or_wrong_stays_finite(gamma):
    y, d_z = by_hand(Focal(gamma), jnp.asarray([[1e4, 0.0], [0.0, 1e4]]), Targets(jnp.zeros(2, jnp.int32)))
    np.testing.assert_array_equal(y, 5e3)
    np.testing.assert_array_equal(d_z, [[0, 0], [-0.5, 0.5]])


def test_bad_numbers():
    for number in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"gamma is {number}; it must be finite and not negative"):
            Focal(number)
        with pytest.raises(ValueError, match=r"every factor must be finite and not negative"):
            Focal(alpha=(1.0, number))
    with pytest.raises(ValueError, match=r"2 factors for 3 classes"):
        jax.eval_shape(lambda: by_hand(Focal(alpha=(1.0, 2.0)), LOGITS))
