"""Calibration: turns a model's logits into probabilities that match how often the model is right.

Labels are positions of classes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..extras import extra


class Bins(NamedTuple):
    """Predictions grouped by their confidence, one entry for each bin that is not empty.

    confidence: mean probability of the predicted class; accuracy: share of correct predictions; counts: number of
    predictions.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> Bins:
    """A reliability diagram's bins: ``bins`` intervals of equal width from 0 to 1 (DeGroot & Fienberg 1983).

    labels: (examples,); probabilities: (examples, classes), of which the largest is an example's prediction.
    """
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts, confidences, hits = (np.bincount(place, weight, bins) for weight in (None, confidence, correct))
    some = counts > 0
    return Bins(confidences[some] / counts[some], hits[some] / counts[some], counts[some])


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """The mean distance between confidence and accuracy over predictions (Naeini, Cooper & Hauskrecht 2015).

    >>> probabilities = np.array([[0.1, 0.9], [0.1, 0.9]])
    >>> round(expected_calibration_error(np.array([1, 0]), probabilities), 6)  # 90 % sure, and half of them correct
    0.4
    """
    confidence, accuracy, counts = reliability(labels, probabilities, bins)
    return float((counts * np.abs(confidence - accuracy)).sum() / counts.sum())


@dataclass(frozen=True)
class Calibration:
    """A map from logits to probabilities: softmax(z / temperature + offset) (Platt 1999; Guo et al. 2017).

    offset: one number for each class, or none. Without offsets the predicted class stays the same.
    """

    temperature: float = 1.0
    offset: tuple[float, ...] = ()

    def logits(self, z: Any) -> Any:
        """Calibrated logits, z / temperature + offset, of NumPy's or JAX's arrays (examples, classes)."""
        z = z / self.temperature
        return z + np.asarray(self.offset, np.float32) if self.offset else z

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Calibrated probabilities for logits z: float64, (examples, classes)."""
        with extra("train"):
            from scipy.special import log_softmax

        return np.exp(log_softmax(self.logits(z.astype(np.float64)), axis=-1))

    def undone(self, probabilities: np.ndarray) -> np.ndarray:
        """The uncalibrated probabilities, softmax(z), from the calibrated ones: the inverse of a call."""
        with extra("train"):
            from scipy.special import log_softmax

        log_p = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
        return np.exp(log_softmax((log_p - np.asarray(self.offset or 0.0)) * self.temperature, axis=-1))


def fit_calibration(z: np.ndarray, labels: np.ndarray, with_offset: bool = False) -> Calibration:
    """The calibration that maximises the posterior probability of held-out labels, given the model's logits.

    z: (examples, classes); labels: (examples,). The prior of the temperature's logarithm is normal with mean 0 and
    deviation 0.5, that of each offset normal with mean 0 and deviation 3. Without a prior, a model that makes no
    mistake on a few examples would be taken for one that never makes any.
    """
    with extra("train"):
        from scipy.optimize import minimize
        from scipy.special import log_softmax

    z = z.astype(np.float64)  # in float32 the optimiser's small steps would change nothing
    examples, classes = z.shape

    def calibration(values: np.ndarray) -> Calibration:
        offset = (0.0, *values[1:].tolist()) if with_offset else ()
        return Calibration(float(np.exp(values[0])), offset)

    def loss(values: np.ndarray) -> float:
        candidate = calibration(values)
        log_p = log_softmax(z / candidate.temperature + np.asarray(candidate.offset or 0.0), axis=-1)
        negative_log_prior = np.square(values[0] / 0.5).sum() / 2 + np.square(values[1:] / 3).sum() / 2
        return float(negative_log_prior - log_p[np.arange(examples), labels].sum()) / examples

    return calibration(minimize(loss, np.zeros(classes if with_offset else 1), method="BFGS").x)
