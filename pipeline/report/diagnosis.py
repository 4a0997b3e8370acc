"""What the report of a diagnosis shows besides a classifier's: decisions, how sure they are, and what drove them."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .. import compiler
from ..attribution import integrated_gradients
from ..data.dataset import Split, visible
from ..data.diagnosis import Cases
from ..data.table import Columns
from ..evaluation.calibration import reliability
from ..evaluation.diagnosis import Diagnosis, Diagnostician
from ..evaluation.operating_point import OperatingPoint, diagnostic_metrics, disease_probability, predict_labels
from ..extras import extra
from ..layers.base import Layer, PyTree
from . import classification, plots
from .page import Part, Plot, Section, Table

EXAMPLES = 8  # test examples whose attributions are shown
DESCRIBED = 256  # test examples that the picture of findings is a mean over

NO_DEVICE = Section(
    "Not a clinical device",
    lead="This is a demonstration of training with manual gradients. It has not been assessed for any clinical use "
    "and must not be used to diagnose, treat or triage anybody. Its figures hold for data like its test set, and for "
    "nobody else's patients, scanners or laboratories.",
)


@runtime_checkable
class Rules(Protocol):
    """Options of a run: the rule of its operating point, and how many resamples its intervals are computed from."""

    @property
    def decision(self) -> str: ...
    @property
    def specificity(self) -> float: ...
    @property
    def resamples(self) -> int: ...


def sections(
    rules: Rules, data: Cases, probabilities: np.ndarray, point: OperatingPoint, test: Mapping[str, float]
) -> Sequence[Part]:
    """One model on its test split: decisions, how sure they are, and the results class by class.

    probabilities: calibrated, (examples, classes). test: the metrics of the split.
    """
    labels = data.test.labels
    return [
        NO_DEVICE,
        *_decisions(rules, labels, probabilities, point, test),
        *classification.results(labels, predict_labels(probabilities, point.threshold), data.classes),
    ]


def combined_sections(
    rules: Rules,
    splits: Sequence[Cases],
    answers: Sequence[np.ndarray],
    points: Sequence[OperatingPoint],
    test: Mapping[str, float],
    are_seeds: bool,
) -> Sequence[Part]:
    """Several models: their ensemble where they differ in their seed, else all folds' test examples together.

    splits: each model's data. answers: each model's calibrated probabilities for its test examples.
    """
    uncalibrated = [point.calibration.undone(answer) for point, answer in zip(points, answers)]
    if are_seeds:
        tests, models, strata = [splits[0].test], "ensemble", "class"
        probabilities, before = np.mean(answers, axis=0), np.mean(uncalibrated, axis=0)
        predictions = predict_labels(probabilities, float(np.mean([point.threshold for point in points])))
    else:
        tests, models, strata = [data.test for data in splits], "all folds", "class and fold"
        probabilities, before = np.concatenate(answers), np.concatenate(uncalibrated)
        predictions = np.concatenate([predict_labels(a, point.threshold) for a, point in zip(answers, points)])
    labels = np.concatenate([split.labels for split in tests])
    return [
        NO_DEVICE,
        *_combined_decisions(labels, probabilities, before, predictions, models),
        _intervals(test, rules.resamples, strata),
        *classification.results(labels, predictions, splits[0].classes),
        mistakes(tests, probabilities, splits[0].classes),
    ]


def _decisions(
    rules: Rules, labels: np.ndarray, probabilities: np.ndarray, point: OperatingPoint, test: Mapping[str, float]
) -> Sequence[Part]:
    """ROC curve, operating points, reliability and intervals."""
    with extra("train"):
        from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, _ = roc_curve(
        labels > 0, disease_probability(probabilities), drop_intermediate=False
    )
    points, rows = {}, []
    for rule, threshold in point.thresholds.items():
        metrics = diagnostic_metrics(labels, probabilities, threshold)
        used = threshold == point.threshold and rule == rules.decision
        name = f"specificity {rules.specificity:g}" if rule == "specificity" else rule
        points[f"{name}{' (in use)' if used else ''}"] = (1 - metrics["specificity"], metrics["sensitivity"])
        numbers = (f"{metrics[metric]:.4f}" for metric in ("accuracy", "sensitivity", "specificity"))
        rows.append((name, f"{threshold:.4f}", *numbers, "in use" if used else ""))
    before = reliability(labels, point.calibration.undone(probabilities))
    diagrams = {
        f"before calibration: error {test['ece_before_calibration']:.3f}": before,
        f"temperature {point.calibration.temperature:.2f}: error {test['ece']:.3f}": reliability(labels, probabilities),
    }
    return [
        _roc(false_positive_rate, true_positive_rate, points, test["auc"]),
        _operating_points(rows),
        _reliability(diagrams),
        _intervals(test, rules.resamples, "class"),
    ]


def _combined_decisions(
    labels: np.ndarray, probabilities: np.ndarray, uncalibrated: np.ndarray, predictions: np.ndarray, models: str
) -> Sequence[Part]:
    """ROC curve and reliability of several models together. models: what they are together."""
    with extra("train"):
        from sklearn.metrics import roc_curve

    abnormal, metrics = labels > 0, diagnostic_metrics(labels, probabilities, 0.5)
    false_positive_rate, true_positive_rate, _ = roc_curve(
        abnormal, disease_probability(probabilities), drop_intermediate=False
    )
    point = float((predictions[~abnormal] > 0).mean()), float((predictions[abnormal] > 0).mean())
    before = diagnostic_metrics(labels, uncalibrated, 0.5)["ece"]
    diagrams = {
        f"before calibration: error {before:.3f}": reliability(labels, uncalibrated),
        f"calibrated, {models}: error {metrics['ece']:.3f}": reliability(labels, probabilities),
    }
    return [
        _roc(false_positive_rate, true_positive_rate, {"in use": point}, metrics["auc"]),
        _reliability(diagrams),
    ]


def mistakes(splits: Sequence[Split], probabilities: np.ndarray, classes: Sequence[str]) -> Part:
    """The worst mistakes: as pictures of images or signals, else by their places in the test split."""
    if splits[0].pixels.ndim > 2:
        return classification.mistakes(splits, probabilities, classes)
    labels = np.concatenate([split.labels for split in splits])
    texts = np.array([f"example {row} of the test split" for split in splits for row in range(len(split))], object)
    table = classification.mistaken_texts(texts, labels, probabilities, classes)
    return dataclasses.replace(
        table, caption=table.caption.replace("texts", "examples"), columns=("example", *table.columns[1:])
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """Diagnoses of a user's own cases, and what drove them.

    names: of the cases; inputs: as they are stored, (cases, ...); contributions: of the inputs to the predicted class's
    log-odds, of the same shape; classes: names, the normal one first.
    """

    names: Sequence[str]
    inputs: np.ndarray
    diagnosis: Diagnosis
    contributions: np.ndarray
    classes: Sequence[str]

    def table(self, columns: Columns | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """A heading, and a row for each case. columns: of a table's features, whose contributions are named."""
        probabilities, labels, spread = self.diagnosis
        disease = disease_probability(probabilities)
        abnormal = self.classes[1] if len(self.classes) == 2 else f"not {self.classes[0]}"
        heading = ("case", "class", f"P({abnormal})", "spread")
        rows = []
        for i, name in enumerate(self.names):
            deviation = "-" if spread is None else f"{spread[i]:.4f}"
            row = (name, self.classes[labels[i]], f"{disease[i]:.4f}", deviation)
            if columns:
                findings = [f"{name} ({value:.4g})" for name, value in zip(columns.features, self.inputs[i])]
                row += (classification.strongest(findings, self.contributions[i]),)
            rows.append(row)
        return heading + (("findings for it (+) and against it (-)",) if columns else ()), rows

    def records(self, columns: Columns | None) -> list[dict[str, Any]]:
        """The same for programs: a record for each case."""
        probabilities, labels, spread = self.diagnosis
        disease, records = disease_probability(probabilities), []
        for i, (name, label) in enumerate(zip(self.names, labels)):
            record = {"case": name, "class": self.classes[label], "probability": probabilities[i, label]}
            record |= {"disease_probability": disease[i], "spread": None if spread is None else spread[i]}
            if columns:
                strongest = classification.strongest_of(self.contributions[i])
                values = ((columns.features[j], self.inputs[i, j], self.contributions[i, j]) for j in strongest)
                record["findings"] = [dict(zip(("finding", "value", "contribution"), each)) for each in values]
            records.append(record)
        return records

    def write_pictures(self, folder: Path) -> Iterator[Path]:
        """Writes a picture of each image or signal and what drove its diagnosis, case by case."""
        folder.mkdir(parents=True, exist_ok=True)
        probabilities, labels, _ = self.diagnosis
        for i, p in enumerate(disease_probability(probabilities)):
            title = f"{self.classes[labels[i]]}, P = {p:.3f}"
            one = slice(i, i + 1)
            picture = folder / f"{i + 1}.png"
            picture.write_bytes(
                plots.png(partial(plots.attributions, self.inputs[one], self.contributions[one], [title]))
            )
            yield picture


