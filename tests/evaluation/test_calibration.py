"""Calibrated probabilities: against known cases, and against labels drawn from known probabilities."""

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.evaluation.calibration import expected_calibration_error, fit_calibration, reliability

RANDOM = np.random.default_rng(0)


def draw(count: int, temperature: float = 1.0, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from softmax(logits / temperature + offset of class 1)."""
    z = 3 * RANDOM.normal(size=(count, 2))
    p = softmax(z / temperature + np.array([0, offset]), -1)
    return z, (RANDOM.uniform(size=count) < p[:, 1]).astype(np.int32)


def test_bins_and_calibration_error():
    p = np.array([[0.05, 0.95], [0.05, 0.95], [0.35, 0.65], [0.65, 0.35]])
    labels = np.array([1, 0, 1, 0])
    confidence, accuracy, counts = reliability(labels, p)
    np.testing.assert_allclose(confidence, [0.65, 0.95])
    np.testing.assert_allclose(accuracy, [1, 0.5])
    np.testing.assert_array_equal(counts, [2, 2])
    assert expected_calibration_error(labels, p) == pytest.approx((0.35 + 0.45) / 2)
    assert expected_calibration_error(np.array([1]), np.array([[0.0, 1.0]])) == 0


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_is_found_and_mends_the_error(temperature):
    z, labels = draw(4000, temperature)
    calibration = fit_calibration(z.astype(np.float32), labels)
    assert calibration.offset == () and calibration.temperature == pytest.approx(temperature, rel=0.1)
    before, after = (expected_calibration_error(labels, p) for p in (softmax(z, -1), calibration(z)))
    assert after < 0.03 < before
    np.testing.assert_allclose(calibration.undone(calibration(z)), softmax(z, -1), atol=1e-9)
    np.testing.assert_array_equal(calibration(z).argmax(-1), z.argmax(-1))


def test_offset_is_found():
    z, labels = draw(4000, 2.0, -1.5)
    calibration = fit_calibration(z, labels, with_offset=True)
    assert calibration.temperature == pytest.approx(2, rel=0.15)
    np.testing.assert_allclose(calibration.offset, [0, -1.5], atol=0.25)
    np.testing.assert_allclose(calibration.undone(calibration(z)), softmax(z, -1), atol=1e-9)


def test_a_model_without_mistakes_on_few_examples_is_not_taken_for_certain():
    z = np.array([[9.0, 0.0], [8.0, 0.0], [0.0, 9.0], [0.0, 7.0]])
    assert 0.5 < fit_calibration(z / 3, np.array([0, 0, 1, 1])).temperature < 1
