"""The operating point of a diagnosis: calibration and threshold, chosen on validation examples, and their metrics.

Labels are positions of classes. Class 0 is normal; every other class is abnormal.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from .. import storage
from ..extras import extra
from .calibration import Calibration, expected_calibration_error, fit_calibration

Decision = Literal["likeliest", "balanced", "specificity"]
"""Rules that choose a threshold: see ``threshold_for``."""


def disease_probability(probabilities: np.ndarray) -> np.ndarray:
    """The probability of disease, that is of any class but 0: (examples,), from probabilities (examples, classes)."""
    return 1 - probabilities[:, 0] if probabilities.shape[1] > 2 else probabilities[:, 1]


def threshold_for(labels: np.ndarray, score: np.ndarray, decision: Decision, specificity: float = 0.95) -> float:
    """The threshold from which on an example is predicted to be abnormal, chosen on held-out examples.

    labels: (examples,); score: their probabilities of disease, (examples,).
    decision: "likeliest": 0.5. "balanced": the threshold with the largest sum of sensitivity and specificity (Youden
        1950). "specificity": the threshold with the highest sensitivity at a specificity of at least ``specificity``.
    """
    with extra("train"):
        from sklearn.metrics import roc_curve

    if decision == "likeliest":
        return 0.5
    false_positive_rate, true_positive_rate, thresholds = roc_curve(labels > 0, score, drop_intermediate=False)
    best = (
        np.where(1 - false_positive_rate >= specificity, true_positive_rate, -1.0)
        if decision == "specificity"
        else true_positive_rate - false_positive_rate
    )
    place = int(best.argmax())
    # Between two held-out scores any threshold is as good: the middle is the farthest from both.
    below = score[score < thresholds[place]]
    return float((min(thresholds[place], 1.0) + below.max(initial=0.0)) / 2)


class OperatingPoint(NamedTuple):
    """What a run chose on its validation examples; stored as ``calibration.json``.

    calibration: of the model's logits; thresholds: one for each rule of ``Decision``; threshold: the one in use.
    """

    calibration: Calibration
    thresholds: Mapping[str, float]
    threshold: float

    def write(self, folder: Path) -> None:
        """Writes ``calibration.json`` into a folder."""
        content = {**self._asdict(), "calibration": asdict(self.calibration)}
        storage.write_json(folder / "calibration.json", content)

    @classmethod
    def read(cls, run_directory: Path) -> "OperatingPoint":
        """The operating point of a run. Raises UserError where the run has none, or it cannot be read."""

        def parse(stored: Any) -> OperatingPoint:
            temperature, offset = stored["calibration"]["temperature"], stored["calibration"]["offset"]
            calibration = Calibration(float(temperature), tuple(map(float, offset)))
            thresholds = {str(rule): float(threshold) for rule, threshold in stored["thresholds"].items()}
            return cls(calibration, thresholds, float(stored["threshold"]))

        return storage.read_json(
            run_directory / "calibration.json", parse, f"finish the run with --resume {run_directory}"
        )


def predict_labels(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Predicted classes: 0 where the probability of disease is below ``threshold``, else the likeliest abnormal class.

    >>> predict_labels(np.array([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3]]), threshold=0.4)
    array([1, 2])
    """
    return np.where(disease_probability(probabilities) >= threshold, 1 + probabilities[:, 1:].argmax(-1), 0)


def diagnostic_metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """Metrics of a diagnosis at a threshold: accuracy, macro_f1, auc, sensitivity, specificity and ece.

    labels: (examples,); probabilities: (examples, classes). accuracy and macro_f1 are of the predicted classes; auc,
    sensitivity and specificity are of abnormal against normal. auc and ece (see ``expected_calibration_error``) do not
    depend on the threshold.
    """
    predicted, abnormal, classes = predict_labels(probabilities, threshold), labels > 0, probabilities.shape[1]
    of_class = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float((2 * right / np.maximum(of_class, 1))[of_class > 0].mean()),
        "auc": roc_auc(abnormal, disease_probability(probabilities)),
        "sensitivity": float((predicted[abnormal] > 0).mean()),
        "specificity": float((predicted[~abnormal] == 0).mean()),
        "ece": expected_calibration_error(labels, probabilities),
    }


def roc_auc(abnormal: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: how often an abnormal example's score is above a normal one's; a tie counts half.

    abnormal: bool, (examples,); score: (examples,). Computed from the rank sum of Mann & Whitney (1947), which is ten
    times as fast as integrating the curve: a bootstrap needs thousands.

    >>> roc_auc(np.array([False, True, False, True]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    with extra("train"):
        from scipy.stats import rankdata

    positive = int(abnormal.sum())
    negative = len(abnormal) - positive
    return float((rankdata(score)[abnormal].sum() - positive * (positive + 1) / 2) / (positive * negative))


def choose_operating_point(
    logits: np.ndarray, labels: np.ndarray, decision: Decision, specificity: float, with_offset: bool
) -> OperatingPoint:
    """The calibration of a model's logits on held-out examples, and a threshold by each rule.

    decision: the rule in use. specificity: see ``threshold_for``; with_offset: see ``fit_calibration``.
    """
    calibration = fit_calibration(logits, labels, with_offset=with_offset)
    score = disease_probability(calibration(logits))
    thresholds = {rule: threshold_for(labels, score, rule, specificity) for rule in get_args(Decision)}
    return OperatingPoint(calibration, thresholds, thresholds[decision])
