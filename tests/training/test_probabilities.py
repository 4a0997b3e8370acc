"""What probabilities are worth: against known cases, and against scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from pipeline.evaluation.calibration import (
    diagnostic_metrics,
    disease_probability,
    expected_calibration_error,
    fit_calibration,
    intervals,
    predict_labels,
    reliability,
    threshold_for,
)

RANDOM = np.random.default_rng(0)


def drawn(count: int, temperature: float = 1.0, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from softmax(logits / temperature + offset of class 1)."""
    z = 3 * RANDOM.normal(size=(count, 2))
    p = softmax(z / temperature + np.array([0, offset]), -1)
    return z, (RANDOM.uniform(size=count) < p[:, 1]).astype(np.int32)


def test_bins_and_calibration_error():
    p = np.array([[0.05, 0.95], [0.05, 0.95], [0.35, 0.65], [0.65, 0.35]])
    labels = np.array([1, 0, 1, 0])
    confidence, accuracy, counts = reliability(labels, p)
    np.testing.assert_allclose(said, [0.65, 0.95])
    np.testing.assert_allclose(were, [1, 0.5])
    np.testing.assert_array_equal(counts, [2, 2])
    assert expected_calibration_error(labels, p) == pytest.approx((0.35 + 0.45) / 2)
    assert expected_calibration_error(np.array([1]), np.array([[0.0, 1.0]])) == 0


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_is_found_and_mends_the_error(temperature):
    z, labels = drawn(4000, temperature)
    found = fit_calibration(z.astype(np.float32), labels)
    assert found.offset == () and found.temperature == pytest.approx(temperature, rel=0.1)
    before, after = (expected_calibration_error(labels, p) for p in (softmax(z, -1), found(z)))
    assert after < 0.03 < before
    np.testing.assert_allclose(found.undone(found(z)), softmax(z, -1), atol=1e-9)
    np.testing.assert_array_equal(found(z).argmax(-1), z.argmax(-1))


def test_offset_is_found():
    z, labels = drawn(4000, 2.0, -1.5)
    found = fit_calibration(z, labels, with_offset=True)
    assert found.temperature == pytest.approx(2, rel=0.15)
    np.testing.assert_allclose(found.offset, [0, -1.5], atol=0.25)
    np.testing.assert_allclose(found.undone(found(z)), softmax(z, -1), atol=1e-9)


def test_a_model_without_mistakes_on_few_examples_is_not_taken_for_certain():
    z = np.array([[9.0, 0.0], [8.0, 0.0], [0.0, 9.0], [0.0, 7.0]])
    assert 0.5 < fit_calibration(z / 3, np.array([0, 0, 1, 1])).temperature < 1


def test_operating_points():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    score = np.array([0.1, 0.2, 0.3, 0.7, 0.4, 0.6, 0.8, 0.9])
    assert threshold_for(labels, score, "likeliest") == 0.5
    assert threshold_for(labels, score, "specificity", 0.7) == pytest.approx(0.35)
    assert threshold_for(labels, score, "specificity", 0.8) == pytest.approx(0.75)
    assert threshold_for(labels, score, "balanced") == pytest.approx(0.35)


def test_a_finding_is_called_by_the_threshold_and_named_by_what_is_likeliest():
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3], [0.2, 0.5, 0.3]])
    np.testing.assert_allclose(disease_probability(p), [0.4, 0.4, 0.8])
    np.testing.assert_array_equal(predict_labels(p, 0.5), [0, 0, 1])
    np.testing.assert_array_equal(predict_labels(p, 0.3), [1, 2, 1])


def test_metrics_are_those_of_scikit_learn():
    z, labels = drawn(200)
    p = softmax(z, -1)
    found = diagnostic_metrics(labels, p, 0.3)
    called = (p[:, 1] >= 0.3).astype(int)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, p[:, 1]))
    assert found["sensitivity"] == pytest.approx(recall_score(labels, called))
    assert found["specificity"] == pytest.approx(recall_score(labels, called, pos_label=0))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, called, average="macro"))
    tied = diagnostic_metrics(labels, np.round(p, 1), 0.3)
    assert tied["auc"] == pytest.approx(roc_auc_score(labels, np.round(p, 1)[:, 1]))
    assert found["accuracy"] == pytest.approx((called == labels).mean())


def test_intervals_are_stratified_and_cover_what_the_binomial_law_says():
    labels = np.repeat([0, 1], [100, 300])
    right = np.concatenate([np.arange(100) < 90, np.arange(300) < 240])

    def metric(rows):
        assert (labels[rows] == 0).sum() == 100 and len(rows) == 400
        return {"recall of 0": right[rows][labels[rows] == 0].mean(), "prevalence": labels[rows].mean()}

    found = intervals(metric, labels, resamples=2000)
    assert found["prevalence"] == (0.75, 0.75)
    np.testing.assert_allclose(found["recall of 0"], 0.9 + 1.96 * 0.03 * np.array([-1, 1]), atol=0.012)
    assert found == intervals(metric, labels, resamples=2000)
    assert found != intervals(metric, labels, resamples=2000, seed=1)
