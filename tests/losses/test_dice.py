"""What the Dice loss promises besides its gradient, which the property table proves."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.layers.base import Context
from pipeline.losses.base import Targets
from pipeline.losses.dice import Dice

RANDOM = np.random.default_rng(0)
LOGITS, MASKS = RANDOM.normal(size=(3, 5, 4, 2)), RANDOM.integers(2, size=(3, 5, 4, 2)).astype(np.float64)


def value(loss, logits, masks, weights=None):
    targets = Targets(jnp.asarray(masks), None if weights is None else jnp.asarray(weights))
    return loss.apply({}, (jnp.asarray(logits), targets), Context())


def coefficient(logits, masks, smoothing):
    p = 1 / (1 + np.exp(-logits))
    return (2 * (p * masks).sum() + smoothing) / ((p**2).sum() + (masks**2).sum() + smoothing)


def test_formula():
    each = [[coefficient(LOGITS[b, ..., k], MASKS[b, ..., k], 0.5) for k in range(2)] for b in range(3)]
    np.testing.assert_allclose(value(Dice(smoothing=0.5), LOGITS, MASKS), 1 - np.mean(each), rtol=1e-13)
    joint = [coefficient(LOGITS[..., k], MASKS[..., k], 0.5) for k in range(2)]
    np.testing.assert_allclose(value(Dice("batch", 0.5), LOGITS, MASKS), 1 - np.mean(joint), rtol=1e-13)
    weights = np.array([1.0, 0.0, 3.0])
    np.testing.assert_allclose(
        value(Dice(smoothing=0.5), LOGITS, MASKS, weights), 1 - weights @ np.mean(each, 1) / 4, rtol=1e-13
    )


@pytest.mark.parametrize("over", ["example", "batch"])
def test_positions_of_weight_0_are_not_there(over):
    weights = np.ones((3, 5, 4))
    weights[:, 3:] = 0
    found = value(Dice(over), np.where(weights[..., None] == 0, np.nan, LOGITS), MASKS, weights)
    np.testing.assert_allclose(found, value(Dice(over), LOGITS[:, :3], MASKS[:, :3]), rtol=1e-13)


def test_an_empty_mask_that_is_predicted_empty():
    np.testing.assert_allclose(value(Dice(), np.full((1, 9, 1), -50.0), np.zeros((1, 9, 1))), 0.0, atol=1e-15)


def test_bad_numbers_and_shapes():
    with pytest.raises(ValueError, match=r"over is 'pixel'"):
        Dice("pixel")
    for number in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"smoothing is {number}; it must be finite and positive"):
            Dice(smoothing=number)
    with pytest.raises(ValueError, match=r"logits of shape \(3, 5, 4, 2\) for masks of shape \(3, 5, 4\)"):
        value(Dice(), LOGITS, MASKS[..., 0])
