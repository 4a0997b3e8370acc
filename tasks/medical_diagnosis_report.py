"""What the report of a diagnosis shows beyond a classifier's: decisions, how sure they are, and what drove them."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler
from pipeline.attribution import integrated_gradients
from pipeline.data.dataset import Split, visible
from pipeline.data.diagnosis import Cases
from pipeline.evaluation.calibration import (
    OperatingPoint,
    diagnostic_metrics,
    disease_probability,
    predict_labels,
    reliability,
)
from pipeline.layers.base import Layer, PyTree
from pipeline.report import classification as shown
from pipeline.report import diagnosis as told
from pipeline.report import page
from tasks.framework.classification import Outcome
from tasks.framework.cross_validation import Part, ensemble

EXAMPLES = 8  # test examples whose attributions are shown
DESCRIBED = 256  # test examples that the picture of findings is a mean over

Sections = Sequence[page.Plot | page.Table | page.Section]


def of_model(config: Any, outcome: Outcome, scorer: Layer, settled: OperatingPoint) -> Sections:
    """scorer: what gives logits, with the parameters of the outcome's model."""
    data, probabilities = outcome.data, outcome.probabilities
    called = predict_labels(probabilities, settled.threshold)
    return [
        told.NO_DEVICE,
        *_decisions(config, data.test.labels, probabilities, settled, outcome.summary["test"]),
        *shown.results(data.test.labels, called, data.classes),
        _drivers(scorer, outcome.params["model"], data, called),
        mistakes([data.test], probabilities, data.classes),
    ]


def of_several(
    config: Any, parts: Sequence[Part], settled: Sequence[OperatingPoint], test: Mapping[str, float]
) -> Sections:
    """Of the ensemble where the models differ in their seed, else of all folds' test examples together.

    settled: for each of the parts; test: what they came to.
    """
    undone = [its.calibration.undone(part.probabilities) for its, part in zip(settled, parts)]
    if config.seeds:
        of, tests = "ensemble", [parts[0].data.test]
        probabilities, before = ensemble(parts), np.mean(undone, axis=0)
        called = predict_labels(probabilities, float(np.mean([its.threshold for its in settled])))
    else:
        of, tests = "all folds", [part.data.test for part in parts]
        probabilities, before = np.concatenate([part.probabilities for part in parts]), np.concatenate(undone)
        called = np.concatenate(
            [predict_labels(part.probabilities, its.threshold) for its, part in zip(settled, parts)]
        )
    labels = np.concatenate([test.labels for test in tests])
    sick, its = labels > 0, diagnostic_metrics(labels, probabilities, 0.5)
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, _ = roc_curve(
        sick, disease_probability(probabilities), drop_intermediate=False
    )
    point = {"in use": (float((called[~sick] > 0).mean()), float((called[sick] > 0).mean()))}
    diagrams = {
        f"before calibration: error {diagnostic_metrics(labels, before, 0.5)['ece']:.3f}": reliability(labels, before),
        f"calibrated, {of}: error {its['ece']:.3f}": reliability(labels, probabilities),
    }
    classes = parts[0].data.classes
    return [
        told.NO_DEVICE,
        told.roc(false_positive_rate, true_positive_rate, point, its["auc"]),
        told.reliability(diagrams),
        told.intervals(_interval_rows(test), config.resamples, "class" if config.seeds else "class and fold"),
        *shown.results(labels, called, classes),
        mistakes(tests, probabilities, classes),
    ]


def mistakes(tests: Sequence[Split], probabilities: np.ndarray, classes: Sequence[str]) -> page.Plot | page.Table:
    """The worst: as pictures of images, else by their places in the test split."""
    labels = np.concatenate([test.labels for test in tests])
    pixels = np.concatenate([test.pixels for test in tests])
    if pixels.ndim > 2:
        return shown.mistakes(visible(pixels), labels, probabilities, classes)
    texts = np.array([f"example {row} of the test split" for test in tests for row in range(len(test))], object)
    table = shown.mistaken_texts(texts, labels, probabilities, classes)
    return dataclasses.replace(
        table, caption=table.caption.replace("texts", "examples"), columns=("example", *table.columns[1:])
    )


def make_attribution(scorer: Layer) -> Callable[[PyTree, np.ndarray, jax.Array], jax.Array]:
    """A function (params, inputs, classes) to what each input adds to the class's log-odds: of the inputs' shape."""
    return compiler.jit(lambda params, x, classes: integrated_gradients(scorer, params, x, 0.0, classes).d_x)


def _decisions(
    config: Any, labels: np.ndarray, probabilities: np.ndarray, settled: OperatingPoint, test: Mapping[str, float]
) -> Sequence[page.Plot | page.Table]:
    """ROC curve, operating points, reliability, intervals."""
    from sklearn.metrics import roc_curve

    false_positive_rate, true_positive_rate, _ = roc_curve(
        labels > 0, disease_probability(probabilities), drop_intermediate=False
    )
    points, rows = {}, []
    for rule, threshold in settled.thresholds.items():
        its = diagnostic_metrics(labels, probabilities, threshold)
        used = threshold == settled.threshold and rule == config.decision
        name = f"specificity {config.specificity:g}" if rule == "specificity" else rule
        points[f"{name}{' (in use)' if used else ''}"] = (1 - its["specificity"], its["sensitivity"])
        numbers = (f"{its[metric]:.4f}" for metric in ("accuracy", "sensitivity", "specificity"))
        rows.append((name, f"{threshold:.4f}", *numbers, "in use" if used else ""))
    before = settled.calibration.undone(probabilities)
    diagrams = {
        f"before calibration: error {test['ece_before_calibration']:.3f}": reliability(labels, before),
        f"temperature {settled.calibration.temperature:.2f}: error {test['ece']:.3f}": reliability(
            labels, probabilities
        ),
    }
    return [
        told.roc(false_positive_rate, true_positive_rate, points, test["auc"]),
        told.operating_points(rows),
        told.reliability(diagrams),
        told.intervals(_interval_rows(test), config.resamples, "class"),
    ]


def _drivers(scorer: Layer, params: PyTree, data: Cases, called: np.ndarray) -> page.Plot:
    """What drove the answers on test examples: a mean over many for a table, pictures of some for all else."""
    attribute = make_attribution(scorer)
    if data.columns:
        rows = np.arange(len(data.test))[:DESCRIBED]
        inputs, _ = data.test.take(rows)
        values = np.asarray(attribute(params, inputs, jnp.ones(len(rows), jnp.int32)))
        above = inputs > 0
        importance = (values * above).sum(0) / np.maximum(above.sum(0), 1)
        return told.findings(data.columns.features, importance, data.classes[1])
    rows = _some_of_each(data.test.labels, EXAMPLES)
    inputs, labels = data.test.take(rows)
    values = attribute(params, inputs, jnp.asarray(called[rows]))
    titles = [f"{data.classes[label]}\ncalled {data.classes[its]}" for label, its in zip(labels, called[rows])]
    return told.examples(visible(data.test.pixels[rows]), np.asarray(values), titles)


def _some_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of the first few examples of each class, ``count`` in all or fewer."""
    classes = np.unique(labels)
    each = math.ceil(count / len(classes))
    return np.concatenate([np.flatnonzero(labels == its)[:each] for its in classes])[:count]


def _interval_rows(test: Mapping[str, float]) -> list[tuple[str, ...]]:
    names = [name.removesuffix("_low") for name in test if name.endswith("_low")]
    return [
        (name.replace("_", " "), *(f"{test[key]:.4f}" for key in (name, f"{name}_low", f"{name}_high")))
        for name in names
    ]
