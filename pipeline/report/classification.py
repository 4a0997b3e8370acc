"""What the report of a classifier shows, whatever it classifies."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..data.dataset import Split
from ..data.dataset import visible as visible_pixels
from ..data.streamed import concatenated
from ..display import visible
from ..extras import extra
from . import plots
from .page import Plot, Table

PICTURES = 24
"""Wrongly classified examples that are shown."""
STRONGEST = 4
"""Parts of an input that are named as those that contributed most."""
LONGEST_PART = 60
"""Characters of the name of such a part."""


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
    with extra("train"):
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


def mistakes(splits: Sequence[Split], probabilities: np.ndarray, classes: Sequence[str]) -> Plot:
    """The worst mistakes, with their pictures: see ``plots.mistakes``. splits: whose examples follow each other."""
    labels = np.concatenate([split.labels for split in splits])
    predictions = probabilities.argmax(-1)
    wrong = np.flatnonzero(predictions != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predictions[wrong]], kind="stable")][:PICTURES]
    pixels = concatenated([split.pixels for split in splits])[wrong]
    return Plot(
        "mistakes",
        "Worst mistakes",
        "Wrongly classified test examples, those first of which the model was surest.",
        partial(plots.mistakes, visible_pixels(pixels), labels[wrong], probabilities[wrong], classes),
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


def strongest(names: Sequence[str], contributions: np.ndarray) -> str:
    """The parts of an input that move the answer most, the strongest first, each with its sign.

    contributions: one for each name.
    """
    return "  ".join(
        f"{'+' if contributions[i] >= 0 else '-'}{visible(names[i], LONGEST_PART)}" for i in strongest_of(contributions)
    )


def strongest_of(contributions: np.ndarray) -> list[int]:
    """The positions of the largest contributions, positive or negative, the largest first."""
    return np.argsort(-np.abs(contributions), kind="stable")[:STRONGEST].tolist()
