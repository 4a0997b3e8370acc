"""What the report of a classifier shows, whatever it classifies."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.report import plots
from pipeline.report.page import Plot, Table


def learning(metrics: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """How training went. metrics: the lines of ``metrics.jsonl``; where they have no accuracy, the loss says it all."""
    metric = "accuracy" if any("accuracy" in line for line in metrics) else None
    return [
        Plot(
            "curves",
            "Loss and accuracy" if metric else "Loss",
            "Training as each step saw it (with dropout and augmentation where the recipe has them) and validation "
            "after every epoch.",
            partial(plots.curves, metrics, metric),
        ),
        gradient_sizes(metrics),
    ]


def gradient_sizes(metrics: Sequence[Mapping[str, Any]]) -> Plot:
    """The length of each layer's gradient over time."""
    return Plot(
        "gradient_norms",
        "Gradient size by layer",
        "The length of each layer's gradient, dark lines for the layers nearest the input: none should vanish or "
        "explode.",
        partial(plots.gradient_norms, metrics),
    )


def results(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> list[Plot | Table]:
    """What the model gets right. labels, predictions: positions of classes, (examples,), both of the test set."""
    wrong = int((predictions != labels).sum())
    matrix = Plot(
        "confusion",
        "Confusion matrix",
        f"Test examples by what they are (rows) and what the model took them for (columns): {wrong} of {len(labels)} "
        "stand off the diagonal.",
        partial(plots.confusion_matrix, labels, predictions, classes),
    )
    from sklearn.metrics import precision_recall_fscore_support

    scores: Any = precision_recall_fscore_support(
        labels,
        predictions,
        labels=np.arange(len(classes)),
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    by_class = Table(
        "Class by class",
        "Precision: how many of those called so are so. Recall: how many of those that are so were found. F1: their "
        "harmonic mean.",
        ("class", "precision", "recall", "F1", "test examples"),
        [(name, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", f"{n}") for name, p, r, f, n in zip(classes, *scores)],
    )
    return [matrix, by_class]


def mistakes(inputs: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Plot:
    """The worst mistakes, with their pictures: see ``plots.mistakes``."""
    return Plot(
        "mistakes",
        "Worst mistakes",
        "Wrongly classified test examples, those first of which the model was surest.",
        partial(plots.mistakes, inputs, labels, probabilities, classes),
    )


def mistaken_texts(
    texts: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], limit: int = 20
) -> Table:
    """The worst mistakes among texts (objects, (examples,)): at most ``limit``, the surest first."""
    predictions = probabilities.argmax(-1)
    wrong = np.flatnonzero(predictions != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predictions[wrong]], kind="stable")][:limit]
    names = np.asarray(classes)
    rows = zip(texts[wrong], names[labels[wrong]], names[predictions[wrong]], probabilities[wrong].max(1, initial=0))
    return Table(
        "Worst mistakes",
        "Wrongly classified test texts, those first of which the model was surest."
        if len(wrong)
        else "No mistakes: every text was classified correctly.",
        ("text", "is", "was taken for", "probability"),
        [(str(text), str(is_), str(taken_for), f"{p:.3f}") for text, is_, taken_for, p in rows],
    )


def first_filters(kernel: np.ndarray) -> Plot:
    """The first layer's filters: see ``plots.filters``."""
    return Plot(
        "filters",
        "First-layer filters",
        "What each unit of the first layer looks for: "
        + (
            "red adds to its output, blue takes away."
            if kernel.ndim == 4
            else "its weights over time, one line a channel."
        ),
        partial(plots.filters, kernel),
    )


def gradients(relative_errors: Mapping[str, float]) -> list[Plot | Table]:
    """Whether the hand-written gradient is right: the disagreement of each leaf of the trained model, in float64."""
    rows = [
        (leaf, "exactly 0" if error == 0 else f"{error:.1e}", "agrees" if error <= plots.TOLERANCE else "DIFFERS")
        for leaf, error in relative_errors.items()
    ]
    return [
        Plot(
            "agreement",
            "By hand against autodiff",
            "The largest difference between the hand-written gradient and jax.grad's, relative to the largest gradient "
            "of each leaf, in float64 on the trained model.",
            partial(plots.gradient_agreement, relative_errors),
        ),
        Table(
            "Gradient check",
            "The same in numbers: every leaf must stay under 1e-11.",
            ("parameter", "relative error", "verdict"),
            rows,
        ),
    ]
