"""What predicted probabilities are worth: how well they order, whether they mean what they say, how sure that is.

Everywhere, labels are positions of classes; class 0 is "nothing found" (normal), all others are findings (abnormal).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.errors import UserError

Decision = Literal["likeliest", "balanced", "specificity"]
Metric = Callable[[np.ndarray], Mapping[str, float]]


def disease_probability(probabilities: np.ndarray) -> np.ndarray:
    """The probability that something is found: that the class is not 0. probabilities: (examples, classes)."""
    return 1 - probabilities[:, 0] if probabilities.shape[1] > 2 else probabilities[:, 1]


class Bins(NamedTuple):
    """Predictions of about equal probability, one entry a bin that has any.

    confidence: their mean probability; accuracy: the share of them that are right; counts: how many there are.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> Bins:
    """Of the likeliest class, in ``bins`` of equal width from 0 to 1 (DeGroot & Fienberg 1983)."""
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts, confidences, hits = (np.bincount(place, weight, bins) for weight in (None, confidence, correct))
    some = counts > 0
    return Bins(confidences[some] / counts[some], hits[some] / counts[some], counts[some])


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """The mean distance between confidence and accuracy, bin by bin (Naeini, Cooper & Hauskrecht 2015)."""
    confidence, accuracy, counts = reliability(labels, probabilities, bins)
    return float((counts * np.abs(confidence - accuracy)).sum() / counts.sum())


@dataclass(frozen=True)
class Calibration:
    """Logits to probabilities: softmax(z / temperature + offset) (Platt 1999; Guo et al. 2017).

    offset: one number a class. Without any this moves no decision by the likeliest class.
    """

    temperature: float = 1.0
    offset: tuple[float, ...] = ()

    def logits(self, z: Any) -> Any:
        """z / temperature + offset, of numpy's or JAX's arrays (examples, classes)."""
        z = z / self.temperature
        return z + np.asarray(self.offset, np.float32) if self.offset else z

    def __call__(self, z: np.ndarray) -> np.ndarray:
        from scipy.special import log_softmax

        return np.exp(log_softmax(self.logits(z.astype(np.float64)), axis=-1))

    def undone(self, probabilities: np.ndarray) -> np.ndarray:
        """softmax(z): what the model says by itself, from what this has made of it."""
        from scipy.special import log_softmax

        log_p = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
        return np.exp(log_softmax((log_p - np.asarray(self.offset or 0.0)) * self.temperature, axis=-1))


def fit_calibration(z: np.ndarray, labels: np.ndarray, with_offset: bool = False) -> Calibration:
    """The calibration under which the labels of held-out examples are likeliest, given the model's logits z.

    Before any are seen, the temperature's logarithm and the offsets are taken for normal about 0 with deviations 0.5
    and 3: so a model that makes no mistake on a few examples is not taken for one that makes none.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    z = z.astype(np.float64)  # in float32 the optimiser's small steps would change nothing
    examples, classes = z.shape

    def read(values: np.ndarray) -> Calibration:
        offset = (0.0, *values[1:].tolist()) if with_offset else ()
        return Calibration(float(np.exp(values[0])), offset)

    def loss(values: np.ndarray) -> float:
        its = read(values)
        log_p = log_softmax(z / its.temperature + np.asarray(its.offset or 0.0), axis=-1)
        unlikely = np.square(values[0] / 0.5).sum() / 2 + np.square(values[1:] / 3).sum() / 2
        return float(unlikely - log_p[np.arange(examples), labels].sum()) / examples

    found = minimize(loss, np.zeros(classes if with_offset else 1), method="BFGS")
    return read(found.x)


def threshold_for(labels: np.ndarray, score: np.ndarray, decision: Decision, specificity: float = 0.95) -> float:
    """The score (of ``finding``) from which on an example is called abnormal, chosen on held-out examples.

    decision: "likeliest", a half; "balanced", where sensitivity and specificity add up to the most (Youden 1950);
        "specificity", the most sensitive one that leaves at least this share of the normal examples alone.
    """
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
    """What was chosen on the validation examples; ``calibration.json`` in a run.

    calibration: of the model's logits; thresholds: by the rule that chose each; threshold: the one in use.
    """

    calibration: Calibration
    thresholds: Mapping[str, float]
    threshold: float

    def write(self, run: Path) -> None:
        content = {**self._asdict(), "calibration": asdict(self.calibration)}
        (run / "calibration.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, run: Path) -> "OperatingPoint":
        try:
            stored = json.loads((run / "calibration.json").read_text(encoding="utf-8"))
            its = stored["calibration"]
            calibration = Calibration(its["temperature"], tuple(its["offset"]))
            return cls(calibration, stored["thresholds"], stored["threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{run} is not finished: its calibration.json cannot be read ({error})") from error


def predict_labels(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Classes: the likeliest finding where the probability of any is at least ``threshold``, else 0."""
    return np.where(disease_probability(probabilities) >= threshold, 1 + probabilities[:, 1:].argmax(-1), 0)


def diagnostic_metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """accuracy and macro_f1 of the classes; auc, sensitivity and specificity of abnormal against normal; ece.

    auc needs no threshold; sensitivity is the share of abnormal examples that are called so, specificity that of
    normal ones.
    """
    called, abnormal, classes = predict_labels(probabilities, threshold), labels > 0, probabilities.shape[1]
    of_class = np.bincount(labels, minlength=classes) + np.bincount(called, minlength=classes)
    right = np.bincount(labels[called == labels], minlength=classes)
    return {
        "accuracy": float((called == labels).mean()),
        "macro_f1": float((2 * right / np.maximum(of_class, 1))[of_class > 0].mean()),
        "auc": roc_auc(abnormal, disease_probability(probabilities)),
        "sensitivity": float((called[abnormal] > 0).mean()),
        "specificity": float((called[~abnormal] == 0).mean()),
        "ece": expected_calibration_error(labels, probabilities),
    }


def roc_auc(abnormal: np.ndarray, score: np.ndarray) -> float:
    """Under the ROC curve: how often an abnormal example's score is larger than a normal one's, ties by half.

    It is the rank sum of Mann & Whitney (1947), ten times as fast as the curve, for a bootstrap's thousands.
    """
    from scipy.stats import rankdata

    positive = int(abnormal.sum())
    negative = len(abnormal) - positive
    return float((rankdata(score)[abnormal].sum() - positive * (positive + 1) / 2) / (positive * negative))


def intervals(
    metric: Metric, strata: np.ndarray, *, resamples: int, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals by percentiles (Efron & Tibshirani 1993, chapter 13) of everything that ``metric`` measures.

    metric: rows -> {name: value}. Percentiles hold for means and areas; not for a calibration error, which repeated
        examples make larger. strata: of every row, such as its class; each resample has as many of each as there
    are, so that no resample is without a class.
    """
    random = np.random.default_rng(seed)
    parts = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    found = [metric(np.concatenate([random.choice(part, len(part)) for part in parts])) for _ in range(resamples)]
    ends = 50 * (1 - level), 100 - 50 * (1 - level)
    return {
        name: tuple(np.percentile([its[name] for its in found], ends).tolist())  # pyright: ignore[reportReturnType]
        for name in found[0]
    }
