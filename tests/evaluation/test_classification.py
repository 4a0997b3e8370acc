import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.evaluation.classification import accuracy_metric, classification_metrics
from pipeline.losses.base import Targets


def test_accuracy_is_weighted_as_the_loss_is():
    outputs = jnp.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    labels = jnp.array([0, 1, 1])
    assert accuracy_metric(outputs, Targets(labels))["accuracy"] == pytest.approx(2 / 3)
    assert accuracy_metric(outputs, Targets(labels, jnp.array([1.0, 0.0, 3.0])))["accuracy"] == pytest.approx(1 / 4)
    assert accuracy_metric(outputs, Targets(labels, jnp.zeros(3)))["accuracy"] == 0


def test_weights_of_examples_reach_all_their_positions():
    outputs = jnp.zeros((2, 3, 4)).at[..., 1].set(1.0)
    labels = jnp.array([[1, 1, 0], [0, 0, 0]])
    assert accuracy_metric(outputs, Targets(labels, jnp.array([1.0, 0.0])))["accuracy"] == pytest.approx(2 / 3)


def test_every_class_counts_alike_in_macro_f1():
    labels, predictions = np.array([0] * 8 + [1, 1]), np.array([0] * 8 + [0, 1])
    metrics = classification_metrics(labels, predictions)
    assert metrics["accuracy"] == pytest.approx(0.9)
    assert metrics["macro_f1"] == pytest.approx((16 / 17 + 2 / 3) / 2)


def test_a_class_that_is_never_predicted_has_f1_0():
    assert classification_metrics(np.array([0, 1]), np.array([0, 0]))["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
