"""Metrics of classifiers: on the device, batch by batch, and of a whole test set."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..extras import extra
from ..losses.base import Targets


def accuracy_metric(outputs: Float[Array, "*rows classes"], targets: Targets) -> dict[str, Array]:
    """Accuracy: the share of rows whose largest output is the label's, weighted as the loss is.

    A function of the kind ``evaluation.metrics.Metrics``.
    """
    right = (outputs.argmax(-1) == targets.values).astype(jnp.float32)
    if targets.weights is None:
        return {"accuracy": right.mean()}
    weights = targets.weights.astype(jnp.float32)
    weights = jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (right.ndim - weights.ndim)), right.shape)
    total = weights.sum()
    return {"accuracy": (weights * right).sum() / jnp.where(total == 0, 1.0, total)}


def classification_metrics(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """accuracy, and macro_f1: the unweighted mean of the classes' F1 scores.

    labels, predictions: positions of classes, (examples,).

    >>> classification_metrics(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    {'accuracy': 0.75, 'macro_f1': 0.7333333333333334}
    """
    with extra("train"):
        from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),  # pyright: ignore[reportArgumentType]
    }
