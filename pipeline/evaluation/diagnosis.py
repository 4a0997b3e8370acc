"""Diagnoses by one model or an ensemble: calibrated probabilities, their spread, and metrics with intervals.

An ensemble predicts the mean of its models' probabilities (Lakshminarayanan, Pritzel & Blundell 2017).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from ..data.diagnosis import Unlabelled
from ..layers.base import Layer, PyTree
from .bootstrap import intervals
from .cross_validation import means
from .evaluate import all_outputs
from .operating_point import OperatingPoint, diagnostic_metrics, disease_probability, predict_labels
from .uncertainty import make_dropout_samples


@dataclass(frozen=True, eq=False)
class Diagnostician:
    """A trained model with its operating point.

    scorer, params: a layer and its parameters, whose outputs are logits (examples, classes); seed: of dropout samples.
    """

    scorer: Layer
    params: PyTree
    point: OperatingPoint
    seed: int = 0

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (examples, classes), of scaled inputs (examples, ...)."""
        outputs = all_outputs(self.scorer, self.params, Unlabelled(inputs), len(inputs))
        return self.point.calibration(outputs)

    def spread(self, inputs: np.ndarray, samples: int) -> np.ndarray | None:
        """The standard deviation of the probability of disease over dropout samples, (examples,).

        None for a model without dropout.
        """
        sample = make_dropout_samples(self.scorer, samples)
        if sample is None:
            return None
        logits = np.asarray(sample(self.params, inputs, jax.random.key(self.seed)))
        return np.std([disease_probability(self.point.calibration(each)) for each in logits], axis=0)


class Diagnosis(NamedTuple):
    """Diagnoses of several examples.

    probabilities: (examples, classes); labels: (examples,); spread: the standard deviation of the probability of
    disease, (examples,), or None.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    spread: np.ndarray | None


def diagnose(members: Sequence[Diagnostician], inputs: np.ndarray, samples: int) -> Diagnosis:
    """The diagnoses of one model or an ensemble.

    The spread is the deviation among the members, or among ``samples`` dropout samples of a single member.
    """
    answers = [member.probabilities(inputs) for member in members]
    probabilities = np.mean(answers, axis=0)
    if len(members) > 1:
        spread = np.std([disease_probability(each) for each in answers], axis=0)
    else:
        spread = members[0].spread(inputs, samples)
    threshold = float(np.mean([member.point.threshold for member in members]))
    return Diagnosis(probabilities, predict_labels(probabilities, threshold), spread)


def metrics_with_intervals(
    labels: np.ndarray, probabilities: np.ndarray, point: OperatingPoint, resamples: int
) -> dict[str, float]:
    """Metrics of calibrated probabilities at the operating point's threshold, with 95 % bootstrap intervals.

    Names ending in ``_low`` and ``_high`` are the ends of an interval.
    """
    before = diagnostic_metrics(labels, point.calibration.undone(probabilities), point.threshold)["ece"]

    def metrics(rows: np.ndarray) -> Mapping[str, float]:
        return diagnostic_metrics(labels[rows], probabilities[rows], point.threshold)

    return {
        **metrics(np.arange(len(labels))),
        "ece_before_calibration": before,
        "threshold": point.threshold,
        **_interval_metrics(intervals(metrics, labels, resamples=resamples)),
    }


def combined_metrics(
    tests: Sequence[Mapping[str, float]],
    labels: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    points: Sequence[OperatingPoint],
    resamples: int,
    *,
    are_seeds: bool,
) -> dict[str, float]:
    """The metrics of several models: means and deviations, with intervals; for seeds also those of their ensemble.

    tests: each model's metrics (see ``metrics_with_intervals``). labels, answers: of each model's test examples,
    (examples,), and its probabilities for them, (examples, classes); points: the models' operating points.
    """
    single = [{name: value for name, value in test.items() if not is_interval(name)} for test in tests]
    if are_seeds:
        together = metrics_of_seeds(labels[0], answers, points, resamples)
    else:
        together = intervals_of_folds(labels, answers, points, resamples)
    return means(single, ("accuracy", "auc")) | together


def metrics_of_seeds(
    labels: np.ndarray, answers: Sequence[np.ndarray], points: Sequence[OperatingPoint], resamples: int
) -> dict[str, float]:
    """The ensemble's metrics of models trained with different seeds, and intervals of these and of the models' means.

    answers: each model's probabilities for the same examples; points: their operating points.
    """
    mean, thresholds = np.mean(answers, axis=0), [point.threshold for point in points]

    def metrics(rows: np.ndarray) -> Mapping[str, float]:
        single = [
            diagnostic_metrics(labels[rows], probabilities[rows], threshold)
            for probabilities, threshold in zip(answers, thresholds)
        ]
        together = diagnostic_metrics(labels[rows], mean[rows], float(np.mean(thresholds)))
        return means(single, ()) | {f"ensemble_{name}": value for name, value in together.items()}

    whole = metrics(np.arange(len(labels)))
    ensemble = {name: value for name, value in whole.items() if name.startswith("ensemble_")}
    return ensemble | _interval_metrics(intervals(metrics, labels, resamples=resamples))


def intervals_of_folds(
    labels: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    points: Sequence[OperatingPoint],
    resamples: int,
) -> dict[str, float]:
    """Intervals of the metrics' means over the folds of a cross-validation.

    labels, answers: labels and probabilities of each fold's test examples; points: the folds' operating points.
    """
    ends = np.cumsum([len(fold) for fold in labels])

    def metrics(rows: np.ndarray) -> Mapping[str, float]:
        rows_of = [rows[(rows >= end - len(fold)) & (rows < end)] - end + len(fold) for fold, end in zip(labels, ends)]
        folds = zip(labels, rows_of, answers, points)
        return means([diagnostic_metrics(fold[row], p[row], point.threshold) for fold, row, p, point in folds], ())

    classes = answers[0].shape[1]
    strata = np.concatenate([fold + i * classes for i, fold in enumerate(labels)])
    return _interval_metrics(intervals(metrics, strata, resamples=resamples))


def _interval_metrics(ends: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Intervals as metrics: auc_low, auc_high, ..."""
    return {
        f"{name}_{end}": value
        for name, pair in ends.items()
        if not name.endswith("ece")  # see ``intervals``
        for end, value in zip(("low", "high"), pair)
    }


def is_interval(name: str) -> bool:
    """Whether a metric is an end of another metric's interval."""
    return name.endswith(("_low", "_high"))
