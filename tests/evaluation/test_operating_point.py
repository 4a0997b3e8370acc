"""Thresholds, predicted labels and diagnostic metrics: against known cases, and against scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from pipeline.evaluation.operating_point import diagnostic_metrics, disease_probability, predict_labels, threshold_for

RANDOM = np.random.default_rng(0)


def test_operating_points():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    score = np.array([0.1, 0.2, 0.3, 0.7, 0.4, 0.6, 0.8, 0.9])
    assert threshold_for(labels, score, "likeliest") == 0.5
    assert threshold_for(labels, score, "specificity", 0.7) == pytest.approx(0.35)
    assert threshold_for(labels, score, "specificity", 0.8) == pytest.approx(0.75)
    assert threshold_for(labels, score, "balanced") == pytest.approx(0.35)


def test_the_threshold_decides_on_disease_and_the_likeliest_class_names_it():
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3], [0.2, 0.5, 0.3]])
    np.testing.assert_allclose(disease_probability(p), [0.4, 0.4, 0.8])
    np.testing.assert_array_equal(predict_labels(p, 0.5), [0, 0, 1])
    np.testing.assert_array_equal(predict_labels(p, 0.3), [1, 2, 1])


def test_metrics_are_those_of_scikit_learn():
    p = softmax(3 * RANDOM.normal(size=(200, 2)), -1)
    labels = (RANDOM.uniform(size=200) < p[:, 1]).astype(np.int32)
    metrics = diagnostic_metrics(labels, p, 0.3)
    predicted = (p[:, 1] >= 0.3).astype(int)
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, p[:, 1]))
    assert metrics["sensitivity"] == pytest.approx(recall_score(labels, predicted))
    assert metrics["specificity"] == pytest.approx(recall_score(labels, predicted, pos_label=0))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    tied = diagnostic_metrics(labels, np.round(p, 1), 0.3)
    assert tied["auc"] == pytest.approx(roc_auc_score(labels, np.round(p, 1)[:, 1]))
    assert metrics["accuracy"] == pytest.approx((predicted == labels).mean())
