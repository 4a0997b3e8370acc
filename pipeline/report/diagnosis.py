"""What the report of a diagnosis shows besides a classifier's: how sure, where it decides, what drove it."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from pipeline.report import plots
from pipeline.report.page import Plot, Section, Table

NO_DEVICE = Section(
    "Not a clinical device",
    lead="This is a demonstration of training by hand-written gradients. It has not been assessed for any clinical use "
    "and must not be used to diagnose, treat or triage anybody. Its figures hold for data like its test set, and for "
    "nobody else's patients, scanners or laboratories.",
)


def roc(
    false_positive_rate: np.ndarray,
    true_positive_rate: np.ndarray,
    points: Mapping[str, tuple[float, float]],
    roc_auc: float,
) -> Plot:
    """See ``plots.roc``."""
    return Plot(
        "roc",
        "ROC curve",
        "How many of the abnormal test examples are found, for how many false alarms among the normal ones. The points "
        "are thresholds that were chosen on the validation examples.",
        partial(plots.roc, false_positive_rate, true_positive_rate, points, roc_auc),
    )


def operating_points(rows: Sequence[Sequence[str]]) -> Table:
    return Table(
        "Operating points",
        "From which probability on an example is called abnormal: chosen on validation examples, measured here on test "
        "examples. The one that is in use is marked.",
        ("rule", "threshold", "accuracy", "sensitivity", "specificity", ""),
        rows,
    )


def reliability(diagrams: Mapping[str, Sequence[np.ndarray]]) -> Plot:
    """See ``plots.reliability``."""
    return Plot(
        "reliability",
        "Reliability diagram",
        "Test examples in bins of equal probability: on the diagonal, what is said to be right in 80 of 100 cases is "
        "right in 80. Larger dots stand for more examples.",
        partial(plots.reliability, diagrams),
    )


def intervals(rows: Sequence[Sequence[str]], resamples: int, what: str) -> Table:
    return Table(
        "Confidence intervals",
        f"95 % bootstrap intervals by percentiles: {resamples:,} resamples of the test examples, with as many of each "
        f"{what} in each, seed 0. They say how much is chance in which examples are tested.",
        ("metric", "value", "from", "to"),
        rows,
    )


def findings(names: Sequence[str], importance: np.ndarray, abnormal: str, most: int = 15) -> Plot:
    """The findings that move the answer most. importance: what each adds, on average, where there is much of it."""
    order = np.argsort(-np.abs(importance), kind="stable")[:most]
    chosen: list[str] = [names[int(i)] for i in order]
    return Plot(
        "findings",
        "Which findings drive the answer",
        f"Integrated gradients: what each finding adds to the log-odds of {abnormal}, compared with the training mean, "
        "on average over the test examples, where it is above that mean. Red: much of it speaks for, blue: against.",
        partial(plots.bars, chosen, importance[order], f"added to the log-odds of {abnormal}"),
    )


def examples(inputs: np.ndarray, values: np.ndarray, titles: Sequence[str]) -> Plot:
    """See ``plots.attributions``."""
    beside = "beside each image, its pixels" if inputs.ndim == 4 else "behind each signal, its samples"
    return Plot(
        "attributions",
        "What drove the answer",
        f"Integrated gradients of some test examples, {beside}: red speaks for the answer, blue against it, compared "
        "with the mean of the training examples.",
        partial(plots.attributions, inputs, values, titles),
    )