def make_attribution(scorer: Layer) -> Callable[[PyTree, np.ndarray, jax.Array], jax.Array]:
    """A function ``(params, inputs, classes) -> contributions``: what each input adds to the class's log-odds.

    contributions: of the inputs' shape.
    """
    return compiler.jit(lambda params, x, classes: integrated_gradients(scorer, params, x, 0.0, classes).d_x)


def mean_attribution(members: Sequence[Diagnostician], inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """``make_attribution`` of each member, and the mean of what they say."""
    contributions = [make_attribution(its.scorer)(its.params, inputs, jnp.asarray(classes)) for its in members]
    return np.mean(contributions, axis=0)


def drivers(scorer: Layer, params: PyTree, data: Cases, predictions: np.ndarray) -> Plot:
    """What drove the answers on test examples: a mean over many for a table, pictures of some for all else.

    scorer: gives logits over the classes.
    """
    attribute = make_attribution(scorer)
    if data.columns:
        rows = np.arange(len(data.test))[:DESCRIBED]
        inputs, _ = data.test.take(rows)
        values = np.asarray(attribute(params, inputs, jnp.ones(len(rows), jnp.int32)))
        above = inputs > 0
        importance = (values * above).sum(0) / np.maximum(above.sum(0), 1)
        return _findings(data.columns.features, importance, data.classes[1])
    rows = _some_of_each(data.test.labels, EXAMPLES)
    inputs, labels = data.test.take(rows)
    values = attribute(params, inputs, jnp.asarray(predictions[rows]))
    titles = [
        f"{data.classes[label]}\npredicted {data.classes[predicted]}"
        for label, predicted in zip(labels, predictions[rows])
    ]
    return _examples(visible(data.test.pixels[rows]), np.asarray(values), titles)


def _some_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of the first few examples of each class, ``count`` in all or fewer."""
    classes = np.unique(labels)
    each = math.ceil(count / len(classes))
    return np.concatenate([np.flatnonzero(labels == label)[:each] for label in classes])[:count]


def _roc(
    false_positive_rate: np.ndarray,
    true_positive_rate: np.ndarray,
    points: Mapping[str, tuple[float, float]],
    roc_auc: float,
) -> Plot:
    """See ``plots.roc``."""
    return Plot(
        "roc",
        "ROC curve",
        "The share of abnormal test examples that are called abnormal, against the share of normal ones that are. The "
        "points are thresholds that were chosen on the validation examples.",
        partial(plots.roc, false_positive_rate, true_positive_rate, points, roc_auc),
    )


def _operating_points(rows: Sequence[Sequence[str]]) -> Table:
    return Table(
        "Operating points",
        "The probability from which an example is called abnormal: chosen on validation examples, measured here on "
        "test examples. The one in use is marked.",
        ("rule", "threshold", "accuracy", "sensitivity", "specificity", ""),
        rows,
    )


def _reliability(diagrams: Mapping[str, Sequence[np.ndarray]]) -> Plot:
    """See ``plots.reliability``."""
    return Plot(
        "reliability",
        "Reliability diagram",
        "Accuracy against confidence, in bins of test examples with about equal confidence. On the diagonal, answers "
        "given with 80 % confidence are right in 80 of 100 cases. Larger dots stand for more examples.",
        partial(plots.reliability, diagrams),
    )


def _intervals(test: Mapping[str, float], resamples: int, strata: str) -> Table:
    names = [name.removesuffix("_low") for name in test if name.endswith("_low")]
    rows = [
        (name.replace("_", " "), *(f"{test[key]:.4f}" for key in (name, f"{name}_low", f"{name}_high")))
        for name in names
    ]
    return Table(
        "Confidence intervals",
        f"95 % bootstrap intervals by percentiles: {resamples:,} resamples of the test examples, with as many of each "
        f"{strata} in each, seed 0. They show how much is chance in which examples are tested.",
        ("metric", "value", "from", "to"),
        rows,
    )


def _findings(names: Sequence[str], importance: np.ndarray, abnormal: str, most: int = 15) -> Plot:
    """The findings that move the answer most. importance: what each adds, on average, where there is much of it."""
    order, abnormal = np.argsort(-np.abs(importance), kind="stable")[:most], plots.short_name(abnormal)
    chosen: list[str] = [names[int(i)] for i in order]
    return Plot(
        "findings",
        "Which findings drive the answer",
        f"Integrated gradients: what each finding adds to the log-odds of {abnormal}, compared with the training mean, "
        "on average over the test examples, where it is above that mean. Red: much of it speaks for, blue: against.",
        partial(plots.bars, chosen, importance[order], f"added to the log-odds of {abnormal}"),
    )


def _examples(inputs: np.ndarray, values: np.ndarray, titles: Sequence[str]) -> Plot:
    """See ``plots.attributions``."""
    beside = "beside each image, its pixels" if inputs.ndim == 4 else "over each signal, its samples"
    return Plot(
        "attributions",
        "What drove the answer",
        f"Integrated gradients of some test examples, {beside}: red speaks for the answer, blue against it, compared "
        "with the mean of the training examples.",
        partial(plots.attributions, inputs, values, titles),
    )
