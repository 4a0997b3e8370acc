"""How good a classifier's labels are."""

import numpy as np


def classification_metrics(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """accuracy, and macro_f1: the unweighted mean of the classes' F1.

    labels, predictions: positions of classes, (examples,).
    """
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),  # pyright: ignore[reportArgumentType]
    }
